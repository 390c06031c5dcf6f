//! The log record by record, as far as one can be read: for a journal that is
//! damaged, too.

use std::path::PathBuf;

use clap::Args;
use failback_datapath::journal::{Body, RecordSummary, loose};
use failback_datapath::limits::JOURNAL_SEGMENT_BYTES_MAX;
use indicatif::BinaryBytes;
use serde_json::{Value, json};

use super::looked::Looked;
use super::rows::Rows;
use super::{journal, pair};
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;

/// What is read at once: a few of the longest heads.
const WINDOW_BYTES: usize = 256 << 10;

const BLOCK: u64 = loose::BLOCK as u64;

/// The records of a log.
#[derive(Args)]
pub struct Records {
    /// The directory of the journal: RETENTION/MACHINE/DISK
    directory: PathBuf,
    /// This segment alone
    #[arg(long, value_name = "N")]
    segment: Option<u32>,
    /// Show the entries of each batch, too
    #[arg(long)]
    entries: bool,
    /// Show records whose checksums do not fit, too, and those of a journal whose
    /// pair is lost
    #[arg(long)]
    unverified: bool,
    /// Which records and gaps.
    #[command(flatten)]
    rows: Rows,
}

/// A part of a segment.
enum Part {
    /// A record that lies where it says.
    Record(Box<RecordSummary>),
    /// No record: zeroes, or anything else.
    Gap { from: u64, to: u64, is_zero: bool },
}

impl Records {
    /// Shows records and gaps, then whether the log is whole.
    pub fn show(&self, output: &Output) -> Result<(), Failed> {
        let seed = if self.unverified { None } else { Some(loose::seed(&pair::read(&self.directory)?)) };
        let mut rows = self.rows.count();
        for number in self.segments()? {
            let file = Looked::open(&self.directory.join(file_name(number)))?;
            walk(&file, number, seed, |part| {
                if rows.takes() {
                    self.show_part(number, part, output);
                }
                !rows.is_over()
            })?;
            if rows.is_over() {
                break;
            }
        }
        rows.end(output);
        self.judge(output)
    }

    /// What the journal itself makes of its log.
    fn judge(&self, output: &Output) -> Result<(), Failed> {
        if self.unverified || self.segment.is_some() {
            return Ok(());
        }
        let summary = journal::summary(&self.directory)?;
        let (epoch, torn) = (summary.open_epoch, summary.torn_bytes);
        output.line(
            &format!("the log is whole; epoch {epoch} is open, with a torn tail of {}", BinaryBytes(torn)),
            || json!({"event": "log", "whole": true, "open_epoch": epoch, "torn_bytes": torn}),
        );
        Ok(())
    }

    fn segments(&self) -> Result<Vec<u32>, Failed> {
        if let Some(number) = self.segment {
            return Ok(vec![number]);
        }
        let names = journal::names(&self.directory)?;
        let numbers: Vec<u32> = names.iter().filter_map(|name| number(name)).collect();
        if numbers.is_empty() {
            let message = format!("{}: there is no segment of a log", self.directory.display());
            return Err((Exit::Refused, message));
        }
        Ok(numbers)
    }

    fn show_part(&self, number: u32, part: &Part, output: &Output) {
        match part {
            Part::Record(record) => {
                output.line(&self.text(record), || self.event(record));
            }
            Part::Gap { from, to, is_zero } => {
                let what = if *is_zero { "zeroes" } else { "no record" };
                output.line(
                    &format!("{number:>8} {from:>10}  {what} up to {to}"),
                    || json!({"event": "gap", "segment": number, "from": from, "to": to, "zeroes": is_zero}),
                );
            }
        }
    }

    fn text(&self, record: &RecordSummary) -> String {
        let (frame, says) = (&record.frame, says(&record.body));
        let mut text = format!(
            "{:>8} {:>10}  record {} of epoch {}, {}: {says}",
            frame.at.segment,
            frame.at.position,
            frame.at.sequence,
            frame.epoch,
            BinaryBytes(u64::from(frame.record_bytes()))
        );
        if let (true, Body::Batch { entries, .. }) = (self.entries, &record.body) {
            for entry in entries {
                text.push_str(&format!("\n{:>20}{}", "", super::index::entry_text(entry)));
            }
        }
        text
    }

