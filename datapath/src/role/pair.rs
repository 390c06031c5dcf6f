//! A protected disk and its target, as the master target sees them.

use super::table::{Step, Table};
use crate::journal::PairState;

/// Where a pair stands; the names are those of the workflow's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pair {
    /// No point, and no synchronization under way: never offered as a disk.
    Corrupted,
    /// The first synchronization is under way.
    Reprotecting,
    /// Deltas land, points are made.
    FailbackProtected,
    /// It has points; its agent is away.
    Disconnected,
    /// It has points; a synchronization was begun and not finished.
    ResyncRequired,
    /// It has points, and is being compared as a whole.
    Resyncing,
    /// The source has stopped for good.
    Fenced,
    /// Its target or its journal failed: an operator must look.
    Failed,
}

impl Pair {
    /// Whether the two disks are being compared, or must be.
    pub(super) const fn is_compared(self) -> bool {
        matches!(self, Self::Reprotecting | Self::ResyncRequired | Self::Resyncing)
    }
}

/// What may happen to a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairEvent {
    /// An agent that knows every change since the pair's position.
    AgentContinues,
    /// An agent that will offer every chunk.
    AgentSynchronizes,
    /// An agent that knows another generation, size or chunk: or none that is allowed.
    AgentUnfit,
    /// A session while there is one.
    SecondSession,
    /// The session is over, however.
    SessionEnded,
    /// A delta that follows on the last one.
    DeltaCame,
    /// A delta with other bytes than its digests were made of.
    DeltaDamaged,
    /// A delta for another generation or epoch, or after a gap.
    DeltaOutOfPlace,
    /// Digests of chunks that the source holds.
    OfferCame,
    /// A cut whose deltas have all landed, with the manifest that was found here.
    CutFits,
    /// Any other cut.
    CutUnfit,
    /// The source has stopped at the newest point, a final one.
    FenceFits,
    /// Any other fence.
    FenceUnfit,
    /// The retention volume has no room for the open epoch.
    JournalFull,
    /// Target or journal cannot be written or read.
    StorageFailed,
    /// An operator has put it right.
    Released,
}

/// What is to be done for a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairAction {
    /// Say where the pair stands.
    Welcome,
    /// Say that every chunk must be offered, and note that this was begun.
    WelcomeAnew,
    /// Refuse the session, changing nothing.
    TurnAway,
    /// Journal and write.
    Land,
    /// Say which chunks differ.
    AnswerOffer,
    /// Flush, and make the epoch a point.
    MakePoint,
    /// Say that it is one.
    SayPoint,
    /// Say that the delta is damaged.
    SayRemark,
    /// Say why, and close the connection.
    HangUp,
    /// Flush, and note how far the epoch is.
    Checkpoint,
    /// Take nothing more from now on, durably.
    MakeFence,
    /// Say so.
    SayFenced,
    /// Give no credit until there is room.
    HoldCredit,
    /// Tell an operator.
    Alarm,
}

use PairAction as Do;
use PairEvent as On;

impl Table for Pair {
    type Event = PairEvent;
    type Action = PairAction;

    const STATES: &'static [Self] = &[
        Self::Corrupted,
        Self::Reprotecting,
        Self::FailbackProtected,
        Self::Disconnected,
        Self::ResyncRequired,
        Self::Resyncing,
        Self::Fenced,
        Self::Failed,
    ];

    const EVENTS: &'static [PairEvent] = &[
        On::AgentContinues,
        On::AgentSynchronizes,
        On::AgentUnfit,
        On::SecondSession,
        On::SessionEnded,
        On::DeltaCame,
        On::DeltaDamaged,
        On::DeltaOutOfPlace,
        On::OfferCame,
        On::CutFits,
        On::CutUnfit,
        On::FenceFits,
        On::FenceUnfit,
        On::JournalFull,
        On::StorageFailed,
        On::Released,
    ];

    fn on(self, event: PairEvent) -> Step<Self> {
        match event {
            On::AgentContinues | On::AgentSynchronizes | On::AgentUnfit | On::SecondSession => {
                self.on_agent(event)
            }
            On::StorageFailed if self != Self::Failed => Step::to(Self::Failed, &[Do::HangUp, Do::Alarm]),
            On::Released if self == Self::Failed => Step::to(Self::ResyncRequired, &[]),
            _ if self.is_in_session() => self.on_session(event),
            // Messages of a session that is over by now.
            _ => Step::to(self, &[]),
        }
    }
}

impl Pair {
    /// Whether an agent is connected, and may send deltas.
    #[must_use]
    pub const fn is_in_session(self) -> bool {
        matches!(self, Self::Reprotecting | Self::FailbackProtected | Self::Resyncing)
    }

    /// Where a pair stands without an agent, by its journal. One that was
    /// committed is free to be run: no agent may write to it unasked.
    #[must_use]
    pub const fn at_rest(state: PairState) -> Self {
        match state {
            PairState::Initial | PairState::Corrupted => Self::Corrupted,
            PairState::Protected => Self::Disconnected,
            PairState::Resyncing | PairState::RollingBack => Self::ResyncRequired,
            PairState::Fenced
            | PairState::Rewinding { .. }
            | PairState::Rewound { .. }
            | PairState::Committed => Self::Fenced,
        }
    }

    fn on_agent(self, event: PairEvent) -> Step<Self> {
        match (self, event) {
            (_, On::SecondSession | On::AgentUnfit) => Step::to(self, &[Do::TurnAway, Do::Alarm]),
            (Self::Corrupted, _) => Step::to(Self::Reprotecting, &[Do::WelcomeAnew]),
            (Self::Disconnected, On::AgentContinues) => Step::to(Self::FailbackProtected, &[Do::Welcome]),
            // Begun and not finished: the agent may believe that it was.
            (Self::ResyncRequired, _) | (Self::Disconnected, On::AgentSynchronizes) => {
                Step::to(Self::Resyncing, &[Do::WelcomeAnew])
            }
            // An agent that did not hear that the fence was made may ask again.
            (Self::Fenced, On::AgentContinues) => Step::to(self, &[Do::SayFenced, Do::HangUp]),
            _ => Step::to(self, &[Do::TurnAway, Do::Alarm]),
        }
    }

    fn on_session(self, event: PairEvent) -> Step<Self> {
        let without_agent = match self {
            Self::Reprotecting => Self::Corrupted,
            Self::Resyncing => Self::ResyncRequired,
            _ => Self::Disconnected,
        };
        match event {
            On::SessionEnded => Step::to(without_agent, &[Do::Checkpoint]),
            On::DeltaCame => Step::to(self, &[Do::Land]),
            On::OfferCame => Step::to(self, &[Do::AnswerOffer]),
            On::DeltaDamaged => Step::to(without_agent, &[Do::SayRemark, Do::HangUp, Do::Checkpoint]),
            On::DeltaOutOfPlace | On::CutUnfit | On::FenceUnfit => {
                Step::to(without_agent, &[Do::HangUp, Do::Checkpoint, Do::Alarm])
            }
            On::CutFits => Step::to(Self::FailbackProtected, &[Do::MakePoint, Do::SayPoint]),
            On::FenceFits if self == Self::FailbackProtected => {
                Step::to(Self::Fenced, &[Do::MakeFence, Do::SayFenced])
            }
            On::FenceFits => Step::to(without_agent, &[Do::HangUp, Do::Checkpoint, Do::Alarm]),
            On::JournalFull => Step::to(self, &[Do::HoldCredit, Do::Alarm]),
            _ => Step::to(self, &[]),
        }
    }
}
