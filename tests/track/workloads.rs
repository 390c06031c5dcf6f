//! Everything that people do to a disk, on a busy machine, followed as it happens.

use std::fs;
use std::path::Path;

use crate::fixture::Need::{LoopDevices, Program, Tracking};
use crate::fixture::{Mount, Random, Scratch, need, program, run};

use super::followed::Followed;
use super::lost::{Lost, whole};
use super::noise::Noise;
use super::{MIB, amount};

fn fio(device: &Path, options: &[&str]) {
    let mut command = program("fio");
    command.arg("--name=churn").arg(format!("--filename={}", device.display())).args(options);
    run(command.args(["--rw=randwrite", "--randrepeat=0", "--allow_file_create=0", "--output-format=terse"]));
}

#[test]
fn direct_writes() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("fio")]) else { return };
    for chunk_bytes in [4 << 10, 64 << 10] {
        whole(|| {
            let (scratch, _noise) = (Scratch::new(), Noise::new());
            let disk = Followed::new(&scratch, &format!("direct-{chunk_bytes}"), 64 * MIB, chunk_bytes);
            let mut tracker = disk.install();
            disk.judge(&mut tracker, |device| {
                let often = ["--direct=1", "--ioengine=libaio", "--iodepth=16", "--bsrange=512-64k"];
                fio(device, &[&often[..], &["--bs_unaligned=0", &amount(24)]].concat());
            })?;
            tracker.uninstall().expect("it goes");
            Ok(())
        });
    }
}

#[test]
fn buffered_writes() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("fio")]) else { return };
    whole(|| {
        let (scratch, _noise) = (Scratch::new(), Noise::new());
        let disk = Followed::new(&scratch, "buffered", 64 * MIB + 512, 16 << 10);
        disk.judge(&mut disk.install(), |device| {
            fio(device, &["--bs=4k", &amount(16), "--numjobs=2", "--end_fsync=1", "--size=64m"]);
        })
    });
}

#[test]
fn discards_and_zeroes() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("blkdiscard")]) else { return };
    whole(|| discard_and_zero(false));
}

/// As on disks whose discards have pieces: the programs go by the pieces.
#[test]
fn discards_in_pieces() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("blkdiscard")]) else { return };
    whole(|| discard_and_zero(true));
}

fn discard_and_zero(is_scattered: bool) -> Result<(), Lost> {
    let (scratch, _noise, mut random) = (Scratch::new(), Noise::new(), Random::new());
    let disk = Followed::new(&scratch, "discards", 128 * MIB, 4 << 10);
    let mut bytes = vec![0; 4 << 20];
    random.fill(&mut bytes);
    let device = fs::OpenOptions::new().write(true).open(disk.device.path()).expect("it can be written");
    for at in 0..32 {
        std::os::unix::fs::FileExt::write_all_at(&device, &bytes, at * 4 * MIB).expect("it can be written");
    }
    device.sync_all().expect("it can be flushed");
    let mut found = disk.find();
    found.scattered_discards = is_scattered;
    let mut tracker = disk.install_as(found);
    disk.judge(&mut tracker, |device| {
        for kind in ["", "-z", "", "-z", "", "-z", "", "-z"] {
            let (offset, length) = (random.below(120 * MIB) & !4095, 1 + random.below(7 * MIB));
            let mut command = program("blkdiscard");
            command.arg("-f").args(kind.split_whitespace());
            run(command
                .args(["-o", &offset.to_string(), "-l", &(length.next_multiple_of(4096)).to_string()])
                .arg(device));
        }
    })?;
    let before = tracker_sectors(&tracker);
    disk.judge(&mut tracker, |device| {
        run(program("blkdiscard").arg("-f").arg(device));
    })?;
    assert!(tracker_sectors(&tracker) >= before + 128 * MIB / 512, "the whole disk was discarded");
    Ok(())
}

fn tracker_sectors(tracker: &failback_datapath::track::Tracker) -> u64 {
    let statistics = failback_datapath::track::ChangeSource::statistics(tracker);
    statistics.discarded_sectors + statistics.written_sectors
}

