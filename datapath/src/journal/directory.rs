//! The real retention volume: a directory on a filesystem of this host.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl, posix_fallocate};

use super::{Volume, VolumeFile};
use crate::error::{Remediable, Remedy};
use crate::ring;
use crate::sys::{BUFFER_ALIGNMENT, Buffer, direct_alignment};

/// The file that whoever writes holds locked.
const LOCK: &str = "lock";

/// Who holds it, as text: a line.
const HOLDER_BYTES_MAX: u64 = 256;

/// A directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process, or another journal of this one, writes there.
    #[error("the retention directory {path} is in use by {holder}: one master target writes a journal")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who holds it, by its own word.
        holder: String,
    },
    /// A system call failed.
    #[error("cannot {action} the retention directory {path}: {source}")]
    File {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's word.
        source: io::Error,
    },
}

impl Remediable for DirectoryError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::InUse { .. } => Remedy::Refused,
            Self::File { .. } => Remedy::Stop,
        }
    }
}

/// A directory on a filesystem of this host, flat.
///
/// Files are opened with `O_DIRECT` where the filesystem has it for blocks of
/// 4 KiB, buffered elsewhere. Its files belong to the thread that opens them.
#[derive(Clone)]
pub struct Directory {
    inner: Rc<Inner>,
}

struct Inner {
    path: PathBuf,
    /// For flushing names and asking for free space.
    handle: File,
    /// An open file description lock, which ends with it.
    lock: Lock,
}

/// What is kept away meanwhile.
enum Lock {
    /// Nobody: this one looks whoever writes.
    Free,
    /// Whoever writes.
    Shared { _file: Option<File> },
    /// Everybody: this one writes.
    Sole { _file: File },
}

