//! The source is on another host, the target here.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::initiate::{
    Gate, Go, LaneDone, Wanted, begin, facts, join, lanes_for, open_export, part, report_of, start_of,
};
use super::target::TargetSide;
use super::target_run::TargetRun;
use super::verify::Expected;
use super::{Error, Failure, Phase, Report, Settings, TargetState, Watch, first_error};
use crate::disk::Disk;
use crate::pipeline::{Digester, Share, run_lanes};
use crate::telemetry::Meter;
use crate::unit::to_usize;
use crate::wire::{Connection, DiskFacts, Remote, Role};

/// Makes `target` hold what the export at `remote` holds. The target is opened
/// by `open_target` once the source's size is known, because a new image is
/// made of that size.
///
/// # Errors
/// [`Failure`] says why it ended and what state the target is in.
pub fn pull<F>(remote: &Remote, open_target: F, settings: &Settings, watch: &Watch) -> Result<Report, Failure>
where
    F: Fn(u64) -> Result<Disk, Error> + Sync,
{
    let untouched = |error| Failure { error, target: TargetState::Untouched };
    let digester = super::new_digester(settings).map_err(untouched)?;
    let lanes = lanes_for(settings, &[remote]);
    let pull = Pull {
        remote,
        open_target,
        settings,
        watch,
        digester,
        gate: Gate::new(),
        begun: OnceLock::new(),
        expected: Arc::default(),
    };
    let done = first_error(run_lanes(lanes, &watch.cancel, async |lane| pull.lane(lane, lanes).await));
    let ended = done.and_then(|lanes| pull.finish(lanes.into_iter().flatten().collect()));
    ended.map_err(|error| match pull.begun.get() {
        Some(begun) => begun.target.fail(error, watch),
        None => untouched(error),
    })
}

struct Pull<'a, F> {
    remote: &'a Remote,
    open_target: F,
    settings: &'a Settings,
    watch: &'a Watch,
    digester: Digester,
    gate: Gate,
    begun: OnceLock<Begun>,
    expected: Arc<Mutex<Expected>>,
}

/// What stands once the first byte may be written.
struct Begun {
    target: Arc<TargetRun>,
    source: DiskFacts,
    share: Arc<Share>,
}

impl<F: Fn(u64) -> Result<Disk, Error> + Sync> Pull<'_, F> {
    async fn lane(&self, lane: usize, lanes: usize) -> Result<Option<LaneDone>, Error> {
        let (mut connection, go) = if lane == 0 {
            self.begin(lanes).await?
        } else {
            let Some(go) = self.gate.pass(lane, &self.watch.cancel).await? else { return Ok(None) };
            (join(self.remote, go.sessions[0], lane, &self.watch.cancel).await?, go)
        };
        let copied = self.copy(&go, lane, &mut connection).await;
        part(&connection.sender, copied).await.map(Some)
    }

    async fn begin(&self, lanes: usize) -> Result<(Connection, Go), Error> {
        let wanted = Wanted { role: Role::Source, create: None, source: None };
        let (mut connection, opened) = open_export(self.remote, wanted, self.settings, self.watch).await?;
        let prepared = self.prepare(&opened.disk, lanes);
        let (target, go) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return part(&connection.sender, Err(error)).await,
        };
        // First of all known, so that whatever fails from here on leaves it in order.
        let share = Arc::new(Share::whole(to_usize(u64::from(go.start.lanes))));
        self.begun.get_or_init(|| Begun { target: Arc::new(target), source: opened.disk, share });
        let session = begin(&mut connection, &go.start, &self.watch.cancel).await?;
        let go = Go { sessions: [session; 2], ..go };
        self.gate.open(go.clone());
        self.watch.enter(Phase::Copy);
        Ok((connection, go))
    }

    fn prepare(&self, source: &DiskFacts, lanes: usize) -> Result<(TargetRun, Go), Error> {
        let target = Arc::new((self.open_target)(source.size_bytes)?);
        super::check_kind(&facts(&target), self.settings)?;
        super::check_facts(source, &facts(&target), self.watch)?;
        for notice in target.notices() {
            self.watch.notice(notice.clone());
        }
        let (size_bytes, name) = (source.size_bytes, self.remote.location().to_string());
        let target = TargetRun::begin(target, &name, size_bytes, self.settings, self.watch)?;
        let start = start_of(self.settings, &self.digester, size_bytes, lanes, target.resumed_from, name);
        Ok((target, Go { start, sessions: [[0; 16]; 2] }))
    }

    async fn copy(&self, go: &Go, lane: usize, connection: &mut Connection) -> Result<LaneDone, Error> {
        let Some(begun) = self.begun.get() else { return Err(Error::Interrupted) };
        let side = TargetSide {
            run: Arc::clone(&begun.target),
            start: go.start.clone(),
            cancel: self.watch.cancel.clone(),
            share: Arc::clone(&begun.share),
            expected: Arc::clone(&self.expected),
        };
        let meter = Meter::new(Arc::clone(&self.watch.tally));
        let lane = u32::try_from(lane).unwrap_or(u32::MAX);
        let end = side.run(lane, &connection.sender, &mut connection.receiver, &meter).await?;
        self.watch.absorb(&end);
        Ok(LaneDone { latencies: meter.take_latencies(), remote: end.latencies })
    }

    fn finish(&self, mut lanes: Vec<LaneDone>) -> Result<Report, Error> {
        let Some(begun) = self.begun.get() else { return Err(Error::Interrupted) };
        let expected = std::mem::take(&mut *self.expected.lock().unwrap_or_else(PoisonError::into_inner));
        let verification = self.settings.verify.then_some((&self.digester, &expected));
        let latencies = begun.target.finish(verification, &begun.share, self.watch)?;
        if let Some(first) = lanes.first_mut() {
            first.latencies.merge(latencies);
        }
        let resumed_from = begun.target.resumed_from;
        let fuzzy = begun.source.live || self.watch.saw_live_source();
        Ok(Report {
            fuzzy,
            resumed_from,
            ..report_of(lanes, begun.source.size_bytes, self.settings, self.watch)
        })
    }
}
