//! Push, pull and relay over TLS, from and to every kind of disk.

use crate::fixture::{
    Failback, Model, Need, Random, Scratch, Server, assert_same_bytes, assert_same_image, export, need,
};

use super::hosts::{Hosts, Kind, counter, is_unfinished, pair, path_text, sync, token};

/// No multiple of a chunk, and of 4096-byte sectors.
const SIZE: usize = (5 << 20) + 12 * 4096;

#[test]
fn every_kind_at_the_far_end_is_pushed_to_and_pulled_from() {
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let kinds = Kind::all();
    let make = |(number, kind): (usize, &Kind)| kind.make(&hosts.home, &format!("far{number}"), SIZE as u64);
    let far: Vec<_> = kinds.iter().enumerate().map(make).collect();
    let exports: Vec<_> =
        far.iter().enumerate().map(|(number, disk)| disk.export(&format!("far{number}"))).collect();
    let server = hosts.serve(&exports);
    for (number, (kind, disk)) in kinds.iter().zip(&far).enumerate() {
        let near = kinds[(number + 1) % kinds.len()].make(&hosts.away, &format!("near{number}"), SIZE as u64);
        let mut model = Model::mixed(SIZE, &mut random);
        near.fill(&model);
        let url = server.url(&format!("far{number}"));
        let compression = ["auto", "lz4", "zstd", "none"][number % 4];
        let first = ["--compression", compression, "--verify"];
        let outcome = hosts.sync(near.text(), &url, &first).run().expect_success();
        model.assert_starts(&disk.bytes);
        assert_same_bytes(&near.bytes, &disk.bytes, SIZE as u64);
        assert!(outcome.summary()["verified"] == true, "{outcome}");
        assert!(!is_unfinished(&hosts.home, &disk.path), "{kind:?}");
        // Nothing differs now.
        let outcome = hosts.sync(near.text(), &url, &[]).run().expect_success();
        assert!(
            counter(&outcome, "chunks_differing") == 0 && counter(&outcome, "bytes_sent") == 0,
            "{outcome}"
        );
        // Differences, first as a rehearsal that changes nothing.
        let before = model.clone();
        model.scribble(7, &mut random);
        near.fill(&model);
        let differing =
            before.bytes.chunks(65536).zip(model.bytes.chunks(65536)).filter(|(old, new)| old != new);
        let differing = differing.count() as u64;
        let outcome = hosts.sync(near.text(), &url, &["--dry-run"]).run().expect_success();
        assert!(counter(&outcome, "chunks_differing") == differing, "{differing} differ: {outcome}");
        before.assert_starts(&disk.bytes);
        let outcome = hosts.sync(near.text(), &url, &["--digest", "blake3"]).run().expect_success();
        assert!(counter(&outcome, "chunks_differing") == differing, "{differing} differ: {outcome}");
        assert_same_bytes(&near.bytes, &disk.bytes, SIZE as u64);
        // And back, onto a disk that holds something else.
        let other = Model::mixed(SIZE, &mut random);
        near.fill(&other);
        hosts.sync(&url, near.text(), &["--dry-run"]).run().expect_success();
        other.assert_starts(&near.bytes);
        hosts.sync(url.as_str(), near.text(), &["--whole", "--verify"]).run().expect_success();
        assert_same_bytes(&near.bytes, &disk.bytes, SIZE as u64);
        model.assert_starts(&near.bytes);
    }
}

#[test]
fn several_streams_bring_a_disk_of_several_segments_together() {
    let (hosts, mut random) = (Hosts::new(), Random::new());
    // Four segments, the last one short; islands in holes.
    let size = (3 << 26) + (2 << 20) + 512;
    let mut model = Model::zeroes(size);
    model.scribble(150, &mut random);
    let source = hosts.away.path("source");
    model.save_sparse(&source);
    let far = hosts.home.image("far", size as u64);
    let server = hosts.serve(&[export("far", &far)]);
    for streams in 1..=4_u64 {
        let count = streams.to_string();
        let options = ["--streams", &count, "--verify", "--compression", "lz4"];
        let outcome = hosts.sync(path_text(&source), &server.url("far"), &options).run().expect_success();
        assert!(counter(&outcome, "streams") == streams, "{outcome}");
        assert_same_bytes(&source, &far, size as u64);
        let back = hosts.away.path(&format!("back{streams}"));
        let options = ["--streams", &count, "--create"];
        hosts.sync(&server.url("far"), path_text(&back), &options).run().expect_success();
        assert_same_bytes(&source, &back, size as u64);
        model.scribble(20, &mut random);
        model.write_over(&source);
    }
}

