//! The end that begins a run with another host: what is common to push, pull
//! and relay.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use super::{Error, Report, Settings, Watch};
use crate::disk::Disk;
use crate::limits;
use crate::pipeline::{Cancel, Digester, Segments, default_lanes};
use crate::telemetry::{Latencies, StageLatency};
use crate::unit::to_usize;
use crate::wire::{
    Connection, Create, DiskFacts, Finished, Join, Kind, LinkReceiver, LinkSender, Open, Opened, Remote,
    Role, Start, Started,
};

/// How long a lane may take to end at a frame's boundary once it was asked to.
const GRACE: Duration = Duration::from_secs(2);

/// What the first lane tells the others once the run has begun.
#[derive(Clone)]
pub(super) struct Go {
    pub(super) start: Start,
    /// The session to join at each host: the source's or only one, then the target's.
    pub(super) sessions: [[u8; 16]; 2],
}

/// A signal from the first lane to the others.
pub(super) struct Gate {
    sender: watch::Sender<Option<Go>>,
    receiver: watch::Receiver<Option<Go>>,
}

impl Gate {
    pub(super) fn new() -> Self {
        let (sender, receiver) = watch::channel(None);
        Self { sender, receiver }
    }

    /// The run has begun.
    pub(super) fn open(&self, go: Go) {
        self.sender.send_replace(Some(go));
    }

    /// Whether it has.
    pub(super) fn is_open(&self) -> bool {
        self.receiver.borrow().is_some()
    }

    /// Waits until it has; `None` where this lane is not needed.
    pub(super) async fn pass(&self, lane: usize, cancel: &Cancel) -> Result<Option<Go>, Error> {
        let mut receiver = self.receiver.clone();
        let opened = async { receiver.wait_for(Option::is_some).await.ok().and_then(|go| go.clone()) };
        let go = tokio::select! {
            go = opened => go,
            () = cancel.cancelled() => return Err(Error::Interrupted),
        };
        Ok(go.filter(|go| lane < to_usize(u64::from(go.start.lanes))))
    }
}

/// Runs `work` while telling the other end that this one lives, until it ends
/// or somebody asks to stop.
pub(super) async fn attend<T>(
    work: impl Future<Output = Result<T, Error>>,
    sender: &LinkSender,
    cancel: &Cancel,
) -> Result<T, Error> {
    let stop = async {
        cancel.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        done = work => done,
        Err(gone) = sender.keep_alive() => Err(gone.into()),
        () = stop => Err(Error::Interrupted),
    }
}

/// From now on this link carries a lane of the run `start`.
pub(super) async fn carry_lane(sender: &LinkSender, receiver: &mut LinkReceiver, start: &Start) {
    sender.carry_lane().await;
    // At the lowest rate that a user may ask for, a window of each lane takes long.
    let rate = start.rate_limit.map(|rate| rate.max(u64::from(limits::FRAME_RATE_MIN)));
    let windows = u64::from(start.lanes).saturating_mul(u64::from(limits::WINDOW_BYTES));
    let paced = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(windows / rate));
    receiver.limit_idleness(Some(limits::LANE_IDLE_MAX + paced));
}

/// What an export is opened for.
pub(super) struct Wanted {
    pub(super) role: Role,
    pub(super) create: Option<Create>,
    pub(super) source: Option<DiskFacts>,
}

/// Connects and opens the export.
pub(super) async fn open_export(
    remote: &Remote,
    wanted: Wanted,
    settings: &Settings,
    watch: &Watch,
) -> Result<(Connection, Opened), Error> {
    let mut connection = connect(remote, &watch.cancel).await?;
    let Wanted { role, create, source } = wanted;
    let export = remote.export().to_owned();
    let open = Open { export, role, live: settings.live, dry_run: settings.dry_run, create, source };
    connection.sender.send_message(Kind::Open, &open).await?;
    let opened: Opened = attend(
        async { Ok(connection.receiver.receive_message(Kind::Opened).await?) },
        &connection.sender,
        &watch.cancel,
    )
    .await?;
    for notice in &opened.disk.notices {
        watch.notice(notice.clone());
    }
    Ok((connection, opened))
}

/// Connects, unless somebody asks to stop meanwhile.
async fn connect(remote: &Remote, cancel: &Cancel) -> Result<Connection, Error> {
    tokio::select! {
        connection = remote.connect() => Ok(connection?),
        () = cancel.cancelled() => Err(Error::Interrupted),
    }
}

