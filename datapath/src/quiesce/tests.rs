//! Plans on machines made of folders: what is frozen, in which order, and what
//! is only told.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare itself has failed")]

use super::*;
use crate::disk::storage::DeviceNumber;
use crate::disk::storage::tests::FakeHost;

const fn device(minor: u32) -> DeviceNumber {
    DeviceNumber { major: 250, minor }
}

/// A disk with three partitions, the last of them below a mapped device.
fn machine() -> FakeHost {
    let fake = FakeHost::new();
    fake.disk("pci/block/xa", 0, 100);
    fake.partition("pci/block/xa/xa1", 1, 1, 9);
    fake.partition("pci/block/xa/xa2", 2, 10, 10);
    fake.partition("pci/block/xa/xa3", 3, 20, 80);
    fake.disk("virtual/block/dm-0", 4, 80);
    fake.stands_on("virtual/block/dm-0", "pci/block/xa/xa3");
    fake.disk("pci/block/xb", 8, 100);
    fake
}

fn mounts(fake: &FakeHost, lines: &[&str]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fake.write("proc/self/mountinfo", &text);
}

fn numbers(plan: &FreezePlan) -> Vec<DeviceNumber> {
    plan.superblocks().iter().map(|superblock| superblock.number).collect()
}

#[test]
fn partitions_and_mapped_devices_belong_to_their_disk() {
    let fake = machine();
    mounts(
        &fake,
        &[
            "20 1 250:4 / / rw - xfs /dev/dm-0 rw",
            "21 20 250:1 / /boot rw - ext4 /dev/xa1 rw",
            "22 20 250:1 /sub /again rw - ext4 /dev/xa1 rw",
            "23 20 250:8 / /other rw - ext4 /dev/xb rw",
            "24 20 0:22 / /proc rw - proc proc rw",
            "25 20 0:40 / /run rw - tmpfs tmpfs rw",
        ],
    );
    let plan = FreezePlan::on(&fake.host(), &[device(0)]).unwrap();
    assert_eq!(numbers(&plan), [device(1), device(4)], "each once, and no other disk's");
    assert!(plan.unquiesced().is_empty());
    assert_eq!(plan.superblocks()[0].to_string(), "ext4 250:1 at /boot");
    let both = FreezePlan::on(&fake.host(), &[device(8), device(0)]).unwrap();
    assert_eq!(numbers(&both), [device(1), device(4), device(8)]);
    assert_eq!(FreezePlan::on(&fake.host(), &[device(9)]).unwrap(), FreezePlan::default());
}

#[test]
fn what_cannot_be_frozen_is_told_and_what_nobody_writes_is_not() {
    let fake = machine();
    mounts(
        &fake,
        &[
            "20 1 250:4 / / rw - xfs /dev/dm-0 rw",
            "21 20 250:1 / /boot/efi rw - vfat /dev/xa1 rw",
            "22 20 250:2 / /archive ro - ext4 /dev/xa2 ro",
        ],
    );
    fake.write(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/xa2 partition 1 0 -2\n/dev/xb partition 1 0 -3\n",
    );
    let plan = FreezePlan::on(&fake.host(), &[device(0)]).unwrap();
    assert_eq!(numbers(&plan), [device(4)]);
    let told: Vec<_> = plan.unquiesced().iter().map(ToString::to_string).collect();
    assert_eq!(told, ["vfat 250:1 at /boot/efi (cannot be frozen)", "swap on /dev/xa2"]);
}

#[test]
fn more_filesystems_than_the_bound_are_refused() {
    let fake = machine();
    let most = u32::try_from(crate::limits::SUPERBLOCKS_MAX).unwrap();
    let mut text = String::new();
    for minor in 100..=100 + most {
        fake.partition(&format!("pci/block/xa/xa{minor}"), minor, 20, 1);
        text += &format!("{minor} 1 250:{minor} / /{minor} rw - ext4 /dev/xa{minor} rw\n");
    }
    fake.write("proc/self/mountinfo", &text);
    let refused = FreezePlan::on(&fake.host(), &[device(0)]);
    assert!(matches!(refused, Err(Error::TooMany { found }) if found == crate::limits::SUPERBLOCKS_MAX + 1));
}

#[test]
fn a_machine_that_cannot_be_looked_at_has_no_plan() {
    let fake = machine();
    std::fs::remove_file(fake.path("proc/self/mountinfo")).unwrap();
    assert!(matches!(FreezePlan::on(&fake.host(), &[device(0)]), Err(Error::Unseen { .. })));
}
