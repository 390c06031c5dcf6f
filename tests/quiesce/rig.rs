//! Filesystems on loop devices, a writer that tells whether it waits, and a
//! watchdog from the binary under test.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use failback_datapath::disk::storage::DeviceNumber;
use failback_datapath::quiesce::{FreezePlan, SUBCOMMAND, Watchdog};

use crate::fixture::{LoopDevice, Mount, Need, Scratch, binary, need, program, run};

pub const MEBIBYTE: u64 = 1 << 20;

pub fn able() -> Option<()> {
    let programs = ["mkfs.ext4", "mkfs.xfs", "fsfreeze", "unshare"].map(Need::Program);
    need(&[&[Need::LoopDevices][..], &programs].concat())
}

/// A mounted filesystem of its own on a loop device.
pub struct Filesystem {
    // In this order they are undone.
    _mount: Mount,
    pub device: LoopDevice,
    pub image: PathBuf,
    pub point: PathBuf,
}

impl Filesystem {
    pub fn new(scratch: &Scratch, name: &str, kind: &str) -> Self {
        let image = scratch.image(&format!("{name}.img"), 600 * MEBIBYTE);
        Self::on(scratch, name, kind, image)
    }

    /// One whose image lies on another filesystem.
    pub fn within(scratch: &Scratch, outer: &Self, name: &str, kind: &str) -> Self {
        let image = outer.point.join(format!("{name}.img"));
        File::create_new(&image).and_then(|file| file.set_len(320 * MEBIBYTE)).unwrap();
        Self::on(scratch, name, kind, image)
    }

    fn on(scratch: &Scratch, name: &str, kind: &str, image: PathBuf) -> Self {
        let device = LoopDevice::attach(&image, 512);
        make(kind, device.path());
        let point = scratch.folder(name);
        let mount = Mount::new(device.path(), &point, "");
        Self { _mount: mount, device, image, point }
    }

    pub fn number(&self) -> DeviceNumber {
        number(self.device.path())
    }

    /// Whether it is frozen: then it cannot be once more.
    pub fn is_frozen(&self) -> bool {
        is_frozen(&self.point)
    }
}

pub fn make(kind: &str, device: &Path) {
    let force = if kind == "ext4" { "-F" } else { "-f" };
    run(program(&format!("mkfs.{kind}")).args(["-q", force]).arg(device));
}

pub fn number(device: &Path) -> DeviceNumber {
    DeviceNumber::from_raw(fs::metadata(device).unwrap().rdev())
}

pub fn freeze_by_hand(point: &Path) -> bool {
    program("fsfreeze").arg("--freeze").arg(point).output().unwrap().status.success()
}

pub fn thaw_by_hand(point: &Path) -> bool {
    program("fsfreeze").arg("--unfreeze").arg(point).output().unwrap().status.success()
}

pub fn is_frozen(point: &Path) -> bool {
    let is_free = freeze_by_hand(point);
    if is_free {
        assert!(thaw_by_hand(point));
    }
    !is_free
}

pub fn plan(filesystems: &[&Filesystem]) -> FreezePlan {
    let disks: Vec<_> = filesystems.iter().map(|filesystem| filesystem.number()).collect();
    FreezePlan::of(&disks).unwrap()
}

/// What runs as a watchdog. Never without `--rehearse`.
pub fn watchdog_command() -> Command {
    let mut command = Command::new(binary());
    command.args([SUBCOMMAND, "--rehearse"]);
    command
}

pub fn watchdog(scratch: &Scratch) -> Watchdog {
    Watchdog::start_as(watchdog_command(), &scratch.folder("state")).unwrap()
}

/// A thread that writes and flushes small files over and over.
pub struct Writer {
    written: Arc<AtomicU64>,
    thread_number: Arc<AtomicI32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(folder: &Path) -> Self {
        let path = folder.join("written");
        let (written, thread_number) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicI32::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, own, ends) = (written.clone(), thread_number.clone(), stop.clone());
        let thread = thread::spawn(move || {
            own.store(nix::unistd::gettid().as_raw(), Ordering::SeqCst);
            while !ends.load(Ordering::SeqCst) {
                let number = count.load(Ordering::SeqCst);
                let mut file = File::create(&path).unwrap();
                file.write_all(&number.to_le_bytes()).and_then(|()| file.sync_all()).unwrap();
                count.store(number + 1, Ordering::SeqCst);
            }
        });
        let writer = Self { written, thread_number, stop, thread: Some(thread) };
        writer.goes_on();
        writer
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::SeqCst)
    }

    /// Waits until more is written than now.
    pub fn goes_on(&self) {
        let before = self.written();
        while self.written() < before + 2 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the thread waits in the kernel and nothing is written any more.
    pub fn waits(&self) {
        let path = format!("/proc/self/task/{}/stat", self.thread_number.load(Ordering::SeqCst));
        let mut quiet = 0;
        let mut before = self.written();
        while quiet < 20 {
            thread::sleep(Duration::from_millis(2));
            let stat = fs::read_to_string(&path).unwrap();
            let is_waiting = stat.rsplit_once(") ").unwrap().1.starts_with('D');
            let written = self.written();
            quiet = if is_waiting && written == before { quiet + 1 } else { 0 };
            before = written;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking(), "the writer could not write");
    }
}
