//! How long cuts stop PostgreSQL under pgbench, on ext4.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::arguments::Freeze;
use crate::error::Error;
use crate::ground::{Filesystem, LoopDevice, Scratch};
use crate::live::{Cluster, Ends, Settings};
use crate::report::{Report, Spread, Table, mebibytes, say};

const MIB: u64 = 1 << 20;
/// Points by policy would be cuts that are not counted.
const NEVER: u64 = 86_400;
/// Between a point and the next cut: what pgbench changes in it is the remainder's source.
const PAUSE: Duration = Duration::from_millis(500);

/// Measures.
///
/// # Errors
/// Any.
pub fn measure(options: &Freeze, scratch: &Scratch, failback: &Path) -> Result<Report, Error> {
    // Tables with their indexes, the write-ahead log, and room for both to grow.
    let size_bytes = (512 + u64::from(options.scale) * 60) * MIB;
    let source = LoopDevice::make(scratch, "source.img", size_bytes)?;
    let target = LoopDevice::make(scratch, "target.img", size_bytes)?;
    let filesystem = Filesystem::make(scratch, &source, size_bytes, "mounted")?;
    let mut cluster = Cluster::start(scratch, &filesystem.point)?;
    cluster.fill(options.scale)?;
    let settings = Settings { chunk_kib: None, points_every: NEVER };
    let mut ends = Ends::start(scratch, failback, "ends", [&source, &target], settings)?;
    let load = cluster.load(options.clients)?;
    let (before, begun) = (cluster.committed()?, Instant::now());
    let mut cuts = Vec::new();
    for number in 1..=options.cuts {
        scratch.rest(PAUSE)?;
        cluster.check()?;
        cuts.push(ends.cut()?);
        if number.is_multiple_of(20) {
            say(&format!("{number} of {} cuts", options.cuts));
        }
    }
    let committed = f64::from(cluster.committed()? - before);
    let transactions_per_second = committed / begun.elapsed().as_secs_f64();
    drop(load);
    drop(cluster);
    let doubts = ends.doubts();
    ends.end()?;
    Ok(report(&cuts, transactions_per_second, doubts))
}

fn report(cuts: &[Value], transactions_per_second: f64, doubts: u64) -> Report {
    let (made, skipped): (Vec<&Value>, Vec<&Value>) = cuts.iter().partition(|cut| cut["event"] == "cut");
    let of = |name: &str| -> Vec<u64> { made.iter().filter_map(|cut| cut[name].as_u64()).collect() };
    let (freezes, remainders) = (of("freeze_ms"), of("remainder_bytes"));
    let mut reasons = BTreeMap::<&str, u32>::new();
    for cut in &skipped {
        *reasons.entry(cut["reason"].as_str().unwrap_or_default()).or_default() += 1;
    }
    let spread = |name: &str, spread: &Spread, show: fn(u64) -> String| {
        [vec![name.to_owned()], spread.cells(show).to_vec()].concat()
    };
    let (frozen, left) = (Spread::of(freezes.iter().copied()), Spread::of(remainders.iter().copied()));
    let counts = vec![
        ["points".to_owned(), made.len().to_string()],
        ["skipped".to_owned(), skipped.len().to_string()],
        ["doubts".to_owned(), doubts.to_string()],
        ["transactions a second".to_owned(), format!("{transactions_per_second:.0}")],
    ];
    Report {
        tables: vec![
            Table {
                columns: vec!["a cut under pgbench", "p50", "p99", "max"],
                rows: vec![
                    spread("writers wait, ms", &frozen, |ms| ms.to_string()),
                    spread("read meanwhile, MiB", &left, mebibytes),
                ],
            },
            Table::of_figures(counts),
        ],
        figures: json!({
            "freeze_ms": freezes, "remainder_bytes": remainders, "skipped": reasons,
            "doubts": doubts, "freeze": frozen.figures(), "remainder": left.figures(),
            "transactions_per_second": transactions_per_second,
        }),
    }
}
