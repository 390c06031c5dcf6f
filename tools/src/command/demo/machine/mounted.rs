//! A machine with a loop device as its disk, and its filesystem mounted.

use std::path::{Path, PathBuf};

use failback_datapath::disk::image;
use indicatif::BinaryBytes;

use super::{MKFS, Machine, bytes_of_files, check_filesystem};
use crate::command::demo::attachment::{Device, Mount};
use crate::command::demo::error::Error;
use crate::command::demo::stage::{DESCRIPTOR, Done, SOURCE, Stage};
use crate::command::demo::tree::{self, Plan};
use crate::command::demo::{change, compare, live, program};

/// The disk of the second act.
const LIVE_SOURCE: &str = "live-source.img";

/// Its size at most: more shows nothing that this does not show.
const LIVE_BYTES_MAX: u64 = 256 << 20;

/// See the module.
pub struct Mounted {
    device: Device,
    /// Where the machine mounts its disk.
    point: PathBuf,
    plans: Vec<Plan>,
}

impl Mounted {
    /// Makes the disk and its filesystem, and finds out whether it can be mounted.
    ///
    /// # Errors
    /// Whatever is not possible on this host; the image may be there then.
    pub fn make(stage: &Stage<'_>) -> Result<Self, Error> {
        stage.step("make disk", || {
            let device = disk_with_filesystem(&stage.path(SOURCE), stage.size_bytes, stage)?;
            let point = stage.path("cloud-disk");
            Mount::new(device.path(), &point, false)?.unmount()?;
            let what = format!("ext4 on {}, {}", device.path().display(), BinaryBytes(stage.size_bytes));
            let plans = tree::plan(bytes_of_files(stage.size_bytes));
            Ok((Self { device, point, plans }, Done::saying(what)))
        })
    }

    fn mount(&self, read_only: bool) -> Result<Mount, Error> {
        Mount::new(self.device.path(), &self.point, read_only)
    }
}

impl Machine for Mounted {
    fn disk(&self) -> &Path {
        self.device.path()
    }

    fn fill(&mut self, stage: &Stage<'_>) -> Result<(), Error> {
        stage.step("write files", || {
            let mount = self.mount(false)?;
            tree::write(mount.point(), &self.plans, &stage.cancel)?;
            mount.unmount()?;
            let bytes = tree::bytes_of(&self.plans);
            let what = format!("{} files, then unmounted", self.plans.len());
            Ok(((), Done { what, bytes_moved: bytes, bytes_covered: bytes, counts: None }))
        })
    }

    fn change(&mut self, stage: &Stage<'_>) -> Result<(), Error> {
        stage.step("change files", || {
            let mount = self.mount(false)?;
            let changes = change::apply(mount.point(), &self.plans)?;
            mount.unmount()?;
            Ok(((), Done { what: changes.to_string(), bytes_moved: changes.bytes, ..Done::default() }))
        })
    }

    fn inspect(&self, stage: &Stage<'_>) -> Result<(), Error> {
        let image = stage.path(DESCRIPTOR);
        let copy = stage.step("attach copy", || {
            let copy = Device::attach(&image, true)?;
            let what = format!("{DESCRIPTOR} as {}, read-only", copy.path().display());
            Ok((copy, Done::saying(what)))
        })?;
        check_filesystem(stage, copy.path())?;
        stage.step("compare files", || {
            let source = self.mount(true)?;
            let target = Mount::new(copy.path(), &stage.path("home-disk"), true)?;
            let compared = compare::trees(source.point(), target.point(), &stage.cancel)?;
            target.unmount()?;
            source.unmount()?;
            let what = format!("both mounted read-only: {} files and folders are equal", compared.entries);
            Ok(((), Done { what, bytes_covered: compared.bytes, ..Done::default() }))
        })?;
        copy.detach()
    }

    fn protect(&self, stage: &Stage<'_>) -> Result<(), Error> {
        // A disk of its own: the two images that may be kept stay equal.
        let size_bytes = stage.size_bytes.min(LIVE_BYTES_MAX);
        let device = disk_with_filesystem(&stage.path(LIVE_SOURCE), size_bytes, stage)?;
        live::play(device.path(), &tree::plan(bytes_of_files(size_bytes)), size_bytes, stage)?;
        device.detach()
    }

    fn put_away(self: Box<Self>) -> Result<(), Error> {
        self.device.detach()
    }
}

/// A new disk with an empty ext4 filesystem, attached.
fn disk_with_filesystem(image: &Path, size_bytes: u64, stage: &Stage<'_>) -> Result<Device, Error> {
    program::find(MKFS)?;
    image::create_raw(image, size_bytes)?;
    let device = Device::attach(image, false)?;
    program::run(MKFS, stage.folder(), &stage.cancel, |command| {
        // Nothing is left to the kernel's threads to write later.
        let lazy = "lazy_itable_init=0,lazy_journal_init=0";
        command.args(["-q", "-F", "-m", "0", "-L", "demo", "-E", lazy]).arg(device.path())
    })?;
    Ok(device)
}
