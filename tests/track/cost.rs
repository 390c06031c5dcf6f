//! What tracking costs: a measurement, not a test.
//!
//! ```sh
//! cargo test -p failback-tests -- --ignored --nocapture track::cost
//! ```

use failback_datapath::sys::bpf;
use failback_datapath::track::ChangeSource;

use crate::fixture::Need::{LoopDevices, Program, Tracking};
use crate::fixture::{Scratch, need, program, run};

use super::MIB;
use super::followed::Followed;

#[test]
#[ignore = "a measurement"]
fn nanoseconds_for_each_event() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("fio")]) else { return };
    let (scratch, _measuring) = (Scratch::new(), bpf::measure_programs().expect("root may"));
    println!("chunk     write     runs   ns a run   chunks marked");
    for chunk_bytes in [4 << 10, 16 << 10, 64 << 10, 1 << 20] {
        for block in ["4k", "64k", "1m"] {
            let disk = Followed::new(&scratch, &format!("{chunk_bytes}-{block}"), 128 * MIB, chunk_bytes);
            let tracker = disk.install();
            let mut command = program("fio");
            command.arg("--name=cost").arg(format!("--filename={}", disk.device.path().display()));
            command.args(["--rw=randwrite", "--direct=1", "--ioengine=libaio", "--iodepth=16"]);
            run(command.args(["--io_size=64m", &format!("--bs={block}")]));
            let told = tracker.statistics();
            let each = told.measured_ns / told.measured_runs.max(1);
            println!(
                "{chunk_bytes:>7} {block:>7} {:>8} {each:>10} {:>15}",
                told.measured_runs, told.dirty_chunks
            );
        }
    }
}
