//! The retention directory: `MACHINE/DISK`, one journal in each.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use failback_datapath::journal::{Directory, Summary, View};
use failback_datapath::ring;

use crate::control::Failed;
use crate::exit::Exit;

/// Looks at a journal that is being written, before it counts as damaged.
const ATTEMPTS: u32 = 3;

/// A retention directory.
#[derive(Clone, Debug)]
pub struct Retention(PathBuf);

/// A pair's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `MACHINE/DISK`.
    pub name: String,
    /// Where its journal lies.
    pub directory: PathBuf,
}

impl Retention {
    /// The directory `path`.
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The pair called `name`.
    pub fn pair(&self, name: &str) -> Result<Found, Failed> {
        let parts: Vec<&str> = name.split('/').collect();
        let plain = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
        if parts.len() != 2 || !parts.iter().all(plain) {
            return Err((Exit::Refused, format!("{name:?}: a pair is called MACHINE/DISK")));
        }
        let found = Found { name: name.to_owned(), directory: self.0.join(name) };
        if found.is_journal() {
            return Ok(found);
        }
        let known: Vec<String> = self.pairs()?.into_iter().map(|pair| pair.name).collect();
        let hint = if known.is_empty() {
            "no pair has one".to_owned()
        } else {
            format!("there is {}", known.join(", "))
        };
        Err((Exit::Refused, format!("{name}: no journal in {}; {hint}", self.0.display())))
    }

    /// All pairs, by name.
    pub fn pairs(&self) -> Result<Vec<Found>, Failed> {
        let listed = || -> io::Result<Vec<Found>> {
            let mut found = Vec::new();
            for machine in folders(&self.0)? {
                for disk in folders(&self.0.join(&machine))? {
                    let directory = self.0.join(&machine).join(&disk);
                    found.push(Found { name: format!("{machine}/{disk}"), directory });
                }
            }
            found.retain(Found::is_journal);
            found.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(found)
        };
        listed().map_err(|error| (Exit::Refused, format!("{}: cannot be read: {error}", self.0.display())))
    }
}

impl Found {
    /// What its journal holds, read without its lock.
    pub fn summary(&self) -> Result<Summary, Failed> {
        let mut attempts = 1;
        loop {
            let read = ring::run(self.read()).map_err(|error| (Exit::Failed, error.to_string()))?;
            match read {
                // Whoever writes it may have taken away what was just to be read.
                Err(_) if attempts < ATTEMPTS => attempts += 1,
                read => return read.map_err(|reason| (Exit::Failed, format!("{}: {reason}", self.name))),
            }
        }
    }

    async fn read(&self) -> Result<Summary, String> {
        let directory = Directory::open_read_only(&self.directory).map_err(|error| error.to_string())?;
        let view = View::open(directory).await.map_err(|error| error.to_string())?;
        view.summary().await.map_err(|error| error.to_string())
    }

    fn is_journal(&self) -> bool {
        self.directory.join("pair").is_file()
    }
}

fn folders(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_found_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let retention = Retention::new(folder.path().to_owned());
        assert_eq!(retention.pairs().expect("it can be read"), []);
        for (pair, journal) in [("web-1/root", true), ("web-1/data", true), ("db/empty", false)] {
            fs::create_dir_all(folder.path().join(pair)).expect("a folder");
            if journal {
                fs::write(folder.path().join(pair).join("pair"), "").expect("a file");
            }
        }
        fs::write(folder.path().join("stray"), "").expect("a file");
        let names: Vec<String> =
            retention.pairs().expect("it can be read").into_iter().map(|pair| pair.name).collect();
        assert_eq!(names, ["web-1/data", "web-1/root"]);
        assert!(retention.pair("web-1/root").is_ok());
        let refused = retention.pair("db/empty").expect_err("it has no journal").1;
        assert!(refused.contains("web-1/root"), "{refused}");
        for wrong in ["web-1", "../root", "a/b/c", "/etc", "web-1/.."] {
            assert!(retention.pair(wrong).is_err_and(|(_, why)| why.contains("MACHINE/DISK")), "{wrong}");
        }
    }
}
