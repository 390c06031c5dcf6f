//! A protected disk, as its agent sees it.

use serde::{Deserialize, Serialize};

use super::table::{Step, Table};

/// Where a protected disk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disk {
    /// No connection; every change since the target's position is known.
    Disconnected,
    /// No connection, and every chunk must be offered once there is one.
    ResyncRequired(Reason),
    /// Every chunk is offered, and what differs is sent.
    Synchronizing(Reason),
    /// Changes are sent as they come.
    Protecting,
    /// The machine is being cut: the epoch ends with what is read now.
    Cutting,
    /// The cut is sent; changes of the next epoch go on meanwhile.
    AwaitingPoint,
    /// The final cut: the machine is frozen and stays so.
    CuttingForGood,
    /// The final cut is sent, and nothing after it.
    AwaitingFinalPoint,
    /// The final point exists; other disks of the machine may wait for theirs.
    FinalPoint,
    /// All disks have it; the target is asked to take nothing more.
    Fencing,
    /// The target takes nothing more, until somebody lifts the fence there.
    Fenced,
    /// This is not the machine that the agent was bound to: it sends nothing.
    Relocated,
    /// The target refused this disk: an operator must look.
    Refused,
}

/// Why every chunk must be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The target has no point of this disk yet.
    Initial,
    /// The tracker cannot vouch for every change: its doubt says why.
    Doubt,
    /// The target asks for it: another state than the agent knows.
    Target,
    /// An operator asks for it.
    Operator,
}

impl Reason {
    /// Its name on screens and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Doubt => "doubt",
            Self::Target => "target",
            Self::Operator => "operator",
        }
    }
}

/// What may happen to a protected disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskEvent {
    /// The target stands where the agent believes it to stand.
    Welcomed,
    /// The target wants every chunk offered.
    WelcomedAnew,
    /// The connection is gone, or a delta was damaged on the way.
    Lost,
    /// The target says no, for a reason that does not pass by itself.
    TurnedAway,
    /// The tracker may have missed a change.
    Doubted,
    /// An operator wants every chunk compared.
    ResyncOrdered,
    /// Every chunk was offered, and what was wanted was sent.
    AllOffered,
    /// The machine is about to be cut.
    CutBegun,
    /// The machine is about to be cut for the last time.
    FinalCutBegun,
    /// What the cut consists of is read, and the cut holds.
    CutHeld,
    /// The cut does not hold.
    CutVoid,
    /// The target has made the epoch a point.
    PointMade,
    /// All disks of the machine have the final point.
    FinalOnAll,
    /// Something thawed the machine before that.
    ThawedEarly,
    /// The target takes nothing more.
    FenceMade,
    /// The agent runs on another machine than it was bound to.
    FoundRelocated,
    /// An operator says that it may go on.
    Released,
}

/// What is to be done for a protected disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskAction {
    /// Connect, later each time.
    Reconnect,
    /// Close the connection.
    HangUp,
    /// Everything sent and not landed is dirty again.
    GiveBack,
    /// The tracker begins anew, and every chunk is dirty.
    MarkAll,
    /// Offer every chunk.
    OfferAll,
    /// Offer what was in transit before, then send changes.
    OfferInTransit,
    /// Drain and send.
    SendChanges,
    /// Send nothing that is not part of the cut.
    HoldChanges,
    /// Send the remainder, and the cut after it.
    SendCut,
    /// The epoch goes on.
    VoidCut,
    /// Tell the coordinator that this disk takes part in no cut now.
    DeclineCut,
    /// What was in transit for that epoch is forgotten.
    Forget,
    /// Tell the coordinator about the point.
    TellPoint,
    /// Tell the coordinator that the cut is lost.
    TellLost,
    /// Ask the target to take nothing more.
    SendFence,
    /// Tell an operator.
    Alarm,
}

use DiskAction as Do;
use DiskEvent as On;

impl Table for Disk {
    type Event = DiskEvent;
    type Action = DiskAction;

