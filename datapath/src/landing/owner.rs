//! The mark that a master target owns a disk, whether it runs or not.
//!
//! It lies beside the marks of unfinished targets, named by the disk's identity:
//!
//! ```json
//! {"version":1,"base":"wwid:naa.5000c500a1b2c3d4","offset":0,"size_bytes":4294967296,
//!  "target":"/dev/sdb","retention":"/srv/retention/web-sda","machine":"web","disk":"sda",
//!  "since_unix_seconds":1795254000,"has_journal":true}
//! ```
//!
//! A partition of an owned disk is part of it, and so is the disk around an
//! owned partition: two disks of one base are the same where their bytes overlap.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::mark::{remove, replace};
use super::{Error, StateDirectory};
use crate::disk::storage::Identity;
use crate::journal::{Pair, PairState};
use crate::unit::Extent;

const VERSION: u32 = 1;
const FOLDER: &str = "owners";

/// A mark is a few hundred bytes; a larger file is not one of ours.
const OWNER_BYTES_MAX: u64 = 64 << 10;

/// Who owns a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    version: u32,
    base: String,
    offset: u64,
    /// The disk's size.
    pub size_bytes: u64,
    /// Its path when it was taken.
    pub target: PathBuf,
    /// The directory of its journal: this is who owns it.
    pub retention: PathBuf,
    /// The machine whose disk it replicates.
    pub machine: String,
    /// Which of its disks.
    pub disk: String,
    /// Since when.
    pub since_unix_seconds: u64,
    /// Whether the journal was there: one that is gone is not made anew in silence.
    #[serde(default)]
    pub has_journal: bool,
}

impl Owner {
    /// The owner of the disk `target` from now on.
    #[must_use]
    pub fn new(
        identity: &Identity,
        size_bytes: u64,
        target: PathBuf,
        retention: PathBuf,
        of: (&str, &str),
    ) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            version: VERSION,
            base: identity.base().to_owned(),
            offset: identity.offset(),
            size_bytes,
            target,
            retention,
            machine: of.0.to_owned(),
            disk: of.1.to_owned(),
            since_unix_seconds: since.map_or(0, |since| since.as_secs()),
            has_journal: false,
        }
    }

    /// The same, once its journal is there.
    #[must_use]
    pub fn with_journal(self) -> Self {
        Self { has_journal: true, ..self }
    }

    /// Why the disk is not to be had as one; `None` once a point of it was chosen for good.
    #[must_use]
    pub fn warning(&self, path: &Path) -> Option<String> {
        let state = match Pair::read(&self.retention) {
            Ok(Some(Pair { state: PairState::Committed, .. })) => return None,
            Ok(Some(pair)) => pair.state.to_string(),
            Ok(None) => "its journal is not there".to_owned(),
            Err(error) => error.to_string(),
        };
        let (path, Self { machine, disk, .. }) = (path.display(), self);
        Some(format!(
            "{path} is the target of {machine}/{disk} ({state}), and its master target may write to it; failback \
             points copy makes a disk of a point, points commit gives the target away"
        ))
    }

    fn overlaps(&self, base: &str, offset: u64, size_bytes: u64) -> bool {
        let reach = |offset: u64, size: u64| Extent::between(offset, offset.saturating_add(size));
        self.base == base
            && reach(self.offset, self.size_bytes).intersection(reach(offset, size_bytes)).is_some()
    }

    fn refusal(self, mark: PathBuf) -> Error {
        let Self { target, retention, machine, disk, .. } = self;
        Error::Owned { target, retention, machine, disk, mark }
    }
}

/// A disk that is owned, and the mark that says so. Dropping it leaves the mark:
/// a master target that is not running owns its disks too.
#[derive(Debug)]
pub struct Ownership {
    path: PathBuf,
}

impl Ownership {
    /// Gives the disk up.
    ///
    /// # Errors
    /// [`Error::State`]; the mark then stays.
    pub fn release(self) -> Result<(), Error> {
        remove(&self.path).map_err(|source| Error::State { path: self.path, action: "remove", source })
    }
}

impl StateDirectory {
    /// Takes a disk for a master target, durably, or finds that it has it
    /// already. The caller holds the claim on the disk, so that no two ask at once.
    ///
    /// # Errors
    /// [`Error::Owned`] where another journal belongs to it or to a part of it.
    pub fn own(&self, identity: &Identity, owner: &Owner) -> Result<Ownership, Error> {
        for (mark, other) in self.owners()? {
            let is_same = other.retention == owner.retention;
            if !is_same && other.overlaps(identity.base(), identity.offset(), owner.size_bytes) {
                return Err(other.refusal(mark));
            }
        }
        let folder = self.make_folder(FOLDER)?;
        let path = folder.join(format!("{}.json", identity.file_name()));
        replace(&path, owner).map_err(|source| Error::State {
            path: path.clone(),
            action: "write",
            source,
        })?;
        Ok(Ownership { path })
    }

