//! Zeroes: holes are passed over, zero ranges become holes, and a target that
//! reads as zero is left alone.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::fixture::Need::LoopDevices;
use crate::fixture::{LoopDevice, Model, Random, Scratch, assert_same_bytes, need};

use super::{MIB, number, sync_well};

/// What a file takes, in bytes.
fn allocated(path: &Path) -> u64 {
    let file = fs::File::open(path).expect("it is there");
    file.sync_all().expect("the filesystem works");
    file.metadata().expect("it is open").blocks() * 512
}

/// Random bytes with zeroes from 1 MiB to 6 MiB.
fn hollow(random: &mut Random) -> Model {
    let mut model = Model::random(8 * MIB, random);
    model.bytes[MIB..6 * MIB].fill(0);
    model
}

#[test]
fn a_sparse_source_makes_a_sparse_target() {
    let mut random = Random::new();
    for options in [&["--create"][..], &["--create", "--whole"]] {
        let scratch = Scratch::new();
        let (source, target) = (scratch.path("source.raw"), scratch.path("target.raw"));
        let model = hollow(&mut random);
        model.save_sparse(&source);
        let summary = sync_well(&scratch, options, &source, &target);
        model.assert_starts(&target);
        assert_eq!(number(&summary, "bytes_read_source"), 3 << 20, "holes are not read");
        assert_eq!(number(&summary, "bytes_zeroed"), 0, "what is zero already is not zeroed");
        assert!(allocated(&target) <= (3 << 20) + (64 << 10), "{} bytes", allocated(&target));
    }
}

#[test]
fn written_zeroes_of_the_source_make_no_blocks() {
    let scratch = Scratch::new();
    let (source, target) = (scratch.path("source.raw"), scratch.path("target.raw"));
    let model = hollow(&mut Random::new());
    model.save(&source);
    let summary = sync_well(&scratch, &["--create"], &source, &target);
    model.assert_starts(&target);
    assert_eq!((number(&summary, "bytes_written"), number(&summary, "bytes_zeroed")), (3 << 20, 0));
    assert!(allocated(&target) <= (3 << 20) + (64 << 10));
}

#[test]
fn zero_ranges_are_punched_out_of_the_target() {
    let mut random = Random::new();
    for options in [&[][..], &["--whole"]] {
        let scratch = Scratch::new();
        let (source, target) = (scratch.path("source.raw"), scratch.path("target.raw"));
        let model = hollow(&mut random);
        model.save_sparse(&source);
        Model::random(8 * MIB, &mut random).save(&target);
        let summary = sync_well(&scratch, options, &source, &target);
        model.assert_starts(&target);
        assert_eq!(number(&summary, "bytes_zeroed"), 5 << 20);
        assert!(allocated(&target) <= (3 << 20) + (64 << 10), "{} bytes", allocated(&target));
    }
}

#[test]
fn zero_ranges_are_discarded_on_a_device() {
    let Some(()) = need(&[LoopDevices]) else { return };
    let mut random = Random::new();
    for sector_bytes in [512, 4096] {
        let scratch = Scratch::new();
        let (source, backing) = (scratch.path("source.raw"), scratch.path("backing.raw"));
        let model = hollow(&mut random);
        model.save(&source);
        Model::random(8 * MIB, &mut random).save(&backing);
        let target = LoopDevice::attach(&backing, sector_bytes);
        sync_well(&scratch, &["--verify"], &source, target.path());
        assert_same_bytes(&source, target.path(), 8 << 20);
        assert!(allocated(&backing) <= (3 << 20) + (64 << 10), "{} bytes", allocated(&backing));
    }
}

#[test]
fn a_target_that_reads_as_zero_is_not_written() {
    let scratch = Scratch::new();
    let (source, target) = (scratch.image("source.raw", 8 << 20), scratch.path("target.raw"));
    Model::zeroes(8 * MIB).save(&target);
    let stamp = || {
        let blocks = allocated(&target);
        let file = fs::metadata(&target).expect("it is there");
        (blocks, file.mtime(), file.mtime_nsec())
    };
    let before = stamp();
    assert!(before.0 >= 8 << 20, "the filesystem keeps written zeroes");
    let summary = sync_well(&scratch, &[], &source, &target);
    assert_eq!(stamp(), before);
    let counts = ["bytes_written", "bytes_zeroed", "chunks_differing", "bytes_read_source"];
    assert_eq!(counts.map(|name| number(&summary, name)), [0; 4]);
}

#[test]
fn a_terabyte_of_holes_costs_nothing() {
    let scratch = Scratch::new();
    let size = 1_u64 << 40;
    let source = scratch.image("source.raw", size);
    let spots = [0, (3 << 30) - 100, size / 2 + 5, size - 4096];
    let file = fs::OpenOptions::new().read(true).write(true).open(&source).expect("it was made");
    for at in spots {
        file.write_all_at(&[0xa5; 300], at).expect("the filesystem has room");
    }
    for (name, bytes) in [("target.raw", "target.raw"), ("target.vmdk", "target-flat.vmdk")] {
        let (target, bytes) = (scratch.path(name), scratch.path(bytes));
        let summary = sync_well(&scratch, &["--create"], &source, &target);
        assert_eq!(number(&summary, "bytes_total"), size);
        assert!(number(&summary, "bytes_read_source") <= 8 << 20, "{summary}");
        assert!(number(&summary, "bytes_written") <= 5 * (64 << 10), "{summary}");
        assert!(allocated(&bytes) <= 1 << 20);
        let copy = fs::File::open(&bytes).expect("it was made");
        assert_eq!(copy.metadata().expect("it is open").len(), size);
        for at in spots {
            let mut found = [0; 400];
            let length = found.len().min(usize::try_from(size - at).unwrap_or(400));
            copy.read_exact_at(&mut found[..length], at).expect("it is as long");
            assert_eq!((&found[..300], &found[300..]), (&[0xa5; 300][..], &[0; 100][..]));
        }
        // And once more, with both sides full of holes, and read back.
        let summary = sync_well(&scratch, &["--verify"], &source, &target);
        assert_eq!(number(&summary, "chunks_differing"), 0);
    }
}
