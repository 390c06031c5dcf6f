//! What happens to the files between the two synchronizations: edits, appended
//! lines, deletions, new names, new files.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::Error;
use super::tree::{Content, Plan, Random};

/// One clip in so many is edited, and so on.
const EDIT_EVERY: usize = 4;
const REMOVE_EVERY: usize = 20;
const RENAME_EVERY: usize = 15;
const APPEND_MAX: usize = 3;
const NEW_FILES: u64 = 5;

/// Bytes of one edit.
const EDIT_BYTES: usize = 4096;

/// Lines appended to a log, and lines of a new file.
const LINES: usize = 60;

/// A file that is no longer there, or a file that is there anew or otherwise, or
/// both: enough for whoever must do the same to an image.
#[derive(Debug, Default)]
pub struct Change {
    /// A path that held something before.
    pub removed: Option<String>,
    /// A path that holds something new.
    pub written: Option<String>,
}

/// What was changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// One by one.
    pub list: Vec<Change>,
    /// Bytes written.
    pub bytes: u64,
    edited: usize,
    appended: usize,
    removed: usize,
    renamed: usize,
    added: usize,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { edited, appended, removed, renamed, added, .. } = self;
        write!(
            f,
            "{edited} files edited, {appended} grown, {removed} removed, {renamed} renamed, {added} new"
        )
    }
}

/// Changes some of the files of `plans`, which lie below `root`.
///
/// # Errors
/// [`Error::System`].
pub fn apply(root: &Path, plans: &[Plan]) -> Result<Changes, Error> {
    let mut changes = Changes::default();
    let mut random = Random::new(3);
    let of = |content, folder: &'static str| {
        let mine = move |plan: &&Plan| plan.content == content && plan.path.starts_with(folder);
        plans.iter().filter(mine).map(|plan| plan.path.as_str())
    };
    for path in of(Content::Random, "media/").step_by(EDIT_EVERY) {
        changes.edit(root, path, &mut random)?;
    }
    for path in of(Content::Text, "logs/").take(APPEND_MAX) {
        changes.append(root, path, &mut random)?;
    }
    for path in of(Content::Text, "documents/2").step_by(REMOVE_EVERY) {
        changes.remove(root, path)?;
    }
    for path in
        of(Content::Text, "documents/2").skip(1).step_by(RENAME_EVERY).filter(|path| root.join(path).exists())
    {
        changes.rename(root, path)?;
    }
    for number in 0..NEW_FILES {
        changes.add(root, &format!("inbox/new-{number}.txt"), &mut random)?;
    }
    Ok(changes)
}

impl Changes {
    fn edit(&mut self, root: &Path, path: &str, random: &mut Random) -> Result<(), Error> {
        let file = root.join(path);
        let mut block = [0; EDIT_BYTES];
        random.fill(&mut block);
        let edit = || {
            let opened = OpenOptions::new().write(true).open(&file)?;
            opened.write_all_at(&block, opened.metadata()?.len() / 2)
        };
        edit().map_err(Error::at("edit", &file))?;
        self.edited += 1;
        self.bytes += EDIT_BYTES as u64;
        self.note(Some(path), Some(path));
        Ok(())
    }

    fn append(&mut self, root: &Path, path: &str, random: &mut Random) -> Result<(), Error> {
        let file = root.join(path);
        let opened = OpenOptions::new().append(true).open(&file);
        self.bytes +=
            opened.and_then(|opened| write_lines(opened, random)).map_err(Error::at("append to", &file))?;
        self.appended += 1;
        self.note(Some(path), Some(path));
        Ok(())
    }

    fn remove(&mut self, root: &Path, path: &str) -> Result<(), Error> {
        let file = root.join(path);
        fs::remove_file(&file).map_err(Error::at("remove", &file))?;
        self.removed += 1;
        self.note(Some(path), None);
        Ok(())
    }

    fn rename(&mut self, root: &Path, path: &str) -> Result<(), Error> {
        let renamed = format!("{path}.old");
        let file = root.join(path);
        fs::rename(&file, root.join(&renamed)).map_err(Error::at("rename", &file))?;
        self.renamed += 1;
        self.note(Some(path), Some(&renamed));
        Ok(())
    }

    fn add(&mut self, root: &Path, path: &str, random: &mut Random) -> Result<(), Error> {
        let file = root.join(path);
        let opened = File::create_new(&file);
        self.bytes +=
            opened.and_then(|opened| write_lines(opened, random)).map_err(Error::at("write", &file))?;
        self.added += 1;
        self.note(None, Some(path));
        Ok(())
    }

    fn note(&mut self, removed: Option<&str>, written: Option<&str>) {
        self.list.push(Change { removed: removed.map(str::to_owned), written: written.map(str::to_owned) });
    }
}

fn write_lines(mut file: File, random: &mut Random) -> io::Result<u64> {
    let text: String = (0..LINES).map(|_| random.line()).collect();
    file.write_all(text.as_bytes())?;
    Ok(text.len() as u64)
}

#[cfg(test)]
mod tests {
    use failback_datapath::pipeline::Cancel;

    use super::super::tree;
    use super::*;

    #[test]
    fn every_kind_of_change_happens_and_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let plans = tree::plan(16 << 20);
        tree::write(folder.path(), &plans, &Cancel::default()).unwrap();
        let changes = apply(folder.path(), &plans).unwrap();
        let Changes { edited, appended, removed, renamed, added, .. } = changes;
        assert!([edited, appended, removed, renamed, added].iter().all(|count| *count > 0), "{changes}");
        assert_eq!(changes.list.len(), edited + appended + removed + renamed + added);
        for change in changes.list {
            if let Some(written) = &change.written {
                assert!(folder.path().join(written).is_file(), "{written}");
            }
            if let Some(removed) = change.removed.filter(|path| Some(path) != change.written.as_ref()) {
                assert!(!folder.path().join(&removed).exists(), "{removed}");
            }
        }
    }
}
