//! Freezing real filesystems on loop devices: in order, within limits, undone
//! whatever happens. The watchdog only ever rehearses the power-off.

mod agent;
mod breaks;
mod deaths;
mod namespaces;
mod order;
mod rig;
