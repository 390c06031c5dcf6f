//! The disks of a measurement: named by the user, or temporary ones that go
//! however it ends.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use failback_datapath::disk::attach::{self, Options};
use failback_datapath::disk::{self, Disk, Purpose, image};
use failback_datapath::limits;
use failback_datapath::pipeline::Cancel;
use failback_datapath::telemetry::Notice;
use failback_datapath::unit::to_usize;
use indicatif::BinaryBytes;
use nix::sys::statvfs::statvfs;
use serde_json::json;
use tempfile::TempDir;

use super::Error;
use super::arguments::{Bench, StageName};
use super::sample::Generator;
use crate::output::Output;

/// How long a target may stay claimed by a server whose run has ended.
const RELEASE_WAIT: Duration = Duration::from_secs(5);

/// Between looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The two disks, as far as the stages need them. Fields go in this order:
/// devices before the files behind them.
pub struct Disks {
    source: Option<PathBuf>,
    target: Option<PathBuf>,
    /// Bytes that every stage walks.
    size_bytes: u64,
    _devices: Vec<Device>,
    directory: TempDir,
}

impl Disks {
    /// Finds or makes the disks that `stages` need, and tells which they are.
    /// Nothing of a named disk is changed here.
    pub fn prepare(
        arguments: &Bench,
        stages: &[StageName],
        generator: &Generator,
        cancel: &Cancel,
        output: &Output,
    ) -> Result<Self, Error> {
        let source = arguments.source.as_deref().filter(|_| stages.iter().any(|stage| stage.reads()));
        let target = arguments.target.as_deref().filter(|_| stages.iter().any(|stage| stage.writes()));
        let size_bytes = check_named(source, target, arguments.size, output)?;
        let directory = temporary_directory(arguments)?;
        let mut disks = Self {
            source: source.map(Path::to_owned),
            target: target.map(Path::to_owned),
            size_bytes,
            _devices: Vec::new(),
            directory,
        };
        let makes_source = source.is_none() && stages.iter().any(|stage| stage.reads());
        let makes_target = target.is_none() && stages.iter().any(|stage| stage.writes());
        check_space(disks.directory(), size_bytes * (u64::from(makes_source) + u64::from(makes_target)))?;
        if makes_source {
            let path = disks.directory().join("source.img");
            write_image(&path, size_bytes, generator, cancel)?;
            disks.source = Some(disks.as_device(path, true, output)?);
        }
        if makes_target {
            let path = disks.directory().join("target.img");
            image::create_raw(&path, size_bytes)?;
            disks.target = Some(disks.as_device(path, false, output)?);
        }
        disks.check_pair()?;
        disks.tell("source", disks.source.as_deref(), makes_source, output)?;
        disks.tell("target", disks.target.as_deref(), makes_target, output)?;
        Ok(disks)
    }

    /// Bytes that every stage walks.
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// A folder that goes with the temporary disks.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The source.
    pub fn source_path(&self) -> &Path {
        self.source.as_deref().unwrap_or_else(|| Path::new(""))
    }

    /// The target.
    pub fn target_path(&self) -> &Path {
        self.target.as_deref().unwrap_or_else(|| Path::new(""))
    }

    /// Opens the source; it ends where the stages end.
    pub fn open_source(&self) -> Result<Disk, Error> {
        // Somebody may be writing it: what is measured is time.
        let source = disk::open(self.source_path(), Purpose::Source { live: true })?;
        Ok(source.shortened(self.size_bytes))
    }

    /// Opens the target, with all that keeps a disk in use from harm.
    pub fn open_target(&self) -> Result<Disk, Error> {
        Ok(disk::open(self.target_path(), Purpose::Target)?)
    }

