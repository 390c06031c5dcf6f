//! A file that is looked at, whatever it turns out to be.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::control::Failed;
use crate::exit::Exit;

/// A regular file, open to be read.
pub struct Looked {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Looked {
    /// Opens the file; a pipe or a device in its place is refused, not waited for.
    pub fn open(path: &Path) -> Result<Self, Failed> {
        let refused = |what: &str| (Exit::Refused, format!("{}: {what}", path.display()));
        let mut options = OpenOptions::new();
        options.read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
        let opened = options.open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        let (file, metadata) = opened.map_err(|error| refused(&format!("cannot be opened: {error}")))?;
        if !metadata.is_file() {
            return Err(refused("is no file"));
        }
        Ok(Self { file, path: path.to_owned(), bytes: metadata.len() })
    }

    /// Its size when it was opened.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of it, if that is at most `bytes_max`.
    pub fn whole(&self, bytes_max: usize) -> Result<Vec<u8>, Failed> {
        let bytes = self.read(0, bytes_max.saturating_add(1))?;
        if bytes.len() > bytes_max {
            return Err(self.wrong(bytes_max as u64, "it is longer than such a file is"));
        }
        Ok(bytes)
    }

    /// `length` bytes from `position` on, or as many as there are.
    pub fn read(&self, position: u64, length: usize) -> Result<Vec<u8>, Failed> {
        let left = usize::try_from(self.bytes.saturating_sub(position)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], position + filled as u64) {
                // Somebody has shortened it.
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(self.wrong(position + filled as u64, &format!("cannot be read: {error}")));
                }
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// What is wrong at a byte of the file.
    pub fn wrong(&self, position: u64, what: &str) -> Failed {
        (Exit::Failed, format!("{} at byte {position}: {what}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_end_with_the_file() {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let path = folder.path().join("file");
        std::fs::write(&path, "letters").expect("a file");
        let file = Looked::open(&path).expect("it is there");
        assert_eq!((file.bytes(), file.whole(7)), (7, Ok(b"letters".to_vec())));
        assert_eq!(file.read(5, 100), Ok(b"rs".to_vec()));
        assert_eq!(file.read(u64::MAX, 100), Ok(Vec::new()));
        assert!(file.whole(6).is_err_and(|(exit, why)| exit == Exit::Failed && why.contains("longer")));
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
        for path in [&*pipe, folder.path(), Path::new("/dev/zero"), &folder.path().join("missing")] {
            assert!(Looked::open(path).is_err_and(|(exit, _)| exit == Exit::Refused), "{}", path.display());
        }
    }
}
