//! Identities are made once, kept private, and never shown.
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::thread;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn an_identity_is_made_once_and_kept_private() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("deep/state");
    let first = Identity::load_or_create(&directory).unwrap();
    assert_eq!(Identity::load_or_create(&directory).unwrap().fingerprint(), first.fingerprint());
    assert_eq!((mode(&directory), mode(&directory.join(FILE))), (0o700, 0o600));
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left aside");
    let other = Identity::load_or_create(&parent.path().join("other")).unwrap();
    assert_ne!(other.fingerprint(), first.fingerprint());
}

#[test]
fn racing_processes_make_one_identity() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let start = Barrier::new(8);
    let made: Vec<Fingerprint> = thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    Identity::load_or_create(&directory).unwrap().fingerprint()
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert!(made.iter().all(|fingerprint| *fingerprint == made[0]), "{made:?}");
}

#[test]
fn what_others_can_read_is_refused_with_the_remedy() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    Identity::load_or_create(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o750)).unwrap();
    let error = Identity::load_or_create(&directory).unwrap_err().to_string();
    assert!(error.contains("chmod 700"), "{error}");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();

    let file = directory.join(FILE);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    let error = Identity::load_or_create(&directory).unwrap_err().to_string();
    assert!(error.contains("chmod 600") && error.contains(FILE), "{error}");
}

#[test]
fn damaged_files_and_links_are_refused() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    Identity::load_or_create(&directory).unwrap();
    let file = directory.join(FILE);
    let whole = fs::read(&file).unwrap();
    for text in [&b""[..], b"nonsense", &whole[..whole.len() / 2], &vec![b'x'; 70_000]] {
        fs::write(&file, text).unwrap();
        assert!(Identity::load_or_create(&directory).is_err());
    }
    fs::remove_file(&file).unwrap();
    fs::write(directory.join("elsewhere"), &whole).unwrap();
    std::os::unix::fs::symlink("elsewhere", &file).unwrap();
    assert!(matches!(Identity::load_or_create(&directory), Err(Error::State(StateError::Io { .. }))));
}

#[test]
fn a_key_without_its_certificate_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let (one, other) = (parent.path().join("one"), parent.path().join("other"));
    Identity::load_or_create(&one).unwrap();
    Identity::load_or_create(&other).unwrap();
    let text = |directory: &Path| fs::read_to_string(directory.join(FILE)).unwrap();
    let (certificate, _) = text(&one).split_once("-----BEGIN PRIVATE").map(own).unwrap();
    let (_, key) = text(&other).split_once("-----BEGIN PRIVATE").map(own).unwrap();
    fs::write(one.join(FILE), format!("{certificate}-----BEGIN PRIVATE{key}")).unwrap();
    assert!(matches!(Identity::load_or_create(&one), Err(Error::Tls { .. })));
}

fn own((left, right): (&str, &str)) -> (String, String) {
    (left.to_owned(), right.to_owned())
}

#[test]
fn debug_shows_the_fingerprint_and_not_the_key() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    let identity = Identity::load_or_create(&directory).unwrap();
    let shown = format!("{identity:?}");
    assert!(shown.contains(&identity.fingerprint().to_string()));
    assert!(shown.len() < 200 + directory.as_os_str().len(), "nothing else: {shown}");
}

#[test]
fn fingerprints_read_back_as_they_are_written() {
    let fingerprint = Fingerprint::from_bytes([0xa5; 32]);
    let text = fingerprint.to_string();
    assert_eq!(text, "SHA256:paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU");
    assert_eq!(text.parse(), Ok(fingerprint));
    for wrong in
        ["", "SHA256:", &text[1..], &text[..text.len() - 1], &format!("{text}A"), &format!("{text}=")]
    {
        assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong:?}");
    }
}
