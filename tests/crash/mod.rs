//! Power cuts at every moment in the life of a replica.
//!
//! The disk and the retention volume lie in memory and remember what was
//! flushed. A script is played and recorded; then, for each flush of the
//! recording and for moments between them, storages are made that a power cut
//! could have left, opened, and held to what had been promised by then. Of some the
//! opening and what follows it are recorded too, and cut again.
//!
//! ```text
//! script ──play──> Replica ──> World ──> Tape ──cut──> World ──open──> Replica ──> oracle
//! ```

mod cut;
mod enumerate;
mod faults;
mod lives;
mod oracle;
mod play;
mod script;
mod storage;
mod tape;
mod tests;
mod world;
