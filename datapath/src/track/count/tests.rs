//! A made-up disk whose kernel tells first and counts later, at random moments.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const STAT: &str = "  10 0 80 5  20 0 160 9  3 50 60  7 0 4096 2  1 1\n";

#[test]
fn the_kernels_line_is_read_where_its_documentation_says() {
    let counts = KernelCounts::parse(STAT).unwrap();
    assert_eq!(counts, KernelCounts { sectors: Counts { written: 160, discarded: 4096 }, in_flight: 3 });
    assert!(KernelCounts::parse("1 2 3").is_none() && KernelCounts::parse("a b").is_none());
}

fn counts(written: u64) -> Counts {
    Counts { written, discarded: 0 }
}

fn still(written: u64) -> KernelCounts {
    KernelCounts { sectors: counts(written), in_flight: 0 }
}

#[test]
fn a_miss_within_the_first_slack_shows_once_the_disk_was_still() {
    let (mut watch, start) = (StillWatch::default(), Instant::now());
    // 1000 before tracking, 64 while the lead was read.
    let mut lead = Lead { written: 1064, discarded: 0 };
    for second in 0..3 {
        lead = watch.compare(still(1064), counts(64), lead, start + Duration::from_secs(second)).unwrap();
    }
    assert_eq!(lead.written, 1000);
    let doubt = watch.compare(still(1080), counts(72), lead, start).unwrap_err();
    assert_eq!(doubt, Doubt::SectorCount { what: "written", missing_sectors: 8 });
    assert_eq!(doubt.to_string(), "the kernel counted 8 sectors more written than were tracked");
}

#[test]
fn a_kernel_that_did_not_count_is_no_doubt() {
    let (mut watch, start) = (StillWatch::default(), Instant::now());
    let mut lead = Lead { written: 100, discarded: 0 };
    for second in 0..3 {
        lead = watch.compare(still(100), counts(5000), lead, start + Duration::from_secs(second)).unwrap();
    }
    assert_eq!(lead.written, -4900);
    assert!(watch.compare(still(108), counts(5008), lead, start).is_ok());
    assert!(watch.compare(still(116), counts(5008), lead, start).is_err());
}

proptest! {
    #[test]
    fn under_load_it_never_alarms_and_a_miss_shows_when_it_is_still(
        steps in prop::collection::vec((0_u8..4, 1_u64..300), 1..200),
        before in 0_u64..10_000,
        missed in 1_u64..100,
    ) {
        let (mut watch, mut now) = (StillWatch::default(), Instant::now());
        let (mut kernel, mut seen, mut told) = (before, 0, 0);
        let mut lead = Lead { written: before.cast_signed(), discarded: 0 };
        for (kind, sectors) in steps {
            now += Duration::from_millis(sectors * 10);
            match kind {
                // The programs are told; the kernel counts some time later.
                0 => { seen += sectors; told += sectors; }
                1 => { kernel += told; told = 0; }
                _ => {
                    // Between reading the kernel's count and ours more completes.
                    let shown = KernelCounts { sectors: counts(kernel), in_flight: u64::from(told > 0) };
                    if kind == 3 { seen += sectors; told += sectors; }
                    lead = watch.compare(shown, counts(seen), lead, now).unwrap();
                }
            }
        }
        kernel += told + missed;
        prop_assert!(watch.compare(still(kernel), counts(seen), lead, now).is_err());
    }
}