    /// Waits until a server has let go of the target.
    pub fn wait_for_target(&self) -> Result<(), Error> {
        let deadline = Instant::now() + RELEASE_WAIT;
        while let Err(error) = self.open_target() {
            if Instant::now() >= deadline {
                return Err(error);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// A loop device over `image` where that can be had, else the file itself.
    fn as_device(&mut self, image: PathBuf, read_only: bool, output: &Output) -> Result<PathBuf, Error> {
        if !nix::unistd::geteuid().is_root() {
            tell_plain_file(&image, "only root attaches loop devices", output);
            return Ok(image);
        }
        match attach::attach(&image, Options { read_only, ..Options::default() }) {
            Ok(attached) => {
                self._devices.push(Device(attached.device.clone()));
                if !attached.direct_io {
                    let text = format!(
                        "{}: no direct I/O in {}: this measures the page cache too; name another --directory",
                        attached.device.display(),
                        self.directory().display()
                    );
                    output.notice(&Notice::new("buffered", text));
                }
                Ok(attached.device)
            }
            Err(error @ attach::AttachError::Control { .. }) => {
                tell_plain_file(&image, &error.to_string(), output);
                Ok(image)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A target that holds the source in any way is refused before it is written.
    fn check_pair(&self) -> Result<(), Error> {
        let (Some(source), Some(target)) = (&self.source, &self.target) else { return Ok(()) };
        let open = |path| disk::open(path, Purpose::Inspection);
        match open(source)?.storage().overlap(open(target)?.storage()) {
            None => Ok(()),
            Some(overlap) => Err(Error::SameStorage {
                source_path: source.clone(),
                target: target.clone(),
                overlap: overlap.to_string(),
            }),
        }
    }

    fn tell(
        &self,
        role: &str,
        path: Option<&Path>,
        is_temporary: bool,
        output: &Output,
    ) -> Result<(), Error> {
        let Some(path) = path else { return Ok(()) };
        let disk = disk::open(path, Purpose::Inspection)?;
        let direct = if disk.is_direct() { "direct I/O" } else { "through the page cache" };
        let temporary = if is_temporary { "temporary, " } else { "" };
        let size = BinaryBytes(self.size_bytes);
        output.line(
            &format!("{role}: {} ({temporary}{}, {size}, {direct})", path.display(), disk.kind()),
            || {
                json!({
                    "event": "disk", "role": role, "path": path.display().to_string(), "kind": disk.kind(),
                    "size_bytes": self.size_bytes, "temporary": is_temporary, "direct_io": disk.is_direct(),
                })
            },
        );
        Ok(())
    }
}

/// Checks the disks that the user named; the bytes to walk that all of them have.
fn check_named(
    source: Option<&Path>,
    target: Option<&Path>,
    wanted_bytes: u64,
    output: &Output,
) -> Result<u64, Error> {
    let purposes = [(source, Purpose::Source { live: true }), (target, Purpose::Rehearsal)];
    let mut size_bytes = wanted_bytes;
    for (path, purpose) in purposes {
        let Some(path) = path else { continue };
        let disk = disk::open(path, purpose)?;
        disk.notices().iter().for_each(|notice| output.notice(notice));
        if disk.is_live() {
            let text =
                format!("{}: others may be using it meanwhile, which costs both of you time", path.display());
            output.notice(&Notice::new("live-source", text));
        }
        let whole_windows =
            disk.size_bytes() / u64::from(limits::WINDOW_BYTES) * u64::from(limits::WINDOW_BYTES);
        if whole_windows == 0 {
            return Err(Error::TooSmall { path: path.to_owned(), size_bytes: disk.size_bytes() });
        }
        size_bytes = size_bytes.min(whole_windows);
    }
    Ok(size_bytes)
}

fn temporary_directory(arguments: &Bench) -> Result<TempDir, Error> {
    let path = arguments.directory.clone().unwrap_or_else(std::env::temp_dir);
    let failed = |source| Error::Directory { path: path.clone(), source };
    // The kernel names backing files without symbolic links.
    let path = path.canonicalize().map_err(failed)?;
    tempfile::Builder::new().prefix("failback-bench-").tempdir_in(path).map_err(failed)
}

fn check_space(directory: &Path, needed_bytes: u64) -> Result<(), Error> {
    let failed = |errno: nix::Error| Error::Directory { path: directory.to_owned(), source: errno.into() };
    let space = statvfs(directory).map_err(failed)?;
    let free_bytes = space.blocks_available().saturating_mul(space.fragment_size());
    if needed_bytes < free_bytes {
        return Ok(());
    }
    let path = directory.parent().unwrap_or(directory).to_owned();
    Err(Error::NoSpace { path, needed_bytes, free_bytes })
}

/// Writes the data that is measured with, without a hole, to a new file.
fn write_image(path: &Path, size_bytes: u64, generator: &Generator, cancel: &Cancel) -> Result<(), Error> {
    let failed = |source| Error::Directory { path: path.to_owned(), source };
    let mut file: File = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    let mut window = vec![0; to_usize(u64::from(limits::WINDOW_BYTES))];
    for index in 0..size_bytes / u64::from(limits::WINDOW_BYTES) {
        cancel.check()?;
        generator.fill(index, &mut window);
        file.write_all(&window).map_err(failed)?;
    }
    file.sync_all().map_err(failed)
}

fn tell_plain_file(image: &Path, reason: &str, output: &Output) {
    let text = format!("{}: measured as a plain file, not as a loop device: {reason}", image.display());
    output.notice(&Notice::new("plain-file", text));
}

/// A loop device of ours, detached when dropped.
struct Device(PathBuf);

impl Drop for Device {
    fn drop(&mut self) {
        if let Err(error) = attach::detach(&self.0) {
            eprintln!("failback: {error}; detach it with `failback image detach {}`", self.0.display());
        }
    }
}
