//! The real directory: one writer, flat names, nothing left where there is no room.

use std::io;
use std::num::NonZeroUsize;

use super::{content, pair, point};
use crate::journal::{Directory, DirectoryError, Journal, View, Volume, VolumeFile};
use crate::ring;
use crate::sys::Arena;
use crate::unit::Extent;

#[test]
fn the_second_writer_is_told_who_the_first_is() {
    let folder = tempfile::tempdir().expect("a folder");
    ring::run(async {
        let first = Directory::open(folder.path(), "master target of web-1").expect("the first");
        let second = Directory::open(folder.path(), "another").map(drop);
        let Err(DirectoryError::InUse { holder, .. }) = second else { panic!("{second:?}") };
        assert!(holder.starts_with("master target of web-1 (process "), "{holder}");
        let reader = Directory::open_read_only(folder.path()).expect("readers need no lock");
        assert_eq!(
            reader.create("a", 1).map(drop).expect_err("no lock").kind(),
            io::ErrorKind::PermissionDenied
        );
        drop(first);
        Directory::open(folder.path(), "another").expect("the lock ends with its holder");
    })
    .expect("a ring");
}

#[test]
fn files_are_flat_whole_and_allocated() {
    let folder = tempfile::tempdir().expect("a folder");
    ring::run(async {
        let volume = Directory::open(folder.path(), "a test").expect("opened");
        for name in ["", ".", "..", "a/b", "/a", "lock", "a\0b"] {
            assert_eq!(volume.create(name, 0).map(drop).expect_err(name).kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(
            volume.create("huge", 1 << 60).map(drop).expect_err("too large").kind(),
            std::fs::File::create(folder.path().join("x"))
                .and_then(|file| Ok(nix::fcntl::posix_fallocate(file, 0, 1 << 60)?))
                .expect_err("too large")
                .kind()
        );
        volume.remove("x").expect("removed");
        assert!(volume.names().expect("listed").is_empty());
        let file = volume.create("a", 8192).expect("made");
        assert_eq!(volume.create("a", 0).map(drop).expect_err("there").kind(), io::ErrorKind::AlreadyExists);
        let mut buffer = Arena::buffers(1, NonZeroUsize::new(4096).expect("some")).expect("memory").remove(0);
        buffer.bytes_mut().fill(5);
        // It grows.
        let (written, buffer) = file.write(8192, buffer, 0..4096).await;
        written.expect("written");
        file.flush().await.expect("flushed");
        assert_eq!(file.size_bytes().expect("known"), 12288);
        volume.rename("a", "b").expect("renamed");
        volume.flush_directory().expect("flushed");
        let file = volume.open("b", false).expect("there");
        let (read, buffer) = file.read(8192, buffer, 0..4096).await;
        read.expect("read");
        assert!(buffer.bytes().iter().all(|byte| *byte == 5));
        let (read, _) = file.read(12288, buffer, 0..4096).await;
        assert_eq!(read.expect_err("past the end").kind(), io::ErrorKind::UnexpectedEof);
        assert!(volume.free_bytes().expect("known") > 0);
    })
    .expect("a ring");
}

#[test]
fn a_journal_in_a_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    ring::run(async {
        let volume = Directory::open(folder.path(), "a test").expect("opened");
        let mut journal = Journal::create(volume.clone(), pair(1000, 1 << 20)).await.expect("created");
        let digester = journal.pair().digester();
        let mut batch = journal.batch().expect("memory");
        let empty = point(&journal, 1);
        journal.close_epoch(empty).await.expect("closed");
        for epoch in 2..40 {
            for chunk in epoch * 7..epoch * 7 + 60 {
                let old = content(chunk, epoch, 4096);
                batch.keep(chunk, &old, digester.digest(&old), digester.digest(b"new")).expect("room");
            }
            journal.append(&mut batch).await.expect("appended");
            journal.flush().await.expect("flushed");
            let point = point(&journal, epoch);
            journal.close_epoch(point).await.expect("closed");
            journal.merge().await.expect("merged");
        }
        drop(journal);
        let (journal, _) = Journal::open(volume).await.expect("opened");
        let mut bytes = vec![0; 4096];
        journal.overlay(super::FIRST, Extent::between(70 * 4096, 71 * 4096), &mut bytes).await.expect("read");
        assert!(bytes == content(70, 2, 4096));
        let view = View::open(Directory::open_read_only(folder.path()).expect("opened")).await.expect("read");
        assert_eq!(view.summary().await.expect("read").points.len(), 39);
    })
    .expect("a ring");
}
