//! Where the running kernel keeps what the tracker reads of a request.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::btf::{Types, TypesError};
use crate::limits;

/// Where the kernel shows its types.
const TYPES: &str = "sys/kernel/btf/vmlinux";

/// Offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KernelLayout {
    /// Of `struct request`.
    pub(super) request: RequestLayout,
    /// From what it names to the disk: `request_queue.disk`, where the request
    /// itself does not name the disk.
    pub(super) disk_of_queue: Option<u32>,
    /// `gendisk.major`, with `first_minor` right behind it.
    pub(super) disk_number: u32,
    /// Of `struct bio`.
    pub(super) piece: PieceLayout,
}

/// Offsets in `struct request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLayout {
    /// The queue, or (before 5.15) the disk.
    pub(super) owner: u32,
    pub(super) flags: u32,
    pub(super) sector: u32,
    pub(super) bytes: u32,
    /// The first of the pieces that were merged into it.
    pub(super) pieces: u32,
}

/// Offsets in `struct bio`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PieceLayout {
    pub(super) next: u32,
    pub(super) sector: u32,
    pub(super) bytes: u32,
}

/// Why the layout is not known.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// No types: built without `CONFIG_DEBUG_INFO_BTF`, or `/sys` is not there.
    #[error("the kernel shows no types in {}: it was built without them", path.display())]
    NoTypes {
        /// Where they would be.
        path: PathBuf,
        /// Why they cannot be read.
        source: io::Error,
    },
    /// Types that do not say what is needed.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// A layout that the tracker's programs cannot read.
    #[error("the kernel's `{what}` does not lie where the tracker can read it")]
    Unusual {
        /// The structure.
        what: &'static str,
    },
}

impl KernelLayout {
    /// Of the kernel that runs on this machine.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub(super) fn running() -> Result<Self, LayoutError> {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Result<Self, LayoutError> {
        let path = root.join(TYPES);
        let mut bytes = Vec::new();
        let read = File::open(&path)
            .and_then(|file| file.take(limits::KERNEL_TYPES_BYTES_MAX).read_to_end(&mut bytes));
        read.map_err(|source| LayoutError::NoTypes { path, source })?;
        Self::from_types(&Types::parse(&bytes)?)
    }

    fn from_types(types: &Types<'_>) -> Result<Self, LayoutError> {
        types.expect_request_first("block_rq_issue", 1)?;
        types.expect_request_first("block_rq_complete", 3)?;
        // Linux 5.15 moved the disk from the request to its queue.
        let (owner, disk_of_queue) = match types.offset("request_queue", "disk") {
            Ok(disk) => (types.offset("request", "q")?, Some(disk)),
            Err(missing) => (types.offset("request", "rq_disk").map_err(|_| missing)?, None),
        };
        let disk_number = types.offset("gendisk", "major")?;
        if types.offset("gendisk", "first_minor")? != disk_number + 4 {
            return Err(LayoutError::Unusual { what: "struct gendisk" });
        }
        let place = types.offset("bio", "bi_iter")?;
        Ok(Self {
            request: RequestLayout {
                owner,
                flags: types.offset("request", "cmd_flags")?,
                sector: types.offset("request", "__sector")?,
                bytes: types.offset("request", "__data_len")?,
                pieces: types.offset("request", "bio")?,
            },
            disk_of_queue,
            disk_number,
            piece: PieceLayout {
                next: types.offset("bio", "bi_next")?,
                sector: place.saturating_add(types.offset("bvec_iter", "bi_sector")?),
                bytes: place.saturating_add(types.offset("bvec_iter", "bi_size")?),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_types_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = KernelLayout::below(folder.path()).expect_err("there is nothing");
        assert!(error.to_string().contains("sys/kernel/btf/vmlinux"), "{error}");
        let path = folder.path().join(TYPES);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        std::fs::write(&path, b"rubbish").expect("a file");
        assert!(matches!(KernelLayout::below(folder.path()), Err(LayoutError::Types(_))));
    }
}
