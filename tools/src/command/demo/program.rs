//! Programs of the system, waited for whatever happens.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use failback_datapath::pipeline::Cancel;

use super::error::Error;

/// The package that has all programs that the demo uses, and what they are for.
const PACKAGE: &str = "e2fsprogs";

/// Between looks at a child that runs.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What an error shows of a program's output: its end.
const SHOWN_BYTES_MAX: usize = 600;

/// Output that is read; a program that says more has said enough.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Where a program lies: on `PATH`, or in the folders of administrators, which an
/// ordinary user's `PATH` may not have.
pub fn find(name: &'static str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut folders = std::env::split_paths(&path).chain(administrators);
    let found = folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()));
    found.ok_or(Error::Missing { program: name, package: PACKAGE })
}

/// Runs a program in `folder` to its end, without any input. It has a process
/// group of its own, so that a terminal's Ctrl-C reaches the demo alone, which
/// then ends it.
///
/// # Errors
/// [`Error::Missing`], [`Error::Interrupted`], and [`Error::Program`] where it
/// does not end with 0, with the end of what it said.
pub fn run(
    name: &'static str,
    folder: &Path,
    cancel: &Cancel,
    arguments: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<(), Error> {
    let path = find(name)?;
    let failed = |source| Error::System { action: "run", path: path.clone(), source };
    // A file, because a pipe that nobody reads meanwhile may fill up.
    let mut said = tempfile::tempfile_in(folder).map_err(failed)?;
    let (output, errors) = (said.try_clone().map_err(failed)?, said.try_clone().map_err(failed)?);
    let mut command = Command::new(&path);
    // The messages are for people, the end of them for whoever mends it.
    arguments(command.current_dir(folder).env("LC_ALL", "C.UTF-8"));
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    let status = Running(command.spawn().map_err(failed)?).wait(cancel).map_err(failed)?;
    match status {
        None => Err(Error::Interrupted),
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(Error::Program { program: name, status, said: end_of(&mut said) }),
    }
}

/// The end of what was said, on one line.
fn end_of(said: &mut File) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is not shown; the status is.
    let _ = said.rewind().and_then(|()| said.take(READ_BYTES_MAX).read_to_end(&mut bytes));
    let start = bytes.len().saturating_sub(SHOWN_BYTES_MAX);
    let text = String::from_utf8_lossy(&bytes[start..]).into_owned();
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A child; dropped, it is killed and waited for.
struct Running(Child);

impl Running {
    /// How it ended; `None` where somebody asked to stop.
    fn wait(mut self, cancel: &Cancel) -> io::Result<Option<ExitStatus>> {
        while !cancel.is_cancelled() {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(None)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, and been waited for: then neither does anything.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
