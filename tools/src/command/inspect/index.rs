//! An index: which chunks an epoch, or several, changed, and where what they held
//! before lies.

use std::path::{Path, PathBuf};

use clap::Args;
use failback_datapath::journal::{Before, EntrySummary, Pair, TableHeader, loose};
use serde_json::json;

use super::looked::Looked;
use super::rows::{Counter, Rows};
use super::{fields, pair};
use crate::control::Failed;
use crate::output::Output;

/// Pages that are read at once.
const PAGES_AT_ONCE: u32 = 256;

const PAGE: u64 = loose::BLOCK as u64;

/// An index.
#[derive(Args)]
pub struct Index {
    /// The file: epoch-….index or merged-….index in the directory of its journal
    file: PathBuf,
    /// Do not verify checksums: for a file whose pair is lost
    #[arg(long)]
    unverified: bool,
    /// Which entries.
    #[command(flatten)]
    rows: Rows,
}

impl Index {
    /// Shows the header and entries; reads and verifies every leaf.
    pub fn show(&self, output: &Output) -> Result<(), Failed> {
        let file = Looked::open(&self.file)?;
        let directory = self.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let directory = directory.unwrap_or_else(|| Path::new("."));
        let pair = if self.unverified { None } else { Some(pair::read(directory)?) };
        let header = header(&file, pair.as_ref())?;
        output.line(&text(&header), || json!({"event": "index", "header": header}));
        let mut leaves = Leaves { file: &file, pair: pair.as_ref(), header: &header, last: None, entries: 0 };
        let mut rows = self.rows.count();
        leaves.show(&mut rows, output)?;
        rows.end(output);
        leaves.judge(output)
    }
}

/// The header of an index; its checksum is verified where there is a pair.
pub fn header(file: &Looked, pair: Option<&Pair>) -> Result<TableHeader, Failed> {
    let page = file.read(0, loose::BLOCK)?;
    let incarnation = match pair {
        Some(pair) => pair.generation.incarnation,
        None => loose::incarnation(&page).unwrap_or_default(),
    };
    let header = loose::table_header(&page, pair.map(loose::seed), incarnation);
    header.map_err(|what| file.wrong(0, what))
}

/// The leaves of an index, one after another.
struct Leaves<'a> {
    file: &'a Looked,
    pair: Option<&'a Pair>,
    header: &'a TableHeader,
    /// The last chunk so far.
    last: Option<u32>,
    entries: u64,
}

impl Leaves<'_> {
    fn show(&mut self, rows: &mut Counter, output: &Output) -> Result<(), Failed> {
        let Some(leaves) = self.header.levels.first() else { return Ok(()) };
        let seed = self.pair.map(|pair| loose::leaf_seed(pair, self.header));
        let end = leaves.start.saturating_add(leaves.pages);
        let mut number = leaves.start;
        while number < end {
            let count = (end - number).min(PAGES_AT_ONCE);
            let length = usize::try_from(u64::from(count) * PAGE).unwrap_or(usize::MAX);
            let bytes = self.file.read(u64::from(number) * PAGE, length)?;
            if bytes.len() < length {
                return Err(self.wrong(number, "it ends before its last leaf"));
            }
            for page in bytes.chunks_exact(loose::BLOCK) {
                let entries = loose::leaf_at(page, number, seed).map_err(|what| self.wrong(number, what))?;
                self.take(number, &entries, rows, output)?;
                number += 1;
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        number: u32,
        entries: &[EntrySummary],
        rows: &mut Counter,
        output: &Output,
    ) -> Result<(), Failed> {
        for entry in entries {
            if self.last.is_some_and(|last| last >= entry.chunk) {
                return Err(self.wrong(number, "its entries are out of order"));
            }
            self.last = Some(entry.chunk);
            self.entries += 1;
            if rows.takes() {
                output.line(&entry_text(entry), || json!({"event": "entry", "entry": entry}));
            }
        }
        Ok(())
    }

    fn judge(&self, output: &Output) -> Result<(), Failed> {
        let (found, said) = (self.entries, self.header.entries);
        if found != said {
            return Err(self.wrong(0, &format!("it has {found} entries, and its header says {said}")));
        }
        let verified = if self.pair.is_some() { "verified" } else { "checksums not verified" };
        output.line(
            &format!("every leaf is whole: {found} entries, {verified}"),
            || json!({"event": "whole", "entries": found, "verified": self.pair.is_some()}),
        );
        Ok(())
    }

    fn wrong(&self, number: u32, what: &str) -> Failed {
        self.file.wrong(u64::from(number) * PAGE, what)
    }
}

/// A chunk of an epoch, on a line.
pub fn entry_text(entry: &EntrySummary) -> String {
    let before = match entry.before {
        Before::Stored(place) => {
            let how = if place.packed { "lz4" } else { "raw" };
            format!("segment {} at {}, {} bytes {how}", place.segment, place.position, place.length)
        }
        Before::Zero => "zeroes".to_owned(),
        Before::Told => "told by an earlier entry".to_owned(),
        Before::Unkept => "not kept".to_owned(),
    };
    let new = entry.new.as_deref().unwrap_or("not known");
    format!("chunk {:>10}  {} -> {new}  before: {before}", entry.chunk, entry.old)
}

fn text(header: &TableHeader) -> String {
    let levels: Vec<String> = header.levels.iter().map(|level| level.pages.to_string()).collect();
    let point = header.point.as_ref().map_or("none".to_owned(), |point| point.epoch.to_string());
    fields::lines(&[
        ("index", format!("{:?}, rank {}", header.kind, header.rank)),
        ("epochs", format!("{}..={}", header.first, header.last)),
        ("point", point),
        ("entries", header.entries.to_string()),
        ("pages of each level", levels.join(", ")),
        ("the log goes on", format!("in segment {} at {}", header.log.segment, header.log.position)),
    ])
}
