//! The first connection of a run: opens the export, begins, waits for all
//! lanes, finishes.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::session::{LaneEvent, Session, Side};
use super::{ServeEvent, Server};
use crate::disk::{Disk, Purpose};
use crate::limits;
use crate::pipeline::{Cancel, Digester, Share, Throttle};
use crate::resync::initiate::{attend, facts, part};
use crate::resync::source::SourceSide;
use crate::resync::target::TargetSide;
use crate::resync::target_run::TargetRun;
use crate::resync::{
    Error, NewImage, SOURCE_POOLS, Settings, TARGET_POOLS, TargetState, Watch, check_facts, source_notices,
};
use crate::unit::to_usize;
use crate::wire::{Finished, Kind, LinkReceiver, LinkSender, Open, Opened, Role, Start, Started};

/// How long the leader waits for lanes to end after it cancelled them.
const LANES_END_WITHIN: Duration = Duration::from_secs(10);

impl Server {
    pub(super) async fn lead(
        &self,
        open: Open,
        sender: &LinkSender,
        receiver: &mut LinkReceiver,
        fingerprint: String,
    ) -> Result<(), Error> {
        let peer = receiver.peer().to_owned();
        let (disk, mut made) = self.open_export(&open)?;
        let disk = Arc::new(disk);
        let resumed_from = self.describe(&open, &disk, sender).await?;
        // Signs of life alone do not keep an export claimed.
        let wait = tokio::time::timeout(limits::PEER_SILENCE_MAX, receiver.receive_message(Kind::Start));
        let start: Start = wait.await.map_err(|_| Error::LaneMissing)??;
        check_start(&start, &open, &disk, resumed_from)?;
        let share = Arc::new(self.share(&open, &start, sender).await?);
        // A run of its own cancel, so that one failing run stops no other.
        let cancel = Cancel::default();
        let (watch, _notices) = Watch::new(cancel.clone());
        let begun = Start { source_name: format!("{peer}:{}", start.source_name), ..start.clone() };
        let side = self.side(&open, &begun, disk, share, &watch)?;
        let target = match &side {
            Side::Target(side) => Some(side.clone()),
            Side::Source(_) => None,
        };
        let role = if target.is_some() { "target" } else { "source" };
        let (session, events) = Session::new(side, cancel, start.lanes, fingerprint);
        let number = self.sessions.insert(Arc::clone(&session))?;
        (self.observe)(ServeEvent::Begun { peer: peer.clone(), export: open.export.clone(), role });
        let led = async {
            sender.send_message(Kind::Started, &Started { session: number }).await?;
            self.run_all(&session, events, start.lanes, sender, receiver).await?;
            match &target {
                Some(target) => finish(target, &start, &watch, sender).await,
                None => Ok(()),
            }
        };
        let led = match led.await {
            Ok(()) => Ok(()),
            Err(error) => Err(give_up(error, target, watch, sender).await),
        };
        if led.as_ref().err().is_none_or(changed_target) {
            made.keep();
        }
        // A server that is asked to stop waits for its runs: not before the
        // target is in order and the peer knows does this one count as ended.
        let led = part(sender, led).await;
        self.sessions.remove(number);
        led?;
        (self.observe)(ServeEvent::Ended { peer, export: open.export });
        Ok(())
    }

    fn open_export(&self, open: &Open) -> Result<(Disk, NewImage), Error> {
        let purpose = match (open.role, open.dry_run) {
            (Role::Source, _) => Purpose::Source { live: open.live },
            (Role::Target, true) => Purpose::Rehearsal,
            (Role::Target, false) => Purpose::Target,
        };
        let size_bytes = open.source.as_ref().map_or(0, |source| source.size_bytes);
        let create = open.create.filter(|_| size_bytes > 0).map(|create| (create, size_bytes));
        self.exports.find(&open.export)?.open(open.role, purpose, create)
    }

