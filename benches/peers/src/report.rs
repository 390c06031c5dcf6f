//! The figures as text for a terminal, and as Markdown for a page.

use crate::contestant::Role;
use crate::data::MEBIBYTE;
use crate::summary::{Figures, Line, Report, Row};
use std::io::{self, Write};

const HEADINGS: [&str; 7] = ["", "seconds", "min–max", "CPU s", "peak MiB", "time ×", "CPU ×"];

/// Writes machine, command line and all rows as text.
///
/// # Errors
/// The stream fails.
pub(crate) fn write_text(report: &Report, stream: &mut dyn Write) -> io::Result<()> {
    for line in preface(report) {
        writeln!(stream, "{line}")?;
    }
    for row in &report.rows {
        writeln!(stream, "\n{}: {}", row.name.name(), row.title)?;
        write_row(row, stream)?;
        for line in row.judgement() {
            writeln!(stream, "  to reach: {line}")?;
        }
    }
    Ok(())
}

/// Writes the same as Markdown.
///
/// # Errors
/// The stream fails.
pub(crate) fn write_markdown(report: &Report, stream: &mut dyn Write) -> io::Result<()> {
    for line in preface(report) {
        writeln!(stream, "- {line}")?;
    }
    for row in &report.rows {
        writeln!(stream, "\n**{}**: {}\n", row.name.name(), row.title)?;
        writeln!(stream, "|{}", HEADINGS.map(|heading| format!(" {heading} |")).concat())?;
        writeln!(stream, "| --- | ---: | ---: | ---: | ---: | ---: | ---: |")?;
        for line in &row.contestants {
            let cells = cells_of(line);
            match cells {
                Ok(cells) => {
                    writeln!(stream, "|{}", cells.map(|cell| format!(" {} |", escaped(&cell))).concat())?
                }
                Err(reason) => {
                    writeln!(stream, "| {} | {} | | | | | |", escaped(line.name), escaped(&reason))?;
                }
            }
        }
    }
    Ok(())
}

/// A bar would begin another cell.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

fn preface(report: &Report) -> Vec<String> {
    let machine = &report.machine;
    let mut lines = vec![
        format!("command: {}", report.command_line),
        format!(
            "machine: {} cores ({}), {} MiB memory, {}, kernel {}",
            machine.cores, machine.processor, machine.memory_mib, machine.system, machine.kernel
        ),
        format!("disks: two loop devices with direct I/O, {} MiB each, files on {}", size_mib(report), machine.file_system),
        format!("rounds: {}, interleaved; medians; every run compared byte for byte; seed {}", report.rounds, report.seed),
        "CPU s: busy seconds of the whole machine, kernel threads and servers included; peak MiB: the largest process"
            .to_owned(),
        "time ×, CPU ×: to the row's fastest peer (*); programs in brackets set no standard".to_owned(),
    ];
    if let Some(chunks) = report.changed_chunks {
        lines.push(format!("resync: {chunks} chunks of 64 KiB changed, at random places"));
    }
    if machine.busy_with_others > 0.1 {
        lines.push(format!(
            "noise: others used {:.2} CPU seconds a second just before or after; take these figures for a trial",
            machine.busy_with_others
        ));
    }
    let versions = machine.versions.iter().map(|(program, version)| format!("{program}: {version}"));
    lines.push(format!("versions: {}", versions.collect::<Vec<_>>().join("; ")));
    lines
}

fn size_mib(report: &Report) -> u64 {
    report.size_bytes / MEBIBYTE
}

fn write_row(row: &Row, stream: &mut dyn Write) -> io::Result<()> {
    let lines: Vec<_> = row.contestants.iter().map(|line| (line, cells_of(line))).collect();
    let mut widths = HEADINGS.map(|heading| heading.chars().count());
    for cells in lines.iter().filter_map(|(_, cells)| cells.as_ref().ok()) {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    write_cells(&HEADINGS.map(str::to_owned), &widths, stream)?;
    for (line, cells) in &lines {
        match cells {
            Ok(cells) => write_cells(cells, &widths, stream)?,
            Err(reason) => writeln!(stream, "  {}: {reason}", line.name)?,
        }
    }
    Ok(())
}

fn write_cells(cells: &[String; 7], widths: &[usize; 7], stream: &mut dyn Write) -> io::Result<()> {
    let [name, figures @ ..] = cells;
    let [name_width, figure_widths @ ..] = widths;
    write!(stream, "  {name:name_width$}")?;
    for (cell, width) in figures.iter().zip(figure_widths) {
        write!(stream, "  {cell:>width$}")?;
    }
    writeln!(stream)
}

/// The cells of a line, or why there are none.
fn cells_of(line: &Line) -> Result<[String; 7], String> {
    if let Some(missing) = &line.skipped {
        return Err(format!("skipped: needs {missing}"));
    }
    if let Some(failure) = &line.failure {
        return Err(format!("failed: {}", failure.lines().next().unwrap_or_default()));
    }
    let figures = line.figures.as_ref().ok_or("no runs")?;
    let name = match line.role {
        Role::Extra => format!("({})", line.name),
        _ if line.is_fastest_peer => format!("{} *", line.name),
        _ => line.name.to_owned(),
    };
    Ok(with_name(name, figures))
}

fn with_name(name: String, figures: &Figures) -> [String; 7] {
    let ratio = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
    [
        name,
        format!("{:.2}", figures.seconds),
        format!("{:.2}–{:.2}", figures.seconds_min, figures.seconds_max),
        format!("{:.2}", figures.cpu_seconds),
        format!("{:.1}", figures.peak_rss_mib),
        ratio(figures.seconds_ratio),
        ratio(figures.cpu_ratio),
    ]
}
