//! A folder for one run, in namespaces that only this process and its children
//! see: what they mount, and pin on a BPF filesystem, goes with the last of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::interrupt::Interrupt;
use super::process::Process;
use crate::error::Error;

/// What mounts beneath it are found by.
const MOUNTS: &str = "/proc/self/mountinfo";

/// How often something that is waited for is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// The folder, and what ends all waiting.
pub struct Scratch {
    folder: TempDir,
    interrupt: Interrupt,
}

impl Scratch {
    /// Makes a folder in `parent`. Once in a process, before it has threads.
    ///
    /// # Errors
    /// No room, no rights.
    pub fn make(parent: &Path) -> Result<Self, Error> {
        let interrupt = Interrupt::register()?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC)
            .and_then(|()| {
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            })
            .map_err(|errno| Error::at("leave the namespaces of", "/proc/self/ns")(errno.into()))?;
        let made = tempfile::Builder::new().prefix("failback-protection-").tempdir_in(parent);
        let folder = made.map_err(Error::at("make a folder in", parent))?;
        Ok(Self { folder, interrupt })
    }

    /// Something of that name in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder of that name, made where it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        std::fs::create_dir_all(&path).map_err(Error::at("make", &path))?;
        Ok(path)
    }

    /// Writes a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        std::fs::write(&path, text).map_err(Error::at("write", &path))?;
        Ok(path)
    }

    /// Runs a command to its end; what it printed.
    ///
    /// # Errors
    /// It fails, or the user has enough: it is ended then.
    pub fn run(&self, command: &mut Command) -> Result<String, Error> {
        Process::start(command)?.finish(self)
    }

    /// Whether nobody interrupts.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<(), Error> {
        self.interrupt.check()
    }

    /// Waits.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn rest(&self, duration: Duration) -> Result<(), Error> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.check()?;
            std::thread::sleep(GLANCE.min(until.saturating_duration_since(Instant::now())));
        }
        self.check()
    }

    /// Looks until there is something; `look` gives that, or what it saw instead.
    ///
    /// # Errors
    /// [`Error::Late`], those of `look`, or [`Error::Interrupted`].
    pub fn wait<T>(
        &self,
        what: &'static str,
        within: Duration,
        mut look: impl FnMut() -> Result<Result<T, String>, Error>,
    ) -> Result<T, Error> {
        let until = Instant::now() + within;
        loop {
            match look()? {
                Ok(found) => return Ok(found),
                Err(said) if Instant::now() >= until => return Err(Error::Late { what, said }),
                Err(_) => self.rest(GLANCE)?,
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What children have mounted beneath it, deepest first; the folder goes then.
        let mounts = std::fs::read_to_string(MOUNTS).unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
        let mut points: Vec<&Path> = points.filter(|point| point.starts_with(self.folder.path())).collect();
        points.sort_unstable_by(|one, other| other.cmp(one));
        for point in points {
            // What is left of it goes with the namespace.
            let _ = umount2(point, MntFlags::MNT_DETACH);
        }
    }
}
