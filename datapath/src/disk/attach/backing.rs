//! Which bytes of which file are to be behind a loop device.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::Options;
use super::error::AttachError;
use crate::disk::vmdk::{self, Access, Descriptor, FileIdentity, Located, Sniff};
use crate::limits;
use crate::sys::{OpenMode, open_disk_file};
use crate::unit::Extent;

/// First bytes of a file that say what it is.
const HEAD_BYTES: u64 = 4096;

/// A range of a file.
pub(super) struct Backing {
    pub(super) path: PathBuf,
    pub(super) identity: FileIdentity,
    pub(super) range: Extent,
    /// The range's length for the kernel: 0 where it is all that the file has
    /// from its offset on.
    pub(super) size_limit: u64,
}

impl Backing {
    /// Finds what `options` want of the image at `path`.
    pub(super) fn find(path: &Path, options: Options) -> Result<Self, AttachError> {
        let image = Image::open(path)?;
        let whole = match image.sniff {
            Sniff::Descriptor => one_extent(path, image.file, options)?,
            Sniff::Other => image.raw(),
            Sniff::SparseExtent | Sniff::Cowd | Sniff::SeSparse => {
                let advice = image.sniff.advice().unwrap_or(vmdk::Advice::Unknown);
                return Err(AttachError::NotFlat { path: path.to_owned(), advice });
            }
        };
        whole.narrow(options)
    }

    /// The files behind the image at `path`: itself, or its extents.
    pub(super) fn identities(path: &Path) -> Result<Vec<FileIdentity>, AttachError> {
        let image = Image::open(path)?;
        match image.sniff {
            Sniff::Descriptor => {
                let located = locate(path, image.file)?;
                Ok(located.iter().filter_map(|extent| extent.identity).collect())
            }
            _ => Ok(vec![image.identity]),
        }
    }

    fn narrow(self, options: Options) -> Result<Self, AttachError> {
        let available = self.range.length();
        let rest = available.checked_sub(options.offset).filter(|&rest| rest > 0);
        let fitting = |rest: &u64| options.size_limit.is_none_or(|limit| limit > 0 && limit <= *rest);
        let Some(rest) = rest.filter(fitting) else {
            return Err(AttachError::Outside {
                path: self.path,
                offset: options.offset,
                size_limit: options.size_limit,
                available,
            });
        };
        let length = options.size_limit.unwrap_or(rest);
        if !options.sector_size.divides(length) {
            return Err(AttachError::NotSectors {
                path: self.path,
                length,
                sector_size: options.sector_size,
            });
        }
        let start = self.range.offset() + options.offset;
        let size_limit = options.size_limit.unwrap_or(self.size_limit.saturating_sub(options.offset));
        Ok(Self { range: Extent::between(start, start + length), size_limit, ..self })
    }
}

/// A file that may be an image.
struct Image {
    path: PathBuf,
    file: File,
    identity: FileIdentity,
    length: u64,
    sniff: Sniff,
}

impl Image {
    fn open(path: &Path) -> Result<Self, AttachError> {
        let failed = |source| AttachError::open(path.to_owned(), source);
        let file = open_disk_file(path, OpenMode { write: false, direct: false, exclusive: false })
            .map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.file_type().is_block_device() {
            return Err(AttachError::IsDevice { path: path.to_owned() });
        }
        if !metadata.is_file() {
            return Err(AttachError::NotAFile { path: path.to_owned() });
        }
        let mut head = Vec::new();
        (&file).take(HEAD_BYTES).read_to_end(&mut head).map_err(failed)?;
        Ok(Self {
            // The path outlives the working directory and links of today.
            path: path.canonicalize().map_err(failed)?,
            identity: FileIdentity::of(&metadata),
            length: metadata.len(),
            sniff: sniff(&head, metadata.len()),
            file,
        })
    }

    fn raw(self) -> Backing {
        let range = Extent::between(0, self.length);
        Backing { path: self.path, identity: self.identity, range, size_limit: 0 }
    }
}

/// A file too large for a descriptor is none, however it starts: the first
/// sector of a raw image belongs to the machine that wrote it.
fn sniff(head: &[u8], length: u64) -> Sniff {
    match vmdk::sniff(head) {
        Sniff::Descriptor if length > limits::DESCRIPTOR_BYTES_MAX => Sniff::Other,
        sniffed => sniffed,
    }
}

/// The only extent of the image whose descriptor is `path`, open as `file`.
fn one_extent(path: &Path, file: File, options: Options) -> Result<Backing, AttachError> {
    let mut located = locate(path, file)?;
    if located.len() > 1 {
        let count = located.len();
        let mut files: Vec<_> = located.into_iter().filter_map(|extent| extent.path).collect();
        files.dedup();
        return Err(AttachError::SeveralExtents { path: path.to_owned(), count, files });
    }
    let Some(Located { path: extent_path, identity, file_offset, length, access, line }) = located.pop()
    else {
        return Err(AttachError::OnlyZeroes { path: path.to_owned() });
    };
    let (Some(extent_path), Some(identity)) = (extent_path, identity) else {
        return Err(AttachError::OnlyZeroes { path: path.to_owned() });
    };
    if access != Access::ReadWrite && !options.read_only {
        return Err(AttachError::ReadOnlyExtent { path: path.to_owned(), line });
    }
    let range = Extent::new(file_offset, length).unwrap_or(Extent::between(file_offset, file_offset));
    Ok(Backing { path: extent_path, identity, range, size_limit: length })
}

fn locate(path: &Path, mut file: File) -> Result<Vec<Located>, AttachError> {
    let failed = |source| AttachError::open(path.to_owned(), source);
    let mut text = Vec::new();
    io::Seek::rewind(&mut file).map_err(failed)?;
    file.take(limits::DESCRIPTOR_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
    let descriptor = Descriptor::parse(&text)
        .map_err(|source| AttachError::Descriptor { path: path.to_owned(), source })?;
    Ok(vmdk::locate(path, &descriptor)?)
}
