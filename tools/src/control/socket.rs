//! The socket itself: one server at a path, and no stranger at its door.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, UnixAddr, getsockopt, sockopt::PeerCredentials,
};
use nix::unistd::geteuid;

use super::{Failed, LOOKS_EVERY};
use crate::exit::Exit;

/// Whoever makes a socket beside ours holds the folder for milliseconds.
const FOLDER_WITHIN: Duration = Duration::from_secs(5);

/// A socket that is served here. Its file goes with it.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file.
    file: (u64, u64),
}

impl Socket {
    /// Serves the socket at `path`: in place of one that nobody serves any more,
    /// never of one that is served or of another file.
    pub fn bind(path: &Path) -> Result<Self, Failed> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            (Exit::Refused, format!("{}: {what}: {error}", path.display()))
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| failed("its folder cannot be made", &error))?;
        // Else a second server could take the first one's new socket for a stale one.
        let _alone = alone_in(folder).map_err(|error| failed("its folder cannot be locked", &error))?;
        remove_stale(path)?;
        let bound = || -> io::Result<Self> {
            let listener = UnixListener::bind(path)?;
            let file = identity(&fs::symlink_metadata(path)?);
            let socket = Self { listener, path: path.to_owned(), file };
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            socket.listener.set_nonblocking(true)?;
            Ok(socket)
        };
        bound().map_err(|error| failed("the socket cannot be made", &error))
    }

    /// The next client; `None` where none came for a while, or a stranger.
    pub fn next(&self) -> io::Result<Option<UnixStream>> {
        let mut watched = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        let within = PollTimeout::try_from(LOOKS_EVERY).unwrap_or(PollTimeout::ZERO);
        match poll(&mut watched, within) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match self.listener.accept() {
            Ok((stream, _)) => Ok(is_known(&stream)?.then_some(stream)),
            // It left before it was accepted.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // As long as the listener lives, nobody takes the file for a stale one.
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|now| identity(&now) == self.file);
        if is_ours {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

/// Connects without waiting for whoever serves the socket.
///
/// # Errors
/// `NotFound`, `ConnectionRefused` for a stale socket, `WouldBlock` where too
/// many wait already.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let descriptor = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(descriptor.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(descriptor);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The mode of the file keeps others out; this does so even in the moment
/// before it is set, and behind links and mounts.
fn is_known(stream: &UnixStream) -> io::Result<bool> {
    let user = getsockopt(stream, PeerCredentials)?.uid();
    Ok(user == 0 || user == geteuid().as_raw())
}

/// Takes a socket away that nobody serves.
fn remove_stale(path: &Path) -> Result<(), Failed> {
    let refused = |what: String| (Exit::Refused, format!("{}: {what}", path.display()));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error.to_string())),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(refused("there is a file that is no socket; name another path".to_owned()));
        }
        Ok(_) => {}
    }
    match connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(refused(error.to_string())),
        Ok(_) | Err(_) => return Err(refused("already running: another process serves it".to_owned())),
    }
    fs::remove_file(path).map_err(|error| refused(format!("cannot be replaced: {error}")))
}

/// Waits until nobody else makes a socket in this folder.
fn alone_in(folder: &Path) -> io::Result<Flock<File>> {
    let deadline = Instant::now() + FOLDER_WITHIN;
    let mut opened = File::open(folder)?;
    loop {
        match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => opened = back,
            Err((_, error)) => return Err(error.into()),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