    const STATES: &'static [Self] = &[
        Self::ResyncRequired(Reason::Initial),
        Self::ResyncRequired(Reason::Doubt),
        Self::ResyncRequired(Reason::Target),
        Self::ResyncRequired(Reason::Operator),
        Self::Synchronizing(Reason::Initial),
        Self::Synchronizing(Reason::Doubt),
        Self::Synchronizing(Reason::Target),
        Self::Synchronizing(Reason::Operator),
        Self::Disconnected,
        Self::Protecting,
        Self::Cutting,
        Self::AwaitingPoint,
        Self::CuttingForGood,
        Self::AwaitingFinalPoint,
        Self::FinalPoint,
        Self::Fencing,
        Self::Fenced,
        Self::Relocated,
        Self::Refused,
    ];

    const EVENTS: &'static [DiskEvent] = &[
        On::Welcomed,
        On::WelcomedAnew,
        On::Lost,
        On::TurnedAway,
        On::Doubted,
        On::ResyncOrdered,
        On::AllOffered,
        On::CutBegun,
        On::FinalCutBegun,
        On::CutHeld,
        On::CutVoid,
        On::PointMade,
        On::FinalOnAll,
        On::ThawedEarly,
        On::FenceMade,
        On::FoundRelocated,
        On::Released,
    ];

    fn on(self, event: DiskEvent) -> Step<Self> {
        match self {
            Self::Fenced => self.on_while_fenced(event),
            Self::Relocated | Self::Refused => self.on_while_stopped(event),
            _ => self.on_anywhere(event).unwrap_or_else(|| self.on_here(event)),
        }
    }
}

impl Disk {
    const fn stay(self) -> Step<Self> {
        Step::to(self, &[])
    }

