//! The side that asks.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::line::{self, Answer};
use super::socket;
use super::{ANSWER_BYTES_MAX, Failed, REQUEST_BYTES_MAX};
use crate::exit::Exit;

/// Asks whoever serves the socket at `path`, and waits for the answer.
///
/// # Errors
/// What the other side says; [`Exit::Network`] where nobody serves the socket or
/// it went away before its answer; [`Exit::Failed`] where no answer came `within`
/// that time (what was asked may then be done all the same).
pub fn ask<R: Serialize>(path: &Path, request: &R, within: Duration) -> Result<Value, Failed> {
    let deadline = Instant::now() + within;
    let stream = socket::connect(path).map_err(|error| no_connection(path, &error))?;
    let written = line::write(&stream, request, REQUEST_BYTES_MAX, deadline);
    if let Err(error) = &written
        && error.kind() != ErrorKind::BrokenPipe
    {
        return Err((Exit::Failed, format!("{}: cannot be asked: {error}", path.display())));
    }
    // Who does not read a request to its end may have said why.
    let answer = line::read(&stream, ANSWER_BYTES_MAX, deadline);
    let answer = answer.map_err(|error| no_answer(path, &error, within))?;
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|error| (Exit::Failed, format!("{}: no answer of ours: {error}", path.display())))?;
    answer.into()
}

fn no_connection(path: &Path, error: &io::Error) -> Failed {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            (Exit::Network, format!("nothing is running that answers at {path}"))
        }
        ErrorKind::WouldBlock => (Exit::Failed, format!("{path}: too many ask at once; try again")),
        _ => (Exit::Failed, format!("{path}: cannot be asked: {error}")),
    }
}

fn no_answer(path: &Path, error: &io::Error, within: Duration) -> Failed {
    let path = path.display();
    match error.kind() {
        ErrorKind::TimedOut => {
            let within = humantime::format_duration(within);
            (Exit::Failed, format!("{path}: no answer within {within}; it may be done all the same"))
        }
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => {
            (Exit::Network, format!("{path}: it ended before it answered"))
        }
        _ => (Exit::Failed, format!("{path}: no answer: {error}")),
    }
}
