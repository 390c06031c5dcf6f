//! What must be true after a power cut.

use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use failback_datapath::delta::Opened;
use failback_datapath::journal::PairState;
use failback_datapath::landing::replica::Replica;
use failback_datapath::unit::{DeltaNumber, Epoch};

use super::play::{Milestone, Player, PointReader, Simulated, stage};
use super::script::{Script, Step};
use super::storage::{Directory, Disk};
use super::world::Shared;

/// What the source had been told when the power failed.
pub struct Promises {
    /// Steps that were acknowledged.
    done: usize,
    /// The step that may or may not have happened.
    begun: Option<usize>,
    /// Steps that were begun at any time.
    reached: usize,
    durable: Option<(Epoch, DeltaNumber)>,
    /// The deltas that the source still knows: it forgets them when it starts
    /// anew and offers everything.
    pub sent: Range<usize>,
}

impl Promises {
    pub fn of(script: &Script, milestones: &[Milestone]) -> Self {
        let mut promises = Self { done: 0, begun: None, reached: 0, durable: None, sent: 0..0 };
        for milestone in milestones {
            match milestone {
                Milestone::Begun(step) => {
                    promises.begun = Some(*step);
                    promises.reached = promises.reached.max(step + 1);
                    if matches!(script.steps[*step].1, Step::Bring { .. }) {
                        promises.sent.start = promises.sent.end;
                    }
                }
                Milestone::Sent(sent) => promises.sent.end = *sent,
                // After a power cut steps may come again that were done before it.
                Milestone::Done(step) => {
                    (promises.done, promises.begun) = (promises.done.max(step + 1), None);
                }
                Milestone::Durable(epoch, delta) => promises.durable = Some((*epoch, *delta)),
            }
        }
        promises
    }

    /// Whether a power cut now may interrupt what [`Replica::resume`] goes on with.
    pub fn may_need_to_resume(&self, script: &Script) -> bool {
        let is_long =
            |step: usize| matches!(script.steps[step].1, Step::Rewind(_) | Step::CancelSynchronization);
        self.begun.is_some_and(is_long)
    }
}

/// Something that is not as it must be.
pub type Wrong = String;

/// Makes something wrong of an error.
pub fn wrong(what: &str) -> impl Fn(&dyn std::fmt::Display) -> Wrong {
    move |error| format!("{what}: {error}")
}

/// How a source goes on after a power cut at its target.
#[derive(Clone, Copy)]
pub struct GoingOn<'a> {
    /// To the end of the script instead of to the next point.
    pub whole: bool,
    /// With just the deltas that it knows to be lost, instead of with the whole
    /// epoch once more: what the target did not want must be there.
    pub lost: Option<&'a [Opened]>,
}

/// The point that a step makes.
fn made(script: &Script, step: usize) -> Option<Epoch> {
    match &script.steps[step] {
        (stage, Step::Cut | Step::Rewind(_)) => Some(stage.epoch),
        _ => None,
    }
}

/// Opens what a power cut left, and checks it: its points, its promises, and
/// that it goes on to the right end. Gives what was promised meanwhile.
pub async fn check(
    world: &Shared,
    script: &Script,
    promises: &Promises,
    going_on: GoingOn<'_>,
    reader: &mut PointReader,
) -> Result<Vec<Milestone>, Wrong> {
    let opened = Replica::open(Disk(Rc::clone(world)), Directory(Rc::clone(world))).await;
    let mut replica = match opened {
        Ok((replica, _)) => replica,
        // Before the replica was made durably there is nothing to keep.
        Err(_) if promises.done == 0 && promises.begun.is_none() => return Ok(Vec::new()),
        Err(error) => return Err(wrong("it does not open")(&error)),
    };
    check_points(&replica, script, promises.done, promises, reader).await?;
    check_position(&replica, promises)?;
    check_standstill(&replica, world, script)?;
    let mut player = Player::new(script, world);
    tell(&mut player, &replica, promises);
    replica.resume().await.map_err(|error| wrong("it does not resume")(&error))?;
    let played = go_on(&mut player, &mut replica, promises, going_on).await?;
    check_points(&replica, script, played, promises, reader).await?;
    Ok(player.milestones)
}

/// What a source is told when it comes back holds over the next power cut too.
fn tell(player: &mut Player<'_>, replica: &Simulated, promises: &Promises) {
    let position = replica.position();
    player.note(Milestone::Durable(position.epoch, position.durable));
    let is_there = |epoch| replica.journal().point(epoch).is_ok();
    let made = promises.begun.filter(|step| made(player.script, *step).is_some_and(is_there));
    if let Some(step) = made {
        player.note(Milestone::Done(step));
    }
}

