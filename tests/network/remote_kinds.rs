//! Every kind of disk at the far end, once as target and once as source; over
//! TLS, over ssh, and passed on from one to the other.

use crate::fixture::{Failback, Model, Need, Random, Scratch, Sshd, assert_same_bytes, export, need};
use crate::sync::disks::{Disk, KINDS, Kind, NEEDS};

use super::hosts::{Hosts, counter, path_text, sync};

/// No multiple of a window, nor of a chunk; sectors of 4096 bytes fit.
const SIZE: usize = (9 << 20) + 5 * 4096;

const SSH: [Need; 3] = [Need::Program("sshd"), Need::Program("ssh"), Need::Program("ssh-keygen")];

#[test]
fn every_kind_behind_an_export_is_target_and_source() {
    let Some(()) = need(&NEEDS) else { return };
    let (hosts, mut random) = (Hosts::new(), Random::new());
    let name = |kind: Kind| format!("{kind:?}");
    let far: Vec<_> = KINDS.iter().map(|kind| Disk::make(&hosts.home, &name(*kind), *kind, SIZE)).collect();
    let exports: Vec<_> =
        KINDS.iter().zip(&far).map(|(kind, disk)| export(&name(*kind), disk.path())).collect();
    let server = hosts.serve(&exports);
    let (source, near) = (hosts.away.path("source"), hosts.away.path("near"));
    for (number, (kind, far)) in KINDS.iter().zip(&far).enumerate() {
        println!("{kind:?}");
        let url = server.url(&name(*kind));
        let mut model = Model::mixed(SIZE, &mut random);
        far.bend(&mut model);
        model.save(&source);
        hosts.sync(path_text(&source), &url, &["--verify"]).run().expect_success();
        far.assert_holds(&model, &hosts.home);
        // What changed since, on both sides.
        let mut other = model.clone();
        other.scribble(5, &mut random);
        far.bend(&mut other);
        far.fill(&other);
        model.scribble(9, &mut random);
        far.bend(&mut model);
        model.write_over(&source);
        let manner: &[&str] = if number % 2 == 0 { &[] } else { &["--whole"] };
        hosts.sync(path_text(&source), &url, manner).run().expect_success();
        far.assert_holds(&model, &hosts.home);
        // And home again, into noise.
        Model::random(SIZE, &mut random).save(&near);
        hosts.sync(&url, path_text(&near), &["--verify"]).run().expect_success();
        assert_same_bytes(&source, &near, SIZE as u64);
        let outcome = hosts.sync(&url, path_text(&near), &[]).run().expect_success();
        assert_eq!(counter(&outcome, "chunks_differing"), 0, "{outcome}");
        far.assert_holds(&model, &hosts.home);
    }
}

#[test]
fn devices_and_images_are_reached_over_ssh() {
    let Some(()) = need(&SSH) else { return };
    let Some(()) = need(&NEEDS) else { return };
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let sshd = Sshd::start(&scratch);
    let (source, near) = (scratch.path("source"), scratch.path("near"));
    for kind in [Kind::Loop512, Kind::Loop4096, Kind::Monolithic, Kind::Split] {
        println!("{kind:?}");
        let far = Disk::make(&scratch, &format!("{kind:?}"), kind, SIZE);
        let url = sshd.url(far.path());
        let run = |from: &str, to: &str, options: &[&str]| {
            sync(&scratch, from, to, options).programs(&sshd.programs()).run().expect_success()
        };
        let mut model = Model::mixed(SIZE, &mut random);
        model.save(&source);
        run(path_text(&source), &url, &["--verify"]);
        far.assert_holds(&model, &scratch);
        model.scribble(9, &mut random);
        model.write_over(&source);
        run(path_text(&source), &url, &[]);
        far.assert_holds(&model, &scratch);
        Model::random(SIZE, &mut random).save(&near);
        run(&url, path_text(&near), &["--verify"]);
        assert_same_bytes(&source, &near, SIZE as u64);
    }
}

#[test]
fn a_disk_behind_ssh_is_relayed_to_an_export() {
    let Some(()) = need(&SSH) else { return };
    let Some(()) = need(&NEEDS) else { return };
    let (hosts, third, mut random) = (Hosts::new(), Scratch::new(), Random::new());
    let sshd = Sshd::start(&third);
    let source = Disk::make(&third, "source", Kind::Loop512, SIZE);
    let target = Disk::make(&hosts.home, "target", Kind::Split, SIZE);
    let server = hosts.serve(&[export("far", target.path())]);
    let mut model = Model::mixed(SIZE, &mut random);
    let relay = |from: &str, to: &str, options: &[&str]| -> Failback {
        hosts.sync(from, to, options).programs(&sshd.programs())
    };
    let url = sshd.url(source.path());
    for options in [&["--verify"][..], &[], &["--whole"]] {
        source.fill(&model);
        relay(&url, &server.url("far"), options).run().expect_success();
        target.assert_holds(&model, &hosts.home);
        model.scribble(9, &mut random);
    }
    // And back the other way.
    source.fill(&model);
    let before = Model { bytes: target.read() };
    relay(&server.url("far"), &url, &["--verify"]).run().expect_success();
    source.assert_holds(&before, &third);
}
