//! Freezes that end before they should, or never begin.

use std::time::{Duration, Instant};

use failback_datapath::quiesce::{Cause, Error, Limit};

use super::rig::{Filesystem, Writer, able, freeze_by_hand, plan, thaw_by_hand, watchdog};
use crate::fixture::{LONG, Scratch};

#[test]
fn past_its_budget_a_freeze_is_thawed_and_void() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let filesystem = Filesystem::new(&scratch, "a", "ext4");
    let plan = plan(&[&filesystem]);
    let mut watchdog = watchdog(&scratch);
    let writer = Writer::start(&filesystem.point);
    // On a machine that is busy enough it is late before it is frozen.
    let mut frozen = loop {
        match plan.freeze(Limit::Budget(Duration::from_millis(300)), &mut watchdog) {
            Ok(frozen) => break frozen,
            Err(Error::Late { .. } | Error::WatchdogBusy { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    // Nobody thaws it here.
    writer.goes_on();
    assert!(frozen.remaining().is_zero() && !frozen.confirm().unwrap());
    let thawed = frozen.thaw().unwrap();
    assert!(!thawed.still_valid && thawed.cause == Cause::Deadline);
    assert!(
        plan.freeze(Limit::Budget(LONG), &mut watchdog).unwrap().thaw().unwrap().still_valid,
        "the next one is good"
    );
}

#[test]
fn a_budget_that_cannot_be_kept_leaves_nothing_frozen() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let filesystems = [Filesystem::new(&scratch, "a", "ext4"), Filesystem::new(&scratch, "b", "xfs")];
    let plan = plan(&[&filesystems[0], &filesystems[1]]);
    let mut watchdog = watchdog(&scratch);
    let prepared = plan.prepare(&mut watchdog).unwrap();
    let late = prepared.freeze(Limit::Budget(Duration::ZERO));
    assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
    drop(late);
    let writers = filesystems.each_ref().map(|filesystem| Writer::start(&filesystem.point));
    writers.iter().for_each(Writer::goes_on);
    drop(writers);
    // The kernel may have been in the middle of a freeze, which is then taken back.
    while filesystems.iter().any(Filesystem::is_frozen) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_somebody_else_froze_is_left_alone() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let filesystems = [Filesystem::new(&scratch, "a", "ext4"), Filesystem::new(&scratch, "b", "xfs")];
    let plan = plan(&[&filesystems[0], &filesystems[1]]);
    let last = plan.superblocks()[1].number;
    let (theirs, ours): (Vec<_>, Vec<_>) = filesystems.iter().partition(|one| one.number() == last);
    let mut watchdog = watchdog(&scratch);
    assert!(freeze_by_hand(&theirs[0].point));
    let refused = plan.freeze(Limit::Budget(LONG), &mut watchdog).map(drop);
    let is_left_alone = thaw_by_hand(&theirs[0].point);
    assert!(matches!(refused, Err(Error::AlreadyFrozen { .. })), "{refused:?}");
    assert!(is_left_alone && !ours[0].is_frozen());
    assert!(plan.freeze(Limit::Budget(LONG), &mut watchdog).unwrap().thaw().unwrap().still_valid);
}

/// Freezing the upper filesystem waits for the lower one, which somebody else
/// has frozen: the kernel would wait without end.
#[test]
fn a_freeze_that_hangs_is_given_up_in_time_and_taken_back_later() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let outer = Filesystem::new(&scratch, "outer", "ext4");
    let inner = Filesystem::within(&scratch, &outer, "inner", "ext4");
    let plan = plan(&[&outer]);
    let mut watchdog = watchdog(&scratch);
    let prepared = plan.prepare(&mut watchdog).unwrap();
    assert!(freeze_by_hand(&outer.point));
    let late = prepared.freeze(Limit::Budget(Duration::from_millis(500))).map(drop);
    let is_left_alone = thaw_by_hand(&outer.point);
    assert!(matches!(&late, Err(Error::Late { superblock }) if superblock.contains("inner")), "{late:?}");
    assert!(is_left_alone);
    while inner.is_frozen() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let frozen = loop {
        match plan.freeze(Limit::Budget(LONG), &mut watchdog) {
            Ok(frozen) => break frozen,
            // The kernel has not quite let go.
            Err(Error::WatchdogBusy { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert!(frozen.thaw().unwrap().still_valid);
}

#[test]
fn a_thaw_by_somebody_else_voids_the_cut() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let filesystems = [Filesystem::new(&scratch, "a", "ext4"), Filesystem::new(&scratch, "b", "xfs")];
    let plan = plan(&[&filesystems[0], &filesystems[1]]);
    let mut watchdog = watchdog(&scratch);
    let frozen = plan.freeze(Limit::Budget(LONG), &mut watchdog).unwrap();
    assert!(thaw_by_hand(&filesystems[1].point));
    assert!(!frozen.thaw().unwrap().still_valid, "noticed by the thaw");
    let mut frozen = plan.freeze(Limit::Budget(LONG), &mut watchdog).unwrap();
    assert!(frozen.confirm().unwrap());
    assert!(thaw_by_hand(&filesystems[0].point));
    assert!(!frozen.confirm().unwrap(), "noticed when asked");
    assert!(!filesystems.iter().any(Filesystem::is_frozen));
    let thawed = frozen.thaw().unwrap();
    assert!(!thawed.still_valid && thawed.cause == Cause::Broken);
}

/// A machine that is stopped for good stays so for as long as its agent lives.
#[test]
fn a_hold_lasts_while_somebody_asks_and_ends_when_nobody_does() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let filesystem = Filesystem::new(&scratch, "a", "ext4");
    let limit = Duration::from_secs(3);
    let mut watchdog = watchdog(&scratch);
    let mut frozen = plan(&[&filesystem]).freeze(Limit::Hold(limit), &mut watchdog).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < limit + limit / 2 {
        assert!(frozen.confirm().unwrap(), "its time begins again with each question");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(filesystem.is_frozen());
    // Nobody asks any more: a writer waits for the end of it.
    drop(Writer::start(&filesystem.point));
    while filesystem.is_frozen() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let thawed = frozen.thaw().unwrap();
    assert!(!thawed.still_valid && thawed.cause == Cause::Deadline);
}

#[test]
fn a_machine_is_powered_off_frozen_or_not_at_all() {
    let Some(()) = able() else { return };
    let scratch = Scratch::new();
    let filesystem = Filesystem::new(&scratch, "a", "ext4");
    let plan = plan(&[&filesystem]);
    let mut watchdog = watchdog(&scratch);
    let frozen = plan.freeze(Limit::Hold(LONG), &mut watchdog).unwrap();
    let frozen = frozen.power_off().unwrap();
    assert!(filesystem.is_frozen(), "a rehearsal leaves it frozen");
    assert!(thaw_by_hand(&filesystem.point));
    let refused = frozen.power_off().map(drop);
    assert!(matches!(refused, Err(Error::NotFrozenAnyMore { cause: Cause::Broken })), "{refused:?}");
    let frozen = plan.freeze(Limit::Hold(Duration::from_millis(500)), &mut watchdog).unwrap();
    let writer = Writer::start(&filesystem.point);
    let refused = frozen.power_off().map(drop);
    assert!(matches!(refused, Err(Error::NotFrozenAnyMore { cause: Cause::Deadline })), "{refused:?}");
    drop(writer);
}