/// Those points are there that the first `played` steps made, whole; of those that
/// are given up the oldest may be gone, or, where that was acknowledged, must be.
async fn check_points(
    replica: &Simulated,
    script: &Script,
    played: usize,
    promises: &Promises,
    reader: &mut PointReader,
) -> Result<(), Wrong> {
    let must: BTreeSet<Epoch> = (0..played).filter_map(|step| made(script, step)).collect();
    let may = promises.begun.and_then(|step| made(script, step));
    let listed: BTreeSet<Epoch> = replica.journal().points().map(|point| point.epoch).collect();
    let (given_up, oldest) = (script.dropped_before(played), listed.first().copied());
    if let Some(back) = oldest.filter(|oldest| *oldest < given_up) {
        return Err(format!("point {back} was given up, and is back: {listed:?}"));
    }
    let may_be_gone = script.dropped_before(promises.reached.max(played));
    let kept = oldest.map_or(may_be_gone, |oldest| oldest.min(may_be_gone));
    if let Some(lost) = must.range(kept..).find(|epoch| !listed.contains(epoch)) {
        return Err(format!("point {lost} was acknowledged and is gone: {listed:?}"));
    }
    // Points after the recovery are those of the script that goes on.
    let open = replica.position().epoch;
    for epoch in &listed {
        let Some(content) = script.points.get(epoch).filter(|_| *epoch < open) else {
            return Err(format!("there never was a point {epoch}"));
        };
        let later = may.is_none_or(|may| *epoch > may) && !must.contains(epoch);
        let bytes =
            reader.read(replica, *epoch).await.map_err(|error| wrong("a point cannot be read")(&error))?;
        if let Some(at) = differs_at(&bytes, content) {
            return Err(format!("point {epoch} differs at byte {at} (chunk {}, later {later})", at / 4096));
        }
    }
    Ok(())
}

/// The first byte that differs; whole disks mostly do not, which is quick to see.
fn differs_at(one: &[u8], other: &[u8]) -> Option<usize> {
    if one == other { None } else { one.iter().zip(other).position(|(one, other)| one != other) }
}

fn check_position(replica: &Simulated, promises: &Promises) -> Result<(), Wrong> {
    let position = replica.position();
    match promises.durable {
        Some((epoch, _)) if position.epoch < epoch => {
            Err(format!("epoch {epoch} was durable, and {} is open", position.epoch))
        }
        Some((epoch, delta)) if position.epoch == epoch && position.durable < delta => {
            Err(format!("delta {delta} was called durable, and {} is", position.durable))
        }
        _ => Ok(()),
    }
}

/// A fenced target, and one at the end of a rewind, hold just what they say: a
/// fence that is lifted, or a commit, would make anything else the truth.
fn check_standstill(replica: &Simulated, world: &Shared, script: &Script) -> Result<(), Wrong> {
    let state = replica.position().state;
    let content = match state {
        PairState::Fenced => script.fenced.as_ref(),
        PairState::Rewound { at } => script.points.get(&at),
        _ => return Ok(()),
    };
    let Some(content) = content else { return Err(format!("it is {state}, which it never was")) };
    match differs_at(world.borrow().disk(), content) {
        Some(at) => Err(format!("it is {state}, and differs at byte {at}, chunk {}", at / 4096)),
        None => Ok(()),
    }
}

/// Plays on up to the next point, or to the end, and compares the disk with it.
/// Gives the number of steps that are done then.
async fn go_on(
    player: &mut Player<'_>,
    replica: &mut Simulated,
    promises: &Promises,
    GoingOn { whole, lost }: GoingOn<'_>,
) -> Result<usize, Wrong> {
    let (script, here) = (player.script, stage(replica));
    let makes_point = |index: &usize| {
        let (at, step) = &script.steps[*index];
        *at >= here && matches!(step, Step::Cut | Step::Rewind(_))
    };
    let next = (0..script.steps.len()).find(makes_point).map(|index| index + 1);
    let end = if whole { script.steps.len() } else { next.unwrap_or(script.steps.len()) };
    let played = async {
        let start = match lost {
            Some(lost) => {
                player.land_lost(replica, lost).await?;
                promises.begun.unwrap_or(promises.done)
            }
            None => 0,
        };
        player.play(replica, start..end).await
    };
    played.await.map_err(|error| wrong("it does not go on")(&error))?;
    let newest = replica.journal().points().next_back().map(|point| point.epoch);
    let Some(newest) = newest.filter(|newest| newest.next() == replica.position().epoch) else {
        return Err(format!("it made no point on its way on from {here:?}, step {}", promises.done));
    };
    let state = replica.position().state;
    if matches!(state, PairState::RollingBack | PairState::Rewinding { .. }) {
        return Err(format!("it stayed {state}"));
    }
    let world = player.world.borrow();
    let content = &script.points[&newest];
    match differs_at(world.disk(), content) {
        Some(at) => Err(format!("the disk differs from point {newest} at byte {at}, chunk {}", at / 4096)),
        None => Ok(end),
    }
}
