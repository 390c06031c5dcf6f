//! The agent of a machine that finds itself on another one: it sends nothing, says
//! what is different, and goes on where it is at home.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::all_disks::LET_GO;
use super::ends::Ends;
use super::rig::{Rig, Setup, able, path_text};
use super::volume::fill;
use crate::fixture::{LoopDevice, Random, Running, assert_same_bytes, binary, program, supervised};

const DISK_BYTES: u64 = 8 << 20;

/// Shows a firmware with the UUID "$2", whether this machine has one or not. The
/// folder is the kernel's, of links that lead to the same places; a file there that
/// cannot be read is no link to a disk.
const SHOW_FIRMWARE: &str = r#"
set -e
class=$(mktemp -d "$1/class-XXXXXX")
cp -a /sys/class/. "$class" 2>/dev/null || :
rm -rf "$class/dmi"
mkdir -p "$class/dmi/id"
echo "$2" >"$class/dmi/id/product_uuid"
mount --bind "$class" /sys/class
shift 2
exec "$@"
"#;

/// failback on a machine of this firmware.
fn with_firmware(rig: &Rig, uuid: &str) -> Command {
    let mut command = supervised(Path::new(program("unshare").get_program()));
    let script = format!("{LET_GO}{SHOW_FIRMWARE}");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.arg(rig.scratch.root()).arg(uuid).arg(binary());
    command
}

/// An agent that was started on another machine says `why`, and sends nothing.
fn assert_relocated(rig: &Rig, agent: Running, why: &[&str]) {
    let before = fs::read(&rig.disks[0].files[1]).expect("it is there");
    let points = rig.points("data").len();
    rig.wait_for_state("relocated");
    let status = rig.agent(&["status"]).expect_success().summary();
    let told = status["relocated"].as_str().unwrap_or_default();
    assert!(why.iter().all(|words| told.contains(words)), "{status}");
    for refused in [&["cut"][..], &["finish"], &["resync", "data"]] {
        rig.agent(refused).expect_code(1);
    }
    assert_eq!(rig.agent(&["status"]).summary()["sent_bytes"], 0);
    agent.kill();
    assert_eq!(rig.points("data").len(), points);
    assert!(fs::read(&rig.disks[0].files[1]).expect("it is there") == before, "the target was changed");
}

#[test]
fn an_agent_under_another_firmware_sends_nothing() {
    let Some(()) = able(&["unshare"]) else { return };
    let mut random = Random::new();
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    let source = rig.disks[0].source.path();
    fill(source, 0, 2 << 20, &mut random);
    let target = rig.start_target();
    let agent = rig.start_agent_as(with_firmware(&rig, "EC2A-1"));
    rig.wait_for_points();
    agent.kill();
    fill(source, 1 << 20, 64 << 10, &mut random);
    let drilled = rig.start_agent_as(with_firmware(&rig, "EC2A-2"));
    assert_relocated(&rig, drilled, &["the firmware's UUID was ec2a-1 and is ec2a-2"]);
    let ends = Ends::of(rig.start_agent_as(with_firmware(&rig, "EC2A-1")), target);
    rig.wait_for_state("protecting");
    rig.cut("at home", &[]);
    ends.finish(&rig);
}

/// The settings name a device by a link, as those of udev; it leads to another disk.
#[test]
fn an_agent_that_finds_another_disk_in_place_of_its_own_sends_nothing() {
    let Some(()) = able(&[]) else { return };
    let mut random = Random::new();
    let rig = Rig::new(&[("data", DISK_BYTES)], Setup::default());
    let (source, link) = (rig.disks[0].source.path(), rig.scratch.path("by-id"));
    let lead_to = |device: &Path| {
        drop(fs::remove_file(&link));
        symlink(device, &link).expect("it can be made");
    };
    fill(source, 0, 2 << 20, &mut random);
    lead_to(source);
    let target = rig.start_target();
    let settings = fs::read_to_string(rig.agent_settings()).expect("it was written");
    rig.scratch.file("agent.toml", settings.replace(path_text(source), path_text(&link)));
    let agent = rig.start_agent();
    rig.wait_for_points();
    agent.kill();
    // As large, and not the same.
    let other = LoopDevice::attach(&rig.scratch.image("other", DISK_BYTES), 512);
    fill(other.path(), 0, 1 << 20, &mut random);
    lead_to(other.path());
    assert_relocated(&rig, rig.start_agent(), &["disk data was ", " and is "]);
    lead_to(source);
    let ends = Ends::of(rig.start_agent(), target);
    rig.wait_for_state("protecting");
    rig.cut("at home", &[]);
    assert_same_bytes(source, &rig.disks[0].target, DISK_BYTES);
    ends.finish(&rig);
}
