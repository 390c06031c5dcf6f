//! Runs onto images that are not there yet, or are not what was asked for; and
//! what a run says of its ends.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fixture::{Failback, LONG, Model, Random, Scratch, assert_same_bytes};

use super::{MIB, marks, notices, number, sync, sync_well};

#[test]
fn a_first_copy_is_rehearsed_without_making_anything() {
    let scratch = Scratch::new();
    let (source, model) = (scratch.path("source"), Model::mixed(5 * MIB, &mut Random::new()));
    model.save(&source);
    for name in ["new.img", "new.vmdk"] {
        let target = scratch.path(name);
        let before = fs::read_dir(scratch.root()).expect("it is there").count();
        let outcome = sync(&scratch, &["--json", "--dry-run", "--create"], &source, &target).run();
        let outcome = outcome.expect_success();
        assert!(notices(&outcome).contains(&"would-create".to_owned()), "{outcome}");
        let after = fs::read_dir(scratch.root()).expect("it is there").count();
        assert!(before == after && !target.exists(), "{outcome}");
        let done = sync_well(&scratch, &["--create"], &source, &target);
        assert_eq!(
            number(&outcome.summary(), "chunks_differing"),
            number(&done, "chunks_differing"),
            "{outcome}"
        );
    }
    // What could not be made is refused at once.
    let target = scratch.path("none/new.img");
    let outcome = sync(&scratch, &["--dry-run", "--create"], &source, &target).run().expect_code(3);
    assert!(outcome.stderr.contains("its directory does not exist"), "{outcome}");
}

#[test]
fn an_image_of_another_kind_is_refused_where_one_was_named() {
    let scratch = Scratch::new();
    let source = scratch.file("source", vec![7; MIB]);
    let target = scratch.file("target.raw", vec![9; MIB]);
    for dry_run in [&["--dry-run"][..], &[]] {
        let options = [&["--create", "--format", "vmdk-flat"], dry_run].concat();
        let outcome = sync(&scratch, &options, &source, &target).run().expect_code(3);
        assert!(outcome.stderr.contains("leave --format out"), "{outcome}");
    }
    assert_eq!(fs::read(&target).expect("it is there"), vec![9; MIB]);
    assert!(marks(&scratch).is_empty());
    sync_well(&scratch, &["--create", "--format", "raw"], &source, &target);
    assert_same_bytes(&source, &target, MIB as u64);
}

#[test]
fn zero_extents_of_a_target_are_told_before_data_meets_them() {
    let scratch = Scratch::new();
    let source = scratch.file("source", vec![7; 2 * MIB]);
    scratch.image("target-flat.vmdk", MIB as u64);
    let text = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
        createType=\"monolithicFlat\"\nRW 2048 FLAT \"target-flat.vmdk\" 0\nRW 2048 ZERO\n";
    let target = scratch.file("target.vmdk", text);
    for (options, code) in [(&["--json", "--dry-run"][..], 0), (&["--json"], 1)] {
        let outcome = sync(&scratch, options, &source, &target).run().expect_code(code);
        assert_eq!(notices(&outcome), ["zero-extents"], "{outcome}");
    }
}

#[test]
fn a_mark_names_its_disks_from_every_folder() {
    let scratch = Scratch::new();
    Model::random(8 * MIB, &mut Random::new()).save(&scratch.path("source"));
    let target = scratch.image("target", 8 * MIB as u64);
    let here = std::env::current_dir().expect("there is one");
    let relative = |path: &Path| -> std::path::PathBuf {
        let up = here.components().skip(1).map(|_| "..").collect::<std::path::PathBuf>();
        up.join(path.strip_prefix("/").expect("scratch paths are absolute"))
    };
    let options = ["--json", "--whole", "--limit-rate", "4M"];
    let running = sync(&scratch, &options, &relative(&scratch.path("source")), &relative(&target)).start();
    running.wait_for(LONG, |line| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["bytes_done"].as_u64()? > 0).then_some(())
    });
    running.signal(nix::sys::signal::Signal::SIGINT);
    running.finish(LONG).expect_code(4);
    let named = marks(&scratch);
    let canonical = |path: &Path| path.canonicalize().expect("it is there").display().to_string();
    assert_eq!(named[0]["source"], canonical(&scratch.path("source")), "{named:?}");
    assert_eq!(named[0]["target"], canonical(&target), "{named:?}");
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let scratch = Scratch::new();
    let (source, target) = (scratch.file("source", vec![7; MIB]), scratch.image("target", MIB as u64));
    let token = scratch.file("token", "no token");
    let option = ["--token-file", token.to_str().expect("ASCII")];
    let outcome = sync(&scratch, &option, &source, &target).run().expect_code(3);
    assert!(outcome.stderr.contains("failback:// end"), "{outcome}");
    let far = Path::new("ssh://nobody@localhost/none");
    let outcome = sync(&scratch, &option, &source, far).run().expect_code(3);
    assert!(outcome.stderr.contains("failback:// end"), "{outcome}");
    let attach = ["image", "attach", "--sector-size", "1024", target.to_str().expect("ASCII")];
    let outcome = Failback::new(&scratch, attach).run().expect_code(2);
    assert!(outcome.stderr.contains("512 or 4096"), "{outcome}");
}
