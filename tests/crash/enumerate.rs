//! Recording a run, and cutting it at every flush and in between.

use std::cell::RefCell;
use std::rc::Rc;

use failback_datapath::delta::Opened;
use failback_datapath::landing::replica::Replica;

use super::cut::{Moment, walk};
use super::oracle::{GoingOn, Promises, Wrong, check, wrong};
use super::play::{Milestone, Player, PointReader};
use super::script::{DISK_BYTES, Script, Step, pair};
use super::storage::{Directory, Disk};
use super::tape::Tape;
use super::world::{Lies, Shared, World};
use crate::fixture::Random;

/// Flushes of a recovery that are cut: those of opening, of going on with what
/// was interrupted, and of the first steps after.
const FLUSHES_CUT: usize = 30;

/// Power cuts in one recovery.
const SECOND_CUTS: usize = 8;

/// A script that was played to its end, with everything that reached the storage.
pub struct Recording<'a> {
    script: &'a Script,
    milestones: Vec<Milestone>,
    sent: Vec<Opened>,
    pub tape: Tape,
    seed: u64,
}

/// How many power cuts were tried.
#[derive(Clone, Copy, Default)]
pub struct Cuts {
    /// In the life of a pair.
    pub first: u64,
    /// While it recovered from one of those.
    pub second: u64,
}

/// A recovery from a power cut: what it began with, did and promised.
struct Recovered {
    start: Moment,
    tape: Tape,
    milestones: Vec<Milestone>,
}

/// Runs a future with tasks of its own on this thread, without a ring: the
/// simulated storage needs none.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// Plays `script` on new storage and records it. The storage begins to lie when
/// there is a point to lose.
pub fn record(script: &Script, seed: u64, lies: Lies) -> Result<Recording<'_>, Wrong> {
    let world: Shared = Rc::new(RefCell::new(World::new(DISK_BYTES, seed)));
    world.borrow_mut().open_entries_max = script.open_entries_max;
    world.borrow_mut().record();
    let (milestones, sent) = run(async {
        let (disk, directory) = (Disk(Rc::clone(&world)), Directory(Rc::clone(&world)));
        let made = Replica::create(disk, directory, pair()).await;
        let mut replica = made.map_err(|error| wrong("it is not made")(&error))?;
        let mut player = Player::new(script, &world);
        let first_point =
            1 + script.steps.iter().position(|(_, step)| matches!(step, Step::Cut)).unwrap_or(0);
        let played = async {
            player.play(&mut replica, 0..first_point).await?;
            world.borrow_mut().lies = lies;
            player.play(&mut replica, first_point..script.steps.len()).await
        };
        played.await.map_err(|error| wrong("the script does not play")(&error))?;
        Ok::<_, Wrong>((player.milestones, player.sent))
    })?;
    let tape = world.borrow_mut().take_tape();
    Ok(Recording { script, milestones, sent, tape, seed })
}

impl Recording<'_> {
    /// Where to cut: just before and after each flush, and `more` moments by chance.
    pub fn moments(&self, more: usize) -> Vec<usize> {
        let mut random = Random::with_seed(self.seed);
        let boundaries = self.tape.flush_boundaries();
        let mut moments: Vec<usize> = boundaries.iter().flat_map(|at| [at - 1, *at]).collect();
        moments.extend((0..more).map(|_| random.index_below(self.tape.events.len() + 1)));
        moments.sort_unstable();
        moments
    }

    /// Cuts at each of `moments` `times` times, and checks what is left. Every
    /// `whole_every`th goes on to the end of the script, and of some the recovery
    /// is cut as well. Gives the number of cuts, or the first that went wrong.
    pub fn cut(&self, moments: &[usize], times: u64, whole_every: u64) -> Result<Cuts, Wrong> {
        let start = Moment::new(&[Rc::new(vec![0; DISK_BYTES])], &Default::default());
        let mut random = Random::with_seed(self.seed);
        let mut reader = PointReader::new();
        let mut cuts = Cuts::default();
        walk(start, &self.tape, moments, |at, moment| {
            let told = &self.milestones[..moment.milestones];
            let promises = Promises::of(self.script, told);
            for _ in 0..times {
                let seed = random.number();
                cuts.first += 1;
                let lost = cuts.first.is_multiple_of(2).then(|| &self.sent[promises.sent.clone()]);
                let going_on = GoingOn { whole: cuts.first.is_multiple_of(whole_every), lost };
                // Even numbers, so that it is those that go on with the whole epoch:
                // the rest of an epoch has other numbers in its deltas.
                let every = if promises.may_need_to_resume(self.script) { 8 } else { 40 };
                let checked = self.recover(moment, &promises, going_on, seed, &mut reader);
                let again = checked.and_then(|recovered| match cuts.first % every {
                    1 => self.cut_recovery(&recovered, told, seed, &mut reader),
                    _ => Ok(0),
                });
                cuts.second += again.map_err(|what| {
                    let events = self.tape.events.len();
                    format!("script {}, cut {seed} after event {at} of {events}: {what}", self.seed)
                })?;
            }
            Ok::<_, Wrong>(())
        })?;
        Ok(cuts)
    }

    /// Checks what a power cut at this moment leaves.
    fn recover(
        &self,
        moment: &Moment,
        promises: &Promises,
        going_on: GoingOn<'_>,
        seed: u64,
        reader: &mut PointReader,
    ) -> Result<Recovered, Wrong> {
        let mut left = moment.cut(seed);
        let start = Moment::new(&left.contents, &left.names);
        left.open_entries_max = self.script.open_entries_max;
        left.record();
        let world: Shared = Rc::new(RefCell::new(left));
        let milestones = run(check(&world, self.script, promises, going_on, reader))?;
        let tape = world.borrow_mut().take_tape();
        Ok(Recovered { start, tape, milestones })
    }

    /// Cuts the power once more while the replica recovers, at some of the first
    /// flushes or just before: what was promised before the first cut, and since,
    /// holds after the second. Gives the number of cuts.
    fn cut_recovery(
        &self,
        recovered: &Recovered,
        told: &[Milestone],
        seed: u64,
        reader: &mut PointReader,
    ) -> Result<u64, Wrong> {
        let Recovered { start, tape, milestones } = recovered;
        let mut random = Random::with_seed(seed);
        let mut boundaries = tape.flush_boundaries();
        boundaries.truncate(FLUSHES_CUT);
        let mut chosen = || boundaries[random.index_below(boundaries.len())] - random.index_below(2);
        let mut moments: Vec<usize> = (0..SECOND_CUTS.min(boundaries.len())).map(|_| chosen()).collect();
        moments.sort_unstable();
        let mut cuts = 0;
        walk(start.clone(), tape, &moments, |at, moment| {
            let seed = random.number();
            let told = [told, &milestones[..moment.milestones]].concat();
            let promises = Promises::of(self.script, &told);
            let going_on = GoingOn { whole: false, lost: None };
            cuts += 1;
            let checked = self.recover(moment, &promises, going_on, seed, reader);
            checked.map(drop).map_err(|what| {
                let events = tape.events.len();
                format!("recovered, and cut again {seed} after event {at} of {events}: {what}")
            })
        })?;
        Ok(cuts)
    }
}
