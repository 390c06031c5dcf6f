//! `disks = "all"`: which disks of a machine an agent takes, and which it leaves.
//!
//! The machine's disks are loop devices of the test. In a mount namespace of its
//! own the agent finds them as `/dev/shm/NAME`, and no other disk of this host.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::ends::Ends;
use super::rig::{Rig, Setup, able, event};
use super::swap::Swap;
use super::volume::fill;
use crate::fixture::{LONG, LoopDevice, Random, Running, Scratch, binary, program, run, supervised};

const BYTES: u64 = 6 << 20;
/// Lets go of what other tests have mounted, which the new namespace would hold,
/// but not of what lies in the scratch directory "$1".
pub const LET_GO: &str = r#"
while read -r _ _ _ _ point _; do
    case $point in "$1"/*) ;; */failback-test-*) umount --lazy "$point" ;; esac
done </proc/self/mountinfo 2>/dev/null
"#;
/// And of all disks.
const HIDE: &str = r#"
mount -t tmpfs none /sys/block
mount -t tmpfs none /dev/shm
"#;
/// As the kernel lists a disk whose node lies in a folder: with `!` for `/`.
const ADD: &str = r#"
add() { # NAME DEVICE MODEL
    folder="/sys/block/shm!$1"
    mkdir -p "$folder/device"
    cat "/sys/class/block/${2##*/}/size" >"$folder/size"
    echo "$3" >"$folder/device/model"
    numbers=$(cat "/sys/class/block/${2##*/}/dev")
    mknod "/dev/shm/$1" b "${numbers%:*}" "${numbers#*:}"
}
"#;

/// The disks of a machine, as it is shown to an agent.
struct Shown<'a> {
    disks: &'a [(&'a str, &'a Path, &'a str)],
}

impl Shown<'_> {
    fn script(&self) -> String {
        let add = |(name, device, model): &(&str, &Path, &str)| {
            format!("add {name} {} '{model}'\n", device.display())
        };
        let disks: String = self.disks.iter().map(add).collect();
        format!("set -e\n{ADD}{disks}")
    }

    /// A command that runs failback where these are the disks.
    fn failback(&self, scratch: &Scratch) -> Command {
        let mut command = supervised(Path::new(program("unshare").get_program()));
        let script = format!("{LET_GO}{HIDE}{}shift; exec \"$@\"", self.script());
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
        command.arg(scratch.root()).arg(binary());
        command
    }

    /// Has a running agent find these too.
    fn show_to(&self, agent: &Running) {
        let target = agent.identifier().to_string();
        let mut command = program("nsenter");
        run(command.args(["--mount", "--target", &target, "sh", "-c", &self.script()]));
    }
}

/// Takes a disk away from a running agent's sight.
fn take_away(name: &str, agent: &Running) {
    let target = agent.identifier().to_string();
    let script = format!("rm -r '/sys/block/shm!{name}'");
    run(program("nsenter").args(["--mount", "--target", &target, "sh", "-c", &script]));
}

/// Has the settings name no disk, but all.
fn protect_all(rig: &Rig, exclude: &str) {
    let settings = fs::read_to_string(rig.agent_settings()).expect("they were written");
    let (head, rest) = settings.split_once("[[disk]]").expect("disks are named");
    let tail = rest.split_once("[points]").expect("points are set").1;
    rig.scratch.file("agent.toml", format!("{head}disks = \"all\"\n{exclude}[points]{tail}"));
}

/// The names of the disks that are protected.
fn protected(rig: &Rig) -> Vec<String> {
    let status = rig.agent(&["status"]).expect_success().summary();
    let disks = status["disks"].as_array().expect("disks are listed");
    disks.iter().map(|disk| disk["disk"].as_str().expect("a name").to_owned()).collect()
}

fn warnings(text: &str) -> impl Fn(&str) -> Option<Value> {
    let text = text.to_owned();
    move |line| event(line).filter(|event| event["event"] == "notice" && line.contains(&text))
}

#[test]
fn all_disks_are_those_that_hold_something_to_keep() {
    let Some(()) = able(&["unshare", "nsenter", "mkswap", "swapon", "swapoff"]) else { return };
    let rig = Rig::new(&[("shm_system", BYTES), ("shm_data", BYTES)], Setup::default());
    let others =
        ["swap", "gift", "left"].map(|name| LoopDevice::attach(&rig.scratch.image(name, BYTES), 512));
    let [swap, gift, left] = others.each_ref().map(LoopDevice::path);
    let on = Swap::on(&others[0], 0);
    let disks = [
        ("system", rig.disks[0].source.path(), "A Disk"),
        ("swap", swap, "A Disk"),
        ("gift", gift, "Microsoft NVMe Direct Disk"),
        ("left", left, "A Disk"),
    ];
    // Without swap in this kernel the disk is one as any other.
    let shown = Shown { disks: if on.is_some() { &disks } else { &disks[..1] } };
    let target = rig.start_target();
    protect_all(&rig, "[exclude]\ndevices = [\"/dev/shm/left\"]\n");
    let ends = Ends::of(rig.start_agent_as(shown.failback(&rig.scratch)), target);
    if on.is_some() {
        for (name, why) in [("swap", "swap"), ("gift", "temporary"), ("left", "excluded")] {
            let told = ends.agent().wait_for(LONG, warnings(&format!("/dev/shm/{name} is not protected")));
            assert!(told.to_string().contains(why), "{told}");
        }
    }
    assert_eq!(protected(&rig), ["shm_system"]);
    // One that comes is taken up by a reload, and all are cut together.
    Shown { disks: &[("data", rig.disks[1].source.path(), "A Disk")] }.show_to(ends.agent());
    assert_eq!(protected(&rig), ["shm_system"]);
    rig.agent(&["reload"]).expect_success();
    assert_eq!(protected(&rig), ["shm_data", "shm_system"]);
    rig.wait_for_state("protecting");
    for disk in &rig.disks {
        fill(disk.source.path(), 0, 1 << 20, &mut Random::new());
    }
    rig.cut("both", &[]);
    let cuts = ["shm_system", "shm_data"].map(|disk| rig.point(disk, "both").window);
    assert_eq!(cuts[0], cuts[1], "not cut together");
    // One that goes is protected no more, and its points stay.
    take_away("data", ends.agent());
    rig.agent(&["reload"]).expect_success();
    assert_eq!(protected(&rig), ["shm_system"]);
    rig.cut("alone", &[]);
    assert_eq!(rig.points("shm_data").last().map(|point| point.name.clone()), Some("both".to_owned()));
    ends.stop();
    drop(on);
}
