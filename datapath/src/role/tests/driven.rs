//! The drivers at both ends, over real TLS.

use std::time::{Duration, Instant};

use super::super::agent::{CutPlan, Order, Outcome};
use super::super::rig::{Rig, Writer};
use super::super::{Disk, Pair};
use crate::wire::CutKind;

const SIZE: u64 = (8 << 20) + 512;

/// Something to begin with: text, zeroes and holes.
fn filled(rig: &Rig) {
    for index in 0..200_u64 {
        let fill = u8::try_from(index % 251).unwrap();
        rig.source.write(index * 20_480, &vec![fill; 7000]);
    }
}

#[test]
fn a_disk_is_synchronized_protected_and_cut_while_it_is_written() {
    let rig = Rig::new(SIZE);
    filled(&rig);
    let writer = Writer::start(&rig.source, 0x5eed);
    let agent = rig.new_agent();
    let mut freezer = rig.source.freezer();
    for _ in 0..5 {
        agent.cut(&mut freezer);
        std::thread::sleep(Duration::from_millis(30));
    }
    drop(writer);
    let model = rig.model.look();
    assert_eq!(model.points.len(), 5);
    let copies = freezer.copies.iter().rev().take(5).rev();
    for ((cut, disk), copy) in model.points.iter().zip(copies) {
        assert!(disk == copy, "point {} is not what the source held at its cut", cut.epoch);
        assert_eq!(cut.kind, CutKind::Crash);
    }
    assert_eq!(model.synchronizations, 1);
    drop(model);
    assert!(agent.errors.lock().unwrap().is_empty(), "{:?}", agent.errors);
}

#[test]
fn a_target_that_fails_at_any_step_costs_no_change_and_no_point_is_false() {
    let rig = Rig::new(SIZE);
    filled(&rig);
    let writer = Writer::start(&rig.source, 0xbad);
    let agent = rig.new_agent();
    let mut made = Vec::new();
    for steps in [1, 3, 6, 2, 9] {
        rig.model.look().fails_after = Some(steps);
        let mut freezer = rig.source.freezer();
        agent.cut(&mut freezer);
        made.push(freezer.copies.pop().unwrap());
    }
    drop(writer);
    let model = rig.model.look();
    for copy in made {
        assert!(
            model.points.iter().any(|(_, disk)| *disk == copy),
            "a point that was announced is not there"
        );
    }
}

/// A disk that has a point and was changed since, in three chunks, while no agent ran.
fn changed_without_an_agent() -> Rig {
    let rig = Rig::new(SIZE);
    filled(&rig);
    rig.new_agent().cut(&mut rig.source.freezer());
    rig.source.write(4096, &[1; 4096]);
    rig.source.write(1 << 20, &[2; 8192]);
    rig
}

#[test]
fn an_agent_that_is_stopped_and_started_sends_only_what_changed() {
    let rig = changed_without_an_agent();
    let mut freezer = rig.source.freezer();
    let landed = rig.model.look().chunks_landed;
    let agent = rig.agent(Disk::Disconnected);
    agent.cut(&mut freezer);
    let model = rig.model.look();
    assert_eq!(model.chunks_landed - landed, 3);
    assert!(model.points.last().unwrap().1 == rig.source.content());
    assert_eq!(model.synchronizations, 1);
}

#[test]
fn nothing_of_a_damaged_delta_lands_and_it_is_sent_again() {
    let rig = changed_without_an_agent();
    let mut freezer = rig.source.freezer();
    let landed = rig.model.look().chunks_landed;
    let held = rig.model.look().disk.clone();
    rig.model.look().misreads = 3;
    let agent = rig.agent(Disk::Disconnected);
    let remarks = || agent.errors.lock().unwrap().iter().filter(|error| error.contains("damaged")).count();
    let until = Instant::now() + Duration::from_secs(60);
    while remarks() < 2 {
        assert!(Instant::now() < until, "{:?}: {:?}", agent.state(), agent.errors.lock().unwrap());
        assert!(rig.model.look().disk == held, "something of it landed");
        std::thread::sleep(Duration::from_millis(2));
    }
    agent.cut(&mut freezer);
    let model = rig.model.look();
    assert_eq!(model.chunks_landed - landed, 3, "once, as it was read");
    assert!(model.points.last().unwrap().1 == rig.source.content());
    assert_eq!((model.synchronizations, model.misreads, remarks()), (1, 0, 3));
}

#[test]
fn a_doubt_compares_the_disk_and_sends_only_what_differs() {
    let rig = Rig::new(SIZE);
    filled(&rig);
    let agent = rig.new_agent();
    let mut freezer = rig.source.freezer();
    agent.cut(&mut freezer);
    let landed = rig.model.look().chunks_landed;
    rig.source.doubt();
    rig.source.write(4096, &[1; 4096]);
    while rig.model.look().synchronizations < 2 {
        std::thread::sleep(Duration::from_millis(2));
    }
    agent.cut(&mut freezer);
    let model = rig.model.look();
    assert!(model.points.last().unwrap().1 == rig.source.content());
    assert_eq!(model.chunks_landed - landed, 1);
    assert!(model.chunks_unwanted >= SIZE / 4096);
}

