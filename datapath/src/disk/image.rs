//! New image files: raw, and VMDK with flat extents.
//!
//! In: a path, a size. Out: sparse files, on the disk with their names before
//! the call returns. Invariants: a file that exists is never touched; after an
//! error nothing is left behind; a descriptor appears after all its extents.
//! Never: rounds a size, changes modes (the umask rules), makes directories.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::vmdk::{CreateType, Descriptor, Layout, LayoutError};
use crate::error::{Remediable, Remedy};
use crate::limits;

/// Why no image was made. Nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The name or the size does not do.
    #[error("{}: {source}", path.display())]
    Layout {
        /// The image.
        path: PathBuf,
        /// Why.
        source: LayoutError,
    },
    /// No disk has that size.
    #[error(
        "{}: a disk of {size_bytes} bytes cannot be made; the size must be from 1 to {} bytes",
        path.display(), limits::DISK_BYTES_MAX
    )]
    Size {
        /// The image.
        path: PathBuf,
        /// The size asked for.
        size_bytes: u64,
    },
    /// The path is no name of a file, or not in UTF-8, which a descriptor needs.
    #[error("{}: is no name that a new image can have; name a file, in UTF-8", path.display())]
    Name {
        /// The path.
        path: PathBuf,
    },
    /// A file of that name is there.
    #[error("{}: exists, and is not overwritten; choose another name or remove it first", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The directory is not there.
    #[error("{}: its directory does not exist; make it first", path.display())]
    NoDirectory {
        /// The file.
        path: PathBuf,
    },
    /// The filesystem has no files that large.
    #[error(
        "{}: the filesystem has no files of {size_bytes} bytes; use twoGbMaxExtentFlat, or another filesystem",
        path.display()
    )]
    TooLargeForFilesystem {
        /// The file.
        path: PathBuf,
        /// The size asked for.
        size_bytes: u64,
    },
    /// The system refused.
    #[error("{}: cannot be made: {source}; nothing was left behind", path.display())]
    Create {
        /// The file or its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ImageError {
    fn create(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            io::ErrorKind::NotFound => Self::NoDirectory { path },
            _ => Self::Create { path, source },
        }
    }
}

impl Remediable for ImageError {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

/// Makes a raw image of `size_bytes` zeroes, all of it a hole.
///
/// # Errors
/// Where the file exists, the size is none, or the system refuses.
pub fn create_raw(path: &Path, size_bytes: u64) -> Result<(), ImageError> {
    if size_bytes == 0 || size_bytes > limits::DISK_BYTES_MAX {
        return Err(ImageError::Size { path: path.to_owned(), size_bytes });
    }
    let directory = directory_of(path)?;
    let mut unfinished = Unfinished::default();
    unfinished.add_sparse(path.to_owned(), size_bytes)?;
    sync_directory(directory)?;
    unfinished.keep();
    Ok(())
}

/// Makes a VMDK image of `size_bytes` zeroes, all of it holes: the descriptor at
/// `descriptor_path`, whose name ends in `.vmdk`, and its extents beside it.
/// Returns the files made, the descriptor last.
///
/// # Errors
/// Where one of the files exists, the name or the size does not do (a whole
/// number of 512-byte sectors), or the system refuses.
pub fn create_vmdk_flat(
    descriptor_path: &Path,
    size_bytes: u64,
    create_type: CreateType,
) -> Result<Vec<PathBuf>, ImageError> {
    let directory = directory_of(descriptor_path)?;
    let name = descriptor_path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| ImageError::Name { path: descriptor_path.to_owned() })?;
    let layout = Layout::new(name, size_bytes, create_type, random_content_id())
        .map_err(|source| ImageError::Layout { path: descriptor_path.to_owned(), source })?;
    // Asked before hundreds of extents are made and removed again; the answer
    // that counts is given when the descriptor is made.
    if fs::symlink_metadata(descriptor_path).is_ok() {
        return Err(ImageError::Exists { path: descriptor_path.to_owned() });
    }
    let mut unfinished = Unfinished::default();
    for file in &layout.files {
        unfinished.add_sparse(directory.join(&file.name), file.size_bytes)?;
    }
    unfinished.add_text(descriptor_path.to_owned(), &layout.descriptor.to_string())?;
    sync_directory(directory)?;
    Ok(unfinished.keep())
}

/// A content identifier that no other image is likely to have, and that does not
/// mean "no parent".
fn random_content_id() -> u32 {
    // The standard library's hash keys come from the system's random numbers,
    // which is all that an identifier without secrecy needs.
    let bytes = RandomState::new().hash_one(std::process::id()).to_le_bytes();
    let [a, b, c, d, ..] = bytes;
    // VMware starts new disks with fffffffe.
    u32::from_le_bytes([a, b, c, d]).min(Descriptor::NO_PARENT - 2)
}

/// Checks, without making anything, that a new image has a name and a directory.
///
/// # Errors
/// [`ImageError::Name`] and [`ImageError::NoDirectory`].
pub fn check_place(path: &Path) -> Result<(), ImageError> {
    if directory_of(path)?.is_dir() { Ok(()) } else { Err(ImageError::NoDirectory { path: path.to_owned() }) }
}

/// The directory of a path that names a file.
fn directory_of(path: &Path) -> Result<&Path, ImageError> {
    let named = path.file_name().is_some() && !path.as_os_str().as_encoded_bytes().ends_with(b"/");
    match path.parent().filter(|_| named) {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(ImageError::Name { path: path.to_owned() }),
    }
}

/// Makes the names of new files survive a power cut.
fn sync_directory(directory: &Path) -> Result<(), ImageError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| ImageError::create(directory, source))
}

/// Files made so far, removed again unless they are kept.
#[derive(Default)]
struct Unfinished {
    paths: Vec<PathBuf>,
}

impl Unfinished {
    fn add_sparse(&mut self, path: PathBuf, size_bytes: u64) -> Result<(), ImageError> {
        self.add(path, |file| file.set_len(size_bytes)).map_err(|(path, source)| match source.kind() {
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => {
                ImageError::TooLargeForFilesystem { path, size_bytes }
            }
            _ => ImageError::create(&path, source),
        })
    }

    fn add_text(&mut self, path: PathBuf, text: &str) -> Result<(), ImageError> {
        let added = self.add(path, |mut file| file.write_all(text.as_bytes()));
        added.map_err(|(path, source)| ImageError::create(&path, source))
    }

    fn add(
        &mut self,
        path: PathBuf,
        fill: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<(), (PathBuf, io::Error)> {
        let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(source) => return Err((path, source)),
        };
        self.paths.push(path.clone());
        fill(&file).and_then(|()| file.sync_all()).map_err(|source| (path, source))
    }

    fn keep(mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.paths)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for path in &self.paths {
            // The error that led here is what the caller must see.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests;
