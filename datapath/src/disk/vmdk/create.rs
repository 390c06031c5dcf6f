//! New images: which files to make, and the descriptor that names them.
//!
//! Pure: `disk::image` makes the files.

use std::fmt;

use super::SECTOR_BYTES;
use super::descriptor::{CreateType, Descriptor, Entry};
use super::encoding::Encoding;
use super::extent_line::{Access, ExtentKind, ExtentLine};
use crate::error::{Remediable, Remedy};
use crate::limits;

/// The largest file of a split image, as qemu splits: unlike VMware's 2047 MiB
/// it holds a whole number of `limits::SEGMENT_BYTES`.
const SPLIT_BYTES: u64 = 2 << 30;

/// The oldest virtual hardware with disks above 2 TB (ESXi 5.5): every host that
/// is likely to be met knows it.
const VIRTUAL_HARDWARE_VERSION: &str = "10";

/// The geometry of SCSI disks on VMware. No guest of today asks for it.
const HEADS: u64 = 255;
const SECTORS_PER_TRACK: u64 = 63;

/// The files of a new image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What its descriptor says; the text is its `Display`.
    pub descriptor: Descriptor,
    /// The files beside the descriptor, in the order of the disk.
    pub files: Vec<LayoutFile>,
}

/// A file to make beside a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutFile {
    /// Its name, without a directory.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// Why no such image can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// VMware and qemu know descriptors by the end of their name.
    #[error("'{name}': the name of a VMDK descriptor ends in .vmdk; choose such a name")]
    NotVmdk {
        /// The name given.
        name: String,
    },
    /// A character that qemu or VMware cannot read back from a descriptor.
    #[error("'{name}': a VMDK image's name must not contain {character:?}; choose another name")]
    Character {
        /// The name given.
        name: String,
        /// The first such character.
        character: char,
    },
    /// No disk has that size.
    #[error(
        "a disk of {size_bytes} bytes cannot be made; the size must be from {SECTOR_BYTES} to {} bytes",
        limits::DISK_BYTES_MAX
    )]
    Size {
        /// The size asked for.
        size_bytes: u64,
    },
    /// VMDK counts in sectors.
    #[error(
        "a VMDK image consists of sectors of {SECTOR_BYTES} bytes, and {size_bytes} bytes are no whole number \
         of them; make it {} bytes, or a raw image",
        size_bytes.next_multiple_of(SECTOR_BYTES)
    )]
    NotSectors {
        /// The size asked for.
        size_bytes: u64,
    },
    /// A split image of so many files that no one could open it.
    #[error(
        "{size_bytes} bytes make more than {} files of 2 GiB; make it monolithicFlat",
        limits::PIECES_MAX
    )]
    TooManyFiles {
        /// The size asked for.
        size_bytes: u64,
    },
}

