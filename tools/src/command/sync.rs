//! `failback sync`: make one disk hold what another holds.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use failback_datapath::disk::{self, Purpose};
use failback_datapath::pipeline::Cancel;
use failback_datapath::resync::{self, Failure, NewImage, Report, Settings, TargetState, Watch};
use failback_datapath::telemetry::Notice;
use failback_datapath::wire::identity::Identity;
use failback_datapath::wire::peers::KnownPeers;
use failback_datapath::wire::{Create, Location, Remote};

use crate::cli::{Format, Sync};
use crate::command::pair;
use crate::exit::Exit;
use crate::output::{Output, Style};
use crate::{paths, signals};

/// Runs the command.
pub fn run(arguments: &Sync) -> Exit {
    let output = Output::new(Style::choose(arguments.json, arguments.quiet));
    let cancel = match signals::cancel_on_signals() {
        Ok(cancel) => cancel,
        Err(error) => return output.error(Exit::Failed, &format!("cannot handle signals: {error}"), None),
    };
    let start = Instant::now();
    match synchronize(arguments, cancel.clone(), &output) {
        Ok(report) => {
            output.summary(&report, start.elapsed());
            Exit::Success
        }
        Err(Problem::Run(failure)) => {
            // Ctrl-C at a terminal also ends an ssh client: whatever broke then, we were asked to stop.
            let exit = if cancel.is_from_outside() { Exit::Interrupted } else { Exit::of(&failure) };
            output.error(exit, &failure.error.to_string(), Some(&failure.target))
        }
        Err(Problem::Setup { exit, message }) => output.error(exit, &message, Some(&TargetState::Untouched)),
    }
}

/// Why nothing was copied, or not all.
enum Problem {
    Setup { exit: Exit, message: String },
    Run(Failure),
}

impl Problem {
    fn setup(exit: Exit, error: &impl std::fmt::Display) -> Self {
        Self::Setup { exit, message: error.to_string() }
    }
}

/// One end of the run.
enum End {
    Here(PathBuf),
    There(Remote),
}

fn synchronize(arguments: &Sync, cancel: Cancel, output: &Output) -> Result<Report, Problem> {
    check_token(arguments)?;
    let source = end(arguments, &arguments.source)?;
    let target = end(arguments, &arguments.target)?;
    let settings = settings(arguments);
    let (watch, notices) = Watch::new(cancel);
    let made = Made::default();
    if let (Some(streams), End::There(Remote::Ssh { .. }), _)
    | (Some(streams), _, End::There(Remote::Ssh { .. })) = (arguments.streams, &source, &target)
        && streams > 1
    {
        output.notice(&Notice::new("one-stream", "over ssh there is one stream".to_owned()));
    }
    output
        .while_watching(&watch, &notices, || match (source, target) {
            (End::Here(source), End::Here(target)) => {
                local(arguments, &source, &target, &settings, &watch, &made)
            }
            (End::Here(source), End::There(target)) => {
                let source = open_source(&source, &settings)?;
                let create = wanted_image(arguments, Path::new(target.export()));
                resync::push(source, &target, create, &settings, &watch)
            }
            (End::There(source), End::Here(target)) => {
                let open = |size_bytes| open_target(arguments, &target, size_bytes, &settings, &made);
                resync::pull(&source, open, &settings, &watch)
            }
            (End::There(source), End::There(target)) => {
                let create = wanted_image(arguments, Path::new(target.export()));
                resync::relay(&source, &target, create, &settings, &watch)
            }
        })
        .inspect(|_| keep(&made))
        .map_err(|failure| {
            if failure.target != TargetState::Untouched {
                keep(&made);
            }
            Problem::Run(failure)
        })
}

/// The image that this run made, if it made one.
type Made = Mutex<NewImage>;

fn keep(made: &Made) {
    made.lock().unwrap_or_else(PoisonError::into_inner).keep();
}

