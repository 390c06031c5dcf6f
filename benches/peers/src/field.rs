//! Where the contestants run: two disks of the same size on the same file
//! system, and what is done to them before every run, so that each contestant
//! meets the same.
//!
//! - The disks are files attached as loop devices with direct I/O. Every block
//!   of both files is allocated and written once before anything is measured.
//! - *Recycled* (copies): before each run the target gets its previous content
//!   back: allocated everywhere, non-zero, nothing of the source in it. It is
//!   the ordinary case of a disk that was in use, it spares all contestants the
//!   file system's first allocation, and whoever turns zeroes into holes pays
//!   for punching them in this run.
//! - *Differing* (resyncs): the target equals what the source was before 1 % of
//!   its 64 KiB chunks were changed. After a verified run the same chunks are
//!   taken back, so every contestant meets the same difference; after a failed
//!   one the whole target is made anew.
//! - *Removed* (sparse image): the target file does not exist.
//! - Always: the file system is synced (deferred discards of the run before
//!   must not fall into the next) and the devices' cached pages are dropped.
//!   Peers that write through the page cache pay for fresh pages; those with
//!   direct I/O are the fair yardsticks, and the fastest of all is what counts.

use crate::data::{self, Difference};
use crate::device::LoopDevice;
use crate::error::{Error, on_path};
use crate::interrupt::Interrupt;
use crate::verify;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// What a target must be before a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preparation {
    /// Full of other bytes.
    Recycled,
    /// Equal to the source but for 1 % of its chunks.
    Differing,
    /// Not there: the target of the sparse image.
    Removed,
}

/// What the target disk is known to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Unknown,
    EqualToSource,
    SourceBeforeChange,
}

/// The disks and the directory they lie in. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Field {
    // Declared, and so dropped, before the directory with their files.
    source: LoopDevice,
    target: LoopDevice,
    directory: tempfile::TempDir,
    size: u64,
    seed: u64,
    content: Content,
    difference: Option<Difference>,
    interrupt: Interrupt,
}

impl Field {
    /// Makes both disks in a new directory under `parent` and fills the source.
    ///
    /// # Errors
    /// No root, no room, no loop devices, no direct I/O, or an interrupt.
    pub(crate) fn make(parent: &Path, size: u64, seed: u64, interrupt: &Interrupt) -> Result<Self, Error> {
        if !nix::unistd::Uid::effective().is_root() {
            return Err(Error::NotRoot);
        }
        check_room(parent, size)?;
        let directory = tempfile::Builder::new()
            .prefix("failback-peers.")
            .tempdir_in(parent)
            .map_err(on_path("make a directory in", parent))?;
        let source = LoopDevice::create(&directory.path().join("source.raw"), size)?;
        let target = LoopDevice::create(&directory.path().join("target.raw"), size)?;
        let field = Self {
            source,
            target,
            directory,
            size,
            seed,
            content: Content::Unknown,
            difference: None,
            interrupt: interrupt.clone(),
        };
        fs::create_dir(field.logs()).map_err(on_path("create", &field.logs()))?;
        data::write_mixed(field.source.path(), size, seed, interrupt)?;
        Ok(field)
    }

    /// The disk that is read.
    pub(crate) fn source(&self) -> &LoopDevice {
        &self.source
    }

    /// The disk that is written.
    pub(crate) fn target(&self) -> &LoopDevice {
        &self.target
    }

    /// A path of that name in the field's directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where programs' stderr goes.
    pub(crate) fn logs(&self) -> PathBuf {
        self.file("logs")
    }

    /// The sparse image that is read; made when first asked for.
    ///
    /// # Errors
    /// The file system cannot hold it.
    pub(crate) fn sparse_source(&self) -> Result<PathBuf, Error> {
        let path = self.file("sparse-source.raw");
        if !path.exists() {
            data::write_sparse(&path, self.seed)?;
        }
        Ok(path)
    }

    /// The sparse image that is made.
    pub(crate) fn sparse_target(&self) -> PathBuf {
        self.file("sparse-target.raw")
    }

    /// How many chunks differ, once they do.
    pub(crate) fn changed_chunks(&self) -> Option<usize> {
        self.difference.as_ref().map(Difference::chunks)
    }

    /// Brings the target into the state every contestant of a row begins with.
    ///
    /// # Errors
    /// A disk fails, or an interrupt.
    pub(crate) fn prepare(&mut self, preparation: Preparation) -> Result<(), Error> {
        match preparation {
            Preparation::Recycled => {
                self.content = Content::Unknown;
                data::write_previous(self.target.path(), self.size, self.seed, &self.interrupt)?;
            }
            Preparation::Differing => self.differ()?,
            Preparation::Removed => remove_if_there(&self.sparse_target())?,
        }
        self.settle()
    }

    fn differ(&mut self) -> Result<(), Error> {
        if self.difference.is_none() {
            let originals = self.file("originals.raw");
            self.difference = Some(Difference::make(self.source.path(), self.size, self.seed, originals)?);
            self.content = Content::Unknown;
        }
        if self.content == Content::Unknown {
            data::copy(self.source.path(), self.target.path(), self.size, &self.interrupt)?;
            self.content = Content::EqualToSource;
        }
        if let Some(difference) = self.difference.as_ref().filter(|_| self.content == Content::EqualToSource)
        {
            difference.restore(self.target.path())?;
            self.content = Content::SourceBeforeChange;
        }
        Ok(())
    }

    /// Says that a contestant is about to write the target.
    pub(crate) fn hand_over(&mut self) {
        self.content = Content::Unknown;
    }

    /// Compares the disks by independent readers after a contestant's run.
    ///
    /// # Errors
    /// They differ, or cannot be read.
    pub(crate) fn verify(&mut self, preparation: Preparation, contestant: &str) -> Result<(), Error> {
        self.target.forget_pages()?;
        if preparation == Preparation::Removed {
            return verify::sparse_images(&self.sparse_source()?, &self.sparse_target(), contestant);
        }
        verify::devices(&self.source, &self.target, contestant)?;
        self.interrupt.check()?;
        self.content = Content::EqualToSource;
        Ok(())
    }

    fn settle(&self) -> Result<(), Error> {
        let directory = self.directory.path();
        File::open(directory)
            .and_then(|file| nix::unistd::syncfs(file).map_err(io::Error::from))
            .map_err(on_path("sync the file system of", directory))?;
        self.source.forget_pages()?;
        self.target.forget_pages()
    }
}

/// A TCP port of 127.0.0.1 that nobody uses now.
///
/// # Errors
/// None is left.
pub(crate) fn free_port() -> Result<u16, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(on_path("find a free port on", Path::new("127.0.0.1")))
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(on_path("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Both disks, the kept originals and the sparse images must fit.
fn check_room(parent: &Path, size: u64) -> Result<(), Error> {
    let free = nix::sys::statvfs::statvfs(parent)
        .map(|status| status.blocks_available().saturating_mul(status.fragment_size()))
        .map_err(|errno| on_path("find the free space of", parent)(errno.into()))?;
    let needed = size.saturating_mul(2).saturating_add(size / 50).saturating_add(64 * data::MEBIBYTE);
    if free < needed {
        return Err(Error::NoRoom {
            directory: parent.to_path_buf(),
            free_mib: free / data::MEBIBYTE,
            needed_mib: needed.div_ceil(data::MEBIBYTE),
        });
    }
    Ok(())
}
