//! The side that answers.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};
use failback_datapath::pipeline::Cancel;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::line::{self, Answer};
use super::socket::Socket;
use super::{
    ANSWER_BYTES_MAX, ENDS_WITHIN, Failed, LOOKS_EVERY, REQUEST_BYTES_MAX, REQUEST_WITHIN, REQUESTS_MAX,
};
use crate::exit::Exit;

/// Makes the answer to a line.
type Respond = dyn Fn(&[u8], &Client<'_>) -> Answer + Send + Sync;

/// Whoever asks.
pub struct Client<'a>(&'a UnixStream);

impl Client<'_> {
    /// Whether it has ended, or waits no more: what takes long may be given up.
    pub fn is_gone(&self) -> bool {
        let mut watched = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        let _looked = poll(&mut watched, PollTimeout::ZERO);
        watched[0].any().unwrap_or(false)
    }
}

/// A server of a socket. Dropping it ends it and takes the socket away, once the
/// requests that are being answered are, or a few seconds passed.
pub struct Server {
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
    seats: Seats,
}

/// Serves the socket at `path` until `cancel` is set or the [`Server`] is
/// dropped: `answer` is called for each request, in a thread of its own.
///
/// # Errors
/// [`Exit::Refused`] where somebody serves it already, or it cannot be made.
pub fn serve<R: DeserializeOwned + 'static>(
    path: &Path,
    cancel: &Cancel,
    answer: impl Fn(R, &Client<'_>) -> Result<Value, Failed> + Send + Sync + 'static,
) -> Result<Server, Failed> {
    let socket = Socket::bind(path)?;
    let respond: Arc<Respond> = Arc::new(move |line: &[u8], client: &Client<'_>| {
        let request = serde_json::from_slice::<R>(line)
            .map_err(|error| (Exit::Refused, format!("the request is not understood: {error}")));
        Answer::from(request.and_then(|request| answer(request, client)))
    });
    let (stop, seats) = (Arc::new(AtomicBool::new(false)), Seats::new());
    let accepting = {
        let (stop, seats, cancel) = (Arc::clone(&stop), seats.clone(), cancel.clone());
        let accept = move || {
            accept(&socket, &seats, &respond, || stop.load(Ordering::Relaxed) || cancel.is_cancelled())
        };
        thread::Builder::new().name("control".to_owned()).spawn(accept)
    };
    let accepting =
        accepting.map_err(|error| (Exit::Failed, format!("no thread for the control socket: {error}")))?;
    Ok(Server { stop, accepting: Some(accepting), seats })
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(accepting) = self.accepting.take() {
            // It tells its panics itself.
            let _ended = accepting.join();
        }
        self.seats.wait_until_free();
    }
}

/// Takes requests until `is_over`.
fn accept(socket: &Socket, seats: &Seats, respond: &Arc<Respond>, is_over: impl Fn() -> bool) {
    while !is_over() {
        match socket.next() {
            Ok(Some(stream)) => admit(stream, seats, respond),
            Ok(None) => {}
            // Too many open files, or no memory: those at work give some back.
            Err(_) => thread::sleep(LOOKS_EVERY),
        }
    }
}

/// Answers a client in a thread of its own, if there is room for one more.
fn admit(stream: UnixStream, seats: &Seats, respond: &Arc<Respond>) {
    let Some(seat) = seats.take() else {
        let busy = (Exit::Failed, format!("{REQUESTS_MAX} requests are being answered already; try again"));
        reply(&stream, &Answer::from(Err(busy)));
        return;
    };
    let respond = Arc::clone(respond);
    let serve = move || {
        let _seat = seat;
        answer(&stream, &*respond);
    };
    // Without a thread the connection is closed, and the client says so.
    let _started = thread::Builder::new().name("request".to_owned()).spawn(serve);
}

fn answer(stream: &UnixStream, respond: &Respond) {
    let answer = match line::read(stream, REQUEST_BYTES_MAX, Instant::now() + REQUEST_WITHIN) {
        Ok(line) => respond(&line, &Client(stream)),
        Err(error) => Answer::from(Err((Exit::Refused, format!("no request came: {error}")))),
    };
    reply(stream, &answer);
}

/// A client that does not wait for its answer has gone.
fn reply(stream: &UnixStream, answer: &Answer) {
    let _gone = line::write(stream, answer, ANSWER_BYTES_MAX, Instant::now() + REQUEST_WITHIN);
}

/// Room for requests: a token for each that may be answered at once.
#[derive(Clone)]
struct Seats {
    back: Sender<()>,
    free: Receiver<()>,
}

/// The room of one request.
struct Seat(Sender<()>);

impl Seats {
    fn new() -> Self {
        let (back, free) = crossbeam_channel::bounded(REQUESTS_MAX);
        for _ in 0..REQUESTS_MAX {
            let _fits = back.try_send(());
        }
        Self { back, free }
    }

    fn take(&self) -> Option<Seat> {
        self.free.try_recv().ok().map(|()| Seat(self.back.clone()))
    }

    /// Waits until nobody is answered any more, but not for long.
    fn wait_until_free(&self) {
        let deadline = Instant::now() + ENDS_WITHIN;
        for _ in 0..REQUESTS_MAX {
            if self.free.recv_deadline(deadline).is_err() {
                return;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _fits = self.0.try_send(());
    }
}
