//! Disks whose changes nobody knows, alone and beside those that are tracked.

use std::time::Duration;

use super::super::Disk;
use super::super::agent::{CutPlan, LaneHandle, Outcome, cut_machine};
use super::super::rig::{Agent, Both, Rig, Writer};

const SIZE: u64 = (4 << 20) + 512;

fn filled() -> Rig {
    let rig = Rig::new(SIZE);
    (0..100_u64).for_each(|index| rig.source.write(index * 40_960, &[u8::try_from(index).unwrap(); 7000]));
    rig
}

/// Waits until the whole disk was passed once.
fn passed(agent: &Agent) {
    agent.reaches(Disk::Protecting);
    while agent.lane.status().passes.is_none_or(|passes| passes.took_ms.is_none()) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A budget within which a disk of four MiB is read many times.
fn patient() -> CutPlan<'static> {
    CutPlan { budget: Duration::from_secs(60), ..CutPlan::default() }
}

fn left_out(outcome: &Outcome) -> Vec<&str> {
    match outcome {
        Outcome::Made { left_out, .. } => left_out.iter().map(|one| one.reason.as_str()).collect(),
        Outcome::Skipped { .. } => panic!("{outcome:?}"),
    }
}

#[test]
fn one_that_is_still_compared_holds_up_no_other() {
    let (tracked, slow) = (filled(), filled());
    let (agent, untracked) = (tracked.new_agent(), slow.untracked_agent(Some(256 << 10)));
    let _writer = Writer::start(&slow.source, 0x510e);
    agent.reaches(Disk::Protecting);
    let mut freezer = Both(tracked.source.freezer(), slow.source.freezer());
    for round in 1..=5 {
        tracked.source.write(round * 4096, &[0xaa; 4096]);
        let outcome = cut_machine(&[&untracked.lane, &agent.lane], &mut freezer, CutPlan::default());
        assert_eq!(left_out(&outcome).len(), 1, "{outcome:?}");
        let Outcome::Made { label, points, .. } = &outcome else { unreachable!("it was made") };
        assert_eq!((label.machine_cut.disks, points.len()), (1, 1), "{outcome:?}");
        assert!(tracked.model.look().points.last().unwrap().1 == *freezer.0.copies.last().unwrap());
    }
    assert!(slow.model.look().points.is_empty(), "the rounds were made before its first pass ended");
    drop((agent, untracked));
}

#[test]
fn a_small_one_is_read_again_in_the_freeze_and_is_exact_with_the_others() {
    let (tracked, small) = (filled(), filled());
    let writers = [Writer::start(&tracked.source, 1), Writer::start(&small.source, 2)];
    let (agent, untracked) = (tracked.new_agent(), small.untracked_agent(None));
    agent.reaches(Disk::Protecting);
    passed(&untracked);
    let mut freezer = Both(tracked.source.freezer(), small.source.freezer());
    let lanes: [&LaneHandle; 2] = [&agent.lane, &untracked.lane];
    for _ in 0..3 {
        let outcome = cut_machine(&lanes, &mut freezer, patient());
        assert_eq!(left_out(&outcome), [""; 0], "{outcome:?}");
        agent.reaches(Disk::Protecting);
        untracked.reaches(Disk::Protecting);
        let copies = [&freezer.0.copies, &freezer.1.copies];
        for (rig, copies) in [&tracked, &small].into_iter().zip(copies) {
            assert!(rig.model.look().points.last().unwrap().1 == *copies.last().unwrap());
        }
    }
    drop(writers);
    assert!(untracked.errors.lock().unwrap().is_empty(), "{:?}", untracked.errors);
}

#[test]
fn one_that_does_not_fit_into_the_freeze_is_left_out_and_none_without_others() {
    let (tracked, large) = (filled(), filled());
    let (agent, untracked) = (tracked.new_agent(), large.untracked_agent(None));
    agent.reaches(Disk::Protecting);
    passed(&untracked);
    large.source.write(0, &[3; 512]);
    let mut freezer = Both(tracked.source.freezer(), large.source.freezer());
    // No time at all to read it again, and enough for what is tracked.
    let plan = CutPlan { budget: Duration::from_micros(1), ..CutPlan::default() };
    let alone = cut_machine(&[&untracked.lane], &mut large.source.freezer(), plan);
    assert!(matches!(&alone, Outcome::Skipped { reason, .. } if reason.contains("tracked")), "{alone:?}");
    let unwritten = large.model.look().chunks_landed;
    // The disk is passed anew in the background, and is then fit again.
    while large.model.look().chunks_landed == unwritten {
        std::thread::sleep(Duration::from_millis(2));
    }
    while !untracked.lane.status().passes.unwrap().is_current {
        std::thread::sleep(Duration::from_millis(2));
    }
    let outcome = cut_machine(&[&agent.lane, &untracked.lane], &mut freezer, CutPlan::default());
    assert_eq!(left_out(&outcome), [""; 0], "{outcome:?}");
    assert!(large.model.look().points[0].1 == large.source.content());
}

#[test]
fn a_void_cut_of_one_is_read_again_before_the_next() {
    let rig = filled();
    let agent = rig.untracked_agent(None);
    passed(&agent);
    rig.source.write(8192, &[7; 4096]);
    let mut freezer = rig.source.freezer();
    freezer.thawed_early = true;
    let outcome = agent.try_cut(&mut freezer, patient());
    assert!(matches!(outcome, Outcome::Skipped { .. }), "{outcome:?}");
    freezer.thawed_early = false;
    agent.reaches(Disk::Protecting);
    let outcome = agent.try_cut(&mut freezer, patient());
    assert!(matches!(outcome, Outcome::Made { .. }), "{outcome:?}");
    assert!(rig.model.look().points[0].1 == rig.source.content());
}

#[test]
fn the_final_cut_reads_all_of_it_once_more() {
    let rig = filled();
    let writer = Writer::start(&rig.source, 7);
    let agent = rig.untracked_agent(None);
    passed(&agent);
    let mut freezer = rig.source.freezer();
    let outcome = agent.try_cut(&mut freezer, CutPlan { name: "home", last: true, ..CutPlan::default() });
    assert!(matches!(outcome, Outcome::Made { finished: true, void: false, .. }), "{outcome:?}");
    assert!(rig.model.look().disk == rig.source.content());
    freezer.thaw_for_test();
    drop(writer);
}
