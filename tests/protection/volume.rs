//! Volumes below a target, a source or a journal, that run full and that fail.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::rig::{Filesystem, Rig};
use crate::fixture::{LoopDevice, Random, Scratch, eventually, program, run};

/// An ext4 of its own, in a file of a scratch directory.
pub struct Volume {
    filesystem: Filesystem,
    _below: LoopDevice,
}

impl Volume {
    /// One of `bytes`, called `name`.
    pub fn new(scratch: &Scratch, name: &str, bytes: u64) -> Self {
        let below = LoopDevice::attach(&scratch.image(&format!("{name}-image"), bytes), 512);
        let filesystem = Filesystem::make("ext4", below.path(), scratch.folder(name));
        Self { filesystem, _below: below }
    }

    pub fn folder(&self) -> &Path {
        &self.filesystem.point
    }

    /// A file on it of `bytes` zeroes that takes no space.
    pub fn sparse(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.folder().join(name);
        let file = File::create_new(&path).and_then(|file| file.set_len(bytes));
        file.expect("a file without blocks");
        path
    }

    /// Takes all room that is left.
    pub fn fill_up(&self) {
        let file = File::create(self.folder().join("filler")).expect("a name has room");
        let bytes = vec![1; 64 << 10];
        let mut at = 0;
        // Then what is left in pieces smaller than that.
        for size in [64 << 10, 4096] {
            while let Ok(written) = file.write_at(&bytes[..size], at) {
                at += written as u64;
            }
        }
        let _ = file.sync_all();
    }

    /// Gives that room back.
    pub fn make_room(&self) {
        fs::remove_file(self.folder().join("filler")).expect("it is ours");
        File::open(self.folder()).and_then(|folder| folder.sync_all()).expect("it can be flushed");
    }
}

/// A file that takes no writes until this is dropped: a loop device over it
/// reads as before, and each write there ends with an I/O error.
pub struct Unwritable<'a>(&'a Path);

impl<'a> Unwritable<'a> {
    /// Of a file on a [`Volume`], which knows how to refuse.
    pub fn begin(file: &'a Path) -> Self {
        run(program("chattr").arg("+i").arg(file));
        Self(file)
    }
}

impl Drop for Unwritable<'_> {
    fn drop(&mut self) {
        let _ = program("chattr").arg("-i").arg(self.0).output();
    }
}

/// A device of which all past `bytes` cannot be read, until this is dropped: the
/// file below is no longer than that. What is lost of it must have been zeroes.
pub struct Unreadable<'a> {
    file: &'a Path,
    whole_bytes: u64,
}

impl<'a> Unreadable<'a> {
    pub fn past(bytes: u64, file: &'a Path) -> Self {
        let below = OpenOptions::new().write(true).open(file).expect("it is there");
        let whole_bytes = below.metadata().expect("it is open").len();
        below.set_len(bytes).expect("it gets shorter");
        Self { file, whole_bytes }
    }
}

impl Drop for Unreadable<'_> {
    fn drop(&mut self) {
        let below = OpenOptions::new().write(true).open(self.file);
        below.and_then(|file| file.set_len(self.whole_bytes)).expect("it gets as long as it was");
    }
}

/// Waits until the master target raises an alarm for the first pair; its reasons.
pub fn alarm(rig: &Rig) -> String {
    let reasons = || {
        let outcome = rig.master_target(&["status"]);
        let status = outcome.summary();
        status["pairs"][0]["alarms"].as_array().map(|alarms| format!("{alarms:?}")).unwrap_or_default()
    };
    eventually("an alarm", || reasons().contains("reason"));
    println!("{}", reasons());
    reasons()
}

/// Writes a pattern to a part of a disk, past the page cache's delay.
pub fn fill(device: &Path, at: u64, bytes: usize, random: &mut Random) {
    let mut content = vec![0; bytes];
    random.fill(&mut content);
    let file = OpenOptions::new().write(true).open(device).expect("it is there");
    file.write_all_at(&content, at).and_then(|()| file.sync_all()).expect("it can be written");
}
