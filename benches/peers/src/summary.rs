//! From runs to figures: medians, spreads, ratios, and whether goals are reached.

use crate::contest::Entry;
use crate::contestant::Role;
use crate::machine::Machine;
use crate::plan::Outcome;
use crate::row::{Goals, RowName};
use serde::Serialize;

/// All that was measured; what `--json` writes.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// How the harness was called.
    pub(crate) command_line: String,
    /// On what.
    pub(crate) machine: Machine,
    /// Size of each disk, in bytes.
    pub(crate) size_bytes: u64,
    /// How often each contestant ran.
    pub(crate) rounds: u32,
    /// The seed of all data.
    pub(crate) seed: u64,
    /// How many 64 KiB chunks differed in the resync rows, if there were any.
    pub(crate) changed_chunks: Option<usize>,
    /// One after the other.
    pub(crate) rows: Vec<Row>,
}

/// A row's figures.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Which.
    pub(crate) name: RowName,
    /// What it compares.
    pub(crate) title: &'static str,
    /// What is to be reached.
    pub(crate) goals: Goals,
    /// Who took part.
    pub(crate) contestants: Vec<Line>,
}

/// A contestant's figures.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// Who.
    pub(crate) name: &'static str,
    /// As what.
    pub(crate) role: Role,
    /// Whether this is the peer the ratios refer to.
    pub(crate) is_fastest_peer: bool,
    /// What it lacked, if it did not take part.
    pub(crate) skipped: Option<String>,
    /// How it failed, if it did.
    pub(crate) failure: Option<String>,
    /// Its figures, if all its runs ended well.
    pub(crate) figures: Option<Figures>,
    /// Every run.
    pub(crate) runs: Vec<Outcome>,
    /// Its command lines.
    pub(crate) commands: Vec<String>,
}

/// Medians and their like.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Figures {
    /// Median time.
    pub(crate) seconds: f64,
    /// The shortest.
    pub(crate) seconds_min: f64,
    /// The longest.
    pub(crate) seconds_max: f64,
    /// Median busy time of the machine.
    pub(crate) cpu_seconds: f64,
    /// The largest process of all runs.
    pub(crate) peak_rss_mib: f64,
    /// Time as a ratio to the fastest peer's.
    pub(crate) seconds_ratio: Option<f64>,
    /// Busy time as a ratio to the same peer's.
    pub(crate) cpu_ratio: Option<f64>,
}

impl Row {
    /// Sums a row's runs up.
    pub(crate) fn of(name: RowName, entries: Vec<Entry>) -> Self {
        let mut contestants: Vec<Line> = entries.into_iter().map(line_of).collect();
        let fastest = contestants
            .iter()
            .enumerate()
            .filter(|(_, line)| line.role == Role::Peer)
            .filter_map(|(index, line)| line.figures.map(|figures| (index, figures)))
            .min_by(|(_, one), (_, other)| one.seconds.total_cmp(&other.seconds));
        if let Some((index, fastest)) = fastest {
            contestants[index].is_fastest_peer = true;
            for figures in contestants.iter_mut().filter_map(|line| line.figures.as_mut()) {
                figures.seconds_ratio = ratio(figures.seconds, fastest.seconds);
                figures.cpu_ratio = ratio(figures.cpu_seconds, fastest.cpu_seconds);
            }
        }
        Self { name, title: name.title(), goals: name.goals(), contestants }
    }

    /// What is to be reached, and by how much it is or is not; empty without
    /// figures of `failback`.
    pub(crate) fn judgement(&self) -> Vec<String> {
        let own = self.contestants.iter().find(|line| line.role == Role::Failback);
        let Some(figures) = own.and_then(|line| line.figures) else { return Vec::new() };
        let pairs = [
            ("time", " ×", self.goals.seconds_ratio, figures.seconds_ratio),
            ("CPU", " ×", self.goals.cpu_ratio, figures.cpu_ratio),
            ("time", " s", self.goals.seconds, Some(figures.seconds)),
            ("memory", " MiB", Some(self.goals.peak_rss_mib), Some(figures.peak_rss_mib)),
        ];
        pairs
            .into_iter()
            .filter_map(|(what, unit, goal, reached)| Some((what, unit, goal?, reached?)))
            .map(|(what, unit, goal, reached)| {
                let verdict = if reached <= goal { "reached" } else { "not reached" };
                format!("{what} ≤ {goal:.2}{unit}: {reached:.2}{unit}, {verdict}")
            })
            .collect()
    }
}

fn line_of(entry: Entry) -> Line {
    let figures = if entry.failure.is_none() { figures_of(&entry.runs) } else { None };
    Line {
        name: entry.contestant.name,
        role: entry.contestant.role,
        is_fastest_peer: false,
        skipped: entry.skipped,
        failure: entry.failure,
        figures,
        runs: entry.runs,
        commands: entry.contestant.plan.lines(),
    }
}

fn figures_of(runs: &[Outcome]) -> Option<Figures> {
    let seconds = sorted(runs.iter().map(|run| run.seconds));
    let cpu_seconds = sorted(runs.iter().map(|run| run.cpu_seconds));
    let peak_kib = runs.iter().map(|run| run.peak_rss_kib).max()?;
    Some(Figures {
        seconds: median(&seconds)?,
        seconds_min: *seconds.first()?,
        seconds_max: *seconds.last()?,
        cpu_seconds: median(&cpu_seconds)?,
        // A process of 4 TiB would show as one.
        peak_rss_mib: f64::from(u32::try_from(peak_kib).unwrap_or(u32::MAX)) / 1024.0,
        seconds_ratio: None,
        cpu_ratio: None,
    })
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle of sorted values, or the mean of the two in the middle.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

fn ratio(value: f64, standard: f64) -> Option<f64> {
    (standard > 0.0).then(|| value / standard)
}

#[cfg(test)]
mod tests {
    use super::{figures_of, median};
    use crate::plan::Outcome;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
    }

    #[test]
    fn the_largest_process_counts() {
        let run = |seconds, peak_rss_kib| Outcome { seconds, cpu_seconds: 1.0, peak_rss_kib };
        let figures = figures_of(&[run(3.0, 1024), run(1.0, 4096), run(2.0, 2048)]);
        let told = figures.map(|figures| (figures.seconds, figures.seconds_min, figures.seconds_max));
        assert_eq!(told, Some((2.0, 1.0, 3.0)));
        assert_eq!(figures.map(|figures| figures.peak_rss_mib), Some(4.0));
    }
}
