//! Known peers: remembered once, changed at one stroke, read strictly.
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::fs;
use std::thread;

use super::*;

fn fingerprint(number: u8) -> Fingerprint {
    Fingerprint::from_bytes([number; 32])
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    (parent, path)
}

#[test]
fn a_peer_gains_rights_and_addresses_and_keeps_its_name() {
    let (_parent, path) = directory();
    let now = SystemTime::now();
    KnownPeers::remember(&path, &Peer::client("db1", fingerprint(1), now)).unwrap();
    let both =
        KnownPeers::remember(&path, &Peer::server("other", fingerprint(1), address("a:1"), now)).unwrap();
    assert_eq!((both.name.as_str(), both.may_connect, both.may_serve), ("db1", true, true));
    let known = KnownPeers::load(&path).unwrap();
    assert_eq!(known.all(), [both]);
    assert!(known.client(&fingerprint(1)).is_some() && known.client(&fingerprint(2)).is_none());
    assert!(known.server_at(&address("a:1")).is_some() && known.server_at(&address("a:2")).is_none());
}

#[test]
fn a_server_may_not_connect_and_a_client_may_not_serve() {
    let (_parent, path) = directory();
    let now = SystemTime::now();
    KnownPeers::remember(&path, &Peer::server("s", fingerprint(1), address("a:1"), now)).unwrap();
    KnownPeers::remember(&path, &Peer::client("c", fingerprint(2), now)).unwrap();
    let known = KnownPeers::load(&path).unwrap();
    assert!(known.client(&fingerprint(1)).is_none());
    assert_eq!(known.server_at(&address("a:1")).map(|peer| peer.fingerprint), Some(fingerprint(1)));
}

#[test]
fn an_address_belongs_to_the_server_paired_there_last() {
    let (_parent, path) = directory();
    let now = SystemTime::now();
    for number in [1, 2] {
        KnownPeers::remember(&path, &Peer::server("s", fingerprint(number), address("a:1"), now)).unwrap();
    }
    let known = KnownPeers::load(&path).unwrap();
    assert_eq!(known.server_at(&address("a:1")).map(|peer| peer.fingerprint), Some(fingerprint(2)));
    let names: Vec<_> = known.all().iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(names, ["s", "s-2"], "names stay unique");
}

#[test]
fn forgetting_is_exact() {
    let (_parent, path) = directory();
    for number in [1, 2] {
        KnownPeers::remember(&path, &Peer::client("c", fingerprint(number), SystemTime::now())).unwrap();
    }
    assert!(KnownPeers::forget(&path, &fingerprint(1)).unwrap());
    assert!(!KnownPeers::forget(&path, &fingerprint(1)).unwrap());
    assert_eq!(KnownPeers::load(&path).unwrap().all().len(), 1);
}

#[test]
fn peers_remembered_at_once_are_all_there() {
    let (_parent, path) = directory();
    thread::scope(|scope| {
        for number in 0..16 {
            let path = &path;
            scope.spawn(move || {
                KnownPeers::remember(path, &Peer::client("c", fingerprint(number), SystemTime::now()))
                    .unwrap()
            });
        }
    });
    assert_eq!(KnownPeers::load(&path).unwrap().all().len(), 16);
}

#[test]
fn names_from_the_network_are_cleaned() {
    assert_eq!(clean_name("db-1.example_x"), "db-1.example_x");
    assert_eq!(clean_name("a\u{1b}[31m\n\"b"), "a31mb");
    assert_eq!(clean_name("\u{202e}\n"), "unnamed");
    assert_eq!(clean_name(&"x".repeat(1000)).len(), NAME_BYTES_MAX);
}

#[test]
fn damaged_and_newer_files_are_refused_and_left_as_they_are() {
    let (_parent, path) = directory();
    KnownPeers::remember(&path, &Peer::client("c", fingerprint(1), SystemTime::now())).unwrap();
    let file = path.join(FILE);
    for text in ["", "{", "[]", r#"{"version":1}"#, r#"{"version":1,"peers":[{}]}"#] {
        fs::write(&file, text).unwrap();
        assert!(matches!(KnownPeers::load(&path), Err(Error::Malformed { .. })), "{text}");
    }
    fs::write(&file, r#"{"version":2,"guests":[]}"#).unwrap();
    assert!(matches!(KnownPeers::load(&path), Err(Error::Version { version: 2, .. })));
    let peer = Peer::client("c", fingerprint(2), SystemTime::now());
    assert!(KnownPeers::remember(&path, &peer).is_err(), "never overwrites what it cannot read");
    assert_eq!(fs::read_to_string(&file).unwrap(), r#"{"version":2,"guests":[]}"#);
}

#[test]
fn the_file_has_a_limit() {
    let mut known = KnownPeers::default();
    for number in 0..=u16::try_from(PEERS_MAX).unwrap() {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_le_bytes());
        let peer = Peer::client("same", Fingerprint::from_bytes(bytes), SystemTime::now());
        assert_eq!(known.merge(&peer).is_some(), usize::from(number) < PEERS_MAX);
    }
    let mut names: Vec<_> = known.all().iter().map(|peer| peer.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), PEERS_MAX);
}
