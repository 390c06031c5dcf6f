//! `failback pair`: how two hosts come to know each other.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use failback_datapath::error::Remediable;
use failback_datapath::ring;
use failback_datapath::wire::identity::Identity;
use failback_datapath::wire::pairing::{self, Token};
use failback_datapath::wire::peers::{KnownPeers, Peer};
use serde_json::json;

use crate::cli::Pair;
use crate::exit::Exit;
use crate::output::{Output, Style};
use crate::paths;

/// A token is one line of at most a few hundred characters.
const TOKEN_BYTES_MAX: u64 = 4096;

type Failed = (Exit, String);

/// Runs the command.
pub fn run(arguments: &Pair) -> Exit {
    let output = Output::new(Style::choose(arguments.json, false));
    match act(arguments, &output) {
        Ok(()) => Exit::Success,
        Err((exit, message)) => output.error(exit, &message, None),
    }
}

fn act(arguments: &Pair, output: &Output) -> Result<(), Failed> {
    let directory = paths::identity(arguments.state.as_ref());
    let refused = |error: &dyn std::fmt::Display| (Exit::Refused, error.to_string());
    if arguments.list {
        list(&KnownPeers::load(&directory).map_err(|error| refused(&error))?, output);
        return Ok(());
    }
    if let Some(fingerprint) = &arguments.forget {
        let known = KnownPeers::forget(&directory, fingerprint).map_err(|error| refused(&error))?;
        return if known {
            Ok(())
        } else {
            Err(refused(&format!("no peer has the fingerprint {fingerprint}")))
        };
    }
    let identity = Identity::load_or_create(&directory).map_err(|error| refused(&error))?;
    if let Some(file) = &arguments.spend {
        let peer = spend(&directory, &identity, &read_token(file)?)?;
        output.line(
            &format!("paired with {} ({})", peer.name, peer.fingerprint),
            || json!({"event": "paired", "peer": peer.name, "fingerprint": peer.fingerprint.to_string()}),
        );
        return Ok(());
    }
    let token = pairing::issue(&directory, &arguments.address, &identity).map_err(|error| refused(&error))?;
    if let Some(file) = &arguments.output {
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
        let written = written.and_then(|mut file| writeln!(file, "{token}"));
        return written.map_err(|error| refused(&format!("{}: cannot be written: {error}", file.display())));
    }
    output.line(&token.to_string(), || json!({"event": "token", "token": token.to_string()}));
    Ok(())
}

fn list(peers: &KnownPeers, output: &Output) {
    for peer in peers.all() {
        output.line(
            &format!("{}  {}", peer.fingerprint, peer.name),
            || json!({"event": "peer", "name": peer.name, "fingerprint": peer.fingerprint.to_string()}),
        );
    }
}

fn read_token(file: &Path) -> Result<Token, Failed> {
    let refused = |error: &dyn std::fmt::Display| (Exit::Refused, format!("{}: {error}", file.display()));
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(TOKEN_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| refused(&error))?;
    text.trim().parse().map_err(|error| refused(&error))
}

fn spend(directory: &Path, identity: &Identity, token: &Token) -> Result<Peer, Failed> {
    let spent = ring::run(pairing::spend(directory, identity, token));
    let spent = spent.map_err(|error| (Exit::Failed, error.to_string()))?;
    spent.map_err(|error| (Exit::of_remedy(error.remedy()), error.to_string()))
}

/// Spends the token in `file`, unless its server is known already: a command
/// with a token may be repeated.
pub fn spend_unless_known(directory: &Path, identity: &Identity, file: &Path) -> Result<(), Failed> {
    let token = read_token(file)?;
    let peers = KnownPeers::load(directory).map_err(|error| (Exit::Refused, error.to_string()))?;
    if peers.server_at(token.address()).is_some_and(|peer| peer.fingerprint == token.fingerprint()) {
        return Ok(());
    }
    spend(directory, identity, &token).map(drop)
}