impl Remediable for LayoutError {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

impl Layout {
    /// The files of an image of `size_bytes` bytes whose descriptor is called
    /// `descriptor_name` (without a directory) and has the given content
    /// identifier.
    ///
    /// # Errors
    /// Where the name or the size does not do.
    pub fn new(
        descriptor_name: &str,
        size_bytes: u64,
        create_type: CreateType,
        content_id: u32,
    ) -> Result<Self, LayoutError> {
        let stem = stem_of(descriptor_name)?;
        let sectors = sectors_of(size_bytes)?;
        let split = create_type == CreateType::TwoGbMaxExtentFlat;
        let file_bytes = if split { SPLIT_BYTES } else { size_bytes };
        if size_bytes.div_ceil(file_bytes) > crate::unit::to_u64(limits::PIECES_MAX) {
            return Err(LayoutError::TooManyFiles { size_bytes });
        }
        let mut files = Vec::new();
        let mut left = size_bytes;
        while left > 0 {
            let number = files.len() + 1;
            let name = if split { format!("{stem}-f{number:03}.vmdk") } else { format!("{stem}-flat.vmdk") };
            files.push(LayoutFile { name, size_bytes: left.min(file_bytes) });
            left = left.saturating_sub(file_bytes);
        }
        let extents = files.iter().map(|file| extent_line(file, create_type)).collect();
        let descriptor = Descriptor {
            version: 1,
            encoding: Encoding::Utf8,
            content_id,
            create_type,
            extents,
            adapter_type: Some("lsilogic".to_owned()),
            database: database(sectors),
            remarks: Vec::new(),
        };
        Ok(Self { descriptor, files })
    }
}

fn stem_of(name: &str) -> Result<&str, LayoutError> {
    let stem = name.len().checked_sub(5).and_then(|at| name.split_at_checked(at));
    let Some((stem, _)) = stem.filter(|(stem, end)| !stem.is_empty() && end.eq_ignore_ascii_case(".vmdk"))
    else {
        return Err(LayoutError::NotVmdk { name: name.escape_debug().collect() });
    };
    // The backslash is legal here and ends a directory's name where VMware runs.
    match stem.chars().find(|&c| c == '"' || c == '/' || c == '\\' || c.is_control()) {
        Some(character) => Err(LayoutError::Character { name: name.escape_debug().collect(), character }),
        None => Ok(stem),
    }
}

fn sectors_of(size_bytes: u64) -> Result<u64, LayoutError> {
    if size_bytes == 0 || size_bytes > limits::DISK_BYTES_MAX {
        return Err(LayoutError::Size { size_bytes });
    }
    if !size_bytes.is_multiple_of(SECTOR_BYTES) {
        return Err(LayoutError::NotSectors { size_bytes });
    }
    Ok(size_bytes / SECTOR_BYTES)
}

fn extent_line(file: &LayoutFile, create_type: CreateType) -> ExtentLine {
    let file_name = file.name.clone();
    let kind = match create_type {
        CreateType::Vmfs => ExtentKind::Vmfs { file_name, offset_sectors: 0 },
        CreateType::MonolithicFlat | CreateType::TwoGbMaxExtentFlat => {
            ExtentKind::Flat { file_name, offset_sectors: 0 }
        }
    };
    ExtentLine {
        line: 0,
        access: Access::ReadWrite,
        sectors: file.size_bytes / SECTOR_BYTES,
        kind,
        rest: None,
    }
}

fn database(sectors: u64) -> Vec<Entry> {
    let cylinders = (sectors / (HEADS * SECTORS_PER_TRACK)).max(1);
    [
        ("ddb.virtualHWVersion", VIRTUAL_HARDWARE_VERSION.to_owned()),
        ("ddb.geometry.cylinders", cylinders.to_string()),
        ("ddb.geometry.heads", HEADS.to_string()),
        ("ddb.geometry.sectors", SECTORS_PER_TRACK.to_string()),
    ]
    .map(|(key, value)| Entry { key: key.to_owned(), value })
    .into()
}

/// The text of the descriptor, always in UTF-8.
impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Disk DescriptorFile")?;
        writeln!(f, "version={}", self.version)?;
        writeln!(f, "encoding=\"{}\"", Encoding::Utf8)?;
        writeln!(f, "CID={:08x}", self.content_id)?;
        writeln!(f, "parentCID={:08x}", Self::NO_PARENT)?;
        writeln!(f, "createType=\"{}\"", self.create_type.name())?;
        for Entry { key, value } in &self.remarks {
            writeln!(f, "{key}=\"{value}\"")?;
        }
        writeln!(f, "\n# Extent description")?;
        for extent in &self.extents {
            writeln!(f, "{extent}")?;
        }
        writeln!(f, "\n# The Disk Data Base\n#DDB\n")?;
        if let Some(adapter_type) = &self.adapter_type {
            writeln!(f, "ddb.adapterType = \"{adapter_type}\"")?;
        }
        for Entry { key, value } in &self.database {
            writeln!(f, "{key} = \"{value}\"")?;
        }
        Ok(())
    }
}
