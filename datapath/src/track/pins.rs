//! Where a tracker's objects are pinned, so that they outlive the agent.
//!
//! ```text
//! /sys/fs/bpf/failback/DISK/map
//!                           issue, completion                    links
//!                           issue-program, completion-program    what they run
//! ```
//! A name with `-new` behind it is on its way to replace the one without.

use std::fs::{self, File};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};

use super::error::Error;
use crate::sys::bpf;

/// Where the BPF filesystem belongs.
const FILESYSTEM: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC`.
const FILESYSTEM_KIND: FsType = FsType(0xcafe_4a11);

/// The longest key in bytes: a file name, with room for nothing else.
const KEY_BYTES_MAX: usize = 200;

/// Where the objects of one disk live, and what keeps a second agent out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    root: PathBuf,
    key: String,
    lock: PathBuf,
}

impl Place {
    /// Under `/sys/fs/bpf/failback/`, by the disk's key (a dot, which a BPF
    /// filesystem does not take, becomes `=`, anything else that no name has `_`); `lock` lies beside the agent's state.
    #[must_use]
    pub fn new(key: &str, lock: impl Into<PathBuf>) -> Self {
        Self::on(Path::new(FILESYSTEM), key, lock)
    }

    /// The same on the BPF filesystem at `root`.
    #[must_use]
    pub fn on(root: &Path, key: &str, lock: impl Into<PathBuf>) -> Self {
        // A BPF filesystem takes no dots.
        let plain = |letter: char| match letter {
            '.' => '=',
            '-' | '_' => letter,
            _ if letter.is_ascii_alphanumeric() => letter,
            _ => '_',
        };
        let key: String = key.chars().take(KEY_BYTES_MAX).map(plain).collect();
        Self { root: root.to_owned(), key, lock: lock.into() }
    }

    /// The folder of the pins.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.root.join("failback").join(&self.key)
    }

    /// Claims the disk for this agent, until the value is dropped.
    pub(super) fn lock(&self) -> Result<Flock<File>, Error> {
        let path = || self.lock.clone();
        let file = File::options().create(true).truncate(false).write(true).open(&self.lock);
        let file = file.map_err(|source| Error::Lock { path: path(), source })?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => Error::Locked { path: path() },
            errno => Error::Lock { path: path(), source: errno.into() },
        })
    }

    /// Takes the lock's file away, once nobody needs it.
    pub(super) fn remove_lock(&self) -> Result<(), Error> {
        ignore_absent(fs::remove_file(&self.lock))
            .map_err(|source| Error::Lock { path: self.lock.clone(), source })
    }

    /// Mounts the filesystem where that was not done yet.
    pub(super) fn prepare(&self) -> Result<(), Error> {
        ensure_filesystem(&self.root).map_err(|source| Error::Filesystem { path: self.root.clone(), source })
    }

    /// Makes the folder.
    pub(super) fn make(&self) -> Result<(), Error> {
        let folder = self.folder();
        fs::create_dir_all(&folder).map_err(|source| Error::Pin { path: folder, source })
    }

    /// Pins an object in place of one of that name.
    pub(super) fn pin(&self, name: &str, object: BorrowedFd<'_>) -> Result<(), Error> {
        let (path, new) = (self.folder().join(name), self.folder().join(format!("{name}-new")));
        let pinned = ignore_absent(fs::remove_file(&new))
            .and_then(|()| bpf::pin(&new, object))
            .and_then(|()| fs::rename(&new, &path));
        pinned.map_err(|source| Error::Pin { path, source })
    }

    /// Opens what is pinned; `None` where nothing is.
    pub(super) fn get(&self, name: &str) -> Result<Option<OwnedFd>, Error> {
        let path = self.folder().join(name);
        match bpf::pinned(&path) {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Pin { path, source }),
        }
    }

    /// Whether something is pinned under the name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.folder().join(name).exists()
    }

    /// Takes all pins of the disk away, and the folders that are empty then.
    pub(super) fn clear(&self) -> Result<(), Error> {
        let folder = self.folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|source| Error::Pin { path: folder.clone(), source })?,
        };
        for entry in entries.flatten() {
            let path = entry.path();
            ignore_absent(fs::remove_file(&path)).map_err(|source| Error::Pin { path, source })?;
        }
        ignore_absent(fs::remove_dir(&folder)).map_err(|source| Error::Pin { path: folder, source })?;
        // Other disks may have theirs there.
        let _in_use = fs::remove_dir(self.root.join("failback"));
        Ok(())
    }
}

/// Whether a BPF filesystem is mounted at `root`.
pub(super) fn is_filesystem(root: &Path) -> bool {
    statfs(root).is_ok_and(|facts| facts.filesystem_type() == FILESYSTEM_KIND)
}

/// Mounts a BPF filesystem at `root`, unless one is there. One at a time: a
/// second mount would hide what is pinned in the first.
fn ensure_filesystem(root: &Path) -> io::Result<()> {
    if is_filesystem(root) {
        return Ok(());
    }
    let above = root.parent().unwrap_or(root);
    let held = Flock::lock(File::open(above)?, FlockArg::LockExclusive);
    let _held = held.map_err(|(_, errno)| io::Error::from(errno))?;
    if !is_filesystem(root) {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("bpf"), root, Some("bpf"), flags, Some("mode=700"))?;
    }
    Ok(())
}

fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_becomes_a_name_that_the_filesystem_takes() {
        let place = Place::new("wwid:naa.5000/x", "/run/lock");
        assert_eq!(place.folder(), Path::new("/sys/fs/bpf/failback/wwid_naa=5000_x"));
        assert_eq!(Place::new(&"é".repeat(300), "x").key.len(), KEY_BYTES_MAX);
    }

    #[test]
    fn a_lock_keeps_a_second_agent_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Place::on(folder.path(), "disk", folder.path().join("lock"));
        let held = place.lock().expect("the first");
        assert!(matches!(place.lock(), Err(Error::Locked { .. })));
        drop(held);
        drop(place.lock().expect("the next"));
        place.remove_lock().expect("it is ours");
        place.remove_lock().expect("gone is gone");
        assert!(!is_filesystem(folder.path()));
    }
}
