//! A machine whose disk is an image file with an ext4 filesystem that nobody
//! mounts: `mkfs.ext4` and `debugfs` of e2fsprogs write and read it, which takes
//! no more rights than to write a file.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use failback_datapath::disk::image;
use indicatif::BinaryBytes;

use super::{DEBUGFS, MKFS, Machine, bytes_of_files, check_filesystem};
use crate::command::demo::change::{self, Change};
use crate::command::demo::error::Error;
use crate::command::demo::stage::{Done, FLAT, SOURCE, Stage};
use crate::command::demo::tree::{self, Plan};
use crate::command::demo::{compare, program};

/// See the module.
pub struct Unmounted {
    image: PathBuf,
    /// The files as they are meant to be on the disk.
    files: PathBuf,
    plans: Vec<Plan>,
}

impl Unmounted {
    /// Makes the image; its filesystem comes with the files.
    ///
    /// # Errors
    /// [`Error::Missing`] without e2fsprogs, [`Error::Image`].
    pub fn make(stage: &Stage<'_>) -> Result<Self, Error> {
        program::find(MKFS)?;
        program::find(DEBUGFS)?;
        stage.step("make disk", || {
            let image = stage.path(SOURCE);
            image::create_raw(&image, stage.size_bytes)?;
            let files = stage.make_folder("files")?;
            let plans = tree::plan(bytes_of_files(stage.size_bytes));
            let what = format!("the image file {SOURCE}, {}", BinaryBytes(stage.size_bytes));
            Ok((Self { image, files, plans }, Done::saying(what)))
        })
    }
}

impl Machine for Unmounted {
    fn disk(&self) -> &Path {
        &self.image
    }

    fn fill(&mut self, stage: &Stage<'_>) -> Result<(), Error> {
        stage.step("write files", || {
            tree::write(&self.files, &self.plans, &stage.cancel)?;
            program::run(MKFS, stage.folder(), &stage.cancel, |command| {
                let options = ["-q", "-F", "-m", "0", "-L", "demo", "-d"];
                command.args(options).arg(&self.files).arg(&self.image)
            })?;
            let bytes = tree::bytes_of(&self.plans);
            let what = format!("{} files in ext4, by {MKFS} -d", self.plans.len());
            Ok(((), Done { what, bytes_moved: bytes, bytes_covered: bytes, counts: None }))
        })
    }

    fn change(&mut self, stage: &Stage<'_>) -> Result<(), Error> {
        stage.step("change files", || {
            let changes = change::apply(&self.files, &self.plans)?;
            let script = stage.path("changes");
            fs::write(&script, requests(&changes.list)).map_err(Error::at("write", &script))?;
            // Its requests name files relative to where it stands.
            program::run(DEBUGFS, &self.files, &stage.cancel, |command| {
                command.arg("-w").arg("-f").arg(&script).arg(&self.image)
            })?;
            let what = format!("{changes}; by {DEBUGFS}");
            Ok(((), Done { what, bytes_moved: changes.bytes, ..Done::default() }))
        })
    }

    fn inspect(&self, stage: &Stage<'_>) -> Result<(), Error> {
        let flat = stage.path(FLAT);
        check_filesystem(stage, &flat)?;
        stage.step("compare files", || {
            stage.make_folder("found")?;
            program::run(DEBUGFS, stage.folder(), &stage.cancel, |command| {
                command.args(["-R", "rdump / found"]).arg(&flat)
            })?;
            let compared = compare::trees(&self.files, &stage.path("found"), &stage.cancel)?;
            let what =
                format!("read from the copy by {DEBUGFS}: {} files and folders are equal", compared.entries);
            Ok(((), Done { what, bytes_covered: compared.bytes, ..Done::default() }))
        })?;
        compare::images(stage)
    }

    fn put_away(self: Box<Self>) -> Result<(), Error> {
        Ok(())
    }
}

/// The same changes for `debugfs`, which makes a file only in the folder where it
/// stands. The paths are those of `tree` and `change`: none has a blank.
fn requests(changes: &[Change]) -> String {
    let mut text = String::new();
    for Change { removed, written } in changes {
        if let Some(path) = removed {
            // Writing to a text does not fail.
            let _ = writeln!(text, "rm /{path}");
        }
        if let Some(path) = written {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let _ = writeln!(text, "cd /{folder}\nwrite {path} {name}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_remove_before_they_write() {
        let changes = [
            Change { removed: Some("a/b".to_owned()), written: Some("a/b".to_owned()) },
            Change { removed: Some("c".to_owned()), written: None },
        ];
        assert_eq!(requests(&changes), "rm /a/b\ncd /a\nwrite a/b b\nrm /c\n");
    }
}
