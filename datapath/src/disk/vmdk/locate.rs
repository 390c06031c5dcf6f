//! Where the extents of a descriptor lie, checked: files that are there, long
//! enough, each byte of them at most once, and none outside the directory.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::descriptor::Descriptor;
use super::extent_line::{Access, ExtentLine};
use crate::error::{Remediable, Remedy};
use crate::unit::Extent;

/// An extent of the disk and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The line of the descriptor, from 1.
    pub line: usize,
    /// The file, without symbolic links in its path; `None` for zeroes.
    pub path: Option<PathBuf>,
    /// Which file that was when it was checked; `None` for zeroes.
    pub identity: Option<FileIdentity>,
    /// Its first byte in the file.
    pub file_offset: u64,
    /// Its size in bytes.
    pub length: u64,
    /// Read and write, or read only.
    pub access: Access,
}

/// What a file is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileIdentity {
    /// The number of its filesystem's device.
    pub device: u64,
    /// Its inode there.
    pub inode: u64,
}

impl FileIdentity {
    /// The identity of the file that `metadata` is of.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Why the files of an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The descriptor itself is not there.
    #[error("{}: cannot be found: {source}", path.display())]
    Descriptor {
        /// The descriptor.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An extent is not good.
    #[error("{}, line {line}: {fault}", path.display())]
    Extent {
        /// The descriptor.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong.
        #[source]
        fault: LocateFault,
    },
}

/// What is wrong with the place of an extent.
#[derive(Debug, thiserror::Error)]
pub enum LocateFault {
    /// A name from the root, or of a device on Windows.
    #[error(
        "'{name}' is an absolute name; move the file beside the descriptor and name it there without its directory"
    )]
    Absolute {
        /// The name.
        name: String,
    },
    /// A name with `..` in it.
    #[error("'{name}' leads out of the descriptor's directory; move the file there and correct the name")]
    Escapes {
        /// The name.
        name: String,
    },
    /// A symbolic link to elsewhere.
    #[error(
        "'{name}' is, or passes, a symbolic link out of {}: it leads to {}; put the file itself there",
        directory.display(), leads_to.display()
    )]
    LinksOut {
        /// The name.
        name: String,
        /// The descriptor's directory.
        directory: PathBuf,
        /// Where it leads.
        leads_to: PathBuf,
    },
    /// No such file.
    #[error("{} is missing; copy it there, from where the descriptor came from", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The system does not let it be looked at.
    #[error("{} cannot be examined: {source}; correct that first", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("{} is no regular file; name a file, or the device itself instead of the descriptor", path.display())]
    NotAFile {
        /// What it is.
        path: PathBuf,
    },
    /// The descriptor names itself.
    #[error("{} is the descriptor itself, which holds no disk; correct the name", path.display())]
    IsDescriptor {
        /// The file.
        path: PathBuf,
    },
    /// The file ends before the extent.
    #[error(
        "{} has {has_bytes} bytes, and the extent ends at {needed_bytes}; copy the whole file again, or correct the size",
        path.display()
    )]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Where the extent ends in it.
        needed_bytes: u64,
        /// Where it ends.
        has_bytes: u64,
    },
    /// Two extents share bytes of a file.
    #[error(
        "{} of {} belong to the extent of line {other_line} too; correct the name or the offset of one of them",
        shared, path.display()
    )]
    Overlap {
        /// The file, by the name of this extent.
        path: PathBuf,
        /// The bytes of the file that both claim.
        shared: Extent,
        /// The line of the other.
        other_line: usize,
    },
    /// A part of the disk that nobody may read.
    #[error(
        "the extent is NOACCESS: this part of the disk has no bytes to copy; make a flat copy with the product that wrote it"
    )]
    NoAccess,
}

