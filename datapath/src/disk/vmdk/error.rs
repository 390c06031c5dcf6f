//! Why a descriptor is not read: the line, the field, and what to do about it.

use std::fmt;

use super::descriptor::ENTRIES_MAX;
use super::encoding::Encoding;
use crate::error::{Remediable, Remedy};
use crate::limits;

/// A thing that a descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `version`: 1, 2 or 3.
    Version,
    /// `encoding`: the character set of names.
    Encoding,
    /// `CID`: changes whenever the disk is opened for writing.
    ContentId,
    /// `parentCID`: the content that a snapshot was taken of.
    ParentContentId,
    /// `parentFileNameHint`: the descriptor of the disk below a snapshot.
    ParentFileName,
    /// `createType`: how the extents are arranged.
    CreateType,
    /// `ddb.adapterType`: the controller the disk was made for.
    AdapterType,
    /// An extent's size in sectors.
    ExtentSize,
    /// An extent's kind.
    ExtentKind,
    /// An extent's file name.
    ExtentFileName,
    /// An extent's offset in its file, in sectors.
    ExtentOffset,
}

impl Field {
    const fn expected(self) -> &'static str {
        match self {
            Self::Version => "1, 2 or 3",
            Self::ContentId | Self::ParentContentId => "one to eight hexadecimal digits",
            Self::Encoding | Self::ParentFileName | Self::CreateType | Self::AdapterType => {
                "a value, in double quotes or without any"
            }
            Self::ExtentSize => "a number of sectors, at least 1, that a disk can have",
            Self::ExtentKind => "FLAT, VMFS or ZERO",
            Self::ExtentFileName => "a file name in double quotes",
            Self::ExtentOffset => "a number of sectors within a file's reach",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "version",
            Self::Encoding => "encoding",
            Self::ContentId => "CID",
            Self::ParentContentId => "parentCID",
            Self::ParentFileName => "parentFileNameHint",
            Self::CreateType => "createType",
            Self::AdapterType => "ddb.adapterType",
            Self::ExtentSize => "the extent's size",
            Self::ExtentKind => "the extent's kind",
            Self::ExtentFileName => "the extent's file name",
            Self::ExtentOffset => "the extent's offset",
        })
    }
}

/// What to do with an image that is not flat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// It is sparse or compressed.
    Convert,
    /// It is a snapshot's difference to another disk.
    Consolidate,
    /// It stands for a device.
    NameTheDevice,
    /// It was put together by hand, or is of a kind nobody has told us of.
    Unknown,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Convert => {
                "only flat extents are read; convert it first: \
                 qemu-img convert -O vmdk -o subformat=monolithicFlat OLD.vmdk NEW.vmdk"
            }
            Self::Consolidate => {
                "it holds only what changed since a snapshot; consolidate the machine's snapshots, \
                 or copy the disk whole with vmkfstools -i OLD.vmdk NEW.vmdk"
            }
            Self::NameTheDevice => "it stands for a device; name that device instead of the descriptor",
            Self::Unknown => {
                "only monolithicFlat, twoGbMaxExtentFlat and vmfs with FLAT, VMFS and ZERO extents are \
                 read; make a flat copy with the product that wrote it"
            }
        })
    }
}

