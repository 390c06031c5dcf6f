//! Progress: a bar at a terminal, a line now and then elsewhere.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select, tick};
use failback_datapath::resync::{Phase, Watch};
use failback_datapath::telemetry::Notice;
use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Output, Style, print_line};

const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// Tells how `watch` goes until `ended` is closed.
pub fn follow(output: &Output, watch: &Watch, notices: &Receiver<Notice>, ended: &Receiver<()>) {
    let mut shown = Shown::new(output.style);
    let ticks = tick(match output.style {
        Style::Terminal => BAR_EVERY,
        Style::Json => EVENT_EVERY,
        Style::Plain | Style::Errors => LINE_EVERY,
    });
    loop {
        select! {
            recv(notices) -> notice => if let Ok(notice) = notice { shown.suspend(|| output.notice(&notice)) },
            recv(ticks) -> _ => shown.show(watch),
            recv(ended) -> _ => break,
        }
    }
    shown.clear();
    for notice in notices.try_iter() {
        output.notice(&notice);
    }
}

struct Shown {
    style: Style,
    bar: Option<ProgressBar>,
    phase: Phase,
    /// When this phase was first seen.
    start: Instant,
    /// Bytes done and time at the last look, and the smoothed rate.
    last: (u64, Instant),
    bytes_per_second: f64,
}

impl Shown {
    fn new(style: Style) -> Self {
        let now = Instant::now();
        Self { style, bar: None, phase: Phase::Copy, start: now, last: (0, now), bytes_per_second: 0.0 }
    }

    fn suspend(&self, tell: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(tell),
            None => tell(),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn show(&mut self, watch: &Watch) {
        let (phase, total) = (watch.phase(), watch.size_bytes());
        if total == 0 || phase == Phase::Prepare {
            return;
        }
        let counts = watch.tally.counts();
        // Of a verification at the other end nothing is known before it is over.
        let done = if phase == Phase::Verify { counts.bytes_verified } else { counts.bytes_done };
        self.enter(phase, done);
        self.measure(done);
        match self.style {
            Style::Terminal => self.draw(phase, done, total),
            Style::Plain => self.print(phase, done, total),
            Style::Json => self.tell(phase, done, total),
            Style::Errors => {}
        }
    }

    /// What was measured of one phase says nothing of the next.
    fn enter(&mut self, phase: Phase, done: u64) {
        if self.phase != phase {
            let (from, now) = (if phase == Phase::Flush { done } else { 0 }, Instant::now());
            (self.phase, self.start, self.last, self.bytes_per_second) = (phase, now, (from, now), 0.0);
        }
    }

    /// The rate over the last seconds, not over the whole run: holes at the
    /// beginning say nothing about the end.
    fn measure(&mut self, done: u64) {
        let (before, at) = self.last;
        let seconds = at.elapsed().as_secs_f64().max(1e-3);
        #[expect(clippy::cast_precision_loss, reason = "a rate to show")]
        let rate = done.saturating_sub(before) as f64 / seconds;
        let weight = if self.bytes_per_second == 0.0 { 1.0 } else { (seconds / 5.0).min(1.0) };
        self.bytes_per_second += weight * (rate - self.bytes_per_second);
        self.last = (done, Instant::now());
    }

    fn eta_seconds(&self, done: u64, total: u64) -> Option<u64> {
        #[expect(clippy::cast_precision_loss, reason = "a time to show")]
        let left = total.saturating_sub(done) as f64 / self.bytes_per_second;
        (left.is_finite() && left < 1e9).then(|| Duration::from_secs_f64(left).as_secs())
    }

    fn rate(&self) -> u64 {
        Duration::try_from_secs_f64(self.bytes_per_second).map_or(0, |bytes| bytes.as_secs())
    }

    fn draw(&mut self, phase: Phase, done: u64, total: u64) {
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(total);
            let form = "{prefix:>7} [{wide_bar}] {binary_bytes}/{binary_total_bytes}  {msg}";
            bar.set_style(
                ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        bar.set_prefix(name(phase));
        bar.set_position(done);
        let eta = self.eta_seconds(done, total).map_or_else(|| "?".to_owned(), clock);
        let message = if phase == Phase::Copy || self.rate() > 0 {
            format!("{}/s  ETA {eta}", BinaryBytes(self.rate()))
        } else {
            format!("{}", HumanDuration(self.start.elapsed()))
        };
        if let Some(bar) = &self.bar {
            bar.set_message(message);
        }
    }

    fn print(&self, phase: Phase, done: u64, total: u64) {
        let percent = done.saturating_mul(100) / total;
        let eta = self.eta_seconds(done, total).map_or_else(|| "unknown".to_owned(), clock);
        let (rate, done, total) = (BinaryBytes(self.rate()), BinaryBytes(done), BinaryBytes(total));
        eprintln!("{}: {done} of {total} ({percent} %), {rate}/s, ETA {eta}", name(phase));
    }

    fn tell(&self, phase: Phase, done: u64, total: u64) {
        let event = json!({
            "event": "progress", "phase": name(phase), "bytes_done": done, "bytes_total": total,
            "bytes_per_second": self.rate(), "eta_seconds": self.eta_seconds(done, total),
        });
        print_line(&event.to_string());
    }
}

const fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Prepare => "prepare",
        Phase::Copy => "copy",
        Phase::Flush => "flush",
        Phase::Verify => "verify",
    }
}

/// `1:02:03`.
fn clock(seconds: u64) -> String {
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_a_copy_is_not_that_of_its_verification() {
        let mut shown = Shown::new(Style::Json);
        shown.enter(Phase::Copy, 0);
        shown.measure(1 << 30);
        assert!(shown.rate() > 0 && shown.eta_seconds(1 << 30, 1 << 31).is_some());
        for phase in [Phase::Flush, Phase::Verify] {
            let done = if phase == Phase::Flush { 1 << 31 } else { 0 };
            shown.enter(phase, done);
            shown.measure(done);
            assert_eq!((shown.rate(), shown.eta_seconds(done, 1 << 31 | 1)), (0, None), "{phase:?}");
        }
        shown.measure(1 << 20);
        assert!(shown.rate() > 0, "what is verified is measured");
    }
}
