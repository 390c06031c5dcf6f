//! Loop devices with direct I/O that go with the process that made them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use failback_datapath::disk::attach::{self, Options};
use failback_datapath::disk::image;

use super::Scratch;
use crate::error::Error;

/// A loop device over a file of its own.
///
/// It is held open and marked to be released by its last user, so that the
/// kernel detaches it in whatever way this process ends.
pub struct LoopDevice {
    path: PathBuf,
    /// Size in bytes.
    pub size_bytes: u64,
    _hold: File,
}

impl LoopDevice {
    /// A disk of `size_bytes` whose file is called `name`, with every block
    /// written once.
    ///
    /// # Errors
    /// No room, no loop device.
    pub fn make(scratch: &Scratch, name: &str, size_bytes: u64) -> Result<Self, Error> {
        let file = scratch.path(name);
        image::create_raw(&file, size_bytes)?;
        let path = attach::attach(&file, Options { direct_io: true, ..Options::default() })?.device;
        let hold = File::open(&path).map_err(Error::at("open", &path));
        // Whoever interrupts waits for this.
        let released = Command::new("losetup").arg("--detach").arg(&path).output();
        released.map_err(Error::at("start", "losetup"))?;
        let device = Self { path, size_bytes, _hold: hold? };
        super::fio::fill(scratch, &device)?;
        Ok(device)
    }

    /// `/dev/loopN`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
