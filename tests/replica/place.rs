//! Where a replica lives: a loop device and a directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use failback_datapath::delta::DigestAlgorithm;
use failback_datapath::disk::{self, Purpose, RingDisk, WriteMark};
use failback_datapath::journal::{Directory, Pair, PairState, SecretKey};
use failback_datapath::landing::replica::Replica;
use failback_datapath::unit::{ChunkSize, Generation};

/// The last chunk is an odd one.
pub const DISK_BYTES: usize = (2 << 20) + 1536;

pub type Real = Replica<RingDisk, Directory>;

/// The device, the journal's directory, and what was acknowledged.
pub struct Home {
    pub device: PathBuf,
    pub journal: PathBuf,
    /// A line for each acknowledged point.
    pub log: PathBuf,
}

impl Home {
    pub fn new(device: &Path, folder: &Path) -> Self {
        Self {
            device: device.to_path_buf(),
            journal: folder.join("journal"),
            log: folder.join("acknowledged"),
        }
    }

    /// The replica that lives there; a new one where there is none.
    pub async fn enter(&self) -> Real {
        let disk = disk::open(&self.device, Purpose::Target).expect("the disk opens");
        let disk = RingDisk::new(Arc::new(disk));
        let directory = Directory::open(&self.journal, "a test").expect("the directory opens");
        if self.journal.join("pair").exists() {
            Replica::open(disk, directory).await.expect("the replica opens").0
        } else {
            Replica::create(disk, directory, pair(&self.device)).await.expect("the replica is made")
        }
    }
}

/// Small segments, so that there are many.
fn pair(device: &Path) -> Pair {
    Pair {
        generation: Generation { incarnation: 7, number: 1 },
        machine: "web".to_owned(),
        machine_identity: String::new(),
        machine_key: String::new(),
        disk: "sda".to_owned(),
        target_identity: "loop".to_owned(),
        target_path: device.display().to_string(),
        size_bytes: DISK_BYTES as u64,
        chunk_size: ChunkSize::for_disk(DISK_BYTES as u64),
        digest_algorithm: DigestAlgorithm::Blake3,
        key: SecretKey([9; 32]),
        state: PairState::Initial,
        pins: std::collections::BTreeSet::new(),
        segment_bytes: 8 << 20,
        target_writes: WriteMark::default(),
        exact_from: None,
        awaits_comparison: false,
    }
}
