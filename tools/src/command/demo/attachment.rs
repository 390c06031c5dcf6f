//! Loop devices and mounts that go when they are dropped.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use failback_datapath::disk::attach::{self, AttachError, Options};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::error::Error;

/// How long a mount or a device that somebody else has open for a moment (a
/// desktop's indexer, udev) is tried again.
const BUSY_WAIT: Duration = Duration::from_secs(3);
const TRY_EVERY: Duration = Duration::from_millis(50);

/// An attached loop device.
pub struct Device {
    path: PathBuf,
    is_attached: bool,
}

impl Device {
    /// Attaches `image`.
    ///
    /// # Errors
    /// [`Error::Attach`].
    pub fn attach(image: &Path, read_only: bool) -> Result<Self, Error> {
        let attached = attach::attach(image, Options { read_only, ..Options::default() })?;
        Ok(Self { path: attached.device, is_attached: true })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Detaches it.
    ///
    /// # Errors
    /// [`Error::Attach`] where it stays in use; dropping tries once more.
    pub fn detach(mut self) -> Result<(), Error> {
        self.release()
    }

    fn release(&mut self) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            match attach::detach(&self.path) {
                Err(AttachError::InUse { .. }) if start.elapsed() < BUSY_WAIT => {
                    std::thread::sleep(TRY_EVERY)
                }
                Err(error) => return Err(error.into()),
                Ok(()) => break,
            }
        }
        self.is_attached = false;
        Ok(())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.is_attached
            && let Err(error) = self.release()
        {
            complain(&format!("{error}; then run `failback image detach {}`", self.path.display()));
        }
    }
}

/// A mounted ext4 filesystem.
pub struct Mount {
    point: PathBuf,
    is_mounted: bool,
}

impl Mount {
    /// Mounts the ext4 filesystem of `device` at the folder `point`, which is
    /// made where it is missing.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn new(device: &Path, point: &Path, read_only: bool) -> Result<Self, Error> {
        fs::create_dir_all(point).map_err(Error::at("make", point))?;
        let mut flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        if read_only {
            flags |= MsFlags::MS_RDONLY;
        }
        mount(Some(device), point, Some("ext4"), flags, None::<&str>)
            .map_err(|errno| Error::at("mount", device)(errno.into()))?;
        Ok(Self { point: point.to_owned(), is_mounted: true })
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// Unmounts it, which writes out all that is not on its device yet.
    ///
    /// # Errors
    /// [`Error::System`] where it stays busy; dropping it then takes it out of
    /// sight.
    pub fn unmount(mut self) -> Result<(), Error> {
        self.release().map_err(|errno| Error::at("unmount", &self.point)(errno.into()))
    }

    fn release(&mut self) -> Result<(), Errno> {
        let start = Instant::now();
        loop {
            match umount2(&self.point, MntFlags::UMOUNT_NOFOLLOW) {
                Err(Errno::EBUSY | Errno::EINTR) if start.elapsed() < BUSY_WAIT => {
                    std::thread::sleep(TRY_EVERY)
                }
                Err(errno) => return Err(errno),
                Ok(()) => break,
            }
        }
        self.is_mounted = false;
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_mounted && self.release().is_err() {
            // Gone for everybody but those who still use it, and free after them.
            if let Err(errno) = umount2(&self.point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                complain(&format!(
                    "{} stays mounted: {errno}; unmount it with `umount`",
                    self.point.display()
                ));
            }
        }
    }
}

/// A guard cannot return an error.
fn complain(text: &str) {
    // Standard error may be closed, which is no reason to panic half-way.
    let _ = writeln!(std::io::stderr(), "failback: {text}");
}