#[test]
fn a_writer_that_no_freeze_stops_is_read_again() {
    let rig = Rig::new(SIZE);
    filled(&rig);
    let agent = rig.new_agent();
    agent.reaches(Disk::Protecting);
    let mut freezer = Unstoppable { inner: rig.source.freezer(), source: rig.source.clone() };
    let outcome = agent.try_cut(&mut freezer, CutPlan { name: "raw", ..CutPlan::default() });
    assert!(matches!(outcome, Outcome::Made { .. }), "{outcome:?}");
    assert!(rig.model.look().points[0].1 == rig.source.content());
}

/// Writes once when the machine is frozen, as swap does.
struct Unstoppable {
    inner: super::super::rig::TestFreezer,
    source: super::super::rig::SharedSource,
}

impl super::super::agent::Freezer for Unstoppable {
    fn prepare(&mut self) -> Result<(), String> {
        self.inner.prepare()
    }

    fn freeze(&mut self, hold: bool) -> Result<Instant, String> {
        let begun = self.inner.freeze(hold)?;
        self.source.write_whatever_is_frozen(8192, &[0x77; 4096]);
        Ok(begun)
    }

    fn holds(&mut self) -> bool {
        self.inner.holds()
    }

    fn thaw(&mut self) -> bool {
        self.inner.thaw()
    }

    fn power_off(&mut self) -> Result<(), String> {
        self.inner.power_off()
    }
}

#[test]
fn the_final_cut_fences_the_target_and_nothing_lands_after_it() {
    let rig = Rig::new(SIZE);
    filled(&rig);
    let agent = rig.new_agent();
    agent.reaches(Disk::Protecting);
    let mut freezer = rig.source.freezer();
    let outcome = agent.try_cut(&mut freezer, CutPlan { name: "home", last: true, ..CutPlan::default() });
    assert!(matches!(outcome, Outcome::Made { finished: true, void: false, .. }), "{outcome:?}");
    assert_eq!(agent.state(), Disk::Fenced);
    {
        let model = rig.model.look();
        assert!(model.fenced && model.points.last().unwrap().0.kind == CutKind::Final);
        assert!(model.disk == rig.source.content());
    }
    freezer.thaw_for_test();
    rig.source.write(0, &[9; 4096]);
    drop(agent);
    let again = rig.agent(Disk::Disconnected);
    again.reaches(Disk::Fenced);
    assert!(rig.model.look().disk != rig.source.content());
}

#[test]
fn a_final_cut_that_is_thawed_early_is_void_and_says_so() {
    let rig = Rig::new(SIZE);
    filled(&rig);
    let agent = rig.new_agent();
    agent.reaches(Disk::Protecting);
    let mut freezer = rig.source.freezer();
    freezer.thawed_early = true;
    let outcome = agent.try_cut(&mut freezer, CutPlan { name: "home", last: true, ..CutPlan::default() });
    let void = match outcome {
        Outcome::Skipped { void, .. } | Outcome::Made { void, .. } => void,
    };
    assert!(void);
}

#[test]
fn what_cannot_be_frozen_is_no_point_and_protection_goes_on() {
    let rig = Rig::new(SIZE);
    filled(&rig);
    let agent = rig.new_agent();
    agent.reaches(Disk::Protecting);
    let mut freezer = rig.source.freezer();
    freezer.fails = true;
    let outcome = agent.try_cut(&mut freezer, CutPlan::default());
    assert!(matches!(&outcome, Outcome::Skipped { reason, .. } if reason.contains("freeze")), "{outcome:?}");
    freezer.fails = false;
    agent.cut(&mut freezer);
    assert!(rig.model.look().points[0].1 == freezer.copies[0]);
}

#[test]
fn an_ordered_resynchronization_is_one() {
    let rig = Rig::new(SIZE);
    let agent = rig.new_agent();
    agent.cut(&mut rig.source.freezer());
    assert!(agent.lane.order(Order::Resynchronize));
    while rig.model.look().synchronizations < 2 {
        std::thread::sleep(Duration::from_millis(2));
    }
    agent.reaches(Disk::Protecting);
}

#[test]
fn a_second_agent_for_a_disk_is_kept_out_with_an_alarm() {
    use super::super::master_target::Notice;
    let rig = Rig::new(SIZE);
    let agent = rig.new_agent();
    agent.reaches(Disk::Protecting);
    let second = rig.new_agent();
    let alarmed = || rig.notices.lock().unwrap().iter().any(|notice| matches!(notice, Notice::Alarm { .. }));
    while !alarmed() {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(!second.state().is_connected());
    agent.cut(&mut rig.source.freezer());
    let became = |state| {
        rig.notices
            .lock()
            .unwrap()
            .iter()
            .any(|notice| matches!(notice, Notice::Became { state: s, .. } if *s == state))
    };
    assert!(became(Pair::Reprotecting) && became(Pair::FailbackProtected));
}
