//! A mounted ext4, unmounted when it is dropped.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{LoopDevice, Scratch};
use crate::error::Error;

/// How long somebody may keep it busy at the end.
const BUSY_WITHIN: Duration = Duration::from_secs(10);

/// A mounted filesystem.
pub struct Filesystem {
    /// Where it is mounted.
    pub point: PathBuf,
}

impl Filesystem {
    /// Makes one of `size_bytes` at the beginning of `device` and mounts it at a
    /// folder called `name`.
    ///
    /// # Errors
    /// `mkfs.ext4` or `mount` fail.
    pub fn make(scratch: &Scratch, device: &LoopDevice, size_bytes: u64, name: &str) -> Result<Self, Error> {
        let point = scratch.folder(name)?;
        let blocks = (size_bytes >> 10).to_string() + "k";
        // All of it now: nothing is initialized in the background later.
        let options = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"];
        scratch.run(Command::new("mkfs.ext4").args(options).arg(device.path()).arg(blocks))?;
        scratch.run(Command::new("mount").arg(device.path()).arg(&point))?;
        Ok(Self { point })
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        let quietly = |program: &str, arguments: &[&str]| {
            let command = Command::new(program).args(arguments).arg(&self.point).output();
            command.is_ok_and(|output| output.status.success())
        };
        // Unmounted while it is frozen it would stay so, out of everybody's reach.
        let _ = quietly("fsfreeze", &["--unfreeze"]);
        let until = Instant::now() + BUSY_WITHIN;
        while !quietly("umount", &[]) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
