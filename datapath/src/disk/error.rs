//! What can go wrong with a disk, and what to do about it.

use std::io;
use std::path::PathBuf;

use super::{guard, storage, vmdk};
use crate::error::{Remediable, Remedy};
use crate::ring;
use crate::unit::Extent;

/// An error of a disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system cannot open it.
    #[error("{}: cannot be opened: {source}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A size that no disk has.
    #[error("{}: its size of {size_bytes} bytes is {reason}", path.display())]
    Size {
        /// The path.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An image of a format that is not read yet.
    #[error("{}: is a {format}; convert it first: qemu-img convert -O vmdk -o subformat=monolithicFlat {} NEW.vmdk", path.display(), path.display())]
    Format {
        /// The path.
        path: PathBuf,
        /// What it is.
        format: &'static str,
    },
    /// The descriptor of an image is not good.
    #[error("{}: {source}", path.display())]
    Descriptor {
        /// The descriptor.
        path: PathBuf,
        /// What is wrong with it.
        source: vmdk::DescriptorError,
    },
    /// The files of an image are not good.
    #[error(transparent)]
    Locate(#[from] vmdk::LocateError),
    /// Somebody else may be writing the source.
    #[error("{}: {reason}; stop that, or copy it as it is with --live: the copy then holds no single moment of it", path.display())]
    LiveSource {
        /// The source.
        path: PathBuf,
        /// Who writes it.
        reason: Box<guard::LiveReason>,
    },
    /// Somebody wrote the source while it was read.
    #[error("{}: was written while it was read, so the copy holds no single moment of it; the same command again brings over what changed, and --live accepts it as it is", path.display())]
    SourceWritten {
        /// The source.
        path: PathBuf,
    },
    /// The disk must not be used so.
    #[error(transparent)]
    Refused(#[from] guard::Refusal),
    /// What the disk rests on could not be found out.
    #[error(transparent)]
    Storage(#[from] storage::StorageError),
    /// An image that is to be written, and says that it must not be.
    #[error("{}: {extent} lies in an RDONLY extent of the image, which must not be changed: \
        make it RW in the descriptor if it may be, or name another target", path.display())]
    ReadOnlyExtent {
        /// The image.
        path: PathBuf,
        /// Where the extent lies on the disk.
        extent: Extent,
    },
    /// A piece of the image that cannot be written.
    #[error("{}: {extent} lies in a {what} extent of the image, which cannot hold data; use an image with flat RW extents", path.display())]
    Unwritable {
        /// The image.
        path: PathBuf,
        /// Where the data was to go.
        extent: Extent,
        /// The kind of extent.
        what: &'static str,
    },
    /// A read, write, zeroing or flush failed.
    #[error("{}: {operation} of {extent} failed: {source}", path.display())]
    Io {
        /// The file or device.
        path: PathBuf,
        /// `read`, `write`, `zeroing`, `flush` or `search for data`.
        operation: &'static str,
        /// Where, in bytes of the disk.
        extent: Extent,
        /// Why.
        source: io::Error,
    },
    /// A filesystem has no space for a whole target.
    #[error("{}: there is no space for all of it ({extent}: {source}); free space on its filesystem, or put the image where there is enough", path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// What was to be allocated, in bytes of the disk.
        extent: Extent,
        /// The system's word.
        source: io::Error,
    },
    /// The ring is gone, and a buffer with it.
    #[error("{}: {operation} of {extent} was lost: {source}", path.display())]
    Lost {
        /// The file or device.
        path: PathBuf,
        /// The operation.
        operation: &'static str,
        /// Where, in bytes of the disk.
        extent: Extent,
        /// Why.
        source: io::Error,
    },
    /// No ring to be had.
    #[error(transparent)]
    Ring(#[from] ring::Unavailable),
}

impl Remediable for Error {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Open { .. }
            | Self::LiveSource { .. }
            | Self::Size { .. }
            | Self::Format { .. }
            | Self::Descriptor { .. }
            | Self::Locate(_)
            | Self::Refused(_)
            | Self::ReadOnlyExtent { .. }
            | Self::NoSpace { .. }
            | Self::Storage(_) => Remedy::Refused,
            Self::SourceWritten { .. } => Remedy::Retry,
            Self::Unwritable { .. } | Self::Io { .. } | Self::Lost { .. } => Remedy::Stop,
            Self::Ring(unavailable) => unavailable.remedy(),
        }
    }
}
