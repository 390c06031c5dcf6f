//! The agent of a machine, from its first synchronization to the last point.

pub mod place;
mod reload;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use self::place::{Disk, Mounted, Place};
use super::rig::{failback, path_text};
use crate::fixture::Need::{LoopDevices, Program, Tracking};
use crate::fixture::{LONG, Running, need, program};

fn able() -> Option<()> {
    need(&[LoopDevices, Program("mkfs.ext4"), Program("fsfreeze"), Program("blockdev")])
}

/// Writes to a filesystem until it is dropped.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    fn start(filesystem: &Mounted) -> Self {
        let (stop, folder) = (Arc::new(AtomicBool::new(false)), filesystem.0.point().to_owned());
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for number in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let file = folder.join(format!("written-{}", number % 16));
                fs::write(file, vec![u8::try_from(number % 251).expect("it fits"); 30_000])
                    .expect("there is room");
                thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(thread::JoinHandle::join));
    }
}

fn epoch_of(event: &Value) -> u64 {
    event["points"][0]["epoch"].as_u64().unwrap_or_else(|| panic!("no epoch in {event}"))
}

/// Checks a copy of a disk as the kernel would find it after a power cut.
fn assert_sound(place: &Place, name: &str, bytes: &[u8]) {
    let file = place.scratch.file(name, bytes);
    // Replays the journal, then finds nothing wrong.
    let replayed = program("e2fsck").args(["-p", "-f"]).arg(&file).output().expect("e2fsck starts");
    assert!(replayed.status.code().is_some_and(|code| code <= 1), "{replayed:?}");
}

#[test]
fn a_machine_is_protected_while_it_writes_and_taken_home() {
    let Some(()) = able() else { return };
    let mut place = Place::new();
    let disk = place.disk("root");
    let filesystem = disk.filesystem(&place.scratch);
    let _home = place.home(&[&disk]);
    let told = place.scratch.path("told");
    let hook = format!("[hooks]\npre = \"echo $FAILBACK_CUT_NAME >> {}\"\n", told.display());
    place.settings(&[&disk], &hook);
    let agent = place.start();
    let writer = Writer::start(&filesystem);
    place.reaches("protecting");
    let first = place.cut(&["--name", "first"]);
    let second = place.cut(&["--app", "--name", "second"]);
    assert_eq!((&first["kind"], &second["kind"]), (&"crash".into(), &"app".into()), "{first} {second}");
    assert_eq!(fs::read_to_string(told).expect("the hook ran").lines().next_back(), Some("second"));
    drop(writer);
    let finished = place.agent(&["finish"]).expect_success().summary();
    assert_eq!((&finished["finished"], &finished["void"]), (&true.into(), &false.into()), "{finished}");
    let status = place.status();
    assert_eq!(
        (&status["frozen"], &status["disks"][0]["state"]),
        (&true.into(), &"fenced".into()),
        "{status}"
    );
    assert!(Disk::bytes(&disk.source) == Disk::bytes(&disk.target), "the target is not what the source is");
    place.agent(&["cut"]).expect_code(1);
    let thawed = place.agent(&["thaw"]).expect_success().summary();
    assert_eq!(thawed["after_fence"], true, "{thawed}");
    agent.wait_for(LONG, |line| line.contains("\"alarm\"").then_some(()));
    place.agent(&["thaw"]).expect_code(1);
    ends(&place, agent);
}

/// A machine with one disk and its first point: place, disk, home and agent, of
/// which the last goes first. Its settings begin with `settings`.
fn protected(settings: &str) -> (Place, Disk, Running, Running) {
    let mut place = Place::new();
    let disk = place.disk("root");
    let home = place.home(&[&disk]);
    place.settings(&[&disk], "");
    let written = fs::read_to_string(place.config()).expect("it was written");
    place.scratch.file("agent.toml", format!("{settings}{written}"));
    let agent = place.start();
    place.reaches("protecting");
    place.cut(&[]);
    (place, disk, home, agent)
}

/// Ends an agent in order, takes away what it left, and sees that it is gone.
fn ends(place: &Place, agent: Running) {
    place.agent(&["uninstall"]).expect_code(3);
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    agent.finish(LONG).expect_success();
    place.agent(&["uninstall"]).expect_success();
    assert!(!place.scratch.path("machine").exists(), "state is left");
    let pins = fs::read_dir(place.scratch.path("bpf")).expect("the folder is the test's").count();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts are listed");
    assert!(pins == 0 && !mounts.contains(path_text(&place.scratch.path("bpf"))), "pins are left");
}

#[test]
fn an_agent_that_is_killed_goes_on_where_it_was() {
    let Some(()) = able() else { return };
    let mut place = Place::new();
    let disk = place.disk("root");
    let filesystem = disk.filesystem(&place.scratch);
    filesystem.write("before", 1000, 1);
    let _home = place.home(&[&disk]);
    place.settings(&[&disk], "");
    let mut agent = place.start();
    place.reaches("protecting");
    place.cut(&[]);
    let config = place.config();
    let second = failback(&["agent", "run", "--rehearse", "--config", path_text(&config)]);
    assert!(second.expect_code(3).stderr.contains("running agent"));
    for round in 2..5 {
        filesystem.write("at work", 50, round);
        agent.kill();
        filesystem.write("meanwhile", 50, round);
        agent = place.start();
        let status = place.reaches("protecting");
        let read = status["read_bytes"].as_u64().expect("it is counted");
        assert!(read < 16 << 20, "{read} bytes were read again: {status}");
    }
    filesystem.write("after", 50, 9);
    let point = place.cut(&["--name", "after"]);
    ends(&place, agent);
    let copy = place.copy(&disk, epoch_of(&point));
    assert_sound(&place, "copied", &copy);
}

