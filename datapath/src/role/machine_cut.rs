//! A cut through all disks of a machine at one moment.

use super::table::{Step, Table};

/// How far a cut is. `Final` ones end with a machine that stays frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MachineCut {
    /// None is being made.
    Idle,
    /// Applications are asked to settle.
    Settling(Ending),
    /// Changes are sent until few are left.
    Shrinking(Ending),
    /// Filesystems are being frozen.
    Freezing(Ending),
    /// Frozen: what is left is drained and read.
    Reading(Ending),
    /// Read: whether anything changed since.
    Checking(Ending),
    /// Being thawed, with everything read.
    Thawing,
    /// Each disk makes its point.
    AwaitingPoints,
    /// Frozen: each disk makes its final point.
    AwaitingFinalPoints,
    /// Frozen: the targets take nothing more.
    Fencing,
    /// Frozen for good, or off.
    Finished,
}

/// What comes after a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The machine goes on.
    Thaw,
    /// It stops for good.
    Stop,
}

/// What may happen to a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutEvent {
    /// A point is due, or asked for.
    Due,
    /// The last point is asked for.
    FinishOrdered,
    /// The hooks before the cut have ended, well or not.
    Settled,
    /// Few changes are left on all disks.
    Small,
    /// Changes do not get few in time.
    StaysLarge,
    /// Everything that can be frozen is.
    Froze,
    /// Something could not be frozen in time.
    NotFrozen,
    /// What was left is in memory.
    Read,
    /// More is left than there is memory or time for.
    TooMuch,
    /// Nothing changed since it was read.
    Unchanged,
    /// Something did: a writer that no freeze stops.
    ChangedAgain,
    /// Thawed, and frozen until then.
    ThawedWell,
    /// Thawed by something else before.
    ThawedEarly,
    /// All disks have their point.
    PointOnAll,
    /// A disk has lost its connection, or its cut.
    DiskLost,
    /// All targets take nothing more.
    FencedOnAll,
}

/// What is to be done for a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutAction {
    /// Ask applications to settle.
    RunPreHooks,
    /// Tell them that it is over.
    RunPostHooks,
    /// Drain, read and send, round after round.
    SendRounds,
    /// Freeze within the budget.
    Freeze,
    /// Freeze, and hold it until told otherwise.
    FreezeAndHold,
    /// Drain every disk, and read what was drained into locked memory.
    ReadRemainder,
    /// Drain every disk once more.
    DrainAgain,
    /// Thaw.
    Thaw,
    /// Every disk ends its epoch with what was read.
    CloseEpochs,
    /// No disk ends its epoch; what was drained is dirty again.
    VoidEpochs,
    /// The point is one of the machine.
    Announce,
    /// All targets are to take nothing more.
    FenceAll,
    /// Power off, where that was asked for.
    PowerOff,
    /// Say that no point was made, and why.
    ReportSkipped,
    /// Say that the machine runs again without its final point.
    AlarmVoid,
}

use CutAction as Do;
use CutEvent as On;
use Ending::{Stop, Thaw};

impl Table for MachineCut {
    type Event = CutEvent;
    type Action = CutAction;

    const STATES: &'static [Self] = &[
        Self::Idle,
        Self::Settling(Thaw),
        Self::Settling(Stop),
        Self::Shrinking(Thaw),
        Self::Shrinking(Stop),
        Self::Freezing(Thaw),
        Self::Freezing(Stop),
        Self::Reading(Thaw),
        Self::Reading(Stop),
        Self::Checking(Thaw),
        Self::Checking(Stop),
        Self::Thawing,
        Self::AwaitingPoints,
        Self::AwaitingFinalPoints,
        Self::Fencing,
        Self::Finished,
    ];

    const EVENTS: &'static [CutEvent] = &[
        On::Due,
        On::FinishOrdered,
        On::Settled,
        On::Small,
        On::StaysLarge,
        On::Froze,
        On::NotFrozen,
        On::Read,
        On::TooMuch,
        On::Unchanged,
        On::ChangedAgain,
        On::ThawedWell,
        On::ThawedEarly,
        On::PointOnAll,
        On::DiskLost,
        On::FencedOnAll,
    ];

    fn on(self, event: CutEvent) -> Step<Self> {
        self.on_failure(event).unwrap_or_else(|| self.on_success(event))
    }
}

impl MachineCut {
    /// Whether the machine is frozen by this cut.
    #[must_use]
    pub const fn is_frozen(self) -> bool {
        matches!(
            self,
            Self::Reading(_) | Self::Checking(_) | Self::AwaitingFinalPoints | Self::Fencing | Self::Finished
        )
    }

