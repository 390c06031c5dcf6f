//! A master target at its listening socket.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use super::{MasterTarget, Targets};
use crate::limits;
use crate::role::Error;
use crate::wire;
use crate::wire::tls::ServerSettings;

type Failures = dyn Fn(&str, &str) + Send + Sync;

struct Door<T> {
    master: Arc<MasterTarget<T>>,
    settings: ServerSettings,
    failed: Box<Failures>,
}

/// Serves agents until the master target is asked to stop, then waits until its
/// sessions have left their targets in order. `failed` hears of connections that
/// ended with an error: from where, and why.
///
/// # Errors
/// Those of the listening socket.
pub fn serve<T: Targets + Send + Sync + 'static>(
    master: &Arc<MasterTarget<T>>,
    listener: &TcpListener,
    settings: &ServerSettings,
    failed: impl Fn(&str, &str) + Send + Sync + 'static,
) -> io::Result<()> {
    let (master, settings) = (Arc::clone(master), settings.clone());
    let door = Arc::new(Door { master, settings, failed: Box::new(failed) });
    let listened = wire::listen(listener, &door, &door.master.cancel);
    let deadline = Instant::now() + limits::SESSION_ENDS_WITHIN;
    for entry in door.master.pairs.all() {
        entry.wait_until_free(deadline.saturating_duration_since(Instant::now()));
    }
    listened
}

impl<T: Targets + Send + Sync + 'static> wire::Serves for Door<T> {
    type Error = Error;

    /// A socket, a ring with its runtime, a disk of a few pieces, and the files
    /// of a journal.
    const FILES_PER_CONNECTION: u64 = 32 + limits::JOURNAL_FILES_OPEN as u64;

    async fn serve(&self, stream: tokio::net::TcpStream) -> Result<(), Error> {
        self.master.serve_stream(stream, &self.settings).await
    }

    fn failed(&self, from: &str, reason: &str) {
        (self.failed)(from, reason);
    }
}