/// Why a descriptor is not read. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// Larger than any descriptor.
    #[error(
        "its {bytes} bytes are more than a descriptor's {}: if this is a raw image that happens to \
         start like one, say so; else cut the file down to its text",
        limits::DESCRIPTOR_BYTES_MAX
    )]
    TooLong {
        /// Its size.
        bytes: u64,
    },
    /// It does not start like a descriptor.
    #[error(
        "this is no VMDK descriptor: it starts neither with '# Disk DescriptorFile' nor with 'version=1'"
    )]
    NotADescriptor,
    /// Text stops at a NUL byte and goes on after it.
    #[error("line {line}: a NUL byte in the text: the file is damaged; restore or rewrite it")]
    NulByte {
        /// Where.
        line: usize,
    },
    /// A line that says nothing known.
    #[error(
        "line {line}: '{text}' is no comment, no 'key=value' and no extent (RW, RDONLY or NOACCESS, \
         sectors, kind, \"file\", offset); correct or remove it"
    )]
    UnknownLine {
        /// Where.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// A field that every descriptor has is not there.
    #[error("there is no {field} line: the descriptor is incomplete; restore it, or write the line")]
    MissingField {
        /// Which.
        field: Field,
    },
    /// A field is there twice.
    #[error("line {line}: {field} was given in line {first_line} already; remove one of the two")]
    RepeatedField {
        /// The second.
        line: usize,
        /// Which.
        field: Field,
        /// The first.
        first_line: usize,
    },
    /// A field's value makes no sense.
    #[error("line {line}: {field} is '{value}', but must be {}", field.expected())]
    InvalidField {
        /// Where.
        line: usize,
        /// Which.
        field: Field,
        /// What it is, shortened.
        value: String,
    },
    /// The disk is what changed since a snapshot.
    #[error(
        "line {line}: the disk is a snapshot, on top of {}: {}",
        parent.as_deref().unwrap_or("a disk it does not name"), Advice::Consolidate
    )]
    HasParent {
        /// Where that is said.
        line: usize,
        /// The parent's name, where given.
        parent: Option<String>,
    },
    /// An arrangement that is not read.
    #[error("line {line}: createType is {name}: {advice}")]
    UnsupportedCreateType {
        /// Where.
        line: usize,
        /// Its name.
        name: String,
        /// What to do.
        advice: Advice,
    },
    /// A kind of extent that is not read.
    #[error("line {line}: the extent is {name}: {advice}")]
    UnsupportedExtentKind {
        /// Where.
        line: usize,
        /// Its name.
        name: String,
        /// What to do.
        advice: Advice,
    },
    /// No extent at all.
    #[error("there is no extent: the descriptor is incomplete; restore it, or write its extent lines")]
    NoExtents,
    /// More extents than any disk has.
    #[error("line {line}: more than {} extents; join the disk's files into fewer", limits::PIECES_MAX)]
    TooManyExtents {
        /// The first one too many.
        line: usize,
    },
    /// More lines of other kinds than any product writes.
    #[error("line {line}: more than {ENTRIES_MAX} lines that describe no extent; remove what is not needed")]
    TooManyEntries {
        /// The first one too many.
        line: usize,
    },
    /// The extents add up to more than any disk has.
    #[error(
        "line {line}: with this extent the disk is larger than {} bytes; correct the extent's size",
        limits::DISK_BYTES_MAX
    )]
    TooLarge {
        /// The first one too many.
        line: usize,
    },
    /// A file name that is no text in the descriptor's encoding.
    #[error(
        "line {line}: the file name '{name}' is no plain {encoding} text; rename the file, \
         and here, to plain ASCII"
    )]
    UndecodableName {
        /// Where.
        line: usize,
        /// Its bytes, as far as they can be shown.
        name: String,
        /// The encoding that the descriptor claims.
        encoding: Encoding,
    },
}

impl Remediable for DescriptorError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::TooLong { .. }
            | Self::NotADescriptor
            | Self::HasParent { .. }
            | Self::UnsupportedCreateType { .. }
            | Self::UnsupportedExtentKind { .. }
            | Self::UndecodableName { .. }
            | Self::TooManyExtents { .. }
            | Self::TooManyEntries { .. } => Remedy::Refused,
            Self::NulByte { .. }
            | Self::UnknownLine { .. }
            | Self::MissingField { .. }
            | Self::RepeatedField { .. }
            | Self::InvalidField { .. }
            | Self::NoExtents
            | Self::TooLarge { .. } => Remedy::Stop,
        }
    }
}

/// The beginning of `bytes` as it can be shown: long or binary junk must not
/// flood a terminal or steer it.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 80;
    let mut text: String = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).escape_debug().collect();
    if bytes.len() > SHOWN {
        text.push('…');
    }
    text
}
