//! The peers that copy a whole disk, each in the mode that served it best on
//! two cores: on this host, over TCP, and over TLS.
//!
//! - `nbdcopy` and `qemu-img` send zeroes as zeroes (discard allowed), `dd`
//!   writes them; all flush at the end.
//! - `nbdkit` was fastest over TCP with the page cache and requests of 1 MiB,
//!   between two Unix sockets with `cache=none`; the default requests of 256 KiB
//!   run as well, for the fastest counts.
//! - TLS with pre-shared keys: the same records as with certificates, less work
//!   in the handshake.

use crate::contestant::{Contestant, Place};
use crate::error::{Error, on_path};
use crate::measure::answer_of;
use crate::plan::{Command, Pipeline, Server};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The user named in the pre-shared keys.
const TLS_USER: &str = "peers";

/// From one local device to the other.
pub(crate) fn local(place: &Place) -> Vec<Contestant> {
    let (source, target) = (place.source.as_str(), place.target.as_str());
    let one = |program: &str, arguments: &[&str]| Pipeline::new(vec![Command::new(program, arguments)]);
    let (reads, writes) = (format!("if={source}"), format!("of={target}"));
    let dd = ["bs=1M", "iflag=direct", "oflag=direct", "conv=fsync", "status=none", &reads, &writes];
    let convert = ["convert", "-n", "-W", "-m16", "-t", "none", "-T", "none", "-f", "raw", "-O", "raw"];
    let between = [
        ["--flush", "--"].as_slice(),
        &["[", "nbdkit", "--exit-with-parent", "-r", "file", source, "cache=none", "fadvise=sequential", "]"],
        &["[", "nbdkit", "--exit-with-parent", "file", target, "cache=none", "]"],
    ];
    vec![
        Contestant::new("dd", &["dd"], place, one("dd", &dd)),
        Contestant::new(
            "qemu-img",
            &["qemu-img"],
            place,
            one("qemu-img", &[convert.as_slice(), &[source, target]].concat()),
        ),
        Contestant::new("nbdcopy", &["nbdcopy"], place, one("nbdcopy", &["--flush", "--", source, target])),
        Contestant::new(
            "nbdcopy between two nbdkits",
            &["nbdcopy", "nbdkit"],
            place,
            one("nbdcopy", &between.concat()),
        ),
    ]
}

/// Over TCP on loopback, in the clear.
pub(crate) fn over_tcp(place: &Place) -> Vec<Contestant> {
    let port = place.port();
    vec![
        to_nbdkit("nbdkit + nbdcopy", place, &[], &format!("nbd://127.0.0.1:{port}"), LARGE_REQUESTS),
        to_nbdkit("nbdkit + nbdcopy (default requests)", place, &[], &format!("nbd://127.0.0.1:{port}"), &[]),
        to_qemu_nbd(place),
        to_socat("dd | lz4 | socat", place, true),
        to_socat("dd | socat", place, false),
    ]
}

/// Over TCP on loopback with TLS.
///
/// # Errors
/// `psktool` fails.
pub(crate) fn over_tls(place: &Place) -> Result<Vec<Contestant>, Error> {
    let keys = place.file("keys.psk");
    make_keys(Path::new(&keys))?;
    let tls = ["--tls=require".to_owned(), format!("--tls-psk={keys}")];
    let uri = format!("nbds://{TLS_USER}@127.0.0.1:{}/?tls-psk-file={keys}", place.port());
    let mut contestants = vec![
        to_nbdkit("nbdkit + nbdcopy, TLS", place, &tls, &uri, LARGE_REQUESTS),
        to_nbdkit("nbdkit + nbdcopy, TLS (default requests)", place, &tls, &uri, &[]),
    ];
    for contestant in &mut contestants {
        contestant.needs.push("psktool");
    }
    Ok(contestants)
}

/// nbdcopy with requests of 1 MiB instead of 256 KiB.
const LARGE_REQUESTS: &[&str] = &["--request-size=1048576"];

fn to_nbdkit(name: &'static str, place: &Place, tls: &[String], uri: &str, options: &[&str]) -> Contestant {
    let port = place.port();
    let mut serve = vec!["--foreground", "--port", &port, "--ipaddr", "127.0.0.1"];
    serve.extend(tls.iter().map(String::as_str));
    serve.extend(["file", &place.target]);
    let copy = [&["--flush"], options, &["--", &place.source, uri]].concat();
    let server = Server { command: Command::new("nbdkit", &serve), port: place.ports[0] };
    let sender = Pipeline::new(vec![Command::new("nbdcopy", &copy)]);
    Contestant::new(name, &["nbdkit", "nbdcopy"], place, sender).served_by(server)
}

fn to_qemu_nbd(place: &Place) -> Contestant {
    let port = place.port();
    let uri = format!("nbd://127.0.0.1:{port}");
    let caching = ["--cache=none", "--aio=native", "--discard=unmap"];
    let network = ["--persistent", "--shared=16", "--bind=127.0.0.1", "--port", &port];
    let serve = [&["--format=raw"], caching.as_slice(), &network, &[&place.target]].concat();
    let options = ["convert", "-n", "-W", "-m16", "-t", "none", "-T", "none", "-f", "raw", "-O", "raw"];
    let convert = [options.as_slice(), &[&place.source, &uri]].concat();
    let server = Server { command: Command::new("qemu-nbd", &serve), port: place.ports[0] };
    let sender = Pipeline::new(vec![Command::new("qemu-img", &convert)]);
    Contestant::new("qemu-nbd + qemu-img", &["qemu-nbd", "qemu-img"], place, sender).served_by(server)
}

fn to_socat(name: &'static str, place: &Place, compressed: bool) -> Contestant {
    let port = place.port();
    let (reads, writes) = (format!("if={}", place.source), format!("of={}", place.target));
    let (listen, connect) =
        (format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr"), format!("TCP:127.0.0.1:{port}"));
    let mut sender = vec![Command::new("dd", &[&reads, "bs=1M", "iflag=direct", "status=none"])];
    let mut receiver = vec![Command::new("socat", &["-b1048576", "-u", &listen, "STDOUT"])];
    if compressed {
        sender.push(Command::new("lz4", &["-1", "-c", "--no-frame-crc"]));
        receiver.push(Command::new("lz4", &["-d", "-c"]));
    }
    sender.push(Command::new("socat", &["-b1048576", "-u", "STDIN", &connect]));
    let write = [&writes, "bs=1M", "iflag=fullblock", "oflag=direct", "conv=fsync", "status=none"];
    receiver.push(Command::new("dd", &write));
    let needs: &[&str] = if compressed { &["dd", "lz4", "socat"] } else { &["dd", "socat"] };
    Contestant::new(name, needs, place, Pipeline::new(sender))
        .received_by(Pipeline::new(receiver), place.ports[0])
}

/// Makes the pre-shared keys once; without `psktool` the row is skipped later.
fn make_keys(path: &Path) -> Result<(), Error> {
    if path.exists() || !crate::machine::is_on_path("psktool") {
        return Ok(());
    }
    answer_of("psktool", &["--username", TLS_USER, "--pskfile", &path.display().to_string()])?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(on_path("restrict", path))
}
