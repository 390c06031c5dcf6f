//! Source and target are on two other hosts: this one passes frames on.

use std::sync::OnceLock;

use super::initiate::{
    Gate, Go, LaneDone, Wanted, attend, begin, carry_lane, finished, join, lanes_for, open_export, part,
    report_of, start_of,
};
use super::lane_progress::LaneProgress;
use super::{Error, Failure, Phase, Report, Settings, TargetState, Watch, first_error};
use crate::limits;
use crate::pipeline::{Digester, run_lanes};
use crate::telemetry::{Counter, StageLatency};
use crate::unit::to_usize;
use crate::wire::{Connection, Create, DiskFacts, End, Kind, LinkReceiver, LinkSender, Remote, Role, Start};

/// Makes the export at `target` hold what the export at `source` holds.
///
/// # Errors
/// [`Failure`] says why it ended and what is known of the target.
pub fn relay(
    source: &Remote,
    target: &Remote,
    create: Option<Create>,
    settings: &Settings,
    watch: &Watch,
) -> Result<Report, Failure> {
    let untouched = |error| Failure { error, target: TargetState::Untouched };
    let digester = super::new_digester(settings).map_err(untouched)?;
    let lanes = lanes_for(settings, &[source, target]);
    let relay = Relay {
        source,
        target,
        create,
        settings,
        watch,
        digester,
        gate: Gate::new(),
        begun: OnceLock::new(),
    };
    let done = first_error(run_lanes(lanes, &watch.cancel, async |lane| relay.lane(lane, lanes).await));
    match done {
        Ok(lanes) => Ok(relay.report(lanes.into_iter().flatten().collect())),
        Err(error) => Err(Failure { target: TargetState::of_remote(&error, relay.gate.is_open()), error }),
    }
}

struct Relay<'a> {
    source: &'a Remote,
    target: &'a Remote,
    create: Option<Create>,
    settings: &'a Settings,
    watch: &'a Watch,
    digester: Digester,
    gate: Gate,
    begun: OnceLock<(DiskFacts, Option<u64>)>,
}

/// The two connections of a lane.
struct Both {
    source: Connection,
    target: Connection,
}

impl Relay<'_> {
    async fn lane(&self, lane: usize, lanes: usize) -> Result<Option<LaneDone>, Error> {
        let (mut both, start) = if lane == 0 {
            self.begin(lanes).await?
        } else {
            let Some(go) = self.gate.pass(lane, &self.watch.cancel).await? else { return Ok(None) };
            let source = join(self.source, go.sessions[0], lane, &self.watch.cancel).await?;
            let target = join(self.target, go.sessions[1], lane, &self.watch.cancel).await?;
            (Both { source, target }, go.start)
        };
        carry_lane(&both.source.sender, &mut both.source.receiver, &start).await;
        carry_lane(&both.target.sender, &mut both.target.receiver, &start).await;
        let passed = self.pass(lane, &mut both).await;
        let passed = part(&both.source.sender, passed).await;
        part(&both.target.sender, passed).await.map(Some)
    }

    async fn begin(&self, lanes: usize) -> Result<(Both, Start), Error> {
        let wanted = Wanted { role: Role::Source, create: None, source: None };
        let (mut source, opened_source) = open_export(self.source, wanted, self.settings, self.watch).await?;
        let facts = opened_source.disk;
        let wanted = Wanted { role: Role::Target, create: self.create, source: Some(facts.clone()) };
        let (mut target, opened) = open_export(self.target, wanted, self.settings, self.watch).await?;
        super::check_kind(&opened.disk, self.settings)?;
        super::check_facts(&facts, &opened.disk, self.watch)?;
        if let Some(cursor) = opened.resumed_from {
            self.watch.notice(super::resuming(&opened.disk.name, cursor));
        }
        let (size_bytes, name) = (facts.size_bytes, self.source.location().to_string());
        let start = start_of(self.settings, &self.digester, size_bytes, lanes, opened.resumed_from, name);
        // The target first: it marks itself before the source sends anything.
        let target_session = begin(&mut target, &start, &self.watch.cancel).await?;
        let source_session = begin(&mut source, &start, &self.watch.cancel).await?;
        self.begun.get_or_init(|| (facts, opened.resumed_from));
        self.gate.open(Go { start: start.clone(), sessions: [source_session, target_session] });
        self.watch.enter(Phase::Copy);
        Ok((Both { source, target }, start))
    }

    /// Passes frames both ways until both ends have ended their lane.
    async fn pass(&self, lane: usize, both: &mut Both) -> Result<LaneDone, Error> {
        let Both { source, target } = both;
        let forth = self.forward(&mut source.receiver, &target.sender);
        let back = self.forward(&mut target.receiver, &source.sender);
        let work = attend(async { tokio::try_join!(forth, back) }, &source.sender, &self.watch.cancel);
        let (mut remote, more) = attend(work, &target.sender, &self.watch.cancel).await?;
        StageLatency::join(&mut remote, more);
        if lane == 0 {
            self.watch.enter(if self.settings.verify { Phase::Verify } else { Phase::Flush });
            StageLatency::join(&mut remote, finished(target, self.watch).await?.latencies);
        }
        Ok(LaneDone { remote, ..LaneDone::default() })
    }

    async fn forward(&self, from: &mut LinkReceiver, to: &LinkSender) -> Result<Vec<StageLatency>, Error> {
        let (mut payload, mut progress) = (Vec::new(), LaneProgress::default());
        loop {
            let header = from.receive().await?;
            if header.kind == Kind::End {
                let end: End = from.body(header).await?;
                to.send_message(Kind::End, &end).await?;
                self.watch.absorb(&end);
                return Ok(end.latencies);
            }
            // Bounded by the kind when the header was received.
            payload.resize(to_usize(u64::from(header.payload_bytes.min(limits::FRAME_PAYLOAD_MAX))), 0);
            from.read(&mut payload).await?;
            to.send(header, &[&payload]).await?;
            if matches!(header.kind, Kind::Data | Kind::Zero | Kind::SegmentDone) {
                self.watch.tally.add(Counter::BytesDone, progress.reach(header.extent));
            }
        }
    }

    fn report(&self, lanes: Vec<LaneDone>) -> Report {
        let (size_bytes, fuzzy) = self
            .begun
            .get()
            .map_or((0, false), |(facts, _)| (facts.size_bytes, facts.live || self.watch.saw_live_source()));
        let resumed_from = self.begun.get().and_then(|(_, cursor)| *cursor);
        Report { fuzzy, resumed_from, ..report_of(lanes, size_bytes, self.settings, self.watch) }
    }
}
