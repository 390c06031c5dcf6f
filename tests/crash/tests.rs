//! The enumerations, and the proof that they find what is wrong.

use super::enumerate::record;
use super::lives::{crowded_life, life};
use super::tape::Event;
use super::world::Lies;
use crate::fixture::Random;

/// Cuts that are tried when nothing else is said: about half a minute of one core.
const CUTS: u64 = 10_000;

/// `FAILBACK_CRASH_CUTS=N` tries N of them.
fn cuts_wanted() -> u64 {
    let given = std::env::var("FAILBACK_CRASH_CUTS").ok();
    given.map_or(CUTS, |text| text.parse().expect("FAILBACK_CRASH_CUTS is a number"))
}

#[test]
fn whatever_a_power_cut_leaves_recovers() {
    let mut random = Random::new();
    let (mut cuts, mut second_cuts, mut scripts) = (0, 0, 0);
    while cuts < cuts_wanted() {
        let seed = random.number();
        let script = if scripts % 2 == 0 { life(seed) } else { crowded_life(seed) };
        let recording = record(&script, seed, Lies::default()).expect("a script plays");
        let moments = recording.moments(200);
        let tried = recording.cut(&moments, 1, 21).unwrap_or_else(|wrong| panic!("{wrong}"));
        (cuts, second_cuts, scripts) = (cuts + tried.first, second_cuts + tried.second, scripts + 1);
    }
    println!("{cuts} power cuts in {scripts} lives of a pair, and {second_cuts} while it recovered");
}

/// What the enumeration is to cut in the middle is there to be cut.
#[test]
fn a_crowded_life_merges_drops_and_spills() {
    let seed = Random::new().number();
    let script = crowded_life(seed);
    let recording = record(&script, seed, Lies::default()).expect("a script plays");
    let happens = |what: &str, is: &dyn Fn(&Event) -> bool| {
        let times = recording.tape.events.iter().filter(|event| is(event)).count();
        println!("{what}: {times}");
        assert!(times > 0, "{what}");
    };
    let removed = |name: &Event, of: &str| matches!(name, Event::Removed { name } if name.starts_with(of));
    happens(
        "merged indexes",
        &|event| matches!(event, Event::Renamed { to, .. } if to.starts_with("merged-")),
    );
    happens("runs", &|event| matches!(event, Event::Created { name, .. } if name.starts_with("run-")));
    happens("merged runs", &|event| matches!(event, Event::Created { name, .. } if name == "run-00000017"));
    for name in ["epoch-", "merged-", "segment-", "run-"] {
        happens(&format!("{name} removed"), &|event| removed(event, name));
    }
}

/// A storage that does not do what it claims must be found out, whichever of its
/// flushes lies: else the enumeration would not find an order that is wrong.
#[test]
fn a_flush_that_lies_is_caught() {
    let lies = [
        Lies { segment_flush: true, ..Lies::default() },
        Lies { file_flush: true, ..Lies::default() },
        Lies { disk_flush: true, ..Lies::default() },
        Lies { directory_flush: true, ..Lies::default() },
    ];
    let mut random = Random::new();
    for lie in lies {
        let caught = (0..5).find_map(|_| {
            let seed = random.number();
            let script = life(seed);
            let recording = record(&script, seed, lie).expect("a script plays");
            recording.cut(&recording.moments(400), 3, 21).err()
        });
        println!("{lie:?}: {}", caught.unwrap_or_else(|| panic!("{lie:?} was not caught")));
    }
}
