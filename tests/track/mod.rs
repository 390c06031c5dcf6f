//! Change tracking on real loop devices: what changed is marked, what may have
//! been missed is doubted, and nothing else is.

mod adoption;
mod doubts;
mod followed;
pub mod lost;
mod noise;
mod workloads;

const MIB: u64 = 1 << 20;

/// How much a test writes: `mib`, or `FAILBACK_TRACK_FACTOR` times as much; as
/// fio takes it.
fn amount(mib: u64) -> String {
    let factor = std::env::var("FAILBACK_TRACK_FACTOR").ok().map_or(1, |text| {
        text.parse().unwrap_or_else(|_| panic!("FAILBACK_TRACK_FACTOR is a number, not {text}"))
    });
    format!("--io_size={}m", mib * factor)
}