    /// Its name on screens, in JSON and in the agent's state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::ResyncRequired(_) => "resync-required",
            Self::Synchronizing(_) => "synchronizing",
            Self::Protecting => "protecting",
            Self::Cutting => "cutting",
            Self::AwaitingPoint => "awaiting-point",
            Self::CuttingForGood => "cutting-for-good",
            Self::AwaitingFinalPoint => "awaiting-final-point",
            Self::FinalPoint => "final-point",
            Self::Fencing => "fencing",
            Self::Fenced => "fenced",
            Self::Relocated => "relocated",
            Self::Refused => "refused",
        }
    }

    /// Why this disk must be, or is being, compared as a whole.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::ResyncRequired(reason) | Self::Synchronizing(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether a connection is up.
    #[must_use]
    pub const fn is_connected(self) -> bool {
        !matches!(self, Self::Disconnected | Self::ResyncRequired(_) | Self::Relocated | Self::Refused)
    }

    const fn is_cut_open(self) -> bool {
        matches!(self, Self::Cutting | Self::AwaitingPoint | Self::CuttingForGood | Self::AwaitingFinalPoint)
    }

    /// Where the disk is taken to when its connection goes.
    const fn cut_off(self) -> Self {
        match self {
            Self::Synchronizing(reason) | Self::ResyncRequired(reason) => Self::ResyncRequired(reason),
            _ => Self::Disconnected,
        }
    }

    /// What was fenced goes on when somebody has lifted the fence.
    fn on_while_fenced(self, event: DiskEvent) -> Step<Self> {
        match event {
            On::Released => Step::to(Self::Disconnected, &[Do::GiveBack, Do::Reconnect]),
            On::ResyncOrdered => {
                Step::to(Self::ResyncRequired(Reason::Operator), &[Do::GiveBack, Do::MarkAll, Do::Reconnect])
            }
            On::TurnedAway => Step::to(Self::Refused, &[Do::HangUp, Do::GiveBack, Do::Alarm]),
            On::CutBegun | On::FinalCutBegun => Step::to(self, &[Do::DeclineCut]),
            _ => self.stay(),
        }
    }

    fn on_while_stopped(self, event: DiskEvent) -> Step<Self> {
        match (self, event) {
            (Self::Refused, On::FoundRelocated) => Step::to(Self::Relocated, &[Do::Alarm]),
            // What ran elsewhere meanwhile is unknown.
            (_, On::Released) => {
                Step::to(Self::ResyncRequired(Reason::Operator), &[Do::MarkAll, Do::Reconnect])
            }
            (_, On::CutBegun | On::FinalCutBegun) => Step::to(self, &[Do::DeclineCut]),
            _ => self.stay(),
        }
    }

    /// What is answered alike wherever the disk stands.
    fn on_anywhere(self, event: DiskEvent) -> Option<Step<Self>> {
        let step = match event {
            On::FoundRelocated => {
                Step::to(Self::Relocated, &[Do::HangUp, Do::GiveBack, Do::TellLost, Do::Alarm])
            }
            On::TurnedAway => Step::to(Self::Refused, &[Do::HangUp, Do::GiveBack, Do::TellLost, Do::Alarm]),
            On::Doubted => self.compare(Reason::Doubt),
            On::ResyncOrdered => self.compare(Reason::Operator),
            On::FenceMade if self == Self::Fencing => Step::to(Self::Fenced, &[Do::HangUp]),
            // Finished by an earlier agent, or by another machine with its identity.
            On::FenceMade => {
                Step::to(Self::Fenced, &[Do::HangUp, Do::GiveBack, Do::VoidCut, Do::TellLost, Do::Alarm])
            }
            // Nothing is under way any more, and the machine stays frozen.
            On::Lost if matches!(self, Self::FinalPoint | Self::Fencing) => Step::to(self, &[Do::Reconnect]),
            On::Lost if self.is_cut_open() => {
                Step::to(self.cut_off(), &[Do::GiveBack, Do::VoidCut, Do::TellLost, Do::Reconnect])
            }
            On::Lost => Step::to(self.cut_off(), &[Do::GiveBack, Do::Reconnect]),
            _ => return None,
        };
        Some(step)
    }

    /// Every chunk must be compared from the beginning. A first synchronization
    /// stays one: there is still no point.
    fn compare(self, reason: Reason) -> Step<Self> {
        let reason = match self.reason() {
            Some(Reason::Initial) => Reason::Initial,
            _ => reason,
        };
        let next = Self::ResyncRequired(reason);
        match self {
            // Nothing is written any more to a machine that is frozen for good.
            Self::Fencing => Step::to(self, &[]),
            Self::ResyncRequired(_) | Self::Disconnected => Step::to(next, &[Do::MarkAll]),
            _ => Step::to(
                next,
                &[Do::HangUp, Do::GiveBack, Do::MarkAll, Do::VoidCut, Do::TellLost, Do::Reconnect],
            ),
        }
    }

    fn on_here(self, event: DiskEvent) -> Step<Self> {
        match (self, event) {
            (Self::Disconnected, On::Welcomed) => {
                Step::to(Self::Protecting, &[Do::OfferInTransit, Do::SendChanges])
            }
            (Self::Disconnected, On::WelcomedAnew) => {
                Step::to(Self::Synchronizing(Reason::Target), &[Do::MarkAll, Do::OfferAll])
            }
            (Self::ResyncRequired(reason), On::Welcomed | On::WelcomedAnew) => {
                Step::to(Self::Synchronizing(reason), &[Do::OfferAll])
            }
            (Self::Synchronizing(_), On::AllOffered) => Step::to(Self::Protecting, &[Do::SendChanges]),
            (Self::Protecting, On::CutBegun) => Step::to(Self::Cutting, &[Do::HoldChanges]),
            (Self::Protecting, On::FinalCutBegun) => Step::to(Self::CuttingForGood, &[Do::HoldChanges]),
            (_, On::CutBegun | On::FinalCutBegun) => Step::to(self, &[Do::DeclineCut]),
            (Self::Cutting, On::CutHeld) => Step::to(Self::AwaitingPoint, &[Do::SendCut, Do::SendChanges]),
            (Self::Cutting | Self::CuttingForGood, On::CutVoid) => {
                Step::to(Self::Protecting, &[Do::VoidCut, Do::SendChanges])
            }
            (Self::AwaitingPoint, On::PointMade) => Step::to(Self::Protecting, &[Do::Forget, Do::TellPoint]),
            (Self::CuttingForGood, On::CutHeld) => Step::to(Self::AwaitingFinalPoint, &[Do::SendCut]),
            (Self::AwaitingFinalPoint, On::PointMade) => {
                Step::to(Self::FinalPoint, &[Do::Forget, Do::TellPoint])
            }
            (Self::FinalPoint, On::FinalOnAll) => Step::to(Self::Fencing, &[Do::SendFence]),
            (Self::CuttingForGood | Self::AwaitingFinalPoint | Self::FinalPoint, On::ThawedEarly) => {
                Step::to(Self::Protecting, &[Do::VoidCut, Do::SendChanges, Do::Alarm])
            }
            (Self::Fencing, On::Welcomed) => Step::to(Self::Fencing, &[Do::SendFence]),
            _ => self.stay(),
        }
    }
}
