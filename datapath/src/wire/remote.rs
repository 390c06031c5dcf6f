//! Another host, and how it is reached.

use std::process::Stdio;

use tokio::process::{Child, Command};

use super::identity::{Fingerprint, Identity};
use super::location::{Location, SshLocation};
use super::peers::Address;
use super::{Error, LinkReceiver, LinkSender, hello, link, tls};
use crate::limits;

/// Another host with the export that is wanted there.
#[derive(Clone)]
pub enum Remote {
    /// A `failback serve` over TLS.
    Served {
        /// Where it listens.
        address: Address,
        /// The export.
        export: String,
        /// Who we are.
        identity: Identity,
        /// Who it must be.
        fingerprint: Fingerprint,
    },
    /// A `failback serve --stdio` that ssh starts there.
    Ssh {
        /// Where.
        location: SshLocation,
        /// The ssh program and options of its own.
        program: Vec<String>,
        /// The failback program there.
        remote_program: String,
    },
}

/// A connection to another host on which versions are settled.
pub struct Connection {
    /// Sends.
    pub sender: LinkSender,
    /// Receives.
    pub receiver: LinkReceiver,
    /// The ssh client, which ends with its connection.
    _child: Option<Child>,
}

impl Remote {
    /// The name of the export that is wanted.
    #[must_use]
    pub fn export(&self) -> &str {
        match self {
            Self::Served { export, .. } => export,
            Self::Ssh { location, .. } => &location.path,
        }
    }

    /// Where it is, as a user writes it.
    #[must_use]
    pub fn location(&self) -> Location {
        match self {
            Self::Served { address, export, .. } => {
                Location::Served { address: address.clone(), export: export.clone() }
            }
            Self::Ssh { location, .. } => Location::Ssh(location.clone()),
        }
    }

    /// How many connections it takes at most: ssh starts a process for each,
    /// and two processes cannot hold one target.
    #[must_use]
    pub const fn lanes_max(&self) -> usize {
        match self {
            Self::Served { .. } => limits::LANES_MAX,
            Self::Ssh { .. } => 1,
        }
    }

    /// Connects and settles on a version of the protocol.
    ///
    /// # Errors
    /// [`Error`] names the host and what is wrong.
    pub async fn connect(&self) -> Result<Connection, Error> {
        let (sender, receiver, child, peer) = match self {
            Self::Served { address, identity, fingerprint, .. } => {
                let (sender, receiver) = tls::connect(address, identity, fingerprint).await?;
                (sender, receiver, None, address.to_string())
            }
            Self::Ssh { location, program, remote_program } => start_ssh(location, program, remote_program)?,
        };
        let (sender, mut receiver) = link(sender, receiver, &peer);
        let limit = match self {
            Self::Served { .. } => limits::HANDSHAKE_TIMEOUT,
            Self::Ssh { .. } => limits::PEER_SILENCE_MAX,
        };
        hello::exchange_within(limit, &sender, &mut receiver).await?;
        Ok(Connection { sender, receiver, _child: child })
    }
}

type Started = (tls::Sender, tls::Receiver, Option<Child>, String);

fn start_ssh(location: &SshLocation, program: &[String], remote_program: &str) -> Result<Started, Error> {
    let name = program.first().map_or("ssh", String::as_str);
    let failed = |source| Error::Ssh { program: name.to_owned(), source };
    let mut command = Command::new(name);
    command.args(program.iter().skip(1)).arg("-T");
    if let Some(port) = location.port {
        command.arg("-p").arg(port.to_string());
    }
    if let Some(user) = &location.user {
        command.arg("-l").arg(user);
    }
    // After `--` the host is a host whatever it looks like; the command is
    // fixed, and the path travels in the protocol, so no shell sees the URL.
    command.arg("--").arg(&location.host).arg(format!("{remote_program} serve --stdio"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let closed = || failed(std::io::ErrorKind::BrokenPipe.into());
    let (output, input) = (child.stdout.take().ok_or_else(closed)?, child.stdin.take().ok_or_else(closed)?);
    let peer = format!("{} (by ssh)", location.host);
    let (sender, receiver) = tls::pipe(output, input, &peer);
    Ok((sender, receiver, Some(child), peer))
}
