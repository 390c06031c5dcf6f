//! Where a round takes place: a loop device and a retention directory.

use std::path::PathBuf;
use std::sync::Arc;

use failback_datapath::delta::DigestAlgorithm;
use failback_datapath::disk::{self, Purpose, RingDisk, WriteMark};
use failback_datapath::journal::{Directory, Pair, PairState, SecretKey};
use failback_datapath::landing::replica::Replica;
use failback_datapath::unit::{ChunkSize, Generation};

use crate::error::Error;
use crate::ground::{LoopDevice, Scratch};

/// What is measured.
pub type Real = Replica<RingDisk, Directory>;

/// The device and the directory; both go when it is dropped.
pub struct Field<'a> {
    scratch: &'a Scratch,
    /// The target.
    pub device: LoopDevice,
}

impl<'a> Field<'a> {
    /// A disk of `size_bytes` whose every block is allocated, and no journal yet.
    ///
    /// # Errors
    /// No room, no loop device.
    pub fn make(scratch: &'a Scratch, size_bytes: u64) -> Result<Self, Error> {
        let field = Self { scratch, device: LoopDevice::make(scratch, "target.img", size_bytes)? };
        Ok(field)
    }

    /// A file that stands for the journal in fio's runs.
    pub fn stand_in(&self) -> PathBuf {
        self.scratch.path("journal.fio")
    }

    /// The replica; a new one where there is none.
    ///
    /// # Errors
    /// Those of the disk, the directory and the replica.
    pub async fn enter(&self) -> Result<Real, Error> {
        let disk = RingDisk::new(Arc::new(disk::open(self.device.path(), Purpose::Target)?));
        let journal = self.scratch.path("journal");
        let is_new = !journal.exists();
        let directory = Directory::open(&journal, "a measurement")?;
        if is_new {
            Ok(Replica::create(disk, directory, self.pair()).await?)
        } else {
            Ok(Replica::open(disk, directory).await?.0)
        }
    }

    fn pair(&self) -> Pair {
        Pair { target_path: self.device.path().display().to_string(), ..pair(self.device.size_bytes) }
    }
}

/// A pair that stands on nothing yet.
pub fn pair(size_bytes: u64) -> Pair {
    Pair {
        generation: Generation { incarnation: 1, number: 1 },
        machine: "bench".to_owned(),
        machine_identity: String::new(),
        machine_key: String::new(),
        disk: "disk".to_owned(),
        target_identity: "bench".to_owned(),
        target_path: String::new(),
        size_bytes,
        chunk_size: ChunkSize::for_disk(size_bytes),
        digest_algorithm: DigestAlgorithm::Xxh3,
        key: SecretKey([7; 32]),
        state: PairState::Initial,
        pins: std::collections::BTreeSet::new(),
        segment_bytes: Pair::SEGMENT_BYTES,
        target_writes: WriteMark::default(),
        exact_from: None,
        awaits_comparison: false,
    }
}

impl Drop for Field<'_> {
    fn drop(&mut self) {
        // Of the next round nothing is to be there.
        for file in ["target.img", "journal.fio"] {
            let _ = std::fs::remove_file(self.scratch.path(file));
        }
        let _ = std::fs::remove_dir_all(self.scratch.path("journal"));
    }
}
