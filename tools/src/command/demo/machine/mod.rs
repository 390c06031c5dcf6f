//! The machine whose disk is brought home, as real as this host allows.
//!
//! | | disk | filesystem | changed by | checked by |
//! | --- | --- | --- | --- | --- |
//! | [`Mounted`] | loop device | ext4 | the kernel | fsck, mount, every file |
//! | [`Unmounted`] | image file | ext4 | `debugfs` | fsck, `debugfs`, every file and byte |
//! | [`Pattern`] | image file | none | overwriting | every byte |

mod mounted;
mod pattern;
mod unmounted;

use std::path::Path;

use super::error::Error;
use super::program;
use super::stage::{Done, SOURCE, Stage};
use mounted::Mounted;
use pattern::Pattern;
use unmounted::Unmounted;

/// What makes ext4 filesystems.
const MKFS: &str = "mkfs.ext4";
/// What writes and reads them without mounting.
const DEBUGFS: &str = "debugfs";
/// What checks them.
const FSCK: &str = "e2fsck";

/// How much of the disk the files take: two fifths.
const fn bytes_of_files(size_bytes: u64) -> u64 {
    size_bytes / 5 * 2
}

/// A machine with one disk. Dropped, it leaves nothing mounted or attached.
pub trait Machine {
    /// Its disk, which nobody else uses between the calls.
    fn disk(&self) -> &Path;

    /// Writes the first files.
    ///
    /// # Errors
    /// Those of the steps.
    fn fill(&mut self, stage: &Stage<'_>) -> Result<(), Error>;

    /// Changes some of them.
    ///
    /// # Errors
    /// Those of the steps.
    fn change(&mut self, stage: &Stage<'_>) -> Result<(), Error>;

    /// Holds the image that came home against the disk.
    ///
    /// # Errors
    /// [`Error::Differs`] and those of the steps.
    fn inspect(&self, stage: &Stage<'_>) -> Result<(), Error>;

    /// Goes on working while its disk is protected.
    ///
    /// # Errors
    /// Those of the steps.
    fn protect(&self, stage: &Stage<'_>) -> Result<(), Error> {
        stage.leave_out("live protection", "it takes a disk that is written while it is protected, and root");
        Ok(())
    }

    /// Puts the disk away.
    ///
    /// # Errors
    /// What stays in use.
    fn put_away(self: Box<Self>) -> Result<(), Error>;
}

/// The most real machine that this host allows, its disk made. What that leaves
/// out is told.
///
/// # Errors
/// [`Error::Interrupted`], and what makes even the least real one impossible.
pub fn make(stage: &Stage<'_>) -> Result<Box<dyn Machine>, Error> {
    let attached = "loop devices and mounts";
    if nix::unistd::geteuid().is_root() {
        match Mounted::make(stage) {
            Ok(mounted) => return Ok(Box::new(mounted)),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                stage.leave_out(attached, error.to_string());
                // Where it was made at all; the next one says if it cannot go.
                let _ = std::fs::remove_file(stage.path(SOURCE));
            }
        }
    } else {
        stage.leave_out(attached, "they take root: run `failback demo` as root to see them");
    }
    match Unmounted::make(stage) {
        Ok(unmounted) => return Ok(Box::new(unmounted)),
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => stage.leave_out("files in a real filesystem", error.to_string()),
    }
    Ok(Box::new(Pattern::make(stage)?))
}

/// Checks the ext4 filesystem at `path` without writing to it, where there is
/// something to check it with.
fn check_filesystem(stage: &Stage<'_>, path: &Path) -> Result<(), Error> {
    if let Err(missing) = program::find(FSCK) {
        stage.leave_out("fsck", missing.to_string());
        return Ok(());
    }
    stage.step("fsck", || {
        program::run(FSCK, stage.folder(), &stage.cancel, |command| command.arg("-fn").arg(path))?;
        Ok(((), Done::saying(format!("{FSCK} -fn: the copy is clean"))))
    })
}
