//! Every state with every event, against the listings that are checked in, and
//! what must hold whatever happens.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

mod driven;
mod finishing;
mod untracked;

/// Writes what the tables say now instead of comparing.
const BLESS: &str = "FAILBACK_BLESS";

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/role").join(name)
}

#[track_caller]
fn assert_listed<S: Table>(name: &str) {
    let text = format!("{}\n{}", listing::<S>(), diagram::<S>());
    let path = here(name);
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let changed: Vec<_> = text.lines().filter(|line| !known.lines().any(|other| other == *line)).collect();
    assert!(
        known == text,
        "{name} is not what the table says ({BLESS}=1 writes it); new:\n{}",
        changed.join("\n")
    );
}

#[test]
fn a_disk_answers_every_event_in_every_state() {
    assert_listed::<Disk>("disk.txt");
}

#[test]
fn a_cut_answers_every_event_in_every_state() {
    assert_listed::<MachineCut>("machine_cut.txt");
}

#[test]
fn a_pair_answers_every_event_in_every_state() {
    assert_listed::<Pair>("pair.txt");
}

#[test]
fn the_diagrams_of_the_documentation_are_those_of_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = std::fs::read_to_string(path).unwrap();
    for diagram in [diagram::<Disk>(), diagram::<MachineCut>(), diagram::<Pair>()] {
        assert!(text.contains(&diagram), "ARCHITECTURE.md lacks this diagram:\n{diagram}");
    }
}

fn all<S: Table>() -> impl Iterator<Item = (S, S::Event, Step<S>)> {
    S::STATES.iter().flat_map(|state| S::EVENTS.iter().map(|event| (*state, *event, state.on(*event))))
}

#[test]
fn every_state_is_listed_and_can_be_reached() {
    fn check<S: Table>() {
        let mut reached = vec![S::STATES[0]];
        let mut at = 0;
        while at < reached.len() {
            for event in S::EVENTS {
                let next = reached[at].on(*event).next;
                assert!(S::STATES.contains(&next), "{next:?} is not listed");
                if !reached.contains(&next) {
                    reached.push(next);
                }
            }
            at += 1;
        }
        for state in S::STATES {
            assert!(reached.contains(state), "{state:?} cannot be reached");
        }
    }
    check::<Disk>();
    check::<MachineCut>();
    check::<Pair>();
}

#[test]
fn only_a_point_lets_an_agent_forget() {
    for (state, event, step) in all::<Disk>() {
        if step.actions.contains(&DiskAction::Forget) {
            assert_eq!(event, DiskEvent::PointMade, "{state:?}");
        }
    }
}

#[test]
fn a_connection_that_goes_leaves_nothing_half_sent() {
    for (state, event, step) in all::<Disk>() {
        if state.is_connected() && !step.next.is_connected() {
            assert!(step.actions.contains(&DiskAction::GiveBack), "{state:?} {event:?}");
        }
    }
}

#[test]
fn a_relocated_or_fenced_disk_sends_nothing() {
    use DiskAction::{OfferAll, OfferInTransit, SendChanges, SendCut, SendFence};
    for (state, event, step) in all::<Disk>() {
        if matches!(state, Disk::Relocated | Disk::Fenced | Disk::Refused) {
            let sends = |action: &&DiskAction| {
                matches!(action, OfferAll | OfferInTransit | SendChanges | SendCut | SendFence)
            };
            assert!(step.actions.iter().find(sends).is_none(), "{state:?} {event:?}");
        }
    }
}

#[test]
fn a_cut_that_fails_thaws_or_was_thawed() {
    for (state, event, step) in all::<MachineCut>() {
        if state.is_frozen() && !step.next.is_frozen() {
            let thaws = step.actions.contains(&CutAction::Thaw) || event == CutEvent::ThawedEarly;
            assert!(thaws, "{state:?} {event:?}");
        }
    }
}

#[test]
fn epochs_close_only_after_a_drain_that_found_nothing() {
    for (state, event, step) in all::<MachineCut>() {
        if step.actions.contains(&CutAction::CloseEpochs) {
            let held =
                (state, event) == (MachineCut::Thawing, CutEvent::ThawedWell) || event == CutEvent::Unchanged;
            assert!(held, "{state:?} {event:?}");
        }
    }
}

#[test]
fn a_pair_without_a_point_is_corrupted_unless_it_is_being_synchronized() {
    for (state, event, step) in all::<Pair>() {
        if matches!(state, Pair::Corrupted | Pair::Reprotecting) {
            let made = step.actions.contains(&PairAction::MakePoint);
            let pointless = matches!(step.next, Pair::Corrupted | Pair::Reprotecting | Pair::Failed);
            assert!(made || pointless, "{state:?} {event:?}");
        }
    }
}

#[test]
fn nothing_lands_on_a_fenced_pair() {
    for (_, event, step) in all::<Pair>().filter(|(state, _, _)| *state == Pair::Fenced) {
        let writes = |action: &&PairAction| matches!(action, PairAction::Land | PairAction::MakePoint);
        assert!(step.actions.iter().find(writes).is_none(), "{event:?}");
    }
}

proptest! {
    /// Whatever happens, a machine is never frozen and forgotten: from every state
    /// one event or two lead to one that is not, or to the end.
    #[test]
    fn a_cut_never_hangs(events in prop::collection::vec(0..MachineCut::EVENTS.len(), 0..50)) {
        let mut cut = MachineCut::Idle;
        for event in events {
            cut = cut.on(MachineCut::EVENTS[event]).next;
        }
        let lost = cut.on(CutEvent::DiskLost).next.on(CutEvent::NotFrozen).next.on(CutEvent::ThawedEarly).next;
        prop_assert!(matches!(lost, MachineCut::Idle | MachineCut::Fencing | MachineCut::Finished), "{lost:?}");
    }
}