    /// Tells the peer what was opened; refuses a pair that does not fit.
    async fn describe(
        &self,
        open: &Open,
        disk: &Arc<Disk>,
        sender: &LinkSender,
    ) -> Result<Option<u64>, Error> {
        let mut described = facts(disk);
        let (watch, _notices) = Watch::new(Cancel::default());
        let resumed_from = match (&open.source, open.role) {
            (Some(source), Role::Target) => {
                check_facts(source, &described, &watch)?;
                self.state.mark(disk.identity())?.map(|mark| mark.body().cursor_bytes)
            }
            (None, Role::Target) => {
                return Err(Error::Export {
                    reason: "a target is opened with the facts of its source".to_owned(),
                });
            }
            (_, Role::Source) => {
                described.notices = source_notices(disk, &self.state)?;
                None
            }
        };
        sender.send_message(Kind::Opened, &Opened { disk: described, resumed_from }).await?;
        Ok(resumed_from)
    }

    /// Buffers for a run, of those that all runs of this server share.
    async fn share(&self, open: &Open, start: &Start, sender: &LinkSender) -> Result<Share, Error> {
        let pools: &[usize] = match open.role {
            Role::Source => &SOURCE_POOLS,
            Role::Target => &TARGET_POOLS,
        };
        let share = self.buffers.share(to_usize(u64::from(start.lanes)), pools, limits::BUFFERS_WITHIN);
        attend(async { share.await.ok_or(Error::Busy) }, sender, &self.cancel).await
    }

    fn side(
        &self,
        open: &Open,
        start: &Start,
        disk: Arc<Disk>,
        share: Arc<Share>,
        watch: &Watch,
    ) -> Result<Side, Error> {
        let (start, cancel) = (start.clone(), watch.cancel.clone());
        if open.role == Role::Source {
            let throttle = Throttle::new(start.rate_limit);
            return Ok(Side::Source(SourceSide { disk, start, throttle, share, cancel }));
        }
        let settings = Settings {
            whole: start.whole,
            digest: start.digest,
            compression: start.compression,
            lanes: None,
            rate_limit: None,
            verify: start.verify,
            dry_run: start.dry_run || open.dry_run,
            live: false,
            format: None,
            state: self.state.clone(),
        };
        let run = Arc::new(TargetRun::begin(disk, &start.source_name, start.size_bytes, &settings, watch)?);
        Ok(Side::Target(TargetSide { run, start, cancel, share, expected: Arc::default() }))
    }

    /// Runs the first lane here and waits for the others.
    async fn run_all(
        &self,
        session: &Session,
        mut events: mpsc::Receiver<LaneEvent>,
        lanes: u32,
        sender: &LinkSender,
        receiver: &mut LinkReceiver,
    ) -> Result<(), Error> {
        let stop = async {
            self.cancel.cancelled().await;
            session.cancel.cancel();
            std::future::pending::<()>().await;
        };
        let mine = async {
            let ended = session.run(0, sender, receiver).await;
            if ended.is_err() {
                session.cancel.cancel();
            }
            ended
        };
        let mut others = Others { missing: lanes.saturating_sub(1), running: 0, first_error: None };
        let unstopped = Cancel::default();
        let both =
            async { tokio::join!(mine, attend(others.wait(&mut events, session), sender, &unstopped)) };
        let (mine, waited) = tokio::select! {
            both = both => both,
            () = stop => return Err(Error::Interrupted),
        };
        let errors = [others.first_error.take(), mine.err(), waited.err()];
        let mut errors: Vec<Error> = errors.into_iter().flatten().collect();
        // The error that started the end, not the interruptions it caused.
        let first = errors.iter().position(|error| !error.is_interruption()).unwrap_or(0);
        if errors.is_empty() { Ok(()) } else { Err(errors.swap_remove(first)) }
    }
}

/// Leaves the target in order.
async fn give_up(error: Error, target: Option<TargetSide>, watch: Watch, sender: &LinkSender) -> Error {
    let Some(target) = target else { return error };
    let failure = aside(move || target.run.fail(error, &watch), sender).await;
    failure.map_or(Error::Interrupted, |failure| Error::Failed(Box::new(failure)))
}

fn changed_target(error: &Error) -> bool {
    matches!(error, Error::Failed(failure) if failure.target != TargetState::Untouched)
}

