//! Opening again: a replica that was left in the middle of an epoch, as after a
//! kill, and a journal of many points over a large disk.

use std::time::Instant;

use failback_datapath::journal::{Batch, Directory, Journal, PointKind, PointRecord};
use failback_datapath::ring;
use failback_datapath::unit::{Chain, DeltaNumber};
use serde_json::json;

use crate::arguments::Recovery;
use crate::error::Error;
use crate::ground::Scratch;
use crate::ground::fio::Pattern;
use crate::landing::churn;
use crate::landing::field::{Field, pair};
use crate::report::{Report, Table, figure, median, say};

/// Chunks that changed for each point of the large journal.
const CHUNKS_PER_POINT: u64 = 4000;
/// Of which so many lie side by side, as files are written.
const RUN_CHUNKS: u64 = 100;
const BATCH_CHUNKS: usize = 1024;

/// Measures.
///
/// # Errors
/// Any.
pub fn measure(options: &Recovery, scratch: &Scratch) -> Result<Report, Error> {
    let mut rows = Vec::new();
    for pattern in [Pattern::Sequential, Pattern::Random] {
        let field = Field::make(scratch, options.size << 20)?;
        churn::leave_open(&field, pattern)?;
        let work = format!("open epoch of {} MiB, {} churn", options.size, pattern.name());
        rows.push((work, rounds(options, scratch, || reopen(&field))?));
        say(&format!("{} churn opened again", pattern.name()));
    }
    let folder = scratch.folder("many-points")?;
    ring::run(write_points(&folder, options))??;
    let work = format!("{} points over {} GiB", options.points, options.disk);
    let open = || {
        ring::run(async {
            let volume = Directory::open(&folder, "a measurement")?;
            let begun = Instant::now();
            let journal = Journal::open(volume).await?;
            let seconds = begun.elapsed().as_secs_f64();
            drop(journal);
            Ok(seconds)
        })?
    };
    rows.push((work, rounds(options, scratch, open)?));
    let greatest = |seconds: &[f64]| seconds.iter().copied().max_by(f64::total_cmp);
    let cells = |(work, seconds): &(String, Vec<f64>)| {
        vec![work.clone(), figure(median(seconds)), figure(greatest(seconds))]
    };
    Ok(Report {
        tables: vec![Table {
            columns: vec!["opened", "seconds", "max"],
            rows: rows.iter().map(cells).collect(),
        }],
        figures: rows.iter().map(|(work, seconds)| json!({"work": work, "seconds": seconds})).collect(),
    })
}

fn rounds(
    options: &Recovery,
    scratch: &Scratch,
    mut open: impl FnMut() -> Result<f64, Error>,
) -> Result<Vec<f64>, Error> {
    (0..options.rounds).map(|_| scratch.check().and_then(|()| open())).collect()
}

/// Seconds until a replica that nobody closed takes deltas.
fn reopen(field: &Field<'_>) -> Result<f64, Error> {
    ring::run(async {
        let begun = Instant::now();
        let replica = field.enter().await?;
        let seconds = begun.elapsed().as_secs_f64();
        drop(replica);
        Ok(seconds)
    })?
}

/// Points of chunks that were zeroes, so that their images take no space; the
/// last epoch stays open, as it nearly always is.
async fn write_points(folder: &std::path::Path, options: &Recovery) -> Result<(), Error> {
    let mut journal =
        Journal::create(Directory::open(folder, "a measurement")?, pair(options.disk << 30)).await?;
    let mut batch = journal.batch()?;
    let mut places = Places { state: 0x9e37_79b9_7f4a_7c15, chunks: journal.pair().chunks() };
    let per_point = CHUNKS_PER_POINT.min(journal.pair().chunks());
    for epoch in 1..=options.points {
        batch.belongs_to(DeltaNumber(1));
        let mut chunk = 0;
        for number in 0..per_point {
            chunk = if number % RUN_CHUNKS == 0 { places.next() } else { chunk + 1 };
            change(&journal, &mut batch, chunk, epoch == 1)?;
            if batch.len() == BATCH_CHUNKS || number + 1 == per_point {
                journal.append(&mut batch).await?;
            }
        }
        let point = point(&journal, epoch);
        journal.close_epoch(point).await?;
        while journal.merge().await? {}
    }
    change(&journal, &mut batch, 7, false)?;
    journal.append(&mut batch).await?;
    journal.flush().await?;
    Ok(())
}

fn change(journal: &Journal<Directory>, batch: &mut Batch, chunk: u64, is_first: bool) -> Result<(), Error> {
    const ZEROES: &[u8] = &[0; 4096];
    let digest = journal.pair().digester().digest(ZEROES);
    // Before the first point there is nothing to go back to.
    if is_first { batch.unkept(chunk, digest) } else { batch.keep(chunk, ZEROES, digest, digest) }?;
    Ok(())
}

fn point(journal: &Journal<Directory>, closed_unix_ms: u64) -> PointRecord {
    PointRecord {
        generation: journal.pair().generation,
        epoch: journal.open_epoch(),
        kind: PointKind::Crash,
        name: String::new(),
        machine_cut: None,
        cut_unix_ms: closed_unix_ms,
        closed_unix_ms,
        freeze_ms: 0,
        deltas: DeltaNumber(1),
        chunks: journal.touched_chunks().len(),
        manifest: [0; 32],
        chain: Chain([0; 32]),
    }
}

/// Where runs begin: all over the disk, the same each time.
struct Places {
    state: u64,
    chunks: u64,
}

impl Places {
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % self.chunks.saturating_sub(RUN_CHUNKS).max(1)
    }
}
