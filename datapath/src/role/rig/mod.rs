//! An agent and a master target in one process, over real TLS: the source is a
//! file, what knows its changes and what it lands on are obvious models.

mod model;
mod source;

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

pub use model::{Model, SharedModel};
pub use source::{Both, SharedSource, TestFreezer, Writer};

use super::agent::{
    CutLabel, CutPlan, Freezer, Lane, LaneHandle, LaneSettings, LaneStatus, News, OnDoubt, Outcome, Reserve,
    cut_machine,
};
use super::master_target::{MasterTarget, Notice, PairName, Pairs};
use super::{Disk, Pair, Reason};
use crate::disk::{Purpose, open};
use crate::pipeline::{Cancel, Compression, DigestAlgorithm, Load, LoadLimits};
use crate::ring;
use crate::track::{ChangeSource, DigestOnly};
use crate::unit::{ChunkSize, SectorSize};
use crate::wire::identity::Identity;
use crate::wire::peers::{Address, KnownPeers, Peer};
use crate::wire::tls::ServerSettings;
use crate::wire::{Intent, Protect, Remote};

pub const CHUNK: ChunkSize = ChunkSize::MIN;

/// Both hosts, with what runs on them.
pub struct Rig {
    directory: tempfile::TempDir,
    pub source: SharedSource,
    pub model: SharedModel,
    pub notices: Arc<Mutex<Vec<Notice>>>,
    remote: Remote,
    stop: Cancel,
    server: Option<JoinHandle<()>>,
    wires: Wires,
}

/// The connections that were accepted.
type Wires = Arc<Mutex<Vec<TcpStream>>>;

impl Rig {
    /// A source of `size_bytes` and an empty target.
    pub fn new(size_bytes: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Identity::load_or_create(&directory.path().join("server")).unwrap();
        let client = Identity::load_or_create(&directory.path().join("client")).unwrap();
        let peer = Peer::client("db1", client.fingerprint(), SystemTime::now());
        KnownPeers::remember(&directory.path().join("server"), &peer).unwrap();
        let settings = ServerSettings::new(&directory.path().join("server"), server.clone());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = Remote::Served {
            address: Address::from(listener.local_addr().unwrap()),
            export: "the master target".to_owned(),
            identity: client,
            fingerprint: server.fingerprint(),
        };
        let model = SharedModel::new(Model::new(size_bytes, CHUNK));
        let notices: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let heard = Arc::clone(&notices);
        let name = PairName::new("db1", "sda").unwrap();
        let pairs = Pairs::new([(name, Pair::Corrupted)], move |notice| heard.lock().unwrap().push(notice));
        let stop = Cancel::default();
        let master = Arc::new(MasterTarget::new(model.clone(), pairs, stop.clone()));
        let wires = Wires::default();
        let server = Some(serve(listener, master, settings, stop.clone(), Arc::clone(&wires)));
        let source = SharedSource::create(&directory.path().join("sda"), size_bytes, CHUNK);
        Self { directory, source, model, notices, remote, stop, server, wires }
    }

    /// Starts an agent that stands at `state`.
    pub fn agent(&self, state: Disk) -> Agent {
        let changes = Box::new(self.source.changes());
        self.start(state, changes, LoadLimits::default(), OnDoubt::Resync)
    }

    /// Starts an agent that does not know what changes, and reads no faster than
    /// so many bytes a second.
    pub fn untracked_agent(&self, read_bytes_per_second: Option<u64>) -> Agent {
        let limits = LoadLimits { read_bytes_per_second, ..LoadLimits::default() };
        let changes = DigestOnly::new(self.source.changes().geometry());
        let state = Disk::ResyncRequired(Reason::Initial);
        self.start(state, Box::new(changes), limits, OnDoubt::Resync)
    }

    /// Starts an agent that waits for a person after a doubt.
    pub fn careful_agent(&self, state: Disk) -> Agent {
        self.start(state, Box::new(self.source.changes()), LoadLimits::default(), OnDoubt::Stop)
    }

    /// Breaks the connections that there are.
    pub fn cut_wires(&self) {
        for wire in self.wires.lock().unwrap().drain(..) {
            let _gone = wire.shutdown(Shutdown::Both);
        }
    }