/// Begins the run at the other host, and gives the session for further lanes.
pub(super) async fn begin(
    connection: &mut Connection,
    start: &Start,
    cancel: &Cancel,
) -> Result<[u8; 16], Error> {
    connection.sender.send_message(Kind::Start, start).await?;
    let receive = async { Ok(connection.receiver.receive_message(Kind::Started).await?) };
    let started: Started = attend(receive, &connection.sender, cancel).await?;
    Ok(started.session)
}

/// One more lane of a run that has begun.
pub(super) async fn join(
    remote: &Remote,
    session: [u8; 16],
    lane: usize,
    cancel: &Cancel,
) -> Result<Connection, Error> {
    let connection = connect(remote, cancel).await?;
    let lane = u32::try_from(lane).unwrap_or(u32::MAX);
    connection.sender.send_message(Kind::Join, &Join { session, lane }).await?;
    Ok(connection)
}

/// Lanes that a run with `remotes` may have at most.
pub(super) fn lanes_for(settings: &Settings, remotes: &[&Remote]) -> usize {
    let wanted = settings.lanes.unwrap_or_else(default_lanes);
    let most = remotes.iter().map(|remote| remote.lanes_max()).min().unwrap_or(limits::LANES_MAX);
    wanted.clamp(1, most)
}

/// The start of a run of a source of `size_bytes`.
pub(super) fn start_of(
    settings: &Settings,
    digester: &Digester,
    size_bytes: u64,
    lanes: usize,
    resumed_from: Option<u64>,
    source_name: String,
) -> Start {
    let lanes = lanes.min(to_usize(Segments::new(size_bytes).count())).max(1);
    Start {
        size_bytes,
        lanes: u32::try_from(lanes).unwrap_or(1),
        digest: settings.digest,
        key: digester.key(),
        compare_until: settings.compare_until(resumed_from),
        compression: settings.compression,
        rate_limit: settings.rate_limit,
        verify: settings.verify,
        dry_run: settings.dry_run,
        whole: settings.whole,
        source_name,
    }
}

/// What the other end is told of a disk of this host.
pub(super) fn facts(disk: &Disk) -> DiskFacts {
    DiskFacts {
        name: disk.path().display().to_string(),
        kind: disk.kind(),
        size_bytes: disk.size_bytes(),
        live: disk.is_live(),
        storage: disk.storage().clone(),
        notices: disk.notices().to_vec(),
    }
}

/// The name of a disk of this host that is the same from every folder.
pub(super) fn full_name(path: &Path) -> String {
    let full = path.canonicalize().or_else(|_| std::path::absolute(path));
    full.unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// What a lane measured here, and what it was told of the other end.
#[derive(Default)]
pub(super) struct LaneDone {
    pub(super) latencies: Latencies,
    pub(super) remote: Vec<StageLatency>,
}

/// The report of a run over the network.
pub(super) fn report_of(lanes: Vec<LaneDone>, size_bytes: u64, settings: &Settings, watch: &Watch) -> Report {
    let (mut latencies, mut remote_latencies) = (Latencies::default(), Vec::new());
    let streams = lanes.len();
    for lane in lanes {
        latencies.merge(lane.latencies);
        StageLatency::join(&mut remote_latencies, lane.remote);
    }
    let verified = settings.verify && !settings.dry_run;
    let report = Report::new(size_bytes, watch.tally.counts(), &latencies, streams);
    Report { verified, dry_run: settings.dry_run, remote_latencies, ..report }
}

/// Ends a connection: with the reason where there is one that the other end
/// does not know yet.
pub(super) async fn part<T>(sender: &LinkSender, result: Result<T, Error>) -> Result<T, Error> {
    let farewell = async {
        if let Err(error) = &result
            && let Some(refused) = error.reason_for_peer()
        {
            // The other end may be gone, which is no error any more.
            drop(sender.send_message(Kind::Refused, &refused).await);
        }
        sender.close().await;
    };
    drop(tokio::time::timeout(GRACE, farewell).await);
    result
}

/// Waits for the other end to flush and verify its target.
pub(super) async fn finished(connection: &mut Connection, watch: &Watch) -> Result<Finished, Error> {
    connection.receiver.limit_idleness(None);
    let receive = async { Ok(connection.receiver.receive_message(Kind::Finished).await?) };
    let finished: Finished = attend(receive, &connection.sender, &watch.cancel).await?;
    watch.tally.absorb(finished.counts);
    Ok(finished)
}
