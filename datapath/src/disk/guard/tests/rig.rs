//! Loop devices, mounts and the like for tests; whatever is set up is undone when
//! its value is dropped, also when the test fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests prepare, fail and say so")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::disk::guard::{Liveness, Refusal, check_source, check_target};
use crate::disk::storage::Storage;
use crate::sys::{OpenMode, open_disk_file};

pub(super) const MEBIBYTE: u64 = 1 << 20;

/// Whether this machine has a program.
pub(super) fn is_there(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').any(|folder| Path::new(folder).join(program).exists())
}

/// Whether this machine can run a test that needs root and these programs.
pub(super) fn able(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|program| !is_there(program)).copied().collect();
    if nix::unistd::geteuid().is_root() && missing.is_empty() {
        return true;
    }
    skip(&format!("root and {}", programs.join(", ")));
    false
}

pub(super) fn skip(needs: &str) {
    assert!(std::env::var("FAILBACK_REQUIRE").as_deref() != Ok("all"), "needs {needs}");
    eprintln!("skipped: needs {needs}");
}

/// Says what a kernel lacks, or what only helps on another kernel: nothing requires it.
pub(super) fn lacks(what: &str) {
    eprintln!("skipped: needs {what}");
}

/// Runs a program; its output, or `None` where it fails.
pub(super) fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(program).args(arguments).env("PATH", path).output().unwrap();
    if !output.status.success() {
        eprintln!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// Undone by running a program when dropped, also when the test fails.
pub(super) struct Undo(Vec<String>);

impl Undo {
    pub(super) fn by(arguments: &[&str]) -> Self {
        Self(arguments.iter().map(|argument| (*argument).to_owned()).collect())
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let arguments: Vec<&str> = self.0[1..].iter().map(String::as_str).collect();
        // Udev may look at a device for a moment after its last user.
        for _ in 0..20 {
            if run(&self.0[0], &arguments).is_some() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _ended = self.0.wait();
    }
}

pub(super) fn image(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    File::create(&path).unwrap().set_len(16 * MEBIBYTE).unwrap();
    path
}

/// Attaches a loop device; detached when the second value is dropped.
pub(super) fn attach(backing: &Path, options: &[&str]) -> (PathBuf, Undo) {
    let backing = backing.to_str().unwrap();
    let device = run("losetup", &[&["--find", "--show"], options, &[backing]].concat()).unwrap();
    let undo = Undo::by(&["losetup", "--detach", &device]);
    (PathBuf::from(device), undo)
}

pub(super) fn partition(device: &Path, number: &str, start: u64, length: u64) -> (PathBuf, Undo) {
    let name = device.to_str().unwrap();
    let [start, length] = [start, length].map(|bytes| (bytes / 512).to_string());
    run("addpart", &[name, number, &start, &length]).unwrap();
    (PathBuf::from(format!("{name}p{number}")), Undo::by(&["delpart", name, number]))
}

pub(super) fn make_filesystem(device: &Path) {
    run("mkfs.ext4", &["-q", "-F", device.to_str().unwrap()]).unwrap();
}

pub(super) fn mount(device: &Path, point: &Path, options: &str) -> Undo {
    fs::create_dir_all(point).unwrap();
    let point = point.to_str().unwrap();
    run("mount", &["-o", options, device.to_str().unwrap(), point]).unwrap();
    Undo::by(&["umount", point])
}

pub(super) fn open(path: &Path, write: bool) -> File {
    open_disk_file(path, OpenMode { write, direct: false, exclusive: false }).unwrap()
}

pub(super) fn storage(path: &Path) -> Storage {
    Storage::of(path, &open(path, false)).unwrap()
}

pub(super) fn check(path: &Path) -> Result<(), Refusal> {
    let file = open(path, true);
    check_target(path, &file, &Storage::of(path, &file).unwrap())
}

pub(super) fn liveness(path: &Path) -> Liveness {
    check_source(path, &open(path, false), &storage(path)).unwrap()
}
