//! The source is here, the target on another host.

use std::sync::{Arc, OnceLock};

use super::initiate::{
    Gate, Go, LaneDone, Wanted, begin, facts, finished, join, lanes_for, open_export, part, report_of,
    start_of,
};
use super::source::SourceSide;
use super::{Error, Failure, Phase, Report, Settings, TargetState, Watch, first_error};
use crate::disk::Disk;
use crate::pipeline::{Digester, Share, Throttle, run_lanes};
use crate::telemetry::{Meter, StageLatency};
use crate::unit::to_usize;
use crate::wire::{Connection, Create, Remote, Role};

/// Makes the export at `remote` hold what `source` holds.
///
/// # Errors
/// [`Failure`] says why it ended and what is known of the target.
pub fn push(
    source: Disk,
    remote: &Remote,
    create: Option<Create>,
    settings: &Settings,
    watch: &Watch,
) -> Result<Report, Failure> {
    let untouched = |error| Failure { error, target: TargetState::Untouched };
    super::announce_source(&source, settings, watch).map_err(untouched)?;
    let digester = super::new_digester(settings).map_err(untouched)?;
    let lanes = lanes_for(settings, &[remote]);
    let push = Push {
        source: Arc::new(source),
        remote,
        create,
        settings,
        watch,
        digester,
        throttle: Throttle::new(settings.rate_limit),
        gate: Gate::new(),
        resumed_from: OnceLock::new(),
    };
    let done = first_error(run_lanes(lanes, &watch.cancel, async |lane| push.lane(lane, lanes).await));
    match done {
        Ok(lanes) => Ok(push.report(lanes.into_iter().flatten().collect())),
        Err(error) => Err(Failure { target: TargetState::of_remote(&error, push.gate.is_open()), error }),
    }
}

struct Push<'a> {
    source: Arc<Disk>,
    remote: &'a Remote,
    create: Option<Create>,
    settings: &'a Settings,
    watch: &'a Watch,
    digester: Digester,
    throttle: Throttle,
    gate: Gate,
    resumed_from: OnceLock<u64>,
}

impl Push<'_> {
    /// One lane, on its own thread: the first opens the export and begins the
    /// run, the others join it.
    async fn lane(&self, lane: usize, lanes: usize) -> Result<Option<LaneDone>, Error> {
        if lane == 0 {
            let (mut connection, go) = self.begin(lanes).await?;
            let led = self.lead(&go, &mut connection).await;
            return part(&connection.sender, led).await.map(Some);
        }
        let Some(go) = self.gate.pass(lane, &self.watch.cancel).await? else { return Ok(None) };
        let mut connection = join(self.remote, go.sessions[0], lane, &self.watch.cancel).await?;
        let copied = self.copy(&go, lane, &mut connection).await;
        part(&connection.sender, copied).await.map(Some)
    }

    async fn begin(&self, lanes: usize) -> Result<(Connection, Go), Error> {
        let source = facts(&self.source);
        let wanted = Wanted { role: Role::Target, create: self.create, source: Some(source.clone()) };
        let (mut connection, opened) = open_export(self.remote, wanted, self.settings, self.watch).await?;
        super::check_kind(&opened.disk, self.settings)?;
        super::check_facts(&source, &opened.disk, self.watch)?;
        if let Some(cursor) = opened.resumed_from {
            self.resumed_from.get_or_init(|| cursor);
            self.watch.notice(super::resuming(&opened.disk.name, cursor));
        }
        let size_bytes = self.source.size_bytes();
        let name = super::full_name(self.source.path());
        let start = start_of(self.settings, &self.digester, size_bytes, lanes, opened.resumed_from, name);
        let session = begin(&mut connection, &start, &self.watch.cancel).await?;
        let go = Go { start, sessions: [session; 2] };
        self.gate.open(go.clone());
        self.watch.enter(Phase::Copy);
        Ok((connection, go))
    }

    /// The first lane also waits for the end of the whole run.
    async fn lead(&self, go: &Go, connection: &mut Connection) -> Result<LaneDone, Error> {
        let mut done = self.copy(go, 0, connection).await?;
        self.watch.enter(if go.start.verify { Phase::Verify } else { Phase::Flush });
        StageLatency::join(&mut done.remote, finished(connection, self.watch).await?.latencies);
        Ok(done)
    }

    async fn copy(&self, go: &Go, lane: usize, connection: &mut Connection) -> Result<LaneDone, Error> {
        let side = SourceSide {
            disk: Arc::clone(&self.source),
            start: go.start.clone(),
            throttle: self.throttle.clone(),
            cancel: self.watch.cancel.clone(),
            share: Arc::new(Share::whole(to_usize(u64::from(go.start.lanes)))),
        };
        let meter = Meter::new(Arc::clone(&self.watch.tally));
        let lane = u32::try_from(lane).unwrap_or(u32::MAX);
        let end = side.run(lane, &connection.sender, &mut connection.receiver, &meter).await?;
        self.watch.absorb(&end);
        Ok(LaneDone { latencies: meter.take_latencies(), remote: end.latencies })
    }

    fn report(&self, lanes: Vec<LaneDone>) -> Report {
        let fuzzy = self.source.is_live();
        let resumed_from = self.resumed_from.get().copied();
        Report {
            fuzzy,
            resumed_from,
            ..report_of(lanes, self.source.size_bytes(), self.settings, self.watch)
        }
    }
}
