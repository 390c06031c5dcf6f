//! Requests and answers over real sockets.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use failback_datapath::pipeline::Cancel;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Client, Failed, REQUEST_BYTES_MAX, REQUESTS_MAX, Server, ask, serve};
use crate::exit::Exit;

const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Request {
    Add { one: u64, other: u64 },
    Refuse,
    BreakOff,
}

fn answer(request: Request, _: &Client<'_>) -> Result<Value, Failed> {
    match request {
        Request::Add { one, other } => Ok(json!({"sum": one + other})),
        Request::Refuse => Err((Exit::Differs, "it is\nnot so".to_owned())),
        Request::BreakOff => panic!("as asked"),
    }
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a scratch directory");
    let path = folder.path().join("run/agent.sock");
    (folder, path)
}

fn served(path: &Path) -> Server {
    serve(path, &Cancel::default(), answer).expect("nobody else serves it")
}

fn sum(path: &Path) -> Result<Value, Failed> {
    ask(path, &Request::Add { one: 2, other: 3 }, LONG)
}

/// What a server says to `request`, which need not be one.
fn said(path: &Path, request: &[u8]) -> Value {
    let mut stream = UnixStream::connect(path).expect("it is served");
    // A server may answer before it read everything.
    let _written = stream.write_all(request);
    let mut answer = String::new();
    let _reset = stream.read_to_string(&mut answer);
    serde_json::from_str(&answer).expect("a line of JSON")
}

#[test]
fn requests_are_answered_or_refused() {
    let (_folder, path) = place();
    let _server = served(&path);
    assert_eq!(sum(&path), Ok(json!({"sum": 5})));
    assert_eq!(ask(&path, &Request::Refuse, LONG), Err((Exit::Differs, "it is\nnot so".to_owned())));
    assert_eq!(said(&path, b"{\"do\":\"add\",\"one\":1,\"other\":1}\nmore"), json!({"ok": {"sum": 2}}));
}

#[test]
fn only_its_owner_may_ask() {
    let (_folder, path) = place();
    let _server = served(&path);
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().expect("it has one")), 0o700);
}

#[test]
fn what_is_no_request_is_refused_and_the_next_is_answered() {
    let (_folder, path) = place();
    let _server = served(&path);
    let long = [b' '].repeat(2 * REQUEST_BYTES_MAX);
    let deep = [b'['].repeat(REQUEST_BYTES_MAX - 2);
    for wrong in [&b"\n"[..], b"\xff\xfe\n", b"{\"do\":\"nothing\"}\n", &[&deep[..], b"\n"].concat(), &long] {
        assert_eq!(said(&path, wrong)["error"]["code"], "refused");
        assert_eq!(sum(&path), Ok(json!({"sum": 5})));
    }
}

#[test]
fn a_client_that_says_nothing_holds_up_nobody() {
    let (_folder, path) = place();
    let _server = served(&path);
    let _silent = UnixStream::connect(&path).expect("it is served");
    assert_eq!(sum(&path), Ok(json!({"sum": 5})));
}

#[test]
fn a_request_that_breaks_the_server_breaks_itself_alone() {
    let (_folder, path) = place();
    let _server = served(&path);
    for _ in 0..=REQUESTS_MAX {
        let broken = ask(&path, &Request::BreakOff, LONG).expect_err("it panicked");
        assert_eq!(broken.0, Exit::Network, "{}", broken.1);
    }
    assert_eq!(sum(&path), Ok(json!({"sum": 5})));
}

#[test]
fn where_nobody_serves_that_is_said() {
    let (_folder, path) = place();
    let nobody = || sum(&path).expect_err("nobody is there");
    assert_eq!(nobody().0, Exit::Network);
    assert!(nobody().1.contains(&path.display().to_string()), "{}", nobody().1);
    drop(served(&path));
    assert!(!path.exists(), "the socket goes with its server");
    drop(UnixListener::bind(&path).expect("its folder is there"));
    assert_eq!(nobody().0, Exit::Network, "a stale socket is nobody");
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let (_folder, path) = place();
    fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
    drop(UnixListener::bind(&path).expect("a socket"));
    let server = served(&path);
    let (exit, why) = serve(&path, &Cancel::default(), answer).err().expect("one serves it");
    assert!(exit == Exit::Refused && why.contains("already running"), "{why}");
    assert_eq!(sum(&path), Ok(json!({"sum": 5})), "the first goes on");
    drop(server);
    fs::write(&path, "letters").expect("a file");
    assert!(serve(&path, &Cancel::default(), answer).is_err_and(|(_, why)| why.contains("no socket")));
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "letters");
}

#[test]
fn of_servers_that_begin_at_once_one_serves() {
    let (_folder, path) = place();
    fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
    drop(UnixListener::bind(&path).expect("a socket"));
    let servers: Vec<_> = (0..8).map(|_| path.clone()).collect();
    let servers: Vec<_> = servers
        .into_iter()
        .map(|path| thread::spawn(move || serve(&path, &Cancel::default(), answer).ok()))
        .collect();
    let servers: Vec<_> = servers.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect();
    assert_eq!(servers.len(), 1);
    assert_eq!(sum(&path), Ok(json!({"sum": 5})));
}

