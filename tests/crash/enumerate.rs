//! Recording a run, and cutting it at every flush and in between.

use std::cell::RefCell;
use std::rc::Rc;

use failback_datapath::delta::Opened;
use failback_datapath::landing::replica::Replica;

use super::cut::{Moment, walk};
use super::oracle::{GoingOn, Promises, Wrong, check, wrong};
use super::play::{Milestone, Player};
use super::script::{DISK_BYTES, Script, Step, pair};
use super::storage::{Directory, Disk};
use super::tape::Tape;
use super::world::{Lies, Shared, World};
use crate::fixture::Random;

/// A script that was played to its end, with everything that reached the storage.
pub struct Recording<'a> {
    script: &'a Script,
    milestones: Vec<Milestone>,
    sent: Vec<Opened>,
    pub tape: Tape,
    seed: u64,
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
    /// `whole_every`th goes on to the end of the script. Gives the number of
    /// cuts, or the first that went wrong.
    pub fn cut(&self, moments: &[usize], times: u64, whole_every: u64) -> Result<u64, Wrong> {
        let start = Moment::new(&[Rc::new(vec![0; DISK_BYTES])], &Default::default());
        let mut random = Random::with_seed(self.seed);
        let (mut cuts, mut first_wrong) = (0, None);
        walk(start, &self.tape, moments, |at, moment| {
            let promises = Promises::of(self.script, &self.milestones[..moment.milestones]);
            for _ in 0..times {
                if first_wrong.is_some() {
                    return;
                }
                let seed = random.number();
                cuts += 1;
                let lost = (cuts % 2 == 0).then(|| &self.sent[promises.sent.clone()]);
                let going_on = GoingOn { whole: cuts % whole_every == 0, lost };
                let checked = run(check(moment.cut(seed), self.script, &promises, going_on));
                first_wrong = checked.err().map(|what| {
                    let events = self.tape.events.len();
                    format!("script {}, cut {seed} after event {at} of {events}: {what}", self.seed)
                });
            }
        });
        first_wrong.map_or(Ok(cuts), Err)
    }
}