    /// Shrinking comes before settling: applications wait as short as they can.
    fn on_success(self, event: CutEvent) -> Step<Self> {
        match (self, event) {
            (Self::Idle, On::Due) => Step::to(Self::Shrinking(Thaw), &[Do::SendRounds]),
            (Self::Idle, On::FinishOrdered) => Step::to(Self::Shrinking(Stop), &[Do::SendRounds]),
            (Self::Shrinking(ending), On::Small) => Step::to(Self::Settling(ending), &[Do::RunPreHooks]),
            // A final cut has time: its machine stops anyway.
            (Self::Shrinking(Stop), On::StaysLarge) => Step::to(self, &[Do::SendRounds]),
            (Self::Settling(Thaw), On::Settled) => Step::to(Self::Freezing(Thaw), &[Do::Freeze]),
            (Self::Settling(Stop), On::Settled) => Step::to(Self::Freezing(Stop), &[Do::FreezeAndHold]),
            (Self::Freezing(ending), On::Froze) => Step::to(Self::Reading(ending), &[Do::ReadRemainder]),
            (Self::Reading(ending), On::Read) => Step::to(Self::Checking(ending), &[Do::DrainAgain]),
            (Self::Checking(ending), On::ChangedAgain) => {
                Step::to(Self::Reading(ending), &[Do::ReadRemainder])
            }
            (Self::Checking(Thaw), On::Unchanged) => Step::to(Self::Thawing, &[Do::Thaw]),
            (Self::Checking(Stop), On::Unchanged) => Step::to(Self::AwaitingFinalPoints, &[Do::CloseEpochs]),
            (Self::Thawing, On::ThawedWell) => {
                Step::to(Self::AwaitingPoints, &[Do::CloseEpochs, Do::RunPostHooks])
            }
            (Self::AwaitingPoints, On::PointOnAll) => Step::to(Self::Idle, &[Do::Announce]),
            (Self::AwaitingFinalPoints, On::PointOnAll) => Step::to(Self::Fencing, &[Do::FenceAll]),
            (Self::Fencing, On::FencedOnAll) => Step::to(Self::Finished, &[Do::Announce, Do::PowerOff]),
            _ => Step::to(self, &[]),
        }
    }

    fn on_failure(self, event: CutEvent) -> Option<Step<Self>> {
        let step = match (self, event) {
            (Self::Shrinking(Thaw), On::StaysLarge) | (Self::Shrinking(_), On::DiskLost) => {
                Step::to(Self::Idle, &[Do::VoidEpochs, Do::ReportSkipped])
            }
            (Self::Settling(_), On::DiskLost) | (Self::Freezing(_), On::NotFrozen) => {
                Step::to(Self::Idle, &[Do::VoidEpochs, Do::RunPostHooks, Do::ReportSkipped])
            }
            // The freeze answers first: it is bounded, and must be undone where it came about.
            (Self::Freezing(_), On::DiskLost) => Step::to(self, &[]),
            (Self::Reading(_) | Self::Checking(_), On::TooMuch | On::DiskLost) => {
                Step::to(Self::Idle, &[Do::Thaw, Do::VoidEpochs, Do::RunPostHooks, Do::ReportSkipped])
            }
            (Self::Reading(_) | Self::Checking(_) | Self::Thawing, On::ThawedEarly) => {
                Step::to(Self::Idle, &[Do::VoidEpochs, Do::RunPostHooks, Do::ReportSkipped])
            }
            // Each disk gives its cut up by itself; some may have their point, but
            // it is none of the machine.
            (Self::AwaitingPoints, On::DiskLost) => Step::to(Self::Idle, &[Do::ReportSkipped]),
            (Self::AwaitingFinalPoints, On::DiskLost) => Step::to(
                Self::Idle,
                &[Do::Thaw, Do::VoidEpochs, Do::RunPostHooks, Do::ReportSkipped, Do::AlarmVoid],
            ),
            (Self::AwaitingFinalPoints, On::ThawedEarly) => {
                Step::to(Self::Idle, &[Do::VoidEpochs, Do::RunPostHooks, Do::ReportSkipped, Do::AlarmVoid])
            }
            // The point exists and no target goes on from it by mistake; but the
            // machine runs, so people must choose.
            (Self::Fencing | Self::Finished, On::ThawedEarly) => Step::to(self, &[Do::AlarmVoid]),
            _ => return None,
        };
        Some(step)
    }
}
