//! What must be true after a power cut.

use std::cell::RefCell;
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
use super::world::{Shared, World};

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
                Milestone::Done(step) => (promises.done, promises.begun) = (step + 1, None),
                Milestone::Durable(epoch, delta) => promises.durable = Some((*epoch, *delta)),
            }
        }
        promises
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
/// that it goes on to the right end.
pub async fn check(
    mut world: World,
    script: &Script,
    promises: &Promises,
    going_on: GoingOn<'_>,
) -> Result<(), Wrong> {
    world.open_entries_max = script.open_entries_max;
    let world: Shared = Rc::new(RefCell::new(world));
    let opened = Replica::open(Disk(Rc::clone(&world)), Directory(Rc::clone(&world))).await;
    let mut replica = match opened {
        Ok((replica, _)) => replica,
        // Before the replica was made durably there is nothing to keep.
        Err(_) if promises.done == 0 && promises.begun.is_none() => return Ok(()),
        Err(error) => return Err(wrong("it does not open")(&error)),
    };
    check_points(&replica, script, promises.done, promises).await?;
    check_position(&replica, promises)?;
    check_standstill(&replica, &world, script)?;
    replica.resume().await.map_err(|error| wrong("it does not resume")(&error))?;
    let played = go_on(&mut replica, &world, script, promises, going_on).await?;
    check_points(&replica, script, played, promises).await
}

/// Those points are there that the first `played` steps made, whole; of those that
/// are given up the oldest may be gone, or, where that was acknowledged, must be.
async fn check_points(
    replica: &Simulated,
    script: &Script,
    played: usize,
    promises: &Promises,
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
    let mut reader = PointReader::new();
    for epoch in &listed {
        let Some(content) = script.points.get(epoch).filter(|_| *epoch < open) else {
            return Err(format!("there never was a point {epoch}"));
        };
        let later = may.is_none_or(|may| *epoch > may) && !must.contains(epoch);
        let bytes =
            reader.read(replica, *epoch).await.map_err(|error| wrong("a point cannot be read")(&error))?;
        if let Some(at) = bytes.iter().zip(content.iter()).position(|(one, other)| one != other) {
            return Err(format!("point {epoch} differs at byte {at} (chunk {}, later {later})", at / 4096));
        }
    }
    Ok(())
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
    match world.borrow().disk().iter().zip(content.iter()).position(|(one, other)| one != other) {
        Some(at) => Err(format!("it is {state}, and differs at byte {at}, chunk {}", at / 4096)),
        None => Ok(()),
    }
}

/// Plays on up to the next point, or to the end, and compares the disk with it.
/// Gives the number of steps that are done then.
async fn go_on(
    replica: &mut Simulated,
    world: &Shared,
    script: &Script,
    promises: &Promises,
    GoingOn { whole, lost }: GoingOn<'_>,
) -> Result<usize, Wrong> {
    let here = stage(replica);
    let makes_point = |index: &usize| {
        let (at, step) = &script.steps[*index];
        *at >= here && matches!(step, Step::Cut | Step::Rewind(_))
    };
    let next = (0..script.steps.len()).find(makes_point).map(|index| index + 1);
    let end = if whole { script.steps.len() } else { next.unwrap_or(script.steps.len()) };
    let mut player = Player::new(script, world);
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
    let world = world.borrow();
    let content = &script.points[&newest];
    match world.disk().iter().zip(content.iter()).position(|(one, other)| one != other) {
        Some(at) => Err(format!("the disk differs from point {newest} at byte {at}, chunk {}", at / 4096)),
        None => Ok(end),
    }
}
