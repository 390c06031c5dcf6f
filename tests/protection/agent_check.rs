//! `failback agent check`.

use crate::fixture::{LoopDevice, Mount, Need, Scratch, need, program, run};

use super::{event, failback};

#[test]
fn a_disk_is_told_with_what_a_cut_would_freeze() {
    let Some(()) = need(&[Need::LoopDevices, Need::Tracking, Need::Program("mkfs.ext4")]) else { return };
    let scratch = Scratch::new();
    let device = LoopDevice::attach(&scratch.image("disk", 32 << 20), 512);
    let path = device.path().to_str().expect("in UTF-8").to_owned();
    let quiet = event(&failback(&["agent", "check", "--json", &path]).expect_success());
    assert_eq!((&quiet["tracking"], &quiet["size_bytes"]), (&"ebpf".into(), &(32 << 20).into()), "{quiet}");
    assert_eq!(quiet["freezes"], serde_json::json!([]));
    run(program("mkfs.ext4").arg("-q").arg(device.path()));
    let mount = Mount::new(device.path(), &scratch.folder("mount"), "");
    let busy = event(&failback(&["agent", "check", "--json", &path]).expect_success());
    let frozen = busy["freezes"][0].to_string();
    assert!(frozen.contains("ext4") && frozen.contains("/mount"), "{busy}");
    drop(mount);
    let text = failback(&["agent", "check", &path]).expect_success();
    assert!(text.stdout.contains("changes are known as they are made"), "{text}");
}

#[test]
fn what_is_no_disk_is_told_with_the_reason() {
    let scratch = Scratch::new();
    let file = scratch.image("file", 1 << 20);
    let found = event(&failback(&["agent", "check", "--json", file.to_str().expect("in UTF-8")]));
    assert_eq!(found["tracking"], "digest", "{found}");
    assert!(found["freezes"].is_null() && !found["freezes_unknown"].is_null(), "{found}");
}
