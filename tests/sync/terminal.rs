//! What people see at a terminal: a bar that is drawn, tells how long it still
//! takes, leaves notices whole, and goes.

use std::path::Path;

use crate::fixture::Need::Program;
use crate::fixture::{LONG, Model, Outcome, Random, Running, Scratch, binary, need, program};

use super::MIB;
use super::disks::{Disk, Kind};

const BYTES: usize = 12 * MIB;
const COLUMNS: usize = 100;

/// `failback sync` at a terminal of its own, run by `before` if that is not
/// empty; everything it shows is the output.
fn at_terminal(scratch: &Scratch, before: &str, options: &str, source: &Path, target: &Path) -> Outcome {
    let (failback, state) = (binary().display(), scratch.path("state"));
    let line = format!(
        "stty cols {COLUMNS} rows 30 -onlcr; exec {before} '{failback}' sync --state '{}' {options} '{}' '{}'",
        state.display(),
        source.display(),
        target.display()
    );
    let mut command = program("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]);
    command.env("SHELL", "/bin/sh").env("TERM", "xterm").env("HOME", scratch.root());
    Running::start(&mut command).finish(LONG)
}

/// What a terminal shows in the end: lines written over, erased and moved in
/// as far as a progress bar does that.
fn screen(output: &str) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::<char>::new()], 0_usize, 0_usize);
    let mut characters = output.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' => column = 0,
            '\n' => {
                (row, column) = (row + 1, 0);
                lines.resize(lines.len().max(row + 1), Vec::new());
            }
            '\u{1b}' => {
                assert_eq!(characters.next(), Some('['), "an unknown sequence in {output:?}");
                let mut number = String::new();
                let end = loop {
                    match characters.next().expect("sequences end") {
                        digit if digit.is_ascii_digit() || "?;".contains(digit) => number.push(digit),
                        end => break end,
                    }
                };
                let count: usize = number.parse().unwrap_or(1);
                match end {
                    'A' => row = row.saturating_sub(count),
                    'B' => row += count,
                    'K' if number == "2" => lines[row].clear(),
                    'K' => lines[row].truncate(column),
                    'J' => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    'm' | 'h' | 'l' => {}
                    _ => panic!("an unknown sequence {number}{end} in {output:?}"),
                }
                lines.resize(lines.len().max(row + 1), Vec::new());
            }
            _ => {
                let line = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = character;
                column += 1;
            }
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
}

fn is_bar(line: &str) -> bool {
    line.contains("copy [") || line.contains("verify [") || line.contains("flush [") || line.contains("ETA")
}

#[test]
fn a_bar_is_drawn_tells_the_time_left_and_goes() {
    let Some(()) = need(&[Program("script"), Program("stty")]) else { return };
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let (source, target) = (scratch.path("source.raw"), scratch.image("target.raw", BYTES as u64));
    Model::random(BYTES, &mut random).save(&source);
    let outcome = at_terminal(&scratch, "", "--limit-rate 6M", &source, &target).expect_success();
    let shown = &outcome.stdout;
    let bars: Vec<&str> = shown.split(['\r', '\n']).filter(|line| is_bar(line)).collect();
    assert!(bars.len() >= 3, "a bar is drawn again and again: {shown:?}");
    assert!(bars.iter().any(|bar| bar.contains("/12.00 MiB") && bar.contains("/s")), "{bars:?}");
    assert!(bars.iter().any(|bar| bar.contains("ETA 0:00:0")), "the time left in hours: {bars:?}");
    assert!(bars.iter().any(|bar| bar.contains('█') || bar.contains('#')), "it fills: {bars:?}");
    // And in the end it is gone, and the summary is whole.
    let screen = screen(shown);
    assert!(!screen.iter().any(|line| is_bar(line)), "the bar stays: {screen:?}");
    assert!(screen.iter().any(|line| line.contains("chunks differed")), "{screen:?}");
}

#[test]
fn a_notice_and_a_bar_leave_each_other_whole() {
    let Some(()) = need(&[Program("script"), Program("stty")]) else { return };
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let source = scratch.path("source.raw");
    Model::random(BYTES, &mut random).save(&source);
    // It is told that the image goes through the page cache, and that it is larger.
    let target = Disk::make(&scratch, "target", Kind::Split, BYTES + MIB);
    let outcome = at_terminal(&scratch, "", "--limit-rate 6M --verify", &source, target.path());
    let outcome = outcome.expect_success();
    assert!(outcome.stdout.split(['\r', '\n']).any(is_bar), "no bar: {outcome}");
    let screen = screen(&outcome.stdout);
    let notes: Vec<&String> = screen.iter().filter(|line| line.starts_with("note: ")).collect();
    assert!(notes.iter().any(|note| note.contains("no direct I/O here")), "{screen:?}");
    assert!(notes.len() >= 2, "{screen:?}");
    assert!(!screen.iter().any(|line| is_bar(line)), "the bar stays: {screen:?}");
    assert!(screen.iter().any(|line| line.contains("verified")), "{screen:?}");
}

#[test]
fn an_interrupted_bar_goes_before_the_reason_is_told() {
    let Some(()) = need(&[Program("script"), Program("stty"), Program("timeout")]) else { return };
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let (source, target) = (scratch.path("source.raw"), scratch.image("target.raw", BYTES as u64));
    Model::random(BYTES, &mut random).save(&source);
    // Half a minute, of which it gets some seconds.
    let interrupt = "timeout --foreground --preserve-status --signal=INT 3";
    let outcome = at_terminal(&scratch, interrupt, "--limit-rate 400K", &source, &target).expect_code(4);
    assert!(outcome.stdout.split(['\r', '\n']).any(is_bar), "no bar: {outcome}");
    let screen = screen(&outcome.stdout);
    assert!(!screen.iter().any(|line| is_bar(line)), "the bar stays: {screen:?}");
    assert!(
        screen.iter().any(|line| line.starts_with("failback: ") && line.contains("unfinished")),
        "{screen:?}"
    );
}
