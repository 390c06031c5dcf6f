//! Lines on a socket, bounded in length and in time, and what an answer says.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Failed;
use crate::exit::Exit;

/// How a request was answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    /// Done.
    Ok(Value),
    /// Not done.
    Error {
        /// The name of an [`Exit`].
        code: String,
        /// For people.
        message: String,
    },
}

impl From<Result<Value, Failed>> for Answer {
    fn from(result: Result<Value, Failed>) -> Self {
        match result {
            Ok(value) => Self::Ok(value),
            Err((exit, message)) => Self::Error { code: exit.name().to_owned(), message },
        }
    }
}

impl From<Answer> for Result<Value, Failed> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Ok(value) => Ok(value),
            // A code of a later version still means that it was not done.
            Answer::Error { code, message } => Err((Exit::named(&code).unwrap_or(Exit::Failed), message)),
        }
    }
}

/// Reads up to the end of a line, which is left out.
///
/// # Errors
/// `TimedOut`, `UnexpectedEof` where the other side is gone, `InvalidData` for
/// more than `bytes_max` bytes, and those of the socket.
pub(super) fn read(mut stream: &UnixStream, bytes_max: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut piece = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left_until(deadline)?))?;
        let bytes = match stream.read(&mut piece) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(timed_out(error)),
        };
        let end = piece[..bytes].iter().position(|byte| *byte == b'\n');
        line.extend_from_slice(&piece[..end.unwrap_or(bytes)]);
        if line.len() >= bytes_max {
            let what = format!("a line of more than {bytes_max} bytes");
            return Err(io::Error::new(ErrorKind::InvalidData, what));
        }
        if end.is_some() {
            return Ok(line);
        }
    }
}

/// Writes `value` and the end of the line.
///
/// # Errors
/// `InvalidInput` where it would be longer than `bytes_max`, `TimedOut`, and
/// those of the socket.
pub(super) fn write(
    mut stream: &UnixStream,
    value: &impl Serialize,
    bytes_max: usize,
    deadline: Instant,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    if line.len() > bytes_max {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("more than {bytes_max} bytes")));
    }
    stream.set_write_timeout(Some(left_until(deadline)?))?;
    stream.write_all(&line).map_err(timed_out)
}

fn left_until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A socket whose time is up says that it would block.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}
