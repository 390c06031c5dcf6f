//! What is read and sent for each byte that a writer of small blocks changes, by
//! the size of the chunk: the one in which changes are marked, sent, kept and
//! digested.

use std::path::Path;

use failback_datapath::unit::ChunkSize;
use serde_json::{Value, json};

use crate::arguments::Chunks;
use crate::error::Error;
use crate::ground::fio::{Until, Writer, Written};
use crate::ground::{LoopDevice, Scratch};
use crate::live::{Ends, Settings};
use crate::report::{Report, Table, figure, mebibytes, say};

/// The kernel holds three bits for each chunk of a disk.
const BITMAPS: u64 = 3;
const TIB: u64 = 1 << 40;
const GIB: f64 = 1_073_741_824.0;

/// What one size costs.
struct Found {
    chunk_kib: u32,
    written: Written,
    read_bytes: u64,
    sent_bytes: u64,
    cpu_seconds: [f64; 2],
    doubts: u64,
}

/// Measures.
///
/// # Errors
/// Any.
pub fn measure(options: &Chunks, scratch: &Scratch, failback: &Path) -> Result<Report, Error> {
    let source = LoopDevice::make(scratch, "source.img", options.size << 20)?;
    let target = LoopDevice::make(scratch, "target.img", options.size << 20)?;
    let writer = Writer {
        file: source.path().to_owned(),
        size_bytes: source.size_bytes,
        rate: Some(options.rate),
        until: Until::Seconds(options.seconds),
    };
    let mut all = Vec::new();
    for chunk_kib in options.chunks.iter().copied() {
        let settings = Settings { chunk_kib: Some(chunk_kib), points_every: 86_400 };
        let name = format!("chunk-{chunk_kib}");
        let mut ends = Ends::start(scratch, failback, &name, [&source, &target], settings)?;
        let (status, costs) = (ends.status()?, ends.costs()?);
        let written = writer.run(scratch)?;
        ends.settle()?;
        let after = ends.status()?;
        let grown = |name: &str| number(&after, name).saturating_sub(number(&status, name));
        all.push(Found {
            chunk_kib,
            written,
            read_bytes: grown("read_bytes"),
            sent_bytes: grown("sent_bytes"),
            cpu_seconds: ends.costs()?.cpu_seconds_since(&costs),
            doubts: ends.doubts(),
        });
        ends.end()?;
        // The next one's needs the room.
        let _ = std::fs::remove_dir_all(scratch.path(&name).join("retention"));
        say(&format!("chunks of {chunk_kib} KiB"));
    }
    Ok(Report {
        tables: vec![Table {
            columns: vec![
                "chunk, KiB",
                "read ×",
                "sent ×",
                "agent, CPU s a GiB",
                "target, CPU s a GiB",
                "marks of a TiB, MiB",
                "doubts",
            ],
            rows: all.iter().map(Found::cells).collect(),
        }],
        figures: all.iter().map(Found::figures).collect(),
    })
}

fn number(status: &Value, name: &str) -> u64 {
    status[name].as_u64().unwrap_or_default()
}

impl Found {
    /// For each byte written.
    fn each(&self, bytes: u64) -> Option<f64> {
        Some(gibibytes(bytes) / gibibytes(self.written.bytes()))
    }

    fn marks_bytes(&self) -> u64 {
        ChunkSize::new(self.chunk_kib << 10).map_or(0, |chunk| chunk.count(TIB) * BITMAPS / 8)
    }

    fn cells(&self) -> Vec<String> {
        let cpu = self.cpu_seconds.map(|seconds| figure(Some(seconds / gibibytes(self.written.bytes()))));
        let bytes = [self.read_bytes, self.sent_bytes].map(|bytes| figure(self.each(bytes)));
        let kib = vec![self.chunk_kib.to_string()];
        [kib, bytes.to_vec(), cpu.to_vec(), vec![mebibytes(self.marks_bytes()), self.doubts.to_string()]]
            .concat()
    }

    fn figures(&self) -> Value {
        json!({
            "chunk_kib": self.chunk_kib, "written_bytes": self.written.bytes(), "read_bytes": self.read_bytes,
            "sent_bytes": self.sent_bytes,
            "agent_cpu_seconds": self.cpu_seconds[0], "target_cpu_seconds": self.cpu_seconds[1],
            "doubts": self.doubts, "marks_bytes_of_a_tib": self.marks_bytes(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "ratios of two digits")]
fn gibibytes(bytes: u64) -> f64 {
    bytes as f64 / GIB
}