#[test]
fn what_is_added_comes_and_what_is_taken_out_goes_by_reload() {
    let Some(()) = able() else { return };
    let mut place = Place::new();
    let (first, second) = (place.disk("first"), place.disk("second"));
    let _home = place.home(&[&first, &second]);
    place.settings(&[&first], "");
    let agent = place.start();
    place.reaches("protecting");
    place.settings(&[&first, &second], "");
    place.agent(&["reload"]).expect_success();
    place.reaches("protecting");
    let both = place.cut(&["--name", "both"]);
    assert_eq!(both["points"].as_array().map(Vec::len), Some(2), "{both}");
    for other in ["newest", "7"] {
        let refused = place.agent(&["cut", "--name", other]).expect_code(3);
        assert!(refused.stderr.contains("mean other points"), "{refused}");
    }
    place.agent(&["remove", "second"]).expect_code(3);
    place.settings(&[&first], "");
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    let until = std::time::Instant::now() + LONG;
    while place.status()["disks"].as_array().map(Vec::len) != Some(1) {
        assert!(std::time::Instant::now() < until, "it stays");
        thread::sleep(std::time::Duration::from_millis(50));
    }
    place.agent(&["remove", "second"]).expect_success();
    place.agent(&["remove", "second"]).expect_code(3);
    place.cut(&[]);
    ends(&place, agent);
}

#[test]
fn on_another_machine_nothing_is_sent_until_somebody_says_so() {
    let Some(()) = able() else { return };
    let (place, _disk, _home, agent) = protected("");
    agent.kill();
    let binding = place.scratch.path("machine").join("binding.json");
    let mut bound: Value =
        serde_json::from_str(&fs::read_to_string(&binding).expect("it is kept")).expect("it is JSON");
    bound["machine"] = "another".into();
    fs::write(&binding, bound.to_string()).expect("it can be written");
    let agent = place.start();
    let status = place.reaches("relocated");
    assert!(status["relocated"].as_str().is_some_and(|why| why.contains("another")), "{status}");
    assert_eq!(status["sent_bytes"], 0);
    for refused in [&["cut"][..], &["finish"], &["resync", "root"]] {
        place.agent(refused).expect_code(1);
    }
    agent.kill();
    let agent = place.start_with(&["--bind-anew"]);
    place.reaches("protecting");
    place.cut(&[]);
    agent.kill();
    // What it was bound to is lost: it may be a copy.
    fs::remove_file(&binding).expect("it is there");
    let refused = place.agent(&["run", "--rehearse"]).expect_code(3);
    assert!(refused.stderr.contains("--bind-anew"), "{refused}");
    let agent = place.start_with(&["--bind-anew"]);
    place.reaches("protecting");
    place.cut(&[]);
    ends(&place, agent);
}

#[test]
fn without_tracking_points_are_exact_and_the_last_one_holds_everything() {
    let Some(()) = able() else { return };
    let mut place = Place::new();
    let disk = place.disk("root");
    let filesystem = disk.filesystem(&place.scratch);
    filesystem.write("first", 1000, 1);
    let _home = place.home(&[&disk]);
    place.settings(&[&disk], "");
    let config = fs::read_to_string(place.config()).expect("it was written");
    place.scratch.file("agent.toml", config.replace("[points]", "tracking = \"digest\"\n[points]"));
    let agent = place.start();
    let status = place.reaches("protecting");
    assert_eq!(status["disks"][0]["tracking"], "digest", "{status}");
    filesystem.write("second", 1000, 2);
    let finished = place.agent(&["finish", "--power-off"]).expect_success().summary();
    assert_eq!(finished["finished"], true, "{finished}");
    assert!(Disk::bytes(&disk.source) == Disk::bytes(&disk.target), "the target is not what the source is");
    place.agent(&["thaw"]).expect_success();
    ends(&place, agent);
}

#[test]
fn a_machine_whose_agent_dies_while_it_is_frozen_is_thawed_by_the_next() {
    let Some(()) = able() else { return };
    let mut place = Place::new();
    let disk = place.disk("root");
    let filesystem = disk.filesystem(&place.scratch);
    let _home = place.home(&[&disk]);
    place.settings(&[&disk], "");
    let agent = place.start();
    place.reaches("protecting");
    place.agent(&["finish"]).expect_success();
    // Its watchdog dies with it.
    agent.kill();
    let agent = place.start();
    let unfreeze = program("fsfreeze").arg("--unfreeze").arg(filesystem.0.point()).output();
    assert!(!unfreeze.expect("fsfreeze starts").status.success(), "it was frozen still");
    filesystem.write("again", 10, 1);
    let status = place.reaches("fenced");
    assert_eq!(status["frozen"], false, "{status}");
    agent.wait_for(LONG, |line| line.contains("\"alarm\"").then_some(()));
    ends(&place, agent);
}

#[test]
fn marks_that_are_gone_are_a_doubt_that_waits_for_a_person_where_that_is_wanted() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    let (place, _disk, _home, agent) = protected("on-doubt = \"stop\"\n");
    agent.kill();
    for pin in fs::read_dir(place.scratch.path("bpf/failback/root")).expect("it is pinned").flatten() {
        fs::remove_file(pin.path()).expect("a pin can be removed");
    }
    let agent = place.start();
    let status = place.reaches("resync-required");
    let disk = &status["disks"][0];
    assert_eq!(disk["compared_for"], "doubt", "{status}");
    assert!(disk["reason"].as_str().is_some_and(|why| why.contains("no marks")), "{status}");
    place.agent(&["resync", "nobody"]).expect_code(3);
    place.agent(&["resync", "root"]).expect_success();
    place.reaches("protecting");
    place.cut(&[]);
    ends(&place, agent);
}
