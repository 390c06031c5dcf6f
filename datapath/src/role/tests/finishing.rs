//! The final cut of a machine with two disks, when something comes between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::Disk;
use super::super::agent::{CutPlan, Outcome, cut_machine};
use super::super::rig::{Agent, Both, Rig};

const SIZE: u64 = 1 << 20;

#[track_caller]
fn wait_until(met: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !met() {
        assert!(Instant::now() < until, "that never happens");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Two disks, each with its agent.
fn two() -> [(Rig, Agent); 2] {
    [3, 5].map(|fill| {
        let rig = Rig::new(SIZE);
        rig.source.write(8192, &[fill; 20_000]);
        let agent = rig.new_agent();
        agent.reaches(Disk::Protecting);
        (rig, agent)
    })
}

/// Makes the final cut, in which the first disk has its point and the second one
/// not yet; then `meanwhile`, which is given what thaws the machine.
fn finish_with(disks: &[(Rig, Agent); 2], meanwhile: impl FnOnce(&Arc<AtomicBool>)) -> Outcome {
    let [(first, one), (second, other)] = disks;
    let mut freezer = Both(first.source.freezer(), second.source.freezer());
    let thaws = Arc::clone(&freezer.0.somebody_thaws);
    second.model.look().holds_cuts = true;
    let plan = CutPlan { name: "home", last: true, ..CutPlan::default() };
    std::thread::scope(|scope| {
        let cut = scope.spawn(|| cut_machine(&[&one.lane, &other.lane], &mut freezer, plan));
        one.reaches(Disk::FinalPoint);
        meanwhile(&thaws);
        second.model.look().holds_cuts = false;
        cut.join().unwrap()
    })
}

#[test]
fn a_final_point_outlives_its_connection_and_is_fenced_by_the_next() {
    let disks = two();
    let [(first, one), _] = &disks;
    let outcome = finish_with(&disks, |_| {
        let lost = one.errors.lock().unwrap().len();
        first.cut_wires();
        wait_until(|| one.errors.lock().unwrap().len() > lost);
        assert_eq!(one.state(), Disk::FinalPoint, "the machine stands still, and so does its point");
    });
    assert!(matches!(outcome, Outcome::Made { finished: true, void: false, .. }), "{outcome:?}");
    for (rig, agent) in &disks {
        assert_eq!(agent.state(), Disk::Fenced);
        let model = rig.model.look();
        assert!(model.fenced && model.disk == rig.source.content());
    }
}

#[test]
fn a_thaw_after_some_final_points_voids_them_and_all_disks_go_on() {
    let disks = two();
    let [(first, one), (second, _)] = &disks;
    let outcome = finish_with(&disks, |thaws| {
        thaws.store(true, Ordering::Relaxed);
        // The one that waits is asked for first, and then the freeze.
        wait_until(|| one.state() == Disk::Protecting);
    });
    assert!(
        matches!(&outcome, Outcome::Skipped { void: true, reason } if reason.contains("thawed")),
        "{outcome:?}"
    );
    assert!(!first.model.look().fenced && !second.model.look().fenced);
    first.source.write(0, &[9; 4096]);
    for (rig, agent) in &disks {
        agent.cut(&mut rig.source.freezer());
        assert!(rig.model.look().points.last().unwrap().1 == rig.source.content());
    }
}

#[test]
fn a_thaw_while_a_final_point_has_no_connection_voids_it_as_well() {
    let disks = two();
    let [(first, one), _] = &disks;
    let outcome = finish_with(&disks, |thaws| {
        let lost = one.errors.lock().unwrap().len();
        first.cut_wires();
        wait_until(|| one.errors.lock().unwrap().len() > lost);
        thaws.store(true, Ordering::Relaxed);
        wait_until(|| one.state() != Disk::FinalPoint);
    });
    assert!(matches!(outcome, Outcome::Skipped { void: true, .. }), "{outcome:?}");
    first.source.write(0, &[9; 4096]);
    one.cut(&mut first.source.freezer());
    assert!(first.model.look().points.last().unwrap().1 == first.source.content());
}

#[test]
fn a_target_that_waits_for_room_is_told_at_once_and_the_disk_goes_on_when_there_is() {
    let [(rig, agent), _] = two();
    rig.model.look().is_full = true;
    let outcome = agent.try_cut(&mut rig.source.freezer(), CutPlan::default());
    assert!(matches!(&outcome, Outcome::Skipped { reason, .. } if reason.contains("no room")), "{outcome:?}");
    assert!(agent.lane.status().waiting.is_some_and(|waiting| waiting.contains("no room")));
    rig.model.look().is_full = false;
    agent.reaches(Disk::Protecting);
    assert_eq!(agent.lane.status().waiting, None);
    agent.cut(&mut rig.source.freezer());
}

#[test]
fn a_doubt_that_waits_for_a_person_waits_with_the_next_agent_too() {
    let rig = Rig::new(SIZE);
    let agent = rig.careful_agent(Disk::ResyncRequired(super::super::Reason::Initial));
    agent.cut(&mut rig.source.freezer());
    let doubted = Disk::ResyncRequired(super::super::Reason::Doubt);
    rig.source.doubt();
    agent.reaches(doubted);
    // It dies before anything of that is written down.
    drop(agent);
    let agent = rig.careful_agent(Disk::Disconnected);
    agent.reaches(doubted);
    assert_eq!(rig.model.look().synchronizations, 1);
    assert!(agent.lane.order(super::super::agent::Order::Resynchronize));
    agent.reaches(Disk::Protecting);
    assert_eq!(rig.model.look().synchronizations, 2);
    agent.cut(&mut rig.source.freezer());
    assert!(rig.model.look().points.last().unwrap().1 == rig.source.content());
}

#[test]
fn a_target_that_holds_what_was_never_sent_is_compared() {
    let rig = Rig::new(SIZE);
    let agent = rig.new_agent();
    agent.cut(&mut rig.source.freezer());
    // As after a snapshot of the machine, its memory with it, that was taken before.
    let last = rig.model.look().position.landed;
    rig.model.look().position.landed = crate::unit::DeltaNumber(last.0 + 7);
    rig.model.look().disk[4096] ^= 0xff;
    rig.cut_wires();
    // The lane offers all of it once more, whatever the target thinks.
    wait_until(|| agent.lane.status().traffic.offered_bytes >= 2 * SIZE);
    agent.cut(&mut rig.source.freezer());
    assert!(rig.model.look().points.last().unwrap().1 == rig.source.content());
}

/// An opening that takes longer than the silence after which a peer is gone.
#[test]
#[ignore = "takes more than a minute"]
fn a_target_that_is_opened_slowly_is_waited_for() {
    use super::super::master_target::Notice;
    let rig = Rig::new(SIZE);
    rig.model.look().opens_after = crate::limits::PEER_SILENCE_MAX + Duration::from_secs(3);
    let agent = rig.new_agent();
    agent.reaches_within(Disk::Protecting, 2 * crate::limits::PEER_SILENCE_MAX);
    let alarms = rig.notices.lock().unwrap();
    assert!(!alarms.iter().any(|notice| matches!(notice, Notice::Alarm { .. })), "{alarms:?}");
}
