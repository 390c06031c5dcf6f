//! `failback master-target run`: serves agents, answers commands, looks after journals.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use failback_datapath::limits;
use failback_datapath::pipeline::Cancel;
use failback_datapath::role::master_target::{MasterTarget, Replicas, serve};
use failback_datapath::wire::identity::Identity;
use failback_datapath::wire::tls::ServerSettings;
use serde_json::json;

use super::orders::{Desk, Request};
use crate::config::master_target::Settings;
use crate::control::{self, Failed};
use crate::exit::Exit;
use crate::output::Output;
use crate::{paths, signals};

/// How often the housekeeper looks whether there is anything to do.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

/// Serves until a signal comes.
pub fn run(config: &Path, settings: &Settings, output: &Output) -> Result<(), Failed> {
    let failed = |error: &dyn std::fmt::Display| (Exit::Failed, error.to_string());
    let refused = |error: &dyn std::fmt::Display| (Exit::Refused, error.to_string());
    let cancel = signals::cancel_on_signals().map_err(|error| failed(&error))?;
    let hung_up = signals::note_hangups().map_err(|error| failed(&error))?;
    let master = super::master(settings, cancel.clone(), output)?;
    let _alone = master.targets().hold().map_err(|error| refused(&error))?;
    let directory = paths::identity(settings.state.as_ref());
    let identity = Identity::load_or_create(&directory).map_err(|error| refused(&error))?;
    let fingerprint = identity.fingerprint();
    let listener = TcpListener::bind(settings.listen)
        .map_err(|error| refused(&format!("cannot listen on {}: {error}", settings.listen)))?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    let desk = Arc::new(Desk::new(Arc::clone(&master), config.to_owned()));
    let clerk = Arc::clone(&desk);
    let _control: control::Server =
        control::serve(&settings.control, &cancel, move |request: Request, _| clerk.answer(request))?;
    output.line(&format!("listening on {address}, certificate {fingerprint}"), || {
        json!({"event": "listening", "address": address.to_string(), "fingerprint": fingerprint.to_string()})
    });
    let log = output.clone();
    let told = move |from: &str, reason: &str| {
        log.line(&format!("{from}: {reason}"), || json!({"event": "failed", "peer": from, "reason": reason}));
    };
    thread::scope(|scope| {
        scope.spawn(|| keep_house(&master, &desk, &cancel, &hung_up, output));
        let served = serve(&master, &listener, &ServerSettings::new(&directory, identity), told);
        // Where the socket failed, the housekeeper is not to wait for a signal.
        cancel.cancel();
        served.map_err(|error| failed(&error))
    })
}

/// Does what comes by itself: journals that nobody has open, and SIGHUP.
fn keep_house(
    master: &MasterTarget<Replicas>,
    desk: &Desk,
    cancel: &Cancel,
    hung_up: &AtomicBool,
    output: &Output,
) {
    let mut due = Instant::now();
    while !cancel.is_cancelled() {
        if hung_up.swap(false, Ordering::Relaxed)
            && let Err((_, reason)) = desk.answer(Request::Reload)
        {
            output.warn(&format!("the settings were not read anew: {reason}"));
        }
        // A pair without room waits for the points of those that nobody has open.
        if master.targets().room().is_newly_asked() || Instant::now() >= due {
            master.tend_idle();
            due = Instant::now() + limits::TEND_EVERY;
        }
        thread::sleep(LOOKS_EVERY);
    }
}