/// Does `work` on a thread of its own, because it runs rings of its own, while
/// the peer is told that this end lives. A peer that is gone meanwhile does not
/// keep the target from what it still does. `None` where the thread panicked.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    sender: &LinkSender,
) -> Option<T> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || drop(tell.send(work())));
    let unstopped = Cancel::default();
    let alive = attend(std::future::pending::<Result<(), Error>>(), sender, &unstopped);
    tokio::pin!(told);
    tokio::select! {
        done = &mut told => done.ok(),
        _ = alive => told.await.ok(),
    }
}

/// The lanes other than the first.
struct Others {
    missing: u32,
    running: u32,
    first_error: Option<Error>,
}

impl Others {
    async fn wait(&mut self, events: &mut mpsc::Receiver<LaneEvent>, session: &Session) -> Result<(), Error> {
        while self.missing + self.running > 0 {
            let within = if self.missing > 0 { limits::PEER_SILENCE_MAX } else { Duration::MAX };
            let event = tokio::select! {
                biased;
                event = tokio::time::timeout(within, events.recv()) => event,
                // Lanes that have not come by now are not waited for: the target
                // is let go of as soon as those that run have ended.
                () = session.cancel.cancelled(), if self.missing > 0 => {
                    self.missing = 0;
                    continue;
                }
                () = async {
                    session.cancel.cancelled().await;
                    tokio::time::sleep(LANES_END_WITHIN).await;
                } => return Err(Error::Interrupted),
            };
            match event {
                Ok(Some(LaneEvent::Joined)) => {
                    self.missing = self.missing.saturating_sub(1);
                    self.running += 1;
                }
                Ok(Some(LaneEvent::Ended(ended))) => {
                    self.running = self.running.saturating_sub(1);
                    if let Err(error) = ended {
                        self.missing = 0;
                        self.first_error.get_or_insert(error);
                    }
                }
                Ok(None) | Err(_) => {
                    session.cancel.cancel();
                    return Err(Error::LaneMissing);
                }
            }
            if session.cancel.is_cancelled() {
                self.missing = 0;
            }
        }
        Ok(())
    }
}

/// Flushes and verifies the target, and says that it is whole.
async fn finish(target: &TargetSide, start: &Start, watch: &Watch, sender: &LinkSender) -> Result<(), Error> {
    let (target, begun, watching) = (target.clone(), start.clone(), watch.clone());
    let work = move || {
        let digester = Digester::new(begun.digest, begun.key);
        let expected = std::mem::take(&mut *target.expected.lock().unwrap_or_else(PoisonError::into_inner));
        let verification = begun.verify.then_some((&digester, &expected));
        target.run.finish(verification, &target.share, &watching)
    };
    let latencies = aside(work, sender).await.unwrap_or(Err(Error::Interrupted))?;
    let finished = Finished { counts: watch.tally.counts(), latencies: latencies.report() };
    // The target is whole whether or not anybody is left to hear of it.
    drop(sender.send_message(Kind::Finished, &finished).await);
    Ok(())
}

/// Checks a start against what was opened.
fn check_start(start: &Start, open: &Open, disk: &Disk, resumed_from: Option<u64>) -> Result<(), Error> {
    let refuse = |reason: &str| Err(Error::Export { reason: format!("this run cannot begin: {reason}") });
    if start.lanes == 0 || to_usize(u64::from(start.lanes)) > limits::LANES_MAX {
        return refuse("it has no lanes, or too many");
    }
    let fits = match open.role {
        Role::Source => start.size_bytes == disk.size_bytes(),
        Role::Target => open.source.as_ref().is_some_and(|source| source.size_bytes == start.size_bytes),
    };
    if start.size_bytes == 0 || !fits {
        return refuse("its size is not the source's");
    }
    let behind_cursor = resumed_from.is_none_or(|cursor| start.compare_until >= cursor);
    if !behind_cursor {
        return refuse("it does not compare what an earlier run left");
    }
    if start.dry_run != open.dry_run && open.dry_run {
        return refuse("the export was opened for a dry run only");
    }
    Ok(())
}
