//! The peers that find and carry over differences, over TCP and on this host,
//! and the yardstick of the local resync: how fast the disks can be read.
//!
//! All compare in blocks of 64 KiB where that can be chosen. None of them needs
//! to be told what changed, and none may keep digests from the run before.

use crate::contestant::{Contestant, Place, Role};
use crate::error::{Error, on_path};
use crate::plan::{Clock, Command, Phase, Pipeline, Receiver, Server};
use std::fs;
use std::path::Path;

/// Over TCP on loopback.
///
/// # Errors
/// rsync's settings cannot be written.
pub(crate) fn over_tcp(place: &Place) -> Result<Vec<Contestant>, Error> {
    Ok(vec![rsync_over_tcp(place)?, bdsync_over_tcp(place), blocksync_over_tcp(place)])
}

/// On this host: fio as the standard, the others beside it.
pub(crate) fn local(place: &Place) -> Vec<Contestant> {
    let rsync = Command::new("rsync", &[RSYNC, &[&place.source, &place.target]].concat());
    let blocksync = Command::new(
        "blocksync-fast",
        &["--src", &place.source, "--dst", &place.target, "--block-size=64K", "--silent"],
    );
    vec![
        fio(place),
        Contestant::new("rsync", &["rsync"], place, Pipeline::new(vec![rsync])).playing(Role::Extra),
        Contestant::new("blocksync-fast", &["blocksync-fast"], place, Pipeline::new(vec![blocksync]))
            .playing(Role::Extra),
    ]
}

/// Devices as files, written in place; `--ignore-times` because a device's time
/// says nothing, `--fsync` because the others end on the disk too.
const RSYNC: &[&str] = &[
    "--inplace",
    "--no-whole-file",
    "--copy-devices",
    "--write-devices",
    "--ignore-times",
    "--fsync",
    "--block-size=65536",
];

fn rsync_over_tcp(place: &Place) -> Result<Contestant, Error> {
    let settings = place.file("rsyncd.conf");
    let text = "use chroot = no\nuid = root\ngid = root\n\
                [devices]\npath = /dev\nread only = no\nrefuse options = !write-devices\n";
    fs::write(&settings, text).map_err(on_path("write", Path::new(&settings)))?;
    let (port, config) = (format!("--port={}", place.port()), format!("--config={settings}"));
    let serve = ["--daemon", "--no-detach", "--address=127.0.0.1", &port, &config];
    let server = Server { command: Command::new("rsync", &serve), port: place.ports[0] };
    let uri = format!("rsync://127.0.0.1:{}/devices/{}", place.port(), place.target_name);
    let sender = Command::new("rsync", &[RSYNC, &[&place.source, &uri]].concat());
    Ok(Contestant::new("rsync (daemon)", &["rsync"], place, Pipeline::new(vec![sender])).served_by(server))
}

/// bdsync compares over one connection and sends its patch over another.
fn bdsync_over_tcp(place: &Place) -> Contestant {
    let [compare, patch] = place.ports;
    let answer = format!("TCP-LISTEN:{compare},bind=127.0.0.1,reuseaddr,fork");
    let server = Command::new("socat", &[&answer, "EXEC:bdsync --server"]);
    let connect = format!("socat STDIO TCP:127.0.0.1:{compare}");
    let options = ["--blocksize=65536", "--hash=sha1"];
    let client = [options.as_slice(), &[&connect, &place.source, &place.target]].concat();
    let send = ["-u", "STDIN", &format!("TCP:127.0.0.1:{patch}")];
    let sender = Pipeline::new(vec![Command::new("bdsync", &client), Command::new("socat", &send)]);
    let listen = ["-u", &format!("TCP-LISTEN:{patch},bind=127.0.0.1,reuseaddr"), "STDOUT"];
    let apply = [format!("--patch={}", place.target)];
    let receiver = Pipeline::new(vec![
        Command::new("socat", &listen),
        Command::new("bdsync", &apply.each_ref().map(String::as_str)),
    ]);
    Contestant::new("bdsync", &["bdsync", "socat"], place, sender)
        .served_by(Server { command: server, port: compare })
        .received_by(receiver, patch)
}

/// blocksync-fast has no network of its own: the target's digests are made
/// there and sent over, then the delta is made and sent back.
fn blocksync_over_tcp(place: &Place) -> Contestant {
    let [digests, delta] = place.ports;
    let (made, received) = (place.file("made.digest"), place.file("received.digest"));
    let block = "--block-size=64K";
    let make = ["--make-digest", "--force", "--silent", block, "--src", &place.target, "--digest", &made];
    let digest = Pipeline::new(vec![Command::new("blocksync-fast", &make)]);
    let send = ["-u", &format!("FILE:{made}"), &format!("TCP:127.0.0.1:{digests}")];
    let listen = |port: u16| format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr");
    let keep = ["-u", &listen(digests), &format!("CREATE:{received}")];
    let compare = ["--make-delta", "--silent", block, "--src", &place.source, "--digest", &received];
    let carry = ["-u", "STDIN", &format!("TCP:127.0.0.1:{delta}")];
    let apply = ["--apply-delta", "--silent", "--dst", &place.target];
    let sender = vec![Command::new("blocksync-fast", &compare), Command::new("socat", &carry)];
    let receiver = vec![
        Command::new("socat", &["-u", &listen(delta), "STDOUT"]),
        Command::new("blocksync-fast", &apply),
    ];
    Contestant::new("blocksync-fast", &["blocksync-fast", "socat"], place, Pipeline::new(sender))
        .received_by(Pipeline::new(receiver), delta)
        .after(Phase { receiver: None, sender: digest })
        .after(Phase {
            receiver: Some(Receiver {
                pipeline: Pipeline::new(vec![Command::new("socat", &keep)]),
                port: digests,
            }),
            sender: Pipeline::new(vec![Command::new("socat", &send)]),
        })
}

/// How long it takes to read both disks at once, by fio's own clock.
fn fio(place: &Place) -> Contestant {
    let (source, target) = (format!("--filename={}", place.source), format!("--filename={}", place.target));
    let common = ["--output-format=json", "--direct=1", "--rw=read", "--bs=1M", "--iodepth=8"];
    let jobs = ["--ioengine=io_uring", "--name=source", &source, "--name=target", &target];
    let command = Command::new("fio", &[common.as_slice(), &jobs].concat());
    let sender = Pipeline { commands: vec![command], output: Some(place.directory.join("fio.json")) };
    let mut contestant = Contestant::new("fio reads both", &["fio"], place, sender);
    contestant.plan.clock = Clock::Fio;
    contestant.plan.flush = None;
    contestant.writes_target = false;
    contestant
}
