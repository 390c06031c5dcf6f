//! What does not go over the wire, and takes no room at the far end: bytes that
//! shrink, zeroes, holes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::fixture::{Model, Random, export};

use super::hosts::{Hosts, counter, path_text};

const MIB: usize = 1 << 20;
const SIZE: usize = 8 * MIB;

/// What a file takes, in bytes.
fn allocated(path: &Path) -> u64 {
    let file = fs::File::open(path).expect("it is there");
    file.sync_all().expect("the filesystem works");
    file.metadata().expect("it is open").blocks() * 512
}

/// Lines as in logs, which no two are alike.
fn text(random: &mut Random) -> Model {
    let mut bytes = Vec::with_capacity(SIZE + 100);
    while bytes.len() < SIZE {
        let (disk, extent) = (random.below(8), random.below(100_000));
        bytes.extend(format!("disk {disk}: extent {extent} in sync, 0 errors so far\n").bytes());
    }
    bytes.truncate(SIZE);
    Model { bytes }
}

/// Random bytes with zeroes from 1 MiB to 6 MiB.
fn hollow(random: &mut Random) -> Model {
    let mut model = Model::random(SIZE, random);
    model.bytes[MIB..6 * MIB].fill(0);
    model
}

#[test]
fn text_shrinks_on_its_way_both_ways() {
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let (source, far, near) = (hosts.away.path("source"), hosts.home.path("far"), hosts.away.path("near"));
    let model = text(&mut random);
    model.save(&source);
    for path in [&far, &near] {
        fs::File::create(path).and_then(|file| file.set_len(SIZE as u64)).expect("there is room");
    }
    let url = hosts.serve(&[export("far", &far)]);
    let url = url.url("far");
    let size = SIZE as u64;
    for (compression, least, most) in
        [("none", size, size + size / 100), ("lz4", 1, size / 2), ("zstd", 1, size / 4)]
    {
        let options = ["--whole", "--compression", compression];
        Model::random(SIZE, &mut random).write_over(&far);
        let outcome = hosts.sync(path_text(&source), &url, &options).run().expect_success();
        model.assert_starts(&far);
        let sent = counter(&outcome, "bytes_sent");
        assert!((least..=most).contains(&sent), "{compression}: {outcome}");
        assert_eq!(counter(&outcome, "bytes_written"), size, "{outcome}");
        Model::random(SIZE, &mut random).write_over(&near);
        let outcome = hosts.sync(&url, path_text(&near), &options).run().expect_success();
        model.assert_starts(&near);
        let sent = counter(&outcome, "bytes_sent");
        assert!((least..=most).contains(&sent), "{compression}: {outcome}");
    }
}

#[test]
fn only_what_differs_is_sent() {
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let (source, far) = (hosts.away.path("source"), hosts.home.path("far"));
    let mut model = Model::random(SIZE, &mut random);
    model.save(&far);
    for at in [0, 3 * MIB + 77, SIZE - 1] {
        model.bytes[at] ^= 1;
    }
    model.save(&source);
    let server = hosts.serve(&[export("far", &far)]);
    let outcome = hosts.sync(path_text(&source), &server.url("far"), &[]).run().expect_success();
    model.assert_starts(&far);
    assert_eq!(counter(&outcome, "chunks_differing"), 3, "{outcome}");
    // Three chunks, and their digests.
    let sent = counter(&outcome, "bytes_sent");
    assert!((3 * 65_536..=3 * 65_536 + 1024).contains(&sent), "{outcome}");
}

/// From a source whose zeroes are holes, and one whose zeroes are written.
#[test]
fn zeroes_are_not_sent_and_make_no_blocks() {
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let model = hollow(&mut random);
    let data = 3 * MIB as u64;
    let (home, away) = (&hosts.home, &hosts.away);
    let exports: Vec<_> = ["sparse", "written"]
        .iter()
        .flat_map(|name| {
            let (from, to) = (home.path(name), home.path(&format!("new-{name}")));
            [export(name, &from), export(&format!("new-{name}"), &to)]
        })
        .collect();
    for host in [home, away] {
        model.save_sparse(&host.path("sparse"));
        model.save(&host.path("written"));
    }
    let server = hosts.serve(&exports);
    for name in ["sparse", "written"] {
        for manner in [&[][..], &["--whole"]] {
            let new = format!("new-{name}");
            let options = [&["--create", "--compression", "none", "--streams", "1"], manner].concat();
            for push in [true, false] {
                let host = if push { home } else { away };
                let made = host.path(&new);
                let outcome = if push {
                    hosts.sync(path_text(&away.path(name)), &server.url(&new), &options)
                } else {
                    hosts.sync(&server.url(name), path_text(&made), &options)
                };
                let outcome = outcome.run().expect_success();
                model.assert_starts(&made);
                let sent = counter(&outcome, "bytes_sent");
                assert!((data..=data + data / 100).contains(&sent), "{outcome}");
                assert_eq!(counter(&outcome, "bytes_written"), data, "{outcome}");
                assert_eq!(counter(&outcome, "bytes_zeroed"), 0, "it reads as zero already: {outcome}");
                let read = if name == "sparse" { data } else { SIZE as u64 };
                assert_eq!(counter(&outcome, "bytes_read_source"), read, "{outcome}");
                assert!(allocated(&made) <= data + (64 << 10), "{} bytes", allocated(&made));
                fs::remove_file(&made).expect("it was made");
            }
        }
    }
}

#[test]
fn zeroes_punch_holes_at_the_far_end() {
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let model = hollow(&mut random);
    let (source, near) = (hosts.away.path("source"), hosts.away.path("near"));
    let (far, from) = (hosts.home.path("far"), hosts.home.path("from"));
    model.save_sparse(&source);
    model.save(&from);
    let server = hosts.serve(&[export("far", &far), export("from", &from)]);
    for manner in [&[][..], &["--whole"]] {
        Model::random(SIZE, &mut random).save(&far);
        Model::random(SIZE, &mut random).save(&near);
        let push = hosts.sync(path_text(&source), &server.url("far"), manner).run().expect_success();
        let pull = hosts.sync(&server.url("from"), path_text(&near), manner).run().expect_success();
        for (outcome, target) in [(&push, &far), (&pull, &near)] {
            model.assert_starts(target);
            assert_eq!(counter(outcome, "bytes_zeroed"), 5 << 20, "{outcome}");
            assert_eq!(counter(outcome, "bytes_written"), 3 << 20, "{outcome}");
            assert!(allocated(target) <= (3 << 20) + (64 << 10), "{} bytes", allocated(target));
        }
    }
}