#[test]
fn partitions_belong_to_their_disk() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("fio"), Program("addpart")]) else { return };
    whole(|| {
        let (scratch, _noise) = (Scratch::new(), Noise::new());
        let disk = Followed::new(&scratch, "partitions", 64 * MIB, 4 << 10);
        let first = disk.device.add_partition(1, MIB, 20 * MIB);
        let second = disk.device.add_partition(2, 33 * MIB, 30 * MIB);
        let found = failback_datapath::track::Device::find(&second).expect("its disk is found");
        assert_eq!(found.node, disk.device.path());
        disk.judge(&mut disk.install(), |_| {
            fio(&first, &["--direct=1", "--bs=4k", &amount(4)]);
            fio(&second, &["--bs=4k", &amount(8), "--end_fsync=1"]);
            run(program("mkfs.ext4").args(["-q", "-F"]).arg(&second));
        })
    });
}

fn filesystem(make: &str, options: &[&str], bytes: u64) -> Result<(), Lost> {
    let (scratch, _noise, mut random) = (Scratch::new(), Noise::new(), Random::new());
    let disk = Followed::new(&scratch, make, bytes, 16 << 10);
    let mut tracker = disk.install();
    disk.judge(&mut tracker, |device| {
        run(program(make).args(options).arg(device));
        let mount = Mount::new(device, &scratch.folder("mounted"), "");
        for round in 0..3 {
            let folder = mount.point().join(format!("round-{round}"));
            fs::create_dir(&folder).expect("a folder can be made");
            for file in 0..40 {
                let mut bytes = vec![0; random.index_below(600_000) + 1];
                random.fill(&mut bytes);
                fs::write(folder.join(file.to_string()), &bytes).expect("a file can be written");
            }
            if round > 0 {
                fs::remove_dir_all(mount.point().join(format!("round-{}", round - 1))).expect("it is ours");
            }
            nix::unistd::sync();
            run(program("fstrim").arg(mount.point()));
        }
    })?;
    // Mounted again and again, and nothing but reading: still no doubt.
    drop(Mount::new(disk.device.path(), &scratch.folder("mounted"), "ro"));
    disk.is_trusted(&mut tracker)
}

#[test]
fn ext4() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("mkfs.ext4"), Program("fstrim")]) else { return };
    whole(|| filesystem("mkfs.ext4", &["-q", "-F", "-E", "nodiscard"], 96 * MIB));
}

#[test]
fn xfs() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("mkfs.xfs"), Program("fstrim")]) else { return };
    whole(|| filesystem("mkfs.xfs", &["-q", "-f"], 320 * MIB));
}

#[test]
fn two_busy_disks() {
    let Some(()) = need(&[LoopDevices, Tracking, Program("fio")]) else { return };
    whole(|| {
        let (scratch, _noise) = (Scratch::new(), Noise::new());
        let disks = ["one", "other"].map(|name| Followed::new(&scratch, name, 64 * MIB, 4 << 10));
        std::thread::scope(|scope| {
            let followed = disks.each_ref().map(|disk| {
                scope.spawn(|| {
                    disk.judge(&mut disk.install(), |device| {
                        let often = ["--direct=1", "--ioengine=libaio", "--iodepth=32", "--bs=4k"];
                        fio(device, &[&often[..], &[&*amount(32)]].concat());
                    })
                })
            });
            followed.map(|thread| thread.join().expect("each is judged")).into_iter().collect()
        })
    });
}

#[test]
fn a_disk_of_many_terabytes() {
    let Some(()) = need(&[LoopDevices, Tracking]) else { return };
    let scratch = Scratch::new();
    let bytes = 15 << 40;
    let disk = Followed::new(&scratch, "huge", bytes, 1 << 20);
    let mut tracker = disk.install();
    let device = fs::OpenOptions::new().write(true).open(disk.device.path()).expect("it can be written");
    for at in [0, 7 << 40, bytes - 4096] {
        std::os::unix::fs::FileExt::write_all_at(&device, &[7; 4096], at).expect("it can be written");
    }
    device.sync_all().expect("it can be flushed");
    let mut set = disk.nothing();
    failback_datapath::track::ChangeSource::drain(
        &mut tracker,
        failback_datapath::track::Parity::Odd,
        u64::MAX,
        &mut set,
    )
    .expect("nothing is doubted");
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, 7 << 20, (15 << 20) - 1]);
}
