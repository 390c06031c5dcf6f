//! Where a demo plays: its one folder, its limits, and what it has done so far.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use failback_datapath::pipeline::Cancel;
use failback_datapath::telemetry::Counts;
use tempfile::TempDir;

use super::error::Error;
use super::record::{LeftOut, Record, Step};
use crate::output::Output;

/// The source disk's image.
pub const SOURCE: &str = "source.img";
/// The descriptor of the image that the disk is copied to.
pub const DESCRIPTOR: &str = "home.vmdk";
/// The bytes of that image.
pub const FLAT: &str = "home-flat.vmdk";

/// What the second act takes: a disk and its target of 256 MiB at most, and a journal.
const LIVE_NEEDS: u64 = 1 << 30;

/// How long a folder that will not go is tried again.
const REMOVE_WAIT: Duration = Duration::from_secs(3);

/// What a step did.
#[derive(Default)]
pub struct Done {
    /// For people.
    pub what: String,
    /// Bytes written, or sent over the network.
    pub bytes_moved: u64,
    /// Bytes dealt with, by which the rate is reckoned; zero where there is none.
    pub bytes_covered: u64,
    /// Of a synchronization.
    pub counts: Option<Counts>,
}

impl Done {
    /// Something that moves no bytes.
    pub fn saying(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }
}

/// Where a demo plays.
pub struct Stage<'a> {
    folder: TempDir,
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// Set when somebody asks to stop.
    pub cancel: Cancel,
    /// Where everything is told.
    pub output: &'a Output,
    record: RefCell<Record>,
}

impl<'a> Stage<'a> {
    /// A new folder below `parent`, with room for what a disk of `size_bytes`
    /// takes.
    ///
    /// # Errors
    /// [`Error::Space`], [`Error::System`].
    pub fn new(parent: &Path, size_bytes: u64, cancel: Cancel, output: &'a Output) -> Result<Self, Error> {
        // The kernel names mounts and backing files without symbolic links.
        let parent = parent.canonicalize().map_err(Error::at("find", parent))?;
        let space = nix::sys::statvfs::statvfs(&parent)
            .map_err(|errno| Error::at("look at", &parent)(errno.into()))?;
        let free = space.blocks_available().saturating_mul(space.fragment_size());
        // The images are sparse and less than half full; without root each file
        // lies there twice more.
        let needed = size_bytes.saturating_mul(2).saturating_add(LIVE_NEEDS);
        if free < needed {
            return Err(Error::Space { folder: parent, free, needed });
        }
        let folder = tempfile::Builder::new().prefix("failback-demo-").tempdir_in(&parent);
        let folder = folder.map_err(Error::at("make a folder in", &parent))?;
        Ok(Self { folder, size_bytes, cancel, output, record: RefCell::default() })
    }

    /// The folder that everything lies in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new folder in the folder.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn make_folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        fs::create_dir(&path).map_err(Error::at("make", &path))?;
        Ok(path)
    }

    /// Goes on, unless somebody asked to stop.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<(), Error> {
        self.cancel.check().map_err(|_| Error::Interrupted)
    }

    /// Does one step, times it, tells and records it.
    ///
    /// # Errors
    /// [`Error::Interrupted`], and those of the step.
    pub fn step<T>(
        &self,
        name: &'static str,
        act: impl FnOnce() -> Result<(T, Done), Error>,
    ) -> Result<T, Error> {
        self.check()?;
        let start = Instant::now();
        let (value, done) = act()?;
        let step = Step::new(name, done, start.elapsed());
        self.output.line(&step.line(), || step.event());
        self.record.borrow_mut().steps.push(step);
        Ok(value)
    }

    /// Tells and records what this run cannot show.
    pub fn leave_out(&self, what: &'static str, why: impl Into<String>) {
        let left_out = LeftOut { what, why: why.into() };
        self.output.line(&left_out.line(), || left_out.event());
        self.record.borrow_mut().left_out.push(left_out);
    }

    /// The last step: moves the images to `keep`, and takes the folder away. It
    /// is recorded, but not told: after a failure it is not all there is to tell.
    ///
    /// # Errors
    /// [`Error::System`] where the folder, or part of it, stays, and
    /// [`Error::Exists`].
    pub fn clear(self, keep: Option<&Path>) -> Result<Record, Error> {
        let start = Instant::now();
        let kept = keep.map_or(Ok(()), |keep| keep_images(self.folder.path(), keep));
        let path = self.folder.keep();
        loop {
            match fs::remove_dir_all(&path) {
                Ok(()) => break,
                // Whoever still had a file open there is about to end.
                Err(_) if start.elapsed() < REMOVE_WAIT => std::thread::sleep(Duration::from_millis(100)),
                Err(source) => return Err(Error::at("remove", &path)(source)),
            }
        }
        kept?;
        let left =
            keep.map_or_else(|| "nothing".to_owned(), |keep| format!("the images in {}", keep.display()));
        let step = Step::new("clean up", Done::saying(format!("left behind: {left}")), start.elapsed());
        let mut record = self.record.into_inner();
        record.steps.push(step);
        Ok(record)
    }
}

/// Makes sure that `keep` is a folder where the images have room for their names.
///
/// # Errors
/// [`Error::Exists`], [`Error::System`].
pub fn prepare_keep(keep: &Path) -> Result<(), Error> {
    fs::create_dir_all(keep).map_err(Error::at("make", keep))?;
    for name in [SOURCE, DESCRIPTOR, FLAT] {
        refuse_existing(&keep.join(name))?;
    }
    Ok(())
}

fn refuse_existing(path: &Path) -> Result<(), Error> {
    let is_free = path.symlink_metadata().is_err();
    if is_free { Ok(()) } else { Err(Error::Exists { path: path.to_owned() }) }
}

/// The folder lies in `keep`, so nothing is copied. The descriptor comes last:
/// where it is, its extent is.
fn keep_images(folder: &Path, keep: &Path) -> Result<(), Error> {
    for name in [SOURCE, FLAT, DESCRIPTOR] {
        let (from, to) = (folder.join(name), keep.join(name));
        if from.exists() {
            refuse_existing(&to)?;
            fs::rename(&from, &to).map_err(Error::at("move an image to", &to))?;
        }
    }
    Ok(())
}
