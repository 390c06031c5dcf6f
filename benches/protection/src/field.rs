//! Where a round takes place: a loop device and a retention directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use failback_datapath::delta::DigestAlgorithm;
use failback_datapath::disk::attach::{self, Options};
use failback_datapath::disk::{self, Purpose, RingDisk, WriteMark, image};
use failback_datapath::journal::{Directory, Pair, PairState, SecretKey};
use failback_datapath::landing::replica::Replica;
use failback_datapath::unit::{ChunkSize, Generation};
use tempfile::TempDir;

use crate::arguments::Arguments;
use crate::error::Error;

/// What is measured.
pub type Real = Replica<RingDisk, Directory>;

/// The device and the directory; both go when it is dropped.
pub struct Field {
    folder: TempDir,
    device: PathBuf,
    /// Size of the disk, in bytes.
    pub size_bytes: u64,
    rest: Duration,
}

impl Field {
    /// A disk whose every block is allocated, and no journal yet.
    ///
    /// # Errors
    /// No room, no loop device.
    pub fn make(arguments: &Arguments) -> Result<Self, Error> {
        let parent = &arguments.directory;
        let made = tempfile::Builder::new().prefix("failback-protection-").tempdir_in(parent);
        let folder = made.map_err(Error::at("make a folder in", parent))?;
        let image = folder.path().join("target.img");
        image::create_raw(&image, arguments.size_bytes())?;
        let attached = attach::attach(&image, Options { direct_io: true, ..Options::default() })?;
        let field = Self {
            folder,
            device: attached.device,
            size_bytes: arguments.size_bytes(),
            rest: Duration::from_secs(arguments.rest_seconds),
        };
        crate::fio::fill(&field)?;
        Ok(field)
    }

    /// The loop device.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// A file that stands for the journal in fio's runs.
    pub fn stand_in(&self) -> PathBuf {
        self.folder.path().join("journal.fio")
    }

    /// Lets what was written settle.
    pub fn rest(&self) {
        std::thread::sleep(self.rest);
    }

    /// The replica; a new one where there is none.
    ///
    /// # Errors
    /// Those of the disk, the directory and the replica.
    pub async fn enter(&self) -> Result<Real, Error> {
        let disk = RingDisk::new(Arc::new(disk::open(&self.device, Purpose::Target)?));
        let journal = self.folder.path().join("journal");
        let is_new = !journal.exists();
        let directory = Directory::open(&journal, "a measurement")?;
        if is_new {
            Ok(Replica::create(disk, directory, self.pair()).await?)
        } else {
            Ok(Replica::open(disk, directory).await?.0)
        }
    }

    fn pair(&self) -> Pair {
        Pair {
            generation: Generation { incarnation: 1, number: 1 },
            machine: "bench".to_owned(),
            machine_identity: String::new(),
            disk: "disk".to_owned(),
            target_identity: "bench".to_owned(),
            target_path: self.device.display().to_string(),
            size_bytes: self.size_bytes,
            chunk_size: ChunkSize::for_disk(self.size_bytes),
            digest_algorithm: DigestAlgorithm::Xxh3,
            key: SecretKey([7; 32]),
            state: PairState::Initial,
            pins: std::collections::BTreeSet::new(),
            segment_bytes: Pair::SEGMENT_BYTES,
            target_writes: WriteMark::default(),
        }
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        if let Err(error) = attach::detach(&self.device) {
            crate::report::say(&format!("{error}"));
        }
    }
}
