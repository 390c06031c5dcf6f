//! Where direct I/O is not to be had, a run goes through the page cache, says
//! so, and is as exact: an image whose extents start off the pages, and a
//! filesystem without it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::fixture::{LONG, Model, Outcome, Random, Running, Scratch, need};

use super::disks::{Disk, Kind, NEEDS};
use super::{MIB, notices, sync};

const BYTES: usize = 9 * MIB + 5 * 4096;
/// What the kernel says of a process's descriptors of `file`: which are direct.
fn direct_descriptors(running: &Running, file: &Path) -> Vec<bool> {
    let process = PathBuf::from(format!("/proc/{}", running.identifier()));
    let descriptors = fs::read_dir(process.join("fd")).expect("it runs").flatten();
    let of_file = descriptors.filter(|entry| fs::read_link(entry.path()).is_ok_and(|path| path == file));
    let flags = of_file.filter_map(|entry| {
        let info = fs::read_to_string(process.join("fdinfo").join(entry.file_name())).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?.trim().to_owned();
        i32::from_str_radix(&flags, 8).ok()
    });
    flags.map(|flags| OFlag::from_bits_retain(flags).contains(OFlag::O_DIRECT)).collect()
}

/// The texts of the notices that are called `buffered`.
fn told(outcome: &Outcome) -> Vec<String> {
    let events = outcome.events();
    let events = events.iter().filter(|event| event["name"] == "buffered");
    events.map(|event| event["text"].as_str().expect("a text").to_owned()).collect()
}

fn goes_through_the_cache(kind: Kind, file: &str) {
    let Some(()) = need(&NEEDS) else { return };
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let source = Disk::make(&scratch, "source", Kind::Raw, BYTES);
    let target = Disk::make(&scratch, "target", kind, BYTES);
    let mut model = Model::random(BYTES, &mut random);
    source.fill(&model);
    let options = ["--json", "--verify", "--limit-rate", "6M"];
    let running = sync(&scratch, &options, source.path(), target.path()).start();
    running.wait_for(LONG, |line| line.contains("\"progress\"").then_some(()));
    let direct = direct_descriptors(&running, &scratch.path("source/disk.raw"));
    assert!(direct.contains(&true), "a raw image is read past the page cache: {direct:?}");
    let direct = direct_descriptors(&running, &scratch.path(file));
    assert!(!direct.is_empty() && !direct.contains(&true), "{direct:?}");
    let outcome = running.finish(LONG).expect_success();
    target.assert_holds(&model, &scratch);
    let texts = told(&outcome);
    assert!(texts.iter().any(|text| text.contains(file) && text.contains("page cache")), "{outcome}");
    assert!(!texts.iter().any(|text| text.contains("disk.raw")), "{outcome}");
    // The other way round, from what a comparison finds.
    model.scribble(9, &mut random);
    target.fill(&model);
    let outcome = sync(&scratch, &["--json", "--verify"], target.path(), source.path()).run();
    let outcome = outcome.expect_success();
    source.assert_holds(&model, &scratch);
    assert!(!told(&outcome).is_empty(), "{outcome}");
    // People are told as well.
    let outcome = sync(&scratch, &[], target.path(), source.path()).run().expect_success();
    assert!(outcome.stderr.contains("no direct I/O here"), "{outcome}");
}

#[test]
fn extents_that_start_off_the_pages() {
    goes_through_the_cache(Kind::Offsets, "target/packed.vmdk");
}

#[test]
fn extents_whose_borders_share_a_page() {
    goes_through_the_cache(Kind::Split, "target/disk-f002.vmdk");
}

#[test]
fn nothing_is_told_where_there_is_direct_io() {
    let Some(()) = need(&NEEDS) else { return };
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let source = Disk::make(&scratch, "source", Kind::Monolithic, BYTES);
    let target = Disk::make(&scratch, "target", Kind::Loop512, BYTES);
    source.fill(&Model::random(BYTES, &mut random));
    let outcome = sync(&scratch, &["--json"], source.path(), target.path()).run().expect_success();
    assert!(!notices(&outcome).contains(&"buffered".to_owned()), "{outcome}");
}
