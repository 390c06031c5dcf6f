//! One file that holds blocks, open for direct and for buffered I/O.
//!
//! The buffered descriptor serves what direct I/O cannot: filesystems without
//! it, and an unaligned end. The two never touch the same page at once: direct
//! I/O is used only where every piece in the file starts on a page.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{Error, guard};
use crate::sys::{self, OpenMode};

/// Pages are at most this large where pieces are checked for sharing one.
const PAGE: u64 = 4096;

/// A file of a disk.
pub(super) struct Backing {
    pub(super) path: PathBuf,
    pub(super) direct: Option<Direct>,
    pub(super) buffered: File,
}

/// A descriptor for direct I/O, and the alignment it needs.
pub(super) struct Direct {
    pub(super) file: File,
    pub(super) alignment: u64,
}

impl Backing {
    /// Opens `path`, for direct I/O too where the filesystem has it and
    /// `piece_starts` (disk and file offsets) allow it.
    pub(super) fn open(path: &Path, write: bool, piece_starts: &[u64]) -> Result<Self, Error> {
        let open = |direct| sys::open_disk_file(path, OpenMode { write, direct, exclusive: false });
        let access = if write { guard::Access::Writing } else { guard::Access::Reading };
        let failed = |source| Error::from(guard::explain_open(path, access, source));
        let buffered = open(false).map_err(failed)?;
        let direct = match open(true) {
            Ok(file) => Direct::probe(file, piece_starts),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => None,
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { path: path.to_owned(), direct, buffered })
    }
}

impl Direct {
    fn probe(file: File, piece_starts: &[u64]) -> Option<Self> {
        let alignment = u64::from(sys::direct_alignment(&file).unwrap_or(4096));
        let usable = alignment <= sys::BUFFER_ALIGNMENT as u64
            && piece_starts.iter().all(|start| start % PAGE.max(alignment) == 0);
        usable.then_some(Self { file, alignment })
    }

    /// Whether an operation may go through this descriptor.
    pub(super) fn fits(&self, position: u64, length: u64, buffer_offset: u64) -> bool {
        (position | length | buffer_offset) & (self.alignment - 1) == 0
    }
}
