//! The pipeline together: what `failback sync` does, from disk to disk.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::thread;

use failback_datapath::landing::StateDirectory;
use failback_datapath::pipeline::{Cancel, Compression, DigestAlgorithm};
use failback_datapath::resync::{self, Export, Exports, Report, Server, Settings, Watch};
use failback_datapath::wire::Remote;

use super::measure::{Round, Stopwatch};
use super::network::{self, Hosts};
use super::{Error, Workbench};

/// The export that holds the target.
const EXPORT: &str = "target";

/// A local copy without comparing.
pub fn copy(bench: &Workbench) -> Result<Round, Error> {
    let (round, _) = synchronize(bench, true)?;
    bench.target_is_copy.store(true, Ordering::Relaxed);
    Ok(round)
}

/// A comparison of two equal disks. The copy that this may take first is not measured.
pub fn compare(bench: &Workbench) -> Result<Round, Error> {
    if !bench.target_is_copy.load(Ordering::Relaxed) {
        synchronize(bench, true)?;
        bench.target_is_copy.store(true, Ordering::Relaxed);
    }
    let (round, report) = synchronize(bench, false)?;
    // A source that is being written meanwhile may well differ.
    if report.counts.chunks_differing > 0 && !report.fuzzy {
        let path = bench.disks.target_path().to_owned();
        return Err(Error::Differs { path, chunks: report.counts.chunks_differing });
    }
    Ok(round)
}

fn synchronize(bench: &Workbench, whole: bool) -> Result<(Round, Report), Error> {
    let (source, target) = (bench.disks.open_source()?, bench.disks.open_target()?);
    source.drop_cache();
    target.drop_cache();
    let (watch, _notices) = Watch::new(bench.cancel.clone());
    let stopwatch = Stopwatch::start();
    let report = resync::synchronize(source, target, &settings(bench, whole), &watch)?;
    Ok((stopwatch.stop_run(report.bytes_total, report.latencies.clone()), report))
}

/// A copy to a server on loopback, in this very process.
pub fn push(bench: &Workbench, hosts: &Hosts) -> Result<Round, Error> {
    let (listener, address) = network::listen()?;
    let export = Export { path: bench.disks.target_path().to_owned(), read_only: false };
    let exports = Exports::Named(BTreeMap::from([(EXPORT.to_owned(), export)]));
    let state = state(bench);
    let stop = Stop(Cancel::default());
    let server = Server::new(exports, state, stop.0.clone(), |_| {});
    let remote = Remote::Served {
        address,
        export: EXPORT.to_owned(),
        identity: hosts.client.clone(),
        fingerprint: hosts.fingerprint(),
    };
    let pushed = thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve_tls(&listener, &hosts.settings()));
        let pushed = push_to(bench, &remote);
        drop(stop);
        // Without a socket nothing was pushed either, and the reason is there.
        drop(serving.join());
        pushed
    });
    let round = pushed?;
    bench.target_is_copy.store(true, Ordering::Relaxed);
    bench.disks.wait_for_target()?;
    Ok(round)
}

fn push_to(bench: &Workbench, remote: &Remote) -> Result<Round, Error> {
    let source = bench.disks.open_source()?;
    source.drop_cache();
    let (watch, _notices) = Watch::new(bench.cancel.clone());
    let stopwatch = Stopwatch::start();
    let report = resync::push(source, remote, None, &settings(bench, true), &watch)?;
    let latencies = report.latencies.into_iter().chain(report.remote_latencies).collect();
    Ok(stopwatch.stop_run(report.bytes_total, latencies))
}

/// Stops a server, however the block ends that it serves.
struct Stop(Cancel);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Marks of targets lie with the temporary disks, and go with them.
fn state(bench: &Workbench) -> StateDirectory {
    StateDirectory::new(bench.disks.directory().join("state"))
}

fn settings(bench: &Workbench, whole: bool) -> Settings {
    Settings {
        whole,
        digest: DigestAlgorithm::default(),
        compression: Compression::default(),
        lanes: Some(bench.lanes),
        rate_limit: None,
        verify: false,
        dry_run: false,
        live: true,
        format: None,
        state: state(bench),
    }
}