#[test]
fn a_new_image_is_made_at_the_far_end() {
    let Some(()) = need(&[Need::Program("qemu-img")]) else { return };
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let (raw, vmdk) = (hosts.home.path("new.img"), hosts.home.path("new.vmdk"));
    let server = hosts.serve(&[export("raw", &raw), export("vmdk", &vmdk)]);
    let model = Model::mixed(SIZE, &mut random);
    let source = hosts.away.path("source");
    model.save(&source);
    // Without being asked to, nothing is made.
    let outcome = hosts.sync(path_text(&source), &server.url("raw"), &[]).run().expect_code(3);
    assert!(!raw.exists(), "{outcome}");
    let rehearsed = hosts.sync(path_text(&source), &server.url("raw"), &["--create", "--dry-run"]);
    let rehearsed = rehearsed.run().expect_success();
    assert!(!raw.exists() && rehearsed.stdout.contains("would-create"), "{rehearsed}");
    hosts.sync(path_text(&source), &server.url("raw"), &["--create"]).run().expect_success();
    assert_same_bytes(&source, &raw, SIZE as u64);
    // What was rehearsed is what was done.
    let differing = model.bytes.chunks(65536).filter(|chunk| chunk.iter().any(|byte| *byte != 0)).count();
    assert!(counter(&rehearsed, "chunks_differing") == differing as u64, "{differing}: {rehearsed}");
    // An image of another kind is not written to.
    let options = ["--create", "--format", "vmdk-flat"];
    let outcome = hosts.sync(path_text(&source), &server.url("raw"), &options).run().expect_code(3);
    assert!(outcome.stdout.contains("leave --format out"), "{outcome}");
    let options = ["--create", "--format", "vmdk-flat"];
    hosts.sync(path_text(&source), &server.url("vmdk"), &options).run().expect_success();
    assert_same_image(&source, "raw", &vmdk, "vmdk");
}

#[test]
fn a_host_between_two_others_relays() {
    let (hosts, third, mut random) = (Hosts::new(), Scratch::new(), Random::new());
    let size = (2 << 26) + (3 << 20);
    let mut model = Model::zeroes(size);
    model.scribble(60, &mut random);
    let (source, target) = (hosts.home.path("source"), third.image("target", size as u64 + 4096));
    model.save_sparse(&source);
    let from = hosts.serve(&[export("disk", &source) + ",ro"]);
    let to = Server::start(&third, &[export("disk", &target)]);
    pair(&third, to.address(), &hosts.away);
    for options in
        [&["--dry-run"][..], &["--streams", "3", "--verify"], &["--digest", "blake3"], &["--whole"]]
    {
        let outcome = hosts.sync(&from.url("disk"), &to.url("disk"), options).run().expect_success();
        assert!(outcome.stdout.contains("larger-target"), "{outcome}");
        if options == ["--dry-run"] {
            Model::zeroes(1 << 20).assert_starts(&target);
            assert!(counter(&outcome, "chunks_differing") > 0, "{outcome}");
            continue;
        }
        assert_same_bytes(&source, &target, size as u64);
        model.scribble(9, &mut random);
        model.write_over(&source);
    }
}

#[test]
fn a_token_in_a_file_pairs_on_the_first_run_only() {
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let model = Model::mixed(1 << 20, &mut random);
    let (source, far) = (hosts.away.path("source"), hosts.home.image("far", 1 << 20));
    model.save(&source);
    let server = Server::start(&hosts.home, &[export("far", &far)]);
    let token = token(&hosts.home, server.address(), &hosts.away);
    let options = ["--token-file", path_text(&token)];
    hosts.sync(path_text(&source), &server.url("far"), &options).run().expect_success();
    model.assert_starts(&far);
    // The same command again: the token is spent, the peer is known.
    hosts.sync(path_text(&source), &server.url("far"), &options).run().expect_success();
    let listed = Failback::new(&hosts.away, ["pair", "--list", "--json"]).run().expect_success();
    assert_eq!(listed.events().len(), 1, "{listed}");
    // A third host cannot spend it again.
    let third = Scratch::new();
    let outcome = sync(&third, path_text(&source), &server.url("far"), &options).run().expect_code(3);
    assert!(outcome.stdout.contains("refused the token"), "{outcome}");
}