    /// Gives up every disk whose journal lies in `retention`; says whether there
    /// was one.
    ///
    /// # Errors
    /// [`Error::State`] and [`Error::StateCorrupt`].
    pub fn disown(&self, retention: &Path) -> Result<bool, Error> {
        let ours = self.owners()?.into_iter().filter(|(_, owner)| owner.retention == retention);
        let mut was_owned = false;
        for (path, _) in ours {
            Ownership { path }.release()?;
            was_owned = true;
        }
        Ok(was_owned)
    }

    /// Refuses a disk that a master target owns, or of which it owns a part.
    ///
    /// # Errors
    /// [`Error::Owned`], [`Error::State`] and [`Error::StateCorrupt`].
    pub fn check_unowned(&self, identity: &Identity, size_bytes: u64) -> Result<(), Error> {
        match self.owner(identity, size_bytes)? {
            Some((mark, owner)) => Err(owner.refusal(mark)),
            None => Ok(()),
        }
    }

    /// Who owns the disk or a part of it, with the mark that says so.
    ///
    /// # Errors
    /// [`Error::State`] and [`Error::StateCorrupt`].
    pub fn owner(&self, identity: &Identity, size_bytes: u64) -> Result<Option<(PathBuf, Owner)>, Error> {
        let overlaps =
            |(_, owner): &(PathBuf, Owner)| owner.overlaps(identity.base(), identity.offset(), size_bytes);
        Ok(self.owners()?.into_iter().find(overlaps))
    }

    /// All disks that are owned on this host, each with its mark.
    ///
    /// # Errors
    /// [`Error::State`] and [`Error::StateCorrupt`].
    pub fn owners(&self) -> Result<Vec<(PathBuf, Owner)>, Error> {
        let folder = self.path().join(FOLDER);
        let failed = |source| Error::State { path: folder.clone(), action: "read", source };
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let mut owners = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "json")
                && let Some(owner) = read(&path)?
            {
                owners.push((path, owner));
            }
        }
        Ok(owners)
    }
}

/// Reads a mark; `None` where it has gone meanwhile.
fn read(path: &Path) -> Result<Option<Owner>, Error> {
    let corrupt = |reason: String| Error::StateCorrupt { path: path.to_owned(), reason };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::State { path: path.to_owned(), action: "read", source }),
    };
    let text = io::read_to_string(io::Read::take(file, OWNER_BYTES_MAX)).map_err(|source| Error::State {
        path: path.to_owned(),
        action: "read",
        source,
    })?;
    let owner: Owner = serde_json::from_str(&text).map_err(|error| corrupt(error.to_string()))?;
    if owner.version != VERSION {
        return Err(corrupt(format!("version {}, this failback knows {VERSION}", owner.version)));
    }
    Ok(Some(owner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Purpose, open};

    #[test]
    fn a_disk_has_one_owner_and_its_parts_have_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(folder.path().join("state"));
        let image = folder.path().join("target.img");
        fs::write(&image, vec![0; 1 << 20]).unwrap();
        let disk = open(&image, Purpose::Inspection).unwrap();
        let owner = |retention: &str| {
            Owner::new(disk.identity(), 1 << 20, image.clone(), retention.into(), ("web", "sda"))
        };
        state.check_unowned(disk.identity(), 1 << 20).unwrap();
        let ownership = state.own(disk.identity(), &owner("/retention/a")).unwrap();
        state.own(disk.identity(), &owner("/retention/a")).unwrap();
        let refused = state.own(disk.identity(), &owner("/retention/b")).unwrap_err().to_string();
        assert!(refused.contains("/retention/a") && refused.contains("sda of web"), "{refused}");
        assert!(matches!(state.check_unowned(disk.identity(), 512), Err(Error::Owned { .. })));
        let part = state.owners().unwrap().remove(0).1;
        assert!(part.overlaps(disk.identity().base(), 4096, 1) && !part.overlaps("file:other", 0, 1));
        assert!(!part.overlaps(disk.identity().base(), 1 << 20, 1));
        ownership.release().unwrap();
        state.check_unowned(disk.identity(), 1 << 20).unwrap();
    }

    #[test]
    fn a_mark_that_makes_no_sense_owns_whatever_it_may_stand_for() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDirectory::new(folder.path().to_owned());
        fs::create_dir(folder.path().join(FOLDER)).unwrap();
        fs::write(folder.path().join(FOLDER).join("x.json"), "{").unwrap();
        assert!(matches!(state.owners(), Err(Error::StateCorrupt { .. })));
    }
}