fn local(
    arguments: &Sync,
    source: &Path,
    target: &Path,
    settings: &Settings,
    watch: &Watch,
    made: &Made,
) -> Result<Report, Failure> {
    let source = open_source(source, settings)?;
    resync::check_apart(&source, target).map_err(untouched)?;
    let target = open_target(arguments, target, source.size_bytes(), settings, made).map_err(untouched)?;
    resync::synchronize(source, target, settings, watch)
}

fn open_source(path: &Path, settings: &Settings) -> Result<disk::Disk, Failure> {
    disk::open(path, Purpose::Source { live: settings.live }).map_err(|error| untouched(error.into()))
}

fn open_target(
    arguments: &Sync,
    path: &Path,
    size_bytes: u64,
    settings: &Settings,
    made: &Made,
) -> Result<disk::Disk, resync::Error> {
    let create = wanted_image(arguments, path);
    if settings.dry_run {
        let rehearse = |create| NewImage::rehearse(path, create, size_bytes);
        let imagined = create.map(rehearse).transpose()?.flatten();
        return imagined.map_or_else(|| Ok(disk::open(path, Purpose::Rehearsal)?), Ok);
    }
    if let Some(create) = create {
        *made.lock().unwrap_or_else(PoisonError::into_inner) = NewImage::make(path, create, size_bytes)?;
    }
    Ok(disk::open(path, Purpose::Target)?)
}

fn untouched(error: resync::Error) -> Failure {
    Failure { error, target: TargetState::Untouched }
}

/// What `--create` makes at `path`.
fn wanted_image(arguments: &Sync, path: &Path) -> Option<Create> {
    let is_vmdk = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("vmdk"));
    let usual = if is_vmdk { Format::VmdkFlat } else { Format::Raw };
    arguments.create.then(|| arguments.format.unwrap_or(usual).into())
}

fn settings(arguments: &Sync) -> Settings {
    Settings {
        whole: arguments.whole,
        digest: arguments.digest.into(),
        compression: arguments.compression.into(),
        lanes: arguments.streams.map(usize::from),
        rate_limit: arguments.limit_rate,
        verify: arguments.verify,
        dry_run: arguments.dry_run,
        live: arguments.live,
        format: arguments.format.map(Create::from),
        state: paths::targets(arguments.state.as_ref()),
    }
}

/// A token that nobody would spend was meant for something else.
fn check_token(arguments: &Sync) -> Result<(), Problem> {
    let is_served = |location: &Location| matches!(location, Location::Served { .. });
    if arguments.token_file.is_some() && !is_served(&arguments.source) && !is_served(&arguments.target) {
        let message =
            "--token-file pairs with the host of a failback:// end, and there is none; leave it out";
        return Err(Problem::setup(Exit::Refused, &message));
    }
    Ok(())
}

fn end(arguments: &Sync, location: &Location) -> Result<End, Problem> {
    match location {
        Location::Local(path) => Ok(End::Here(path.clone())),
        Location::Ssh(location) => Ok(End::There(Remote::Ssh {
            location: location.clone(),
            program: arguments.ssh.split_whitespace().map(str::to_owned).collect(),
            remote_program: arguments.remote_failback.clone(),
        })),
        Location::Served { address, export } => {
            let directory = paths::identity(arguments.state.as_ref());
            let refused = |error: &dyn std::fmt::Display| Problem::setup(Exit::Refused, &error.to_string());
            let identity = Identity::load_or_create(&directory).map_err(|error| refused(&error))?;
            if let Some(file) = &arguments.token_file {
                pair::spend_unless_known(&directory, &identity, file)
                    .map_err(|(exit, message)| Problem::Setup { exit, message })?;
            }
            let peers = KnownPeers::load(&directory).map_err(|error| refused(&error))?;
            let peer = peers.server_at(address).ok_or_else(|| {
                refused(&format!(
                    "{address} is not known yet: run `failback pair --address {address}` there and give its token \
                     with --token-file"
                ))
            })?;
            let (address, export, fingerprint) = (address.clone(), export.clone(), peer.fingerprint);
            Ok(End::There(Remote::Served { address, export, identity, fingerprint }))
        }
    }
}
