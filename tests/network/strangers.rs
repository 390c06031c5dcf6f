//! Whoever comes to a server's port without a certificate that it knows: the
//! server takes no harm, and lets the next good client in.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::fixture::{LONG, Model, Need, Random, Server, assert_same_bytes, export, need, program, run};

use super::hosts::{Hosts, memory_peak, path_text};

const SIZE: usize = 2 << 20;

struct House {
    hosts: Hosts,
    server: Server,
}

impl House {
    fn new() -> Self {
        let hosts = Hosts::new();
        let server = hosts.serve(&[export("far", &hosts.home.image("far", SIZE as u64))]);
        Self { hosts, server }
    }

    fn knock(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).expect("it listens");
        stream.set_read_timeout(Some(LONG)).expect("sockets can");
        stream
    }

    fn assert_serves(&self) {
        let (source, far) = (self.hosts.away.path("source"), self.hosts.home.path("far"));
        Model::random(SIZE, &mut Random::new()).save(&source);
        let outcome =
            self.hosts.sync(path_text(&source), &self.server.url("far"), &[]).run().expect_success();
        assert!(outcome.elapsed < Duration::from_secs(10), "{outcome}");
        assert_same_bytes(&source, &far, SIZE as u64);
    }
}

#[test]
fn garbage_and_closed_connections_do_no_harm() {
    let (house, mut random) = (House::new(), Random::new());
    for round in 0..60 {
        let mut stream = house.knock();
        let mut bytes = vec![0; random.index_below(40_000)];
        random.fill(&mut bytes);
        match round % 4 {
            // A record that looks like a handshake.
            0 => bytes = [&[22, 3, 1, 0x3f, 0xff][..], &bytes].concat(),
            1 => bytes = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            2 => bytes.clear(),
            _ => {}
        }
        let _ = stream.write_all(&bytes);
        if round % 3 == 0 {
            drop(stream);
            continue;
        }
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // At most an alert comes back, and the end.
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer);
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() != ErrorKind::WouldBlock), "it is held");
        assert!(answer.len() < 100, "{} bytes for a stranger", answer.len());
    }
    house.assert_serves();
}

#[test]
fn who_speaks_one_byte_a_second_is_cut_off() {
    let house = House::new();
    let start = Instant::now();
    let slow: Vec<_> = (0..3)
        .map(|number| {
            let mut stream = house.knock();
            stream.set_read_timeout(Some(Duration::from_millis(500))).expect("sockets can");
            thread::spawn(move || {
                let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
                for byte in hello.iter().chain(&[number; 60]) {
                    if stream.write_all(&[*byte]).is_err() {
                        return true;
                    }
                    match stream.read(&mut [0; 64]) {
                        Ok(0) => return true,
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                        Err(_) => return true,
                    }
                }
                false
            })
        })
        .collect();
    house.assert_serves();
    for slow in slow {
        assert!(slow.join().expect("it ends"), "nobody cut it off");
    }
    let elapsed = start.elapsed();
    assert!(elapsed.as_secs() >= 8, "cut off after {elapsed:?}, not 10 seconds");
    house.assert_serves();
}

#[test]
fn other_protocols_and_certificates_are_turned_away() {
    let Some(()) = need(&[Need::Program("openssl")]) else { return };
    let house = House::new();
    let speak = |options: &[&str]| {
        let mut client = program("openssl");
        client.args(["s_client", "-ign_eof", "-connect", house.server.address()]).args(options);
        let output = client.stdin(Stdio::null()).output().expect("openssl starts");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("FAILBACK"), "{said}");
        said
    };
    let said = speak(&["-tls1_2"]);
    assert!(said.contains("alert"), "{said}");
    // Without a certificate the handshake of TLS 1.3 fails at the first read.
    let said = speak(&["-tls1_3", "-alpn", "failback/1"]);
    assert!(said.contains("alert"), "{said}");
    let said = speak(&["-tls1_3", "-alpn", "h2"]);
    assert!(said.contains("alert"), "{said}");
    house.assert_serves();
}

#[test]
fn three_hundred_connections_at_once_are_survived() {
    let house = House::new();
    let many: Vec<_> = (0..300).map(|_| TcpStream::connect(house.server.address())).collect();
    thread::sleep(Duration::from_millis(500));
    let open = many.iter().filter(|stream| stream.is_ok()).count();
    assert!(open >= 256, "only {open} connections");
    drop(many);
    thread::sleep(Duration::from_millis(500));
    house.assert_serves();
    let peak = memory_peak(house.server.process().identifier());
    assert!(peak < 64 << 20, "the server held {peak} bytes");
}

#[test]
fn a_server_that_runs_out_of_files_goes_on() {
    let Some(()) = need(&[Need::Program("prlimit")]) else { return };
    let house = House::new();
    let process = house.server.process().identifier().to_string();
    run(program("prlimit").args(["--pid", &process, "--nofile=64:64"]));
    let many: Vec<_> = (0..100).map(|_| TcpStream::connect(house.server.address())).collect();
    let full = |line: &str| line.contains("turned away").then_some(());
    house.server.process().wait_for(LONG, full);
    drop(many);
    thread::sleep(Duration::from_secs(1));
    house.assert_serves();
}
