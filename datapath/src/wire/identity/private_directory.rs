//! A directory that nobody but its owner reads: keys, known peers, pairing tokens.
//!
//! In: the directory's path and names of files in it. Out: their bytes.
//! Invariants: directory 0700, files 0600, both owned by the user this process
//! runs as, anything wider or foreign is refused rather than repaired; a file is
//! whole or absent (written aside, flushed, then linked or renamed, then the
//! directory is flushed). Never: follows a link at a file's name, reads more
//! than the caller allows.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use data_encoding::HEXLOWER;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Remediable, Remedy};

/// Bits of a mode that let anyone but the owner in.
const OTHERS: u32 = 0o077;
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Why a private directory or a file in it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}; check that the path exists and belongs to this user")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Users other than the owner have access.
    #[error("{path} is open to other users (mode {mode:04o}): run `chmod {wanted:o} {path}`")]
    TooOpen {
        /// The file or directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// The permissions it must not exceed.
        wanted: u32,
    },
    /// It belongs to another user, who could exchange its content.
    #[error(
        "{path} belongs to user {owner}, not to user {user} who runs this: give it to that user or name another directory"
    )]
    ForeignOwner {
        /// The file or directory.
        path: PathBuf,
        /// Numeric id of its owner.
        owner: u32,
        /// Numeric id of the user of this process.
        user: u32,
    },
    /// Larger than anything this program writes there.
    #[error("{path} is larger than {limit} bytes, which failback never writes: move it away")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes that are read.
        limit: u64,
    },
    /// The system's random numbers failed.
    #[error("the system gave no random numbers for a file in {path}")]
    NoRandomness {
        /// The directory.
        path: PathBuf,
    },
}

impl Remediable for StateError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Io { .. } | Self::NoRandomness { .. } => Remedy::Stop,
            Self::TooOpen { .. } | Self::ForeignOwner { .. } | Self::TooLarge { .. } => Remedy::Refused,
        }
    }
}

/// A directory with mode 0700 that belongs to the user of this process.
#[derive(Clone, Debug)]
pub struct PrivateDirectory {
    path: PathBuf,
}

/// An exclusive lock between processes and threads; released when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

impl PrivateDirectory {
    /// The directory at `path`, made with its parents where it is missing.
    ///
    /// # Errors
    /// It cannot be made, belongs to another user, or is open to others.
    pub fn open_or_create(path: &Path) -> Result<Self, StateError> {
        if let Err(source) = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path) {
            return Err(failed("create directory", path, source));
        }
        let directory = Self { path: path.to_owned() };
        let metadata = fs::metadata(path).map_err(|source| failed("inspect", path, source))?;
        check_access(path, &metadata, DIRECTORY_MODE)?;
        Ok(directory)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes of file `name`, at most `limit` of them; `None` where there is no such file.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.path.join(name);
        let file =
            match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path)
            {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(failed("open", &path, source)),
            };
        let metadata = file.metadata().map_err(|source| failed("inspect", &path, source))?;
        check_access(&path, &metadata, FILE_MODE)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| failed("read", &path, source))?;
        if crate::unit::to_u64(bytes.len()) > limit {
            return Err(StateError::TooLarge { path, limit });
        }
        Ok(Some(bytes))
    }

    /// Makes file `name` hold `bytes` unless it exists; says whether it was made.
    /// Of several processes at once exactly one is told that it made the file.
    pub(crate) fn create_once(&self, name: &str, bytes: &[u8]) -> Result<bool, StateError> {
        let aside = self.write_aside(name, bytes)?;
        let path = self.path.join(name);
        let linked = fs::hard_link(&aside, &path);
        let removed = fs::remove_file(&aside);
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(source) => return Err(failed("create", &path, source)),
        }
        removed.map_err(|source| failed("remove", &aside, source))?;
        self.flush()?;
        Ok(true)
    }

    /// Makes file `name` hold `bytes`, durably and at one stroke.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let aside = self.write_aside(name, bytes)?;
        let path = self.path.join(name);
        if let Err(source) = fs::rename(&aside, &path) {
            // The rename's error is the one to report; a leftover file is only litter.
            let _ = fs::remove_file(&aside);
            return Err(failed("replace", &path, source));
        }
        self.flush()
    }

    /// Waits for the exclusive lock `name`. Holders only read and write small
    /// files under it, so the wait is short.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock, StateError> {
        let path = self.path.join(name);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(|source| failed("open", &path, source))?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(held) => return Ok(Lock { _file: held }),
                Err((unlocked, Errno::EINTR)) => file = unlocked,
                Err((_, error)) => return Err(failed("lock", &path, error.into())),
            }
        }
    }

    fn write_aside(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, StateError> {
        let mut unique = [0_u8; 8];
        SystemRandom::new()
            .fill(&mut unique)
            .map_err(|_| StateError::NoRandomness { path: self.path.clone() })?;
        let path = self.path.join(format!(".{name}.{}", HEXLOWER.encode(&unique)));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&path)?;
            // A umask may have taken bits away; nothing may add any.
            file.set_permissions(fs::Permissions::from_mode(FILE_MODE))?;
            file.write_all(bytes)?;
            file.sync_all()
        })();
        match written {
            Ok(()) => Ok(path),
            Err(source) => {
                let _ = fs::remove_file(&path);
                Err(failed("write", &path, source))
            }
        }
    }

    fn flush(&self) -> Result<(), StateError> {
        File::open(&self.path)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| failed("flush directory", &self.path, source))
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> StateError {
    StateError::Io { action, path: path.to_owned(), source }
}

fn check_access(path: &Path, metadata: &fs::Metadata, wanted: u32) -> Result<(), StateError> {
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(StateError::TooOpen { path: path.to_owned(), mode, wanted });
    }
    let user = nix::unistd::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(StateError::ForeignOwner { path: path.to_owned(), owner: metadata.uid(), user });
    }
    Ok(())
}
