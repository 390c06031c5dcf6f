//! The mark of an unfinished target: a small file that survives everything.
//!
//! It lies in the state folder of the host that writes the target, named by the
//! target's identity, so that it is found under whatever name the target has
//! after a reboot:
//!
//! ```json
//! {"version":1,"target":"/dev/loop1","source":"/dev/loop0","size_bytes":4294967296,
//!  "cursor_bytes":1073741824,"whole":true,"started_unix_seconds":1795254000}
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::disk::storage::Identity;

const VERSION: u32 = 1;

/// A mark is a few hundred bytes; a larger file is not one of ours.
const MARK_BYTES_MAX: u64 = 64 << 10;

/// The folder where the state of targets lies.
#[derive(Clone, Debug)]
pub struct StateDirectory(PathBuf);

impl StateDirectory {
    /// The folder `path`, made on first use with mode 0700.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self, identity: &Identity) -> PathBuf {
        self.0.join("targets").join(format!("{}.json", identity.file_name()))
    }

    /// The mark on the target with this identity; `None` where its last
    /// synchronization ended well, or none ever ran.
    ///
    /// # Errors
    /// [`Error::State`] and [`Error::StateCorrupt`].
    pub fn mark(&self, identity: &Identity) -> Result<Option<Mark>, Error> {
        let path = self.file(identity);
        let failed = |source| Error::State { path: path.clone(), action: "read", source };
        let corrupt = |reason: String| Error::StateCorrupt { path: path.clone(), reason };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let text = io::read_to_string(io::Read::take(file, MARK_BYTES_MAX)).map_err(failed)?;
        let body: Body = serde_json::from_str(&text).map_err(|error| corrupt(error.to_string()))?;
        if body.version != VERSION {
            return Err(corrupt(format!("version {}, this failback knows {VERSION}", body.version)));
        }
        Ok(Some(Mark { path, body }))
    }

    /// Marks a target as unfinished, durably, before its first byte is written.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn begin(&self, identity: &Identity, body: Body) -> Result<Mark, Error> {
        let path = self.file(identity);
        self.make_folder("targets")?;
        let mark = Mark { path, body };
        mark.save()?;
        Ok(mark)
    }

    pub(super) fn make_folder(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.0.join(name);
        make_folder(&folder).map_err(|source| Error::State {
            path: folder.clone(),
            action: "write",
            source,
        })?;
        Ok(folder)
    }
}

/// What a mark says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    version: u32,
    /// The target's path when it was marked.
    pub target: String,
    /// The source's path or address.
    pub source: String,
    /// The source's size.
    pub size_bytes: u64,
    /// Everything before this byte was durable on the target.
    pub cursor_bytes: u64,
    /// Whether chunks past the cursor were copied without comparing.
    pub whole: bool,
    /// When the run began.
    pub started_unix_seconds: u64,
}

impl Body {
    /// The mark of a run that begins now.
    #[must_use]
    pub fn new(target: String, source: String, size_bytes: u64, whole: bool) -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let started_unix_seconds = since.map_or(0, |time| time.as_secs());
        Self { version: VERSION, target, source, size_bytes, cursor_bytes: 0, whole, started_unix_seconds }
    }
}

impl Body {
    /// The cursor that this run may take over from `earlier`: only one of the
    /// same source and size says anything about what is on the target now.
    #[must_use]
    pub fn cursor_kept(&self, earlier: &Self) -> u64 {
        let same = self.source == earlier.source && self.size_bytes == earlier.size_bytes;
        if same { earlier.cursor_bytes.min(self.size_bytes) } else { 0 }
    }
}

/// A target marked as unfinished.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
    body: Body,
}

impl Mark {
    /// What it says.
    #[must_use]
    pub const fn body(&self) -> &Body {
        &self.body
    }

    /// What a reader of the target must know; `path` is how it names the target.
    #[must_use]
    pub fn warning(&self, path: &Path) -> String {
        format!(
            "{} is the unfinished target of a synchronization from {}: only what lies before byte {} was complete",
            path.display(),
            self.body.source,
            self.body.cursor_bytes
        )
    }

    /// Moves the cursor, durably. The caller has flushed the target.
    ///
    /// # Errors
    /// [`Error::State`]; the old cursor stands then.
    pub fn advance(&mut self, cursor_bytes: u64) -> Result<(), Error> {
        if cursor_bytes <= self.body.cursor_bytes {
            return Ok(());
        }
        let old = std::mem::replace(&mut self.body.cursor_bytes, cursor_bytes);
        let saved = self.save();
        if saved.is_err() {
            self.body.cursor_bytes = old;
        }
        saved
    }

    /// Moves the cursor back, durably: a verification found what lies there wrong.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn retreat(&mut self, cursor_bytes: u64) -> Result<(), Error> {
        self.body.cursor_bytes = self.body.cursor_bytes.min(cursor_bytes);
        self.save()
    }

    /// Takes the mark away: the target is whole and flushed.
    ///
    /// # Errors
    /// [`Error::State`]; the target then stays marked, which is safe.
    pub fn clear(self) -> Result<(), Error> {
        remove(&self.path).map_err(|source| Error::State { path: self.path, action: "remove", source })
    }

    fn save(&self) -> Result<(), Error> {
        replace(&self.path, &self.body).map_err(|source| Error::State {
            path: self.path.clone(),
            action: "write",
            source,
        })
    }
}

/// Writes `value` beside and renames, so that a crash leaves the old file or the new.
pub(crate) fn replace(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    serde_json::to_writer(&mut file, value)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_folder(path)
}

/// Takes a file away, durably.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Makes `folder` and the folders above it that are missing, durably, and gives
/// those that got a new entry: a mark in a folder that a power cut takes away
/// marks nothing.
pub(crate) fn make_folder(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = std::path::absolute(folder)?;
    let missing: Vec<_> = folder.ancestors().take_while(|above| !above.exists()).collect();
    let mut grown = Vec::with_capacity(missing.len());
    for made in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(0o700).create(made) {
            // Another run may make it at the same time.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        if let Some(above) = made.parent() {
            File::open(above)?.sync_all()?;
            grown.push(above.to_owned());
        }
    }
    Ok(grown)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn every_folder_above_a_first_mark_is_made_durable() -> io::Result<()> {
        let scratch = tempfile::tempdir()?;
        let state = scratch.path().join("a/b/state");
        let grown = make_folder(&state.join("targets"))?;
        let expected: Vec<_> = ["", "a", "a/b", "a/b/state"].map(|name| scratch.path().join(name)).into();
        assert_eq!(grown, expected);
        assert_eq!(fs::metadata(&state)?.permissions().mode() & 0o777, 0o700);
        assert!(make_folder(&state.join("targets"))?.is_empty(), "nothing is new the second time");
        Ok(())
    }
}
