//! `failback serve`: disks for peers.

use std::collections::BTreeMap;
use std::net::TcpListener;

use failback_datapath::resync::{Export, Exports, ServeEvent, Server};
use failback_datapath::wire::identity::Identity;
use failback_datapath::wire::tls::ServerSettings;
use serde_json::json;

use crate::cli::Serve;
use crate::exit::Exit;
use crate::output::{Output, Style};
use crate::{paths, signals};

/// Runs the command.
pub fn run(arguments: &Serve) -> Exit {
    // Over ssh, standard output belongs to the protocol.
    let output =
        Output::new(if arguments.stdio { Style::Errors } else { Style::choose(arguments.json, false) });
    match serve(arguments, &output) {
        Ok(()) => Exit::Success,
        Err((exit, message)) => output.error(exit, &message, None),
    }
}

fn serve(arguments: &Serve, output: &Output) -> Result<(), (Exit, String)> {
    let failed = |error: &dyn std::fmt::Display| (Exit::Failed, error.to_string());
    let refused = |error: &dyn std::fmt::Display| (Exit::Refused, error.to_string());
    let cancel = signals::cancel_on_signals().map_err(|error| failed(&error))?;
    let state = paths::targets(arguments.state.as_ref());
    let log = output.clone();
    let observe = move |event| log_event(&log, event);
    if arguments.stdio {
        let server = Server::new(Exports::AnyPath, state, cancel, observe);
        // The peer was told the reason; ssh shows it there too.
        return server.serve_stdio().map_err(|error| failed(&error));
    }
    let exports = named_exports(arguments)?;
    let directory = paths::identity(arguments.state.as_ref());
    let identity = Identity::load_or_create(&directory).map_err(|error| refused(&error))?;
    let fingerprint = identity.fingerprint();
    let listener = TcpListener::bind(arguments.listen)
        .map_err(|error| refused(&format!("cannot listen on {}: {error}", arguments.listen)))?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    output.line(&format!("listening on {address}, certificate {fingerprint}"), || {
        json!({"event": "listening", "address": address.to_string(), "fingerprint": fingerprint.to_string()})
    });
    let server = Server::new(exports, state, cancel, observe);
    server.serve_tls(&listener, &ServerSettings::new(&directory, identity)).map_err(|error| failed(&error))
}

fn named_exports(arguments: &Serve) -> Result<Exports, (Exit, String)> {
    let mut exports = BTreeMap::new();
    for export in &arguments.exports {
        let entry = Export { path: export.path.clone(), read_only: export.read_only };
        if exports.insert(export.name.clone(), entry).is_some() {
            return Err((Exit::Refused, format!("two exports are called {:?}", export.name)));
        }
    }
    if exports.is_empty() {
        return Err((Exit::Refused, "nothing to serve: give --export NAME=PATH".to_owned()));
    }
    Ok(Exports::Named(exports))
}

fn log_event(output: &Output, event: ServeEvent) {
    match event {
        ServeEvent::Paired { peer } => {
            output.line(&format!("paired with {peer}"), || json!({"event": "paired", "peer": peer}));
        }
        ServeEvent::Begun { peer, export, role } => {
            output.line(
                &format!("{peer}: {export} as {role}: begun"),
                || json!({"event": "begun", "peer": peer, "export": export, "role": role}),
            );
        }
        ServeEvent::Ended { peer, export } => {
            output.line(
                &format!("{peer}: {export}: ended well"),
                || json!({"event": "ended", "peer": peer, "export": export}),
            );
        }
        ServeEvent::Failed { peer, reason } => {
            output.line(
                &format!("{peer}: {reason}"),
                || json!({"event": "failed", "peer": peer, "reason": reason}),
            );
        }
        ServeEvent::Notice(notice) => output.notice(&notice),
    }
}
