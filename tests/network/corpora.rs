//! The corpora of the fuzz targets, through the functions that the targets call.

use std::fs;
use std::path::Path;

#[path = "../../datapath/fuzz/src/entry.rs"]
mod entry;

/// What a fuzz target does with its bytes.
type Read = fn(&[u8]);

#[test]
fn every_file_of_the_corpora_is_read_or_refused_and_never_more() {
    let targets: [(&str, Read); 8] = [
        ("vmdk_descriptor", entry::vmdk_descriptor),
        ("frame_header", entry::frame_header),
        ("location", entry::location),
        ("control_message", entry::control_message),
        ("unpack", entry::unpack_extent),
        ("delta", entry::delta),
        ("journal_record", entry::journal_record),
        ("journal_page", entry::journal_page),
    ];
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datapath/fuzz");
    for (name, read) in targets {
        let corpus = fuzz.join("corpus").join(name);
        let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
        let mut count = 0;
        for file in files {
            let path = file.expect("the folder is readable").path();
            println!("{}", path.display());
            let bytes = fs::read(&path).expect("corpora are files");
            read(&bytes);
            // And what a damaged one is.
            for cut in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
                read(&bytes[..cut]);
            }
            for at in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
                let mut changed = bytes.clone();
                changed[at] ^= 0x55;
                read(&changed);
            }
            count += 1;
        }
        assert!(count >= 10, "{name} has {count} files");
        assert!(fuzz.join("fuzz_targets").join(format!("{name}.rs")).exists(), "no target {name}");
    }
}
