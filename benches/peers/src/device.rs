//! Loop devices with direct I/O, and aligned reads and writes on them.

use crate::error::{Error, on_path};
use crate::measure::{answer_of, quiet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Alignment of buffers and offsets that every disk's direct I/O accepts, in bytes.
const ALIGNMENT: usize = 4096;
/// How long to wait for the kernel to let go of a loop device.
const DETACH_PATIENCE: Duration = Duration::from_secs(10);

/// A buffer that `O_DIRECT` accepts.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    storage: Vec<u8>,
    begin: usize,
    length: usize,
}

impl AlignedBuffer {
    /// A zeroed buffer of `length` bytes.
    pub(crate) fn new(length: usize) -> Self {
        let storage = vec![0; length + ALIGNMENT];
        let begin = storage.as_ptr().align_offset(ALIGNMENT);
        Self { storage, begin, length }
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.storage[self.begin..self.begin + self.length]
    }

    /// The bytes, to be filled.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.begin..self.begin + self.length]
    }
}

/// A device or file opened past the page cache.
#[derive(Debug)]
pub(crate) struct DirectFile {
    file: File,
    path: PathBuf,
}

impl DirectFile {
    /// Opens `path` for reading and writing.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_DIRECT);
        let file = options.open(path).map_err(on_path("open (direct)", path))?;
        Ok(Self { file, path: path.to_path_buf() })
    }

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// The read fails.
    pub(crate) fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), Error> {
        self.file.read_exact_at(bytes, offset).map_err(on_path("read", &self.path))
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The write fails.
    pub(crate) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.file.write_all_at(bytes, offset).map_err(on_path("write", &self.path))
    }

    /// Flushes down to the disk.
    ///
    /// # Errors
    /// The flush fails.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(on_path("flush", &self.path))
    }
}

/// A file attached as a loop device with direct I/O.
///
/// The device is held open and already marked for release, so the kernel
/// detaches it when this process ends in whatever way, `kill -9` included.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    path: PathBuf,
    hold: Option<File>,
}

impl LoopDevice {
    /// Creates `backing` with `size` bytes and attaches it.
    ///
    /// # Errors
    /// No room, no loop device, or a file system without direct I/O.
    pub(crate) fn create(backing: &Path, size: u64) -> Result<Self, Error> {
        File::create_new(backing).and_then(|file| file.set_len(size)).map_err(on_path("create", backing))?;
        let file = backing.display().to_string();
        let answer = answer_of("losetup", &["--find", "--show", "--direct-io=on", &file])?;
        let name = answer.trim().to_owned();
        let path = PathBuf::from(&name);
        let hold = File::open(&path).map_err(on_path("open", &path))?;
        // Its open file keeps it attached until the last close.
        quiet("losetup", &["--detach", &name])?;
        let device = Self { path, hold: Some(hold) };
        if device.attribute("dio").as_deref() != Some("1") {
            return Err(Error::NotDirect { device: name, backing: backing.to_path_buf() });
        }
        Ok(device)
    }

    /// `/dev/loopN`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `/dev/loopN` as an argument.
    pub(crate) fn argument(&self) -> String {
        self.path.display().to_string()
    }

    /// `loopN`.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Writes back and forgets the pages the kernel caches of the device.
    ///
    /// # Errors
    /// `blockdev` fails.
    pub(crate) fn forget_pages(&self) -> Result<(), Error> {
        quiet("blockdev", &["--flushbufs", &self.argument()])
    }

    fn attribute(&self, attribute: &str) -> Option<String> {
        let path = format!("/sys/block/{}/loop/{attribute}", self.name());
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        drop(self.hold.take());
        let begin = Instant::now();
        // A killed contestant may still have it open for a moment.
        while self.attribute("backing_file").is_some() && begin.elapsed() < DETACH_PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