impl Remediable for LocateError {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

impl Remediable for LocateFault {
    fn remedy(&self) -> Remedy {
        Remedy::Refused
    }
}

/// Finds the files of all extents of `descriptor`, which was read from
/// `descriptor_path`; in the order of the disk.
///
/// A descriptor reached by a symbolic link has its files where it really is.
/// Whoever opens a file later should check that its [`FileIdentity`] is the same.
///
/// # Errors
/// Names the line, the file and what to do where an extent is missing, too
/// short, no regular file, not accessible, shares bytes with another, or lies
/// outside the descriptor's directory by name or by link.
pub fn locate(descriptor_path: &Path, descriptor: &Descriptor) -> Result<Vec<Located>, LocateError> {
    let directory = Directory::of(descriptor_path)
        .map_err(|source| LocateError::Descriptor { path: descriptor_path.to_owned(), source })?;
    let at_line = |line, fault| LocateError::Extent { path: descriptor_path.to_owned(), line, fault };
    let mut located = Vec::with_capacity(descriptor.extents.len());
    for extent in &descriptor.extents {
        located.push(directory.locate(extent).map_err(|fault| at_line(extent.line, fault))?);
    }
    refuse_overlaps(&located).map_err(|(line, fault)| at_line(line, fault))?;
    Ok(located)
}

/// The directory of a descriptor.
struct Directory {
    path: PathBuf,
    descriptor: FileIdentity,
}

impl Directory {
    fn of(descriptor_path: &Path) -> io::Result<Self> {
        let real = descriptor_path.canonicalize()?;
        let descriptor = FileIdentity::of(&real.metadata()?);
        // A path without a parent is the root, which is a directory.
        let path = real.parent().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
        Ok(Self { path, descriptor })
    }

    fn locate(&self, extent: &ExtentLine) -> Result<Located, LocateFault> {
        if extent.access == Access::None {
            return Err(LocateFault::NoAccess);
        }
        let mut located = Located {
            line: extent.line,
            path: None,
            identity: None,
            file_offset: 0,
            length: extent.length(),
            access: extent.access,
        };
        if let Some((name, file_offset)) = extent.place() {
            let (path, metadata) = self.find(name)?;
            self.check(&path, &metadata, Extent::new(file_offset, located.length))?;
            located.identity = Some(FileIdentity::of(&metadata));
            located.path = Some(path);
            located.file_offset = file_offset;
        }
        Ok(located)
    }

    /// The file called `name`, which must lie in the directory or below it.
    fn find(&self, name: &str) -> Result<(PathBuf, Metadata), LocateFault> {
        if Path::new(name).is_absolute() || is_absolute_on_windows(name) {
            return Err(LocateFault::Absolute { name: name.to_owned() });
        }
        if Path::new(name).components().any(|part| part == Component::ParentDir) {
            return Err(LocateFault::Escapes { name: name.to_owned() });
        }
        let named = self.path.join(name);
        let found = named.canonicalize().and_then(|real| Ok((real.symlink_metadata()?, real)));
        let (metadata, real) = found.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LocateFault::Missing { path: named },
            _ => LocateFault::Unreadable { path: named, source },
        })?;
        if !real.starts_with(&self.path) {
            return Err(LocateFault::LinksOut {
                name: name.to_owned(),
                directory: self.path.clone(),
                leads_to: real,
            });
        }
        Ok((real, metadata))
    }

    fn check(&self, path: &Path, metadata: &Metadata, extent: Option<Extent>) -> Result<(), LocateFault> {
        let path = || path.to_owned();
        if !metadata.is_file() {
            return Err(LocateFault::NotAFile { path: path() });
        }
        if FileIdentity::of(metadata) == self.descriptor {
            return Err(LocateFault::IsDescriptor { path: path() });
        }
        let needed_bytes = extent.map_or(u64::MAX, Extent::end);
        if metadata.len() < needed_bytes {
            return Err(LocateFault::TooShort { path: path(), needed_bytes, has_bytes: metadata.len() });
        }
        Ok(())
    }
}

/// `\\server\share`, `\\.\PhysicalDrive0`, `C:\disk`.
fn is_absolute_on_windows(name: &str) -> bool {
    let letters: Vec<char> = name.chars().take(3).collect();
    name.starts_with("\\\\") || matches!(letters[..], [drive, ':', '\\' | '/'] if drive.is_ascii_alphabetic())
}

/// Files are told apart by device and inode, so that hard links count as one.
fn refuse_overlaps(located: &[Located]) -> Result<(), (usize, LocateFault)> {
    let mut claims: BTreeMap<FileIdentity, Vec<&Located>> = BTreeMap::new();
    for extent in located {
        if let Some(identity) = extent.identity {
            claims.entry(identity).or_default().push(extent);
        }
    }
    let range = |extent: &Located| Extent::new(extent.file_offset, extent.length);
    for mut extents in claims.into_values() {
        extents.sort_by_key(|extent| (extent.file_offset, extent.line));
        for pair in extents.windows(2) {
            let shared = range(pair[0]).zip(range(pair[1])).and_then(|(one, other)| one.intersection(other));
            if let (Some(shared), Some(path)) = (shared, &pair[1].path) {
                let fault = LocateFault::Overlap { path: path.clone(), shared, other_line: pair[0].line };
                return Err((pair[1].line, fault));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