impl Directory {
    /// Opens the directory to write in it, making it (mode 0700) where it is missing.
    /// `holder` says who this is, to whoever is refused meanwhile.
    ///
    /// # Errors
    /// [`DirectoryError::InUse`], and those of files.
    pub fn open(path: &Path, holder: &str) -> Result<Self, DirectoryError> {
        let failed = |action| move |source| DirectoryError::File { path: path.to_owned(), action, source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make"))?;
        let lock = Lock::Sole { _file: take_lock(path, holder)? };
        let handle = File::open(path).map_err(failed("open"))?;
        handle.sync_all().map_err(failed("flush"))?;
        Ok(Self { inner: Rc::new(Inner { path: path.to_owned(), handle, lock }) })
    }

    /// Opens the directory to look at it, whoever writes there meanwhile.
    ///
    /// # Errors
    /// Those of files.
    pub fn open_read_only(path: &Path) -> Result<Self, DirectoryError> {
        Self::look(path, Lock::Free)
    }

    /// Opens the directory to look at it while nobody writes there; others may look
    /// too. Nothing is changed, the lock's file included.
    ///
    /// # Errors
    /// [`DirectoryError::InUse`], and those of files.
    pub fn open_shared(path: &Path) -> Result<Self, DirectoryError> {
        let failed = |source| DirectoryError::File { path: path.to_owned(), action: "lock", source };
        let file = match File::open(path.join(LOCK)) {
            Ok(file) => Some(file),
            // Nobody ever wrote there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if let Some(file) = &file {
            set_lock(path, file, libc::F_RDLCK)?;
        }
        Self::look(path, Lock::Shared { _file: file })
    }

    fn look(path: &Path, lock: Lock) -> Result<Self, DirectoryError> {
        let handle = File::open(path).map_err(|source| DirectoryError::File {
            path: path.to_owned(),
            action: "open",
            source,
        })?;
        Ok(Self { inner: Rc::new(Inner { path: path.to_owned(), handle, lock }) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The path of a file; flat names only, and the lock is nobody's file.
    fn file(&self, name: &str) -> io::Result<PathBuf> {
        let flat =
            !name.is_empty() && name != "." && name != ".." && name != LOCK && !name.contains(['/', '\0']);
        if flat {
            Ok(self.inner.path.join(name))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name of a file here")))
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.inner.lock {
            Lock::Sole { .. } => Ok(()),
            Lock::Free | Lock::Shared { .. } => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

fn take_lock(path: &Path, holder: &str) -> Result<File, DirectoryError> {
    let failed = |action| move |source| DirectoryError::File { path: path.to_owned(), action, source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path.join(LOCK)).map_err(failed("lock"))?;
    set_lock(path, &file, libc::F_WRLCK)?;
    let line = format!("{holder} (process {})\n", std::process::id());
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(line.as_bytes()));
    written.map_err(failed("lock"))?;
    Ok(file)
}

/// Locks the whole of the lock's file, for writing or for reading.
fn set_lock(path: &Path, file: &File, kind: libc::c_int) -> Result<(), DirectoryError> {
    let whole = |kind: libc::c_int| libc::flock {
        l_type: libc::c_short::try_from(kind).unwrap_or_default(),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole(kind))) {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => {
            // Whoever only reads does not write its name there.
            let mut met = whole(libc::F_WRLCK);
            let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut met));
            let is_read = asked.is_ok() && libc::c_int::from(met.l_type) == libc::F_RDLCK;
            let holder = if is_read { "a command that reads it".to_owned() } else { holder_of(file) };
            Err(DirectoryError::InUse { path: path.to_owned(), holder })
        }
        Err(errno) => {
            Err(DirectoryError::File { path: path.to_owned(), action: "lock", source: errno.into() })
        }
    }
}

/// Who holds it, as whoever did last wrote it there.
fn holder_of(file: &File) -> String {
    let mut text = String::new();
    let read = file.take(HOLDER_BYTES_MAX).read_to_string(&mut text);
    let is_named = read.is_ok() && !text.trim().is_empty();
    if is_named { text.trim().to_owned() } else { "another process".to_owned() }
}

impl Volume for Directory {
    type File = DirectoryFile;

    fn create(&self, name: &str, size_bytes: u64) -> io::Result<DirectoryFile> {
        self.check_writable()?;
        let path = self.file(name)?;
        let length = i64::try_from(size_bytes).map_err(|_| io::ErrorKind::StorageFull)?;
        let file = open(&path, Mode::Create)?;
        if length > 0
            && let Err(errno) = posix_fallocate(&file, 0, length)
        {
            drop(file);
            fs::remove_file(&path)?;
            return Err(errno.into());
        }
        DirectoryFile::new(file)
    }

    fn open(&self, name: &str, writable: bool) -> io::Result<DirectoryFile> {
        if writable {
            self.check_writable()?;
        }
        let mode = if writable { Mode::Write } else { Mode::Read };
        DirectoryFile::new(open(&self.file(name)?, mode)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::rename(self.file(from)?, self.file(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        fs::remove_file(self.file(name)?)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.inner.path)? {
            // What is no text is no file of ours.
            if let Ok(name) = entry?.file_name().into_string()
                && name != LOCK
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn flush_directory(&self) -> io::Result<()> {
        self.inner.handle.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let status = nix::sys::statvfs::fstatvfs(&self.inner.handle)?;
        Ok(status.blocks_available().saturating_mul(status.fragment_size()))
    }
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Read,
    Write,
    Create,
}

/// Opens past the page cache where that works with the blocks of a journal.
fn open(path: &Path, mode: Mode) -> io::Result<File> {
    let open = |direct: i32| {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != Mode::Read).create_new(mode == Mode::Create).mode(0o600);
        options.custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | direct).open(path)
    };
    let remade = || if mode == Mode::Create { fs::remove_file(path) } else { Ok(()) };
    let block = u32::try_from(BUFFER_ALIGNMENT).unwrap_or(u32::MAX);
    match open(libc::O_DIRECT) {
        Ok(file) if direct_alignment(&file).is_none_or(|alignment| alignment <= block) => Ok(file),
        Ok(_coarse) => remade().and_then(|()| open(0)),
        // Filesystems without direct I/O say so after they made the file.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            match remade() {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            open(0)
        }
        Err(error) => Err(error),
    }
}

/// A file of a [`Directory`], on this thread's ring.
pub struct DirectoryFile {
    file: File,
    ring: ring::File,
}

impl DirectoryFile {
    fn new(file: File) -> io::Result<Self> {
        let ring = ring::File::attach(&file)?;
        Ok(Self { file, ring })
    }
}

impl VolumeFile for DirectoryFile {
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    async fn read(&self, position: u64, buffer: Buffer, range: Range<usize>) -> (io::Result<()>, Buffer) {
        self.ring.read(buffer, range, position).await
    }

    async fn write(&self, position: u64, buffer: Buffer, range: Range<usize>) -> (io::Result<()>, Buffer) {
        self.ring.write(buffer, range, position).await
    }

    async fn flush(&self) -> io::Result<()> {
        self.ring.flush().await
    }
}
