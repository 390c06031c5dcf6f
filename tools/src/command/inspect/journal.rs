//! The files of a journal one by one, and the journal as a whole.

use std::fs;
use std::path::Path;

use failback_datapath::error::Remediable;
use failback_datapath::journal::{Body, Directory, Pair, Summary, View, loose};
use failback_datapath::ring;
use indicatif::BinaryBytes;
use serde_json::json;

use super::looked::Looked;
use super::{fields, index, pair, records};
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;

/// Files that are shown: 288 points a day for a year, and what was merged of them.
const FILES_MAX: usize = 1 << 17;

/// Who holds the lock, as text: a line.
const LOCK_BYTES_MAX: usize = 256;

/// Shows each file, then the whole. What is wrong with one keeps none of the
/// others from being shown.
pub fn show(directory: &Path, output: &Output) -> Result<(), Failed> {
    let names = names(directory)?;
    let pair = pair::read(directory);
    for name in &names {
        let found = Found::of(directory, name, pair.as_ref().ok());
        let (verdict, is_good) = match &found.verdict {
            Ok(what) => (what.clone(), true),
            Err((_, what)) => (format!("WRONG: {what}"), false),
        };
        output.line(
            &format!("{name:<36} {:>12}  {verdict}", BinaryBytes(found.bytes).to_string()),
            || json!({"event": "file", "file": name, "bytes": found.bytes, "good": is_good, "what": verdict}),
        );
    }
    pair?;
    let summary = summary(directory)?;
    output.line(&text(&summary), || json!({"event": "journal", "journal": summary}));
    Ok(())
}

/// The journal as whoever writes it would find it.
pub fn summary(directory: &Path) -> Result<Summary, Failed> {
    // What is no journal is refused by this already.
    pair::read(directory)?;
    let failed = |exit, error: &dyn std::fmt::Display| (exit, format!("{}: {error}", directory.display()));
    let read = async {
        let opened = Directory::open_read_only(directory);
        let opened = opened.map_err(|error| failed(Exit::of_remedy(error.remedy()), &error))?;
        let damaged =
            |error: failback_datapath::journal::Error| failed(Exit::of_remedy(error.remedy()), &error);
        View::open(opened).await.map_err(damaged)?.summary().await.map_err(damaged)
    };
    ring::run(read).map_err(|error| failed(Exit::Failed, &error))?
}

/// The names of all files of a journal, sorted.
pub fn names(directory: &Path) -> Result<Vec<String>, Failed> {
    let failed = |what: String| (Exit::Refused, format!("{}: {what}", directory.display()));
    let unreadable = |error: std::io::Error| failed(format!("cannot be read: {error}"));
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)?.take(FILES_MAX + 1) {
        names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    if names.len() > FILES_MAX {
        return Err(failed(format!("has more than {FILES_MAX} files: that is no journal")));
    }
    names.sort();
    Ok(names)
}

/// A file, and what it seems to be.
struct Found {
    bytes: u64,
    verdict: Result<String, Failed>,
}

impl Found {
    fn of(directory: &Path, name: &str, pair: Option<&Pair>) -> Self {
        match Looked::open(&directory.join(name)) {
            Err(error) => Self { bytes: 0, verdict: Err(error) },
            Ok(file) => {
                let verdict = verdict(&file, name, pair);
                // Where each check of bytes needs the pair's key, none was made.
                let verdict = verdict.map(|what| match (pair, name) {
                    (None, "lock") | (Some(_), _) => what,
                    (None, _) => format!("{what} (not verified: the pair cannot be read)"),
                });
                Self { bytes: file.bytes(), verdict }
            }
        }
    }
}

fn verdict(file: &Looked, name: &str, pair: Option<&Pair>) -> Result<String, Failed> {
    let seed = pair.map(loose::seed);
    match name {
        "pair" => match pair {
            Some(pair) => Ok(format!("{}/{}: {}", pair.machine, pair.disk, pair.state)),
            None => Err(file.wrong(0, "it is no pair")),
        },
        "lock" => {
            let bytes = file.read(0, LOCK_BYTES_MAX)?;
            Ok(format!("last held by {}", String::from_utf8_lossy(&bytes).trim()))
        }
        "digests" => {
            let headers = [0, loose::BLOCK as u64].map(|at| file.read(at, loose::BLOCK));
            let known = headers.into_iter().flatten().filter_map(|page| loose::digest_header(&page, seed));
            let newest = known.max_by_key(|(_, applied)| *applied);
            let (chunks, applied) = newest.ok_or_else(|| file.wrong(0, "neither of its headers is whole"))?;
            Ok(format!("of {chunks} chunks, up to epoch {applied}"))
        }
        _ if name.ends_with(".new") || name.starts_with("run-") => {
            Ok("left by a crash, or being written".to_owned())
        }
        _ if name.ends_with(".index") => index::header(file, pair).map(|header| {
            format!("{:?}: epochs {}..={}, {} chunks", header.kind, header.first, header.last, header.entries)
        }),
        _ => match records::number(name) {
            Some(number) => segment(file, number, seed),
            None => Ok("no file of a journal".to_owned()),
        },
    }
}

/// What the first record of a segment says.
fn segment(file: &Looked, number: u32, seed: Option<u64>) -> Result<String, Failed> {
    let head = file.read(0, loose::HEAD_BYTES_MAX)?;
    let first = loose::record(&head, seed).filter(|first| first.frame.at.segment == number);
    match first.map(|first| (first.frame.at.sequence, first.body)) {
        Some((sequence, Body::Segment { .. })) => Ok(format!("log, from record {sequence} on")),
        _ => Err(file.wrong(0, "it does not begin as a segment")),
    }
}

fn text(summary: &Summary) -> String {
    let space = &summary.space;
    let newest = summary.points.last().map_or("none".to_owned(), |point| point.record.epoch.to_string());
    fields::lines(&[
        ("points", format!("{}, the newest is {newest}", summary.points.len())),
        ("open epoch", format!("{}, with {} records", summary.open_epoch, summary.open_records)),
        ("landed", format!("up to delta {} of it", summary.landed)),
        ("torn tail", BinaryBytes(summary.torn_bytes).to_string()),
        ("before-images", BinaryBytes(space.segment_bytes).to_string()),
        ("indexes", BinaryBytes(space.index_bytes).to_string()),
        ("digests", BinaryBytes(space.digest_bytes).to_string()),
        ("free", BinaryBytes(space.free_bytes).to_string()),
        ("left by a crash", summary.leftovers.len().to_string()),
    ])
}
