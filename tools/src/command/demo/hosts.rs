//! The two hosts of the demo in one process: the one at home serves an image, the
//! one in the cloud sends its disk. They have keys and known peers of their own,
//! and meet over TLS on loopback.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use failback_datapath::disk::{self, Purpose};
use failback_datapath::landing::StateDirectory;
use failback_datapath::limits;
use failback_datapath::pipeline::{Cancel, Compression, DigestAlgorithm};
use failback_datapath::resync::{self, Export, Exports, Failure, Server, Settings, TargetState, Watch};
use failback_datapath::ring;
use failback_datapath::wire::identity::Identity;
use failback_datapath::wire::peers::Address;
use failback_datapath::wire::tls::ServerSettings;
use failback_datapath::wire::{Create, Remote, pairing};
use indicatif::BinaryBytes;

use super::error::Error;
use super::stage::{DESCRIPTOR, Done, Stage};

/// The name of the image at home.
const EXPORT: &str = "home";

/// How long runs at home may take to leave their target in order.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

/// Both hosts; dropped, home stops serving.
pub struct Hosts {
    server: Arc<Server>,
    stop: Cancel,
    serving: Option<JoinHandle<std::io::Result<()>>>,
    remote: Remote,
    /// Where the host in the cloud keeps its state.
    cloud: PathBuf,
}

impl Hosts {
    /// Starts to serve at home, and pairs both hosts by a token.
    ///
    /// # Errors
    /// [`Error::System`], [`Error::Identity`], [`Error::Pairing`].
    pub fn pair(stage: &Stage<'_>) -> Result<(Self, Done), Error> {
        let (home, cloud) = (stage.make_folder("home")?, stage.make_folder("cloud")?);
        let (home_keys, cloud_keys) = (home.join("identity"), cloud.join("identity"));
        let identity = Identity::load_or_create(&home_keys)?;
        let at_loopback = |source| Error::at("listen on loopback for", stage.folder())(source);
        let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(at_loopback)?;
        let address = listener.local_addr().map_err(at_loopback)?.to_string().parse::<Address>()?;
        let token = pairing::issue(&home_keys, &address, &identity)?;

        let export = Export { path: stage.path(DESCRIPTOR), read_only: false };
        let exports = Exports::Named(BTreeMap::from([(EXPORT.to_owned(), export)]));
        let stop = Cancel::default();
        // What goes wrong at home is told by the run that it ends.
        let server = Server::new(exports, StateDirectory::new(home), stop.clone(), |_| {});
        let settings = ServerSettings::new(&home_keys, identity);
        let serve = {
            let server = Arc::clone(&server);
            move || server.serve_tls(&listener, &settings)
        };
        let serving =
            std::thread::Builder::new().name("home".to_owned()).spawn(serve).map_err(at_loopback)?;
        let cloud_identity = Identity::load_or_create(&cloud_keys)?;
        let remote = Remote::Served {
            address: address.clone(),
            export: EXPORT.to_owned(),
            identity: cloud_identity.clone(),
            fingerprint: token.fingerprint(),
        };
        let hosts = Self { server, stop, serving: Some(serving), remote, cloud };
        ring::run(pairing::spend(&cloud_keys, &cloud_identity, &token))??;
        Ok((hosts, Done::saying(format!("by a one-time token; home serves at {address}"))))
    }

    /// Makes the image at home hold what `source` holds, and verifies it.
    ///
    /// # Errors
    /// [`Error::Sync`], [`Error::Interrupted`].
    pub fn bring_home(&self, source: &Path, stage: &Stage<'_>) -> Result<((), Done), Error> {
        let settings = Settings {
            whole: false,
            digest: DigestAlgorithm::Xxh3,
            compression: Compression::Auto,
            lanes: None,
            rate_limit: None,
            verify: true,
            dry_run: false,
            live: false,
            format: None,
            state: StateDirectory::new(self.cloud.clone()),
        };
        let (watch, notices) = Watch::new(stage.cancel.clone());
        let pushed = stage.output.while_watching(&watch, &notices, || {
            let untouched = |error: disk::Error| {
                Box::new(Failure { error: error.into(), target: TargetState::Untouched })
            };
            let source = disk::open(source, Purpose::Source { live: false }).map_err(untouched)?;
            resync::push(source, &self.remote, Some(Create::VmdkFlat), &settings, &watch).map_err(Box::new)
        });
        // Home gives up its claim on the image a moment after it has said so.
        self.settle();
        let report = pushed.map_err(|failure| match failure.error {
            resync::Error::Interrupted => Error::Interrupted,
            _ => Error::Sync(failure),
        })?;
        let chunks = report.bytes_total.div_ceil(u64::from(limits::CHUNK_BYTES));
        let verified = if report.verified { "verified" } else { "not verified" };
        let what = format!(
            "over TLS: {} of {chunks} chunks differed, {} written, {verified}",
            report.counts.chunks_differing,
            BinaryBytes(report.counts.bytes_written),
        );
        let (bytes_moved, bytes_covered) = (report.counts.bytes_sent, report.bytes_total);
        Ok(((), Done { what, bytes_moved, bytes_covered, counts: Some(report.counts) }))
    }

    /// Stops serving.
    ///
    /// # Errors
    /// [`Error::Serving`], [`Error::System`].
    pub fn stop(mut self) -> Result<(), Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Error> {
        self.stop.cancel();
        let Some(serving) = self.serving.take() else { return Ok(()) };
        let served = serving.join().map_err(|_| Error::Serving)?;
        self.settle();
        served.map_err(Error::at("serve from", &self.cloud))
    }

    /// Waits until no connection is served any more: each has the image, and the
    /// folder of marks, until it ends.
    fn settle(&self) {
        let start = Instant::now();
        while !self.server.is_idle() && start.elapsed() < SETTLE_WAIT {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // The error that led here is what the caller must see.
        let _ = self.end();
    }
}
