//! What the program does, one file for each command.

pub mod agent;
pub mod bench;
pub mod demo;
pub mod freeze_watchdog;
pub mod image;
pub mod inspect;
pub mod master_target;
pub mod pair;
pub mod points;
pub mod serve;
pub mod sync;
