//! What can go wrong around a measurement, where, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the harness. A contestant's own failure is [`Error::Failed`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A system call on a file, device or directory failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot start {program}: {source}; install it, or leave its row out with --only")]
    Start {
        /// Its name or path.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program ended with something other than success.
    #[error("`{command}` ended with {status}: {message}")]
    Failed {
        /// Its command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it wrote to stderr.
        message: String,
    },
    /// The target does not hold the source's bytes after a run.
    #[error("the target differs from the source after {contestant}: {message}")]
    Different {
        /// Who wrote it.
        contestant: String,
        /// What the independent reader said.
        message: String,
    },
    /// A run did not end in its time.
    #[error("{contestant} did not end within {seconds} s; raise --timeout-seconds if the machine is slow")]
    Timeout {
        /// Who ran.
        contestant: String,
        /// The limit.
        seconds: u64,
    },
    /// A program's answer could not be understood.
    #[error("cannot understand {what} from {origin}")]
    Answer {
        /// What was looked for.
        what: &'static str,
        /// Where it was looked for.
        origin: String,
    },
    /// A JSON text could not be read or written.
    #[error("JSON of {what}: {source}")]
    Json {
        /// Whose.
        what: &'static str,
        /// The parser's answer.
        source: serde_json::Error,
    },
    /// Loop devices need root.
    #[error("loop devices need root: run it as root (sudo)")]
    NotRoot,
    /// The file system refused direct I/O for a loop device.
    #[error("{device}: its backing file {} does no direct I/O; choose another place with --directory", backing.display())]
    NotDirect {
        /// The loop device.
        device: String,
        /// Its file.
        backing: PathBuf,
    },
    /// Not enough room for the disks.
    #[error("{} has {free_mib} MiB free and {needed_mib} MiB are needed; use a smaller --size or another --directory", directory.display())]
    NoRoom {
        /// Where the disks would lie.
        directory: PathBuf,
        /// What is free, in MiB.
        free_mib: u64,
        /// What is needed, in MiB.
        needed_mib: u64,
    },
    /// SIGINT, SIGTERM or SIGHUP arrived.
    #[error("interrupted; loop devices, servers and files are cleaned up")]
    Interrupted,
}

/// Shorthand for building [`Error::Io`] in `map_err`.
pub(crate) fn on_path(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Io { action, path, source }
}
