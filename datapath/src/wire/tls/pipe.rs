//! A channel over plain pipes: ssh carries the bytes and protects them.
//!
//! In: any pair of streams, such as those of an `ssh` child or this process's
//! own. Out: the same halves as over TLS. Invariants: every wait has a limit; a
//! call that was dropped half-way makes its half unusable. Never: encrypts;
//! whoever makes such a channel has a protected pipe. Limits: [`BUFFER_BYTES`]
//! read ahead.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixStream, unix};
use tokio::time::timeout;

use super::Error;
use crate::limits;

/// Reads shorter than this are served from bytes read ahead.
const BUFFER_BYTES: usize = 64 << 10;
/// What Linux lets any user give a pipe; the usual 64 KiB cost a switch between
/// processes for each 64 KiB.
const PIPE_BYTES: i32 = 1 << 20;

pub(super) type Reader = Box<dyn AsyncRead + Unpin>;
pub(super) type Writer = Box<dyn AsyncWrite + Unpin>;

pub(super) struct PipeSender {
    stream: Writer,
    peer: String,
    midway: bool,
    finished: bool,
    pub(super) silence_max: Duration,
}

pub(super) struct PipeReceiver {
    stream: Reader,
    peer: String,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    midway: bool,
    pub(super) silence_max: Duration,
}

pub(super) fn halves(reader: Reader, writer: Writer, peer: String) -> (PipeSender, PipeReceiver) {
    let silence_max = limits::PEER_SILENCE_MAX;
    let sender =
        PipeSender { stream: writer, peer: peer.clone(), midway: false, finished: false, silence_max };
    let buffer = vec![0; BUFFER_BYTES];
    (sender, PipeReceiver { stream: reader, peer, buffer, start: 0, end: 0, midway: false, silence_max })
}

impl PipeSender {
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    pub(super) async fn send(&mut self, pieces: &[&[u8]]) -> Result<(), Error> {
        self.begin()?;
        for piece in pieces {
            let mut left = *piece;
            while !left.is_empty() {
                match self.limited(Step::Write(left)).await? {
                    0 => return Err(self.broken(io::ErrorKind::WriteZero.into())),
                    count => left = &left[count..],
                }
            }
        }
        self.limited(Step::Flush).await?;
        self.midway = false;
        Ok(())
    }

    pub(super) async fn close(&mut self) -> Result<(), Error> {
        self.begin()?;
        self.limited(Step::Shutdown).await?;
        // Only dropping a pipe tells the other end.
        self.stream = Box::new(tokio::io::sink());
        self.finished = true;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Error> {
        if self.finished {
            return Err(Error::Finished { peer: self.peer.clone() });
        }
        if self.midway {
            return Err(Error::Abandoned { peer: self.peer.clone() });
        }
        self.midway = true;
        Ok(())
    }

    async fn limited(&mut self, step: Step<'_>) -> Result<usize, Error> {
        let stream = &mut self.stream;
        let work = async move {
            match step {
                Step::Write(bytes) => stream.write(bytes).await,
                Step::Flush => stream.flush().await.map(|()| 0),
                Step::Shutdown => stream.shutdown().await.map(|()| 0),
            }
        };
        match timeout(self.silence_max, work).await {
            Ok(done) => done.map_err(|source| self.broken(source)),
            Err(_) => Err(Error::Stalled { peer: self.peer.clone(), seconds: self.silence_max.as_secs() }),
        }
    }

    fn broken(&self, source: io::Error) -> Error {
        Error::Broken { peer: self.peer.clone(), source }
    }
}

enum Step<'a> {
    Write(&'a [u8]),
    Flush,
    Shutdown,
}

impl PipeReceiver {
    pub(super) fn peer(&self) -> &str {
        &self.peer
    }

    pub(super) async fn read_exact(&mut self, into: &mut [u8]) -> Result<(), Error> {
        if self.midway {
            return Err(Error::Abandoned { peer: self.peer.clone() });
        }
        let mut filled = self.take_buffered(into);
        while filled < into.len() {
            self.midway = filled > 0;
            let direct = into.len() - filled >= BUFFER_BYTES;
            let target = if direct { &mut into[filled..] } else { &mut self.buffer[..] };
            let read = match timeout(self.silence_max, self.stream.read(target)).await {
                Ok(read) => read,
                Err(_) => {
                    let seconds = self.silence_max.as_secs();
                    return Err(Error::Silent { peer: self.peer.clone(), seconds });
                }
            };
            match read {
                Ok(0) if filled == 0 => return Err(Error::Closed { peer: self.peer.clone() }),
                Ok(0) => return Err(Error::Truncated { peer: self.peer.clone() }),
                Ok(count) if direct => filled += count,
                Ok(count) => {
                    (self.start, self.end) = (0, count);
                    filled += self.take_buffered(&mut into[filled..]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Broken { peer: self.peer.clone(), source }),
            }
        }
        self.midway = false;
        Ok(())
    }

    fn take_buffered(&mut self, into: &mut [u8]) -> usize {
        let left = &self.buffer[self.start..self.end];
        let count = left.len().min(into.len());
        into[..count].copy_from_slice(&left[..count]);
        self.start += count;
        count
    }
}

/// This process's standard input and output, as streams.
///
/// They are duplicated, and set to not block: as the two ends of a pipe or
/// socket that ssh made, they are shared with nobody.
///
/// # Errors
/// One of them is closed, or neither a pipe nor a socket.
pub(super) fn standard_streams() -> io::Result<(Reader, Writer)> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let reader: Reader = if is_socket(&input)? {
        Box::new(unix_stream(input)?)
    } else {
        widen(&input);
        Box::new(unix::pipe::Receiver::from_file(input)?)
    };
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let writer: Writer = if is_socket(&output)? {
        Box::new(unix_stream(output)?)
    } else {
        widen(&output);
        Box::new(unix::pipe::Sender::from_file(output)?)
    };
    Ok((reader, writer))
}

fn is_socket(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.file_type().is_socket())
}

fn unix_stream(file: File) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(OwnedFd::from(file));
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn widen(pipe: &File) {
    // Refused beyond the user's quota: then the pipe stays as it is.
    let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
}
