//! Change tracking on real loop devices: what changed is marked, what may have
//! been missed is doubted, and nothing else is.

mod adoption;
mod cost;
mod doubts;
mod followed;
mod noise;
mod workloads;

const MIB: u64 = 1 << 20;