    fn event(&self, record: &RecordSummary) -> Value {
        let mut event = json!({"event": "record", "record": record});
        if !self.entries
            && let Some(entries) = event.pointer_mut("/record/body/batch/entries")
        {
            *entries = json!(entries.as_array().map_or(0, Vec::len));
        }
        event
    }
}

/// The number of the segment with this file name.
pub fn number(name: &str) -> Option<u32> {
    let number = name.strip_prefix("segment-")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

fn file_name(number: u32) -> String {
    format!("segment-{number:08}")
}

fn says(body: &Body) -> String {
    match body {
        Body::Segment { end_of_last, made_bytes } => {
            format!("the segment of {made_bytes} B begins; the last one ended at {end_of_last}")
        }
        Body::Batch { delta, entries } => format!("{} chunks, of delta {delta} at last", entries.len()),
        Body::Landed { delta, .. } => format!("the target is flushed up to delta {delta}"),
        Body::Point(point) => format!("point {} ({})", point.epoch, point.kind),
        Body::RolledBack => "the epoch was undone".to_owned(),
    }
}

/// Hands the parts of a segment to `take`, from its beginning to its end, as long
/// as that wants more.
fn walk(
    file: &Looked,
    number: u32,
    seed: Option<u64>,
    mut take: impl FnMut(&Part) -> bool,
) -> Result<(), Failed> {
    if file.bytes() > u64::from(JOURNAL_SEGMENT_BYTES_MAX) {
        return Err(file.wrong(0, "it is longer than a segment can be"));
    }
    let (mut at, mut gap, mut window) = (0, None, Window::new(file));
    while at < file.bytes() {
        let head = window.from(at)?;
        if head.is_empty() {
            break;
        }
        if let Some(record) = record_at(head, number, at, seed) {
            let next = at + u64::from(record.frame.record_bytes());
            if !take_gap(&mut gap, at, &mut take) || !take(&Part::Record(Box::new(record))) {
                return Ok(());
            }
            at = next;
        } else {
            let (blocks, is_zero) = without_record(head);
            let (_, all_zero) = gap.get_or_insert((at, true));
            *all_zero &= is_zero;
            at += blocks * BLOCK;
        }
    }
    take_gap(&mut gap, file.bytes(), &mut take);
    Ok(())
}

fn take_gap(gap: &mut Option<(u64, bool)>, to: u64, take: &mut impl FnMut(&Part) -> bool) -> bool {
    gap.take().is_none_or(|(from, is_zero)| take(&Part::Gap { from, to, is_zero }))
}

/// What was read of a file last: many small records come with one read.
struct Window<'a> {
    file: &'a Looked,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    const fn new(file: &'a Looked) -> Self {
        Self { file, start: 0, bytes: Vec::new() }
    }

    /// The bytes from `at` on: as many as the longest head has, if there are.
    fn from(&mut self, at: u64) -> Result<&[u8], Failed> {
        let end = at.saturating_add(loose::HEAD_BYTES_MAX as u64).min(self.file.bytes());
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            self.bytes = self.file.read(at, WINDOW_BYTES)?;
            self.start = at;
        }
        let from = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..).unwrap_or_default())
    }
}

fn record_at(head: &[u8], number: u32, at: u64, seed: Option<u64>) -> Option<RecordSummary> {
    let record = loose::record(head, seed)?;
    let is_here = record.frame.at.segment == number && u64::from(record.frame.at.position) == at;
    is_here.then_some(record)
}

/// How many blocks, at least one, go by before something may be a record again,
/// and whether they are zero.
fn without_record(head: &[u8]) -> (u64, bool) {
    let mut blocks = head.chunks(loose::BLOCK);
    let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let (mut passed, mut all_zero) = (1, blocks.next().is_none_or(is_zero));
    for block in blocks.take_while(|block| !block.starts_with(&loose::RECORD_MAGIC)) {
        passed += 1;
        all_zero &= is_zero(block);
    }
    (passed, all_zero)
}
