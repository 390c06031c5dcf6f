//! The accept loop of every end that serves: a bounded number of connections,
//! a thread and a ring for each, until it is asked to stop.
//!
//! ```text
//! listener ── accept ──> room for one more? ── thread ── ring ──> Serves::serve
//! ```

use std::fmt::Display;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Error, tls};
use crate::limits;
use crate::pipeline::Cancel;
use crate::ring;

/// How long a server that could not take a connection waits before the next.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What serves the connections that are accepted.
pub trait Serves: Send + Sync + 'static {
    /// How serving one fails.
    type Error: Display + From<Error> + From<ring::Unavailable>;

    /// Files that one connection may have open: its socket, its ring with the
    /// runtime around it, and all that is opened for it.
    const FILES_PER_CONNECTION: u64;

    /// Serves one connection on this thread's ring, until it ends.
    fn serve(&self, stream: tokio::net::TcpStream) -> impl Future<Output = Result<(), Self::Error>>;

    /// Hears of a connection that was not taken, or ended with an error.
    fn failed(&self, from: &str, reason: &str);
}

/// Serves whoever connects to `listener` until `cancel` is set. Connections that
/// are there go on then; to end them is the business of `server`.
///
/// # Errors
/// Those of the listening socket.
pub fn listen<S: Serves>(listener: &TcpListener, server: &Arc<S>, cancel: &Cancel) -> io::Result<()> {
    let held = Arc::new(AtomicUsize::new(0));
    listener.set_nonblocking(true)?;
    while !cancel.is_cancelled() {
        let (stream, from) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_for_connection(listener)?;
                continue;
            }
            // A client that left before it was accepted is its own business.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            // Too many open files, or no memory: what goes on must not pay for
            // it, and gives some back when it ends.
            Err(error) => {
                server.failed("the listening socket", &format!("cannot take a connection now: {error}"));
                std::thread::sleep(ACCEPT_AGAIN_AFTER);
                continue;
            }
        };
        // Anew each time: the limit may be lowered while it runs.
        let most = connections_max(S::FILES_PER_CONNECTION);
        let Some(place) = Place::take(&held, most) else {
            server.failed(&from.to_string(), "more connections than a server holds; turned away");
            continue;
        };
        let serving = Arc::clone(server);
        let serve = move || {
            let _place = place;
            if let Err(error) = serve_one(&*serving, stream) {
                serving.failed(&from.to_string(), &error.to_string());
            }
        };
        if let Err(error) = std::thread::Builder::new().name("connection".to_owned()).spawn(serve) {
            server.failed(&from.to_string(), &format!("no thread for its connection: {error}"));
        }
    }
    Ok(())
}

fn serve_one<S: Serves>(server: &S, stream: std::net::TcpStream) -> Result<(), S::Error> {
    ring::run(async {
        let broken = |source| Error::from(tls::Error::Broken { peer: "a new client".to_owned(), source });
        stream.set_nonblocking(true).map_err(broken)?;
        server.serve(tokio::net::TcpStream::from_std(stream).map_err(broken)?).await
    })?
}

/// A place among the connections, given back however its thread ends.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(held: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let place = Self(Arc::clone(held));
        (held.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits a moment for a client, so that a request to stop is soon seen.
fn wait_for_connection(listener: &TcpListener) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::from(200_u16)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Connections that this process has files for. A ring that cannot be made for
/// want of one leaves files of its runtime behind (tokio-uring 0.5), so it must
/// not come to that.
fn connections_max(files_per_connection: u64) -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    usize::try_from(files / files_per_connection).unwrap_or(usize::MAX).clamp(1, limits::CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back() {
        let held = Arc::new(AtomicUsize::new(0));
        let first = Place::take(&held, 1);
        assert!(first.is_some() && Place::take(&held, 1).is_none());
        drop(first);
        assert!(Place::take(&held, 1).is_some());
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }
}
