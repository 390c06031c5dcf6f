//! Every kind of source onto every kind of target: a first copy, then what
//! changed since, judged by independent readers.

use crate::fixture::{Model, Random, Scratch, need};

use super::disks::{Disk, KINDS, Kind, NEEDS};
use super::{Difference, MIB, number, sync_well};

/// No multiple of a window, nor of a chunk; sectors of 4096 bytes fit.
const BYTES: usize = 9 * MIB + 5 * 4096;

fn copies_onto_every_kind(source_kind: Kind) {
    let Some(()) = need(&NEEDS) else { return };
    let mut random = Random::new();
    for target_kind in KINDS {
        let scratch = Scratch::new();
        println!("{source_kind:?} onto {target_kind:?}");
        let source = Disk::make(&scratch, "source", source_kind, BYTES);
        let target = Disk::make(&scratch, "target", target_kind, BYTES);
        let bent = |mut model: Model| {
            source.bend(&mut model);
            target.bend(&mut model);
            model
        };
        let mut before = Model::zeroes(BYTES);
        let mut model = bent(Model::mixed(BYTES, &mut random));
        source.fill(&model);
        compare_and_copy(&scratch, &source, &target, &model, &before);
        // Both sides change: the source by its machine, the target by mishap.
        before = model.clone();
        before.scribble(4, &mut random);
        before = bent(before);
        target.fill(&before);
        model.scribble(12, &mut random);
        model = bent(model);
        source.fill(&model);
        compare_and_copy(&scratch, &source, &target, &model, &before);
        // Nothing changed since.
        compare_and_copy(&scratch, &source, &target, &model, &model);
    }
}

fn compare_and_copy(scratch: &Scratch, source: &Disk, target: &Disk, model: &Model, before: &Model) {
    let summary = sync_well(scratch, &[], source.path(), target.path());
    target.assert_holds(model, scratch);
    source.assert_holds(model, scratch);
    assert_eq!(Difference::counted(&summary), Difference::between(&model.bytes, &before.bytes), "{summary}");
    let [total, read_source, read_target] =
        ["bytes_total", "bytes_read_source", "bytes_read_target"].map(|name| number(&summary, name));
    assert_eq!((total, number(&summary, "bytes_sent")), (BYTES as u64, 0));
    assert!(number(&summary, "bytes_written") <= read_source && read_source <= total, "{summary}");
    assert!(read_target <= total, "{summary}");
}

#[test]
fn a_raw_image_onto_every_kind() {
    copies_onto_every_kind(Kind::Raw);
}

#[test]
fn a_loop_device_onto_every_kind() {
    copies_onto_every_kind(Kind::Loop512);
}

#[test]
fn a_loop_device_of_large_sectors_onto_every_kind() {
    copies_onto_every_kind(Kind::Loop4096);
}

#[test]
fn a_monolithic_image_onto_every_kind() {
    copies_onto_every_kind(Kind::Monolithic);
}

#[test]
fn a_split_image_onto_every_kind() {
    copies_onto_every_kind(Kind::Split);
}

#[test]
fn extents_at_offsets_onto_every_kind() {
    copies_onto_every_kind(Kind::Offsets);
}

#[test]
fn a_vmfs_image_onto_every_kind() {
    copies_onto_every_kind(Kind::Vmfs);
}

#[test]
fn an_image_with_a_zero_extent_onto_every_kind() {
    copies_onto_every_kind(Kind::Zero);
}

#[test]
fn data_does_not_fit_into_a_zero_extent() {
    let Some(()) = need(&NEEDS) else { return };
    let scratch = Scratch::new();
    let source = Disk::make(&scratch, "source", Kind::Raw, BYTES);
    let target = Disk::make(&scratch, "target", Kind::Zero, BYTES);
    source.fill(&Model::random(BYTES, &mut Random::new()));
    let outcome = super::sync(&scratch, &["--json"], source.path(), target.path()).run().expect_code(1);
    assert!(outcome.stderr.contains("ZERO extent") && outcome.stderr.contains("unfinished"), "{outcome}");
    assert_eq!(outcome.summary()["target_state"], "unfinished");
    assert_eq!(super::marks(&scratch).len(), 1);
}
