//! The map in which the kernel marks the changed chunks of a tracked disk.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use failback_datapath::error::Remediable;
use failback_datapath::track::{ChunkSet, Look, Place};
use indicatif::BinaryBytes;
use serde_json::json;

use super::fields;
use super::rows::{Counter, Rows};
use crate::control::Failed;
use crate::exit::Exit;
use crate::output::Output;

/// Disks that are named where the one asked for is not there.
const NAMED_MAX: usize = 64;

/// A tracked disk.
#[derive(Args)]
pub struct Bitmap {
    /// The disk, as its agent names it, or the folder of its pins
    disk: String,
    /// The BPF filesystem where its agent has pinned what tracks it
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pins: PathBuf,
    /// Which runs of neighbouring chunks.
    #[command(flatten)]
    rows: Rows,
}

impl Bitmap {
    /// Shows the map at this moment, without settling or taking a mark.
    pub fn show(&self, output: &Output) -> Result<(), Failed> {
        let folder = self.folder()?;
        let look = Look::at(&folder).map_err(|error| {
            let reason = std::error::Error::source(&error).map(|source| format!(": {source}"));
            let exit = Exit::of_remedy(error.remedy());
            (exit, format!("{error}{}", reason.unwrap_or_default()))
        })?;
        output.line(&text(&look), || event(&look));
        let mut rows = self.rows.count();
        let [even, odd] = &look.in_transit;
        for (name, set) in [("dirty", &look.dirty), ("in transit (even)", even), ("in transit (odd)", odd)] {
            runs(name, set, &look, &mut rows, output);
        }
        rows.end(output);
        Ok(())
    }

    /// Where the disk's map is pinned: by name, or by path.
    fn folder(&self) -> Result<PathBuf, Failed> {
        let named = Place::on(&self.pins, &self.disk, "").folder();
        let places = [named.clone(), PathBuf::from(&self.disk)];
        if let Some(folder) = places.into_iter().find(|folder| folder.join("map").exists()) {
            return Ok(folder);
        }
        let above = named.parent().unwrap_or(&self.pins);
        let known = names(above);
        let hint =
            if known.is_empty() { "none is".to_owned() } else { format!("there is {}", known.join(", ")) };
        Err((
            Exit::Refused,
            format!("{}: no disk of that name is tracked in {}; {hint}", self.disk, above.display()),
        ))
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(NAMED_MAX);
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn runs(name: &str, set: &ChunkSet, look: &Look, rows: &mut Counter, output: &Output) {
    let (chunk, size) = (look.geometry.chunk_size, look.geometry.size_bytes);
    for run in set.runs(u64::MAX) {
        if rows.is_over() {
            return;
        }
        if rows.takes() {
            let (from, to) = (chunk.extent(run.start, size).offset(), chunk.extent(run.end - 1, size).end());
            output.line(&format!("{name}: chunks {}..{}, bytes {from}..{to}", run.start, run.end), || {
                json!({
                    "event": "run", "bitmap": name, "first_chunk": run.start, "chunks": run.end - run.start,
                    "offset": from, "bytes": to - from,
                })
            });
        }
    }
}

fn text(look: &Look) -> String {
    let (geometry, statistics) = (look.geometry, &look.statistics);
    let chunk = u64::from(geometry.chunk_size.bytes());
    let held = |set: &ChunkSet| format!("{} chunks, {}", set.len(), BinaryBytes(set.len() * chunk));
    let [even, odd] = &look.in_transit;
    let doubts: Vec<String> = look.doubtful.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let programs: Vec<String> = look.programs.iter().map(ToString::to_string).collect();
    fields::lines(&[
        ("phase", look.phase.to_owned()),
        (
            "disk",
            format!(
                "{}, the {}th of its number since boot",
                BinaryBytes(geometry.size_bytes),
                look.disk_sequence
            ),
        ),
        ("chunks", format!("{} of {}", geometry.chunks(), geometry.chunk_size)),
        ("dirty", held(&look.dirty)),
        ("in transit, even", held(even)),
        ("in transit, odd", held(odd)),
        ("writes", format!("{} issued, {} completed", statistics.issued, statistics.completed)),
        (
            "sectors",
            format!("{} written, {} discarded", statistics.written_sectors, statistics.discarded_sectors),
        ),
        ("programs pinned", programs.join(", ")),
        ("misses", statistics.misses.to_string()),
        ("doubts", doubts.join(", ")),
    ])
}

fn event(look: &Look) -> serde_json::Value {
    let (geometry, statistics) = (look.geometry, &look.statistics);
    let doubts: serde_json::Map<String, serde_json::Value> =
        look.doubtful.iter().map(|(name, count)| (name.replace('-', "_"), json!(count))).collect();
    json!({
        "event": "bitmap", "phase": look.phase, "size_bytes": geometry.size_bytes,
        "chunk_bytes": geometry.chunk_size.bytes(), "chunks": geometry.chunks(),
        "disk_sequence": look.disk_sequence, "dirty_chunks": look.dirty.len(),
        "in_transit_even_chunks": look.in_transit[0].len(), "in_transit_odd_chunks": look.in_transit[1].len(),
        "issued": statistics.issued, "completed": statistics.completed,
        "written_sectors": statistics.written_sectors, "discarded_sectors": statistics.discarded_sectors,
        "misses": statistics.misses, "doubts": doubts,
        "programs": look.programs.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