#[test]
fn a_server_leaves_the_socket_of_another_alone() {
    let (_folder, path) = place();
    let server = served(&path);
    fs::remove_file(&path).expect("it is there");
    let _other = UnixListener::bind(&path).expect("the path is free");
    drop(server);
    assert!(path.exists());
}

/// A server whose requests begin, and end when they are let go.
fn slow(path: &Path) -> (Server, Receiver<()>, Sender<()>) {
    let ((begin, begun), (go, gone)) = (bounded(REQUESTS_MAX), bounded(0));
    let answer = move |_: Request, _: &Client<'_>| {
        let _told = begin.send(());
        let _let_go: Result<(), _> = gone.recv();
        Ok(Value::Null)
    };
    (serve(path, &Cancel::default(), answer).expect("nobody else serves it"), begun, go)
}

#[test]
fn a_client_that_has_gone_is_noticed() {
    let (_folder, path) = place();
    let (begin, begun) = bounded(1);
    let answer = move |_: Request, client: &Client<'_>| {
        let _told = begin.send(client.is_gone());
        while !client.is_gone() {
            thread::sleep(Duration::from_millis(1));
        }
        let _told = begin.send(true);
        Ok(Value::Null)
    };
    let _server = serve(&path, &Cancel::default(), answer).expect("nobody else serves it");
    let mut stream = UnixStream::connect(&path).expect("it is served");
    stream.write_all(b"{\"do\":\"refuse\"}\n").expect("it listens");
    assert_eq!(begun.recv_timeout(LONG), Ok(false), "it waits");
    // Whoever has nothing more to say waits all the same.
    stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
    assert!(begun.recv_timeout(Duration::from_millis(50)).is_err());
    drop(stream);
    assert_eq!(begun.recv_timeout(LONG), Ok(true));
}

#[test]
fn more_requests_than_there_is_room_for_are_turned_away() {
    let (_folder, path) = place();
    let (_server, begun, go) = slow(&path);
    let path = Arc::new(path);
    let asked: Vec<_> = (0..REQUESTS_MAX)
        .map(|_| {
            let path = Arc::clone(&path);
            thread::spawn(move || sum(&path))
        })
        .collect();
    (0..REQUESTS_MAX).for_each(|_| begun.recv().expect("it begins"));
    let (exit, why) = sum(&path).expect_err("there is no room");
    assert!(exit == Exit::Failed && why.contains("16 requests"), "{why}");
    drop(go);
    for thread in asked {
        assert_eq!(thread.join().expect("no panic"), Ok(Value::Null));
    }
}

#[test]
fn a_server_that_ends_answers_what_it_began() {
    let (_folder, path) = place();
    let (server, begun, go) = slow(&path);
    let asked = {
        let path = path.clone();
        thread::spawn(move || sum(&path))
    };
    begun.recv().expect("it begins");
    let ending = thread::spawn(move || drop(server));
    drop(go);
    ending.join().expect("no panic");
    assert_eq!(asked.join().expect("no panic"), Ok(Value::Null));
}

#[test]
fn an_answer_that_does_not_come_is_waited_for_no_longer_than_asked() {
    let (_folder, path) = place();
    let (_server, begun, go) = slow(&path);
    let late = ask(&path, &Request::Refuse, Duration::from_millis(50)).expect_err("it waits");
    assert!(late.0 == Exit::Failed && late.1.contains("no answer within 50ms"), "{}", late.1);
    begun.recv().expect("it began");
    drop(go);
}

#[test]
fn a_request_to_stop_ends_the_server() {
    let (_folder, path) = place();
    let cancel = Cancel::default();
    let _server = serve(&path, &cancel, answer).expect("nobody else serves it");
    assert!(sum(&path).is_ok());
    cancel.cancel();
    while path.exists() {
        thread::yield_now();
    }
    assert!(sum(&path).is_err_and(|(exit, _)| exit == Exit::Network));
}

#[test]
fn an_answer_of_a_later_version_is_still_a_failure() {
    let (_folder, path) = place();
    fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
    let listener = UnixListener::bind(&path).expect("a socket");
    let answering = thread::spawn(move || {
        for answer in ["{\"error\":{\"code\":\"melted\",\"message\":\"hot\"}}\n", "{\"maybe\":1}\n", ""] {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.read_exact(&mut [0]).expect("a request");
            stream.write_all(answer.as_bytes()).expect("it listens");
        }
    });
    assert_eq!(sum(&path), Err((Exit::Failed, "hot".to_owned())));
    assert!(sum(&path).is_err_and(|(exit, _)| exit == Exit::Failed));
    assert!(sum(&path).is_err_and(|(exit, _)| exit == Exit::Network));
    answering.join().expect("no panic");
}
