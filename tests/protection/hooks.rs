//! Commands around a cut that fail, hang or are missing: the point is made all the
//! same, is called what it is, and everybody is told why.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ends::Ends;
use super::rig::{Rig, Setup, able, event, failback, path_text};
use super::volume::fill;
use crate::fixture::{LONG, Outcome, Random};

const DISK_BYTES: u64 = 4 << 20;

/// What a hook writes down of itself. Where it lies stands in for `TOLD`.
const TELLS: &str = "echo $FAILBACK_HOOK $FAILBACK_CUT_NAME $FAILBACK_CUT_KIND >> TOLD";

/// A machine with its first point, whose settings end with `hooks`.
fn hooked(hooks: &str) -> (Rig, Ends) {
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    fill(rig.disks[0].source.path(), 0, 1 << 20, &mut Random::new());
    let target = rig.start_target();
    let told = rig.scratch.path("told");
    let hooks = hooks.replace("TELLS", TELLS).replace("TOLD", path_text(&told));
    let settings = OpenOptions::new().append(true).open(rig.agent_settings());
    settings.and_then(|mut file| file.write_all(hooks.as_bytes())).expect("it was written");
    let ends = Ends::of(rig.start_agent(), target);
    rig.wait_for_points();
    rig.wait_for_state("protecting");
    (rig, ends)
}

/// Asks for a cut with these options until it is made.
fn cut(rig: &Rig, options: &[&str]) -> Outcome {
    let (deadline, settings) = (Instant::now() + LONG, rig.agent_settings());
    loop {
        let place = ["--config", path_text(&settings)];
        let outcome = failback(&[&["agent", "cut"], options, &place].concat());
        if outcome.code() == Some(0) {
            return outcome;
        }
        assert!(Instant::now() < deadline, "no cut in time: {outcome}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the hooks wrote down, once for each cut that was tried.
fn told(rig: &Rig, name: &str) -> Vec<String> {
    let text = fs::read_to_string(rig.scratch.path("told")).unwrap_or_default();
    let lines = text.lines().filter(|line| line.split(' ').nth(1) == Some(name));
    lines.map(str::to_owned).collect()
}

/// The hooks ran as `expected` says, each time.
fn assert_told(rig: &Rig, name: &str, expected: &[&str]) {
    let told = told(rig, name);
    let expected: Vec<String> = expected.iter().map(|hook| format!("{hook} {name} app")).collect();
    let is_so = if expected.is_empty() {
        told.is_empty()
    } else {
        !told.is_empty() && told.chunks(expected.len()).all(|each| *each == expected)
    };
    assert!(is_so, "{told:?}, not {expected:?}");
}

/// A cut for applications with these hooks is one of another kind, for this reason,
/// wherever somebody looks. The hooks called `ran` wrote down that they were run.
fn assert_downgraded(hooks: &str, why: &str, ran: &[&str]) {
    let Some(()) = able(&[]) else { return };
    let (rig, ends) = hooked(hooks);
    let asked = cut(&rig, &["--app", "--name", "asked", "--json"]).summary();
    let is_why = |cut: &Value| cut["reason"].as_str().is_some_and(|reason| reason.contains(why));
    assert!(asked["kind"] == "crash" && is_why(&asked), "{asked}");
    assert_told(&rig, "asked", ran);
    ends.agent().wait_for(LONG, |line| {
        event(line).filter(|event| event["event"] == "cut" && event["name"] == "asked" && is_why(event))
    });
    let status = rig.agent(&["status"]).expect_success().summary();
    assert!(status["last_cut"]["kind"] == "crash" && is_why(&status["last_cut"]), "{status}");
    assert_eq!(rig.point("data", "asked").kind, "crash");
    let shown = cut(&rig, &["--app", "--name", "shown"]);
    let words = ["crash point of data", "not app-consistent: ", why];
    assert!(words.iter().all(|word| shown.stdout.contains(word)), "{shown}");
    // Nobody asks applications for it, and it needs no reason.
    let plain = cut(&rig, &["--name", "plain", "--json"]).summary();
    assert!(plain["kind"] == "crash" && plain["reason"].is_null(), "{plain}");
    assert_told(&rig, "plain", &[]);
    ends.finish(&rig);
}

#[test]
fn a_hook_that_fails_makes_the_point_crash_consistent() {
    let hooks = "[hooks]\npre = \"TELLS; exit 3\"\npost = \"TELLS\"\n";
    assert_downgraded(hooks, "the pre hook ended with code 3", &["pre", "post"]);
}

#[test]
fn a_hook_that_hangs_makes_the_point_crash_consistent() {
    let hooks = "[hooks]\npre = \"TELLS; sleep 1000\"\npost = \"TELLS\"\ntime-limit = \"500ms\"\n";
    assert_downgraded(hooks, "the pre hook was killed after 0.5 s", &["pre", "post"]);
}

/// One that could not be started has nothing for the other one to take back.
#[test]
fn a_hook_that_is_missing_makes_the_point_crash_consistent() {
    let hooks = "[hooks]\npre = [\"/no/such/hook\"]\npost = \"TELLS\"\n";
    assert_downgraded(hooks, "the pre hook could not be run: ", &[]);
    assert_downgraded("[hooks]\npost = \"TELLS\"\n", "no pre hook is set", &[]);
}

/// What fails after the cut changes nothing of it.
#[test]
fn a_hook_that_succeeds_makes_the_point_app_consistent() {
    let Some(()) = able(&[]) else { return };
    let (rig, ends) = hooked("[hooks]\npre = \"TELLS\"\npost = \"TELLS; exit 3\"\n");
    let asked = cut(&rig, &["--app", "--name", "asked", "--json"]).summary();
    assert!(asked["kind"] == "app" && asked["reason"].is_null(), "{asked}");
    assert_told(&rig, "asked", &["pre", "post"]);
    assert_eq!(rig.point("data", "asked").kind, "app");
    ends.finish(&rig);
}