    fn start(
        &self,
        state: Disk,
        changes: Box<dyn ChangeSource + Send>,
        limits: LoadLimits,
        on_doubt: OnDoubt,
    ) -> Agent {
        let disk =
            Arc::new(open(&self.directory.path().join("sda"), Purpose::Source { live: true }).unwrap());
        let protect = Protect {
            machine: "db1".to_owned(),
            machine_identity: "dmi:1".to_owned(),
            disk: "sda".to_owned(),
            disk_identity: "wwn:1".to_owned(),
            size_bytes: disk.size_bytes(),
            sector: SectorSize::BYTES_512,
            chunk: CHUNK,
            digest: DigestAlgorithm::Xxh3,
            position: None,
            intent: Intent::Continue,
            is_fenced: false,
        };
        let settings = LaneSettings {
            remote: self.remote.clone(),
            protect,
            compression: Compression::Lz4,
            load: Load::new(limits),
            cycle: Duration::from_millis(5),
            reserve: Reserve::new(4 << 20),
            on_doubt,
        };
        let errors: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&errors);
        let observe = move |news: News<'_>| {
            if let News::Trouble(error) = news {
                heard.lock().unwrap().push(error.to_string());
            }
        };
        let (lane, handle) = Lane::new(settings, disk, changes, LaneStatus::at(state), observe);
        let cancel = Cancel::default();
        let stop = cancel.clone();
        let thread = std::thread::spawn(move || drop(lane.run(&cancel).unwrap()));
        Agent { lane: handle, errors, stop, thread: Some(thread) }
    }

    pub fn new_agent(&self) -> Agent {
        self.agent(Disk::ResyncRequired(Reason::Initial))
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(self.server.take().map(JoinHandle::join));
    }
}

fn serve(
    listener: TcpListener,
    master: Arc<MasterTarget<SharedModel>>,
    settings: ServerSettings,
    stop: Cancel,
    wires: Wires,
) -> JoinHandle<()> {
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        while !stop.is_cancelled() {
            let Ok((stream, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            wires.lock().unwrap().push(stream.try_clone().unwrap());
            let (master, settings) = (Arc::clone(&master), settings.clone());
            std::thread::spawn(move || {
                ring::run(async {
                    stream.set_nonblocking(true).unwrap();
                    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
                    let _ = master.serve_stream(stream, &settings).await;
                })
            });
        }
    })
}

/// A running agent; stopped when dropped, as by a kill.
pub struct Agent {
    pub lane: LaneHandle,
    pub errors: Arc<Mutex<Vec<String>>>,
    stop: Cancel,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    pub fn state(&self) -> Disk {
        self.lane.state()
    }

    /// Waits until the disk stands at `state`.
    #[track_caller]
    pub fn reaches(&self, state: Disk) {
        self.reaches_within(state, Duration::from_secs(60));
    }

    #[track_caller]
    pub fn reaches_within(&self, state: Disk, within: Duration) {
        let until = Instant::now() + within;
        while self.state() != state {
            let errors = self.errors.lock().unwrap();
            assert!(Instant::now() < until, "{:?} instead of {state:?}: {errors:?}", self.state());
            drop(errors);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Makes a cut, or says why not.
    pub fn try_cut(&self, freezer: &mut dyn Freezer, plan: CutPlan<'_>) -> Outcome {
        cut_machine(&[&self.lane], freezer, plan)
    }

    /// Makes a point, trying again while the disk is not ready.
    #[track_caller]
    pub fn cut(&self, freezer: &mut dyn Freezer) -> CutLabel {
        let mut reasons = Vec::new();
        for _ in 0..50 {
            self.reaches(Disk::Protecting);
            match self.try_cut(freezer, CutPlan::default()) {
                Outcome::Made { label, .. } => return label,
                Outcome::Skipped { reason, .. } => reasons.push(reason),
            }
        }
        panic!("no point: {reasons:?}; {:?}", self.errors.lock().unwrap());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(self.thread.take().map(JoinHandle::join));
    }
}
