//! Whether two trees of files, or two files, hold the same.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use failback_datapath::pipeline::Cancel;

use super::error::Error;
use super::stage::{Done, FLAT, SOURCE, Stage};

/// Differences that are told; more say nothing new.
const DIFFERENCES_MAX: usize = 8;

/// Bytes compared at once.
const BUFFER_BYTES: usize = 1 << 20;

/// What fsck keeps for itself at the root of a filesystem.
const LOST_AND_FOUND: &str = "lost+found";

/// One thing that is not the same on both sides.
#[derive(Debug)]
pub struct Difference {
    path: PathBuf,
    what: &'static str,
}

impl Difference {
    /// Something at `path`.
    pub fn new(path: &Path, what: &'static str) -> Self {
        Self { path: path.to_owned(), what }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// What was compared.
#[derive(Debug, Default)]
pub struct Compared {
    /// Files, folders and links on both sides.
    pub entries: u64,
    /// Bytes of files.
    pub bytes: u64,
    differences: Vec<Difference>,
}

/// Compares all below `source` and `target`: names, kinds, permissions, links,
/// and every byte of every file.
///
/// # Errors
/// [`Error::Differs`], [`Error::Interrupted`], and [`Error::System`] where
/// something cannot be read.
pub fn trees(source: &Path, target: &Path, cancel: &Cancel) -> Result<Compared, Error> {
    let mut compared = Compared::default();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let mut names = names(&source.join(&folder))?;
        names.extend(self::names(&target.join(&folder))?);
        for name in names {
            if folder.as_os_str().is_empty() && name == LOST_AND_FOUND {
                continue;
            }
            cancel.check().map_err(|_| Error::Interrupted)?;
            let path = folder.join(name);
            if compared.entry(source, target, &path)? {
                folders.push(path);
            }
        }
        if compared.differences.len() >= DIFFERENCES_MAX {
            break;
        }
    }
    if compared.differences.is_empty() { Ok(compared) } else { Err(Error::Differs(compared.differences)) }
}

impl Compared {
    /// Compares one entry; whether it is a folder on both sides.
    fn entry(&mut self, source: &Path, target: &Path, path: &Path) -> Result<bool, Error> {
        let (source, target) = (source.join(path), target.join(path));
        let mut differ = |what| self.differences.push(Difference { path: path.to_owned(), what });
        let (here, there) = match (metadata(&source)?, metadata(&target)?) {
            (Some(here), Some(there)) => (here, there),
            (Some(_), None) => {
                differ("is missing in the copy");
                return Ok(false);
            }
            (None, _) => {
                differ("is in the copy alone");
                return Ok(false);
            }
        };
        if here.file_type() != there.file_type() {
            differ("is of another kind");
            return Ok(false);
        }
        if here.permissions().mode() != there.permissions().mode() {
            differ("has other permissions");
        }
        if here.is_symlink() {
            if fs::read_link(&source).ok() != fs::read_link(&target).ok() {
                differ("points elsewhere");
            }
        } else if here.is_file() {
            if here.len() != there.len() {
                differ("has another length");
            } else if !same_bytes(&source, &target)? {
                differ("has other bytes");
            }
            self.bytes += here.len();
        }
        self.entries += 1;
        Ok(here.is_dir())
    }
}

/// Whether two files hold the same bytes.
///
/// # Errors
/// [`Error::System`] where one cannot be read.
fn same_bytes(source: &Path, target: &Path) -> Result<bool, Error> {
    let open = |path: &Path| File::open(path).map_err(Error::at("open", path));
    let (mut here, mut there) = (open(source)?, open(target)?);
    let (mut one, mut other) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let count = fill(&mut here, &mut one).map_err(Error::at("read", source))?;
        if fill(&mut there, &mut other).map_err(Error::at("read", target))? != count {
            return Ok(false);
        }
        if count == 0 || one[..count] != other[..count] {
            return Ok(count == 0);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The step that compares the source's image with the bytes of the copy.
///
/// # Errors
/// [`Error::Differs`], [`Error::System`].
pub fn images(stage: &Stage<'_>) -> Result<(), Error> {
    stage.step("compare bytes", || {
        if !same_bytes(&stage.path(SOURCE), &stage.path(FLAT))? {
            return Err(Error::Differs(vec![Difference { path: FLAT.into(), what: "has other bytes" }]));
        }
        let what = format!("{SOURCE} and {FLAT} are equal");
        Ok(((), Done { what, bytes_covered: stage.size_bytes, ..Done::default() }))
    })
}

fn names(folder: &Path) -> Result<BTreeSet<OsString>, Error> {
    let read = || -> io::Result<BTreeSet<OsString>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    read().map_err(Error::at("list", folder))
}

fn metadata(path: &Path) -> Result<Option<Metadata>, Error> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::at("look at", path)(source)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn told(source: &Path, target: &Path) -> Vec<String> {
        match trees(source, target, &Cancel::default()) {
            Ok(_) => Vec::new(),
            Err(Error::Differs(differences)) => differences.iter().map(Difference::to_string).collect(),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn each_kind_of_difference_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (source, target) = (folder.path().join("a"), folder.path().join("b"));
        for side in [&source, &target] {
            fs::create_dir_all(side.join("deep/er")).unwrap();
            fs::write(side.join("deep/er/file"), vec![7; BUFFER_BYTES + 9]).unwrap();
            symlink("deep", side.join("link")).unwrap();
        }
        fs::create_dir(target.join(LOST_AND_FOUND)).unwrap();
        let same = trees(&source, &target, &Cancel::default()).unwrap();
        assert_eq!((same.entries, same.bytes), (4, BUFFER_BYTES as u64 + 9));

        let mut bytes = vec![7; BUFFER_BYTES + 9];
        bytes[BUFFER_BYTES + 8] = 8;
        fs::write(target.join("deep/er/file"), &bytes).unwrap();
        assert_eq!(told(&source, &target), ["deep/er/file: has other bytes"]);
        fs::write(target.join("deep/er/file"), "").unwrap();
        assert_eq!(told(&source, &target), ["deep/er/file: has another length"]);
        fs::remove_file(target.join("deep/er/file")).unwrap();
        fs::write(target.join("new"), "").unwrap();
        fs::remove_file(target.join("link")).unwrap();
        symlink("shallow", target.join("link")).unwrap();
        let expected =
            ["link: points elsewhere", "new: is in the copy alone", "deep/er/file: is missing in the copy"];
        assert_eq!(told(&source, &target), expected);
    }
}
