//! VMDK descriptors whose extents are not what they should be.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::fixture::{Failback, Scratch};

use super::MIB;
use super::refusals::{assert_refused, noise};

const HEAD: &str = "# Disk DescriptorFile\nversion=1\nCID=0badcafe\nparentCID=ffffffff\n";

/// A folder with a good extent of 4 MiB, files that must not be reached, and a
/// descriptor of these extent lines.
struct Ground {
    scratch: Scratch,
    descriptor: PathBuf,
    extent: PathBuf,
    outside: PathBuf,
    source: PathBuf,
}

impl Ground {
    fn new(lines: &str) -> Self {
        let scratch = Scratch::new();
        scratch.folder("image");
        let source = noise(&scratch, "source", MIB);
        let outside = noise(&scratch, "outside.vmdk", 4 * MIB);
        let extent = noise(&scratch, "image/good.vmdk", 4 * MIB);
        symlink(&outside, scratch.path("image/link.vmdk")).expect("links can be made");
        symlink(scratch.root(), scratch.path("image/folder")).expect("links can be made");
        fs::hard_link(&extent, scratch.path("image/twin.vmdk")).expect("links can be made");
        let lines = lines.replace("ROOT", &scratch.root().to_string_lossy());
        let text =
            format!("{HEAD}createType=\"twoGbMaxExtentFlat\"\n{lines}\n#DDB\nddb.adapterType = \"ide\"\n");
        let descriptor = scratch.file("image/disk.vmdk", text);
        Self { scratch, descriptor, extent, outside, source }
    }

    /// As target and as source, for each of the words.
    fn assert_refused(&self, words: &[&str]) {
        let kept = [self.extent.as_path(), &self.outside, &self.descriptor, &self.source];
        assert_refused(&self.scratch, &self.source, &self.descriptor, &kept, words);
        assert_refused(&self.scratch, &self.descriptor, &self.source, &kept, words);
        let arguments = ["image".as_ref(), "info".as_ref(), self.descriptor.as_os_str()];
        let outcome = Failback::new(&self.scratch, arguments).run().expect_code(3);
        assert!(outcome.stderr.contains(words[0]), "{outcome}");
    }
}

#[test]
fn a_good_descriptor_is_taken() {
    let ground = Ground::new("RW 4096 FLAT \"good.vmdk\" 0\nRW 4096 FLAT \"twin.vmdk\" 4096");
    super::sync_well(&ground.scratch, &[], &ground.source, &ground.descriptor);
}

#[test]
fn a_missing_extent() {
    Ground::new("RW 8192 FLAT \"gone.vmdk\" 0").assert_refused(&["gone.vmdk is missing", "copy it there"]);
    let lines = "RW 8192 FLAT \"good.vmdk\" 0\nRW 2048 FLAT \"gone.vmdk\" 0";
    Ground::new(lines).assert_refused(&["gone.vmdk is missing", "line 7"]);
}

#[test]
fn a_short_extent() {
    Ground::new("RW 8193 FLAT \"good.vmdk\" 0")
        .assert_refused(&["good.vmdk has 4194304 bytes", "correct the size"]);
    Ground::new("RW 8192 FLAT \"good.vmdk\" 1").assert_refused(&["the extent ends at 4194816"]);
    Ground::new("RW 1 FLAT \"good.vmdk\" 36028797018963967").assert_refused(&["offset"]);
}

#[test]
fn overlapping_extents() {
    let words = ["belong to the extent of line", "correct the name or the offset"];
    Ground::new("RW 4096 FLAT \"good.vmdk\" 0\nRW 4096 FLAT \"good.vmdk\" 4095").assert_refused(&words);
    Ground::new("RW 8192 FLAT \"good.vmdk\" 0\nRW 8192 FLAT \"good.vmdk\" 0").assert_refused(&words);
    // By another name of the same file.
    Ground::new("RW 8192 FLAT \"good.vmdk\" 0\nRW 8192 FLAT \"twin.vmdk\" 0").assert_refused(&words);
    Ground::new("RW 8192 FLAT \"good.vmdk\" 0\nRW 8192 FLAT \"./good.vmdk\" 0").assert_refused(&words);
}

#[test]
fn an_absolute_extent() {
    let words = ["is an absolute name", "beside the descriptor"];
    Ground::new("RW 8192 FLAT \"ROOT/outside.vmdk\" 0").assert_refused(&words);
    // Even where it leads to the folder itself.
    Ground::new("RW 8192 FLAT \"ROOT/image/good.vmdk\" 0").assert_refused(&words);
    Ground::new("RW 8192 FLAT \"C:\\disk.vmdk\" 0").assert_refused(&words);
}

#[test]
fn an_extent_above_the_descriptor() {
    let words = ["leads out of the descriptor's directory", "move the file"];
    Ground::new("RW 8192 FLAT \"../outside.vmdk\" 0").assert_refused(&words);
    Ground::new("RW 8192 FLAT \"x/../../outside.vmdk\" 0").assert_refused(&words);
    Ground::new("RW 8192 VMFS \"../outside.vmdk\"").assert_refused(&words);
}

#[test]
fn an_extent_behind_a_link() {
    let words = ["symbolic link out of", "put the file itself there"];
    Ground::new("RW 8192 FLAT \"link.vmdk\" 0").assert_refused(&words);
    Ground::new("RW 8192 FLAT \"folder/outside.vmdk\" 0").assert_refused(&words);
}

#[test]
fn an_extent_that_is_no_file_of_bytes() {
    Ground::new("RW 1 FLAT \"disk.vmdk\" 0").assert_refused(&["is the descriptor itself"]);
    let ground = Ground::new("RW 8 FLAT \"below\" 0");
    ground.scratch.folder("image/below");
    ground.assert_refused(&["is no regular file"]);
    Ground::new("NOACCESS 8192 FLAT \"good.vmdk\" 0").assert_refused(&["NOACCESS"]);
}

#[test]
fn a_descriptor_that_makes_no_sense() {
    Ground::new("").assert_refused(&["there is no extent"]);
    Ground::new("RW 0 FLAT \"good.vmdk\" 0").assert_refused(&["the extent's size"]);
    Ground::new("RW 8192 SPARSE \"good.vmdk\"").assert_refused(&["SPARSE", "convert"]);
    Ground::new("RW 8192 FLAT good.vmdk 0").assert_refused(&["line 6"]);
    Ground::new("RW 18446744073709551615 ZERO").assert_refused(&["the extent's size"]);
}

#[test]
fn a_snapshot_is_no_disk() {
    let ground = Ground::new("RW 8192 FLAT \"good.vmdk\" 0");
    let text = fs::read_to_string(&ground.descriptor).expect("it was made");
    let text = text.replace("parentCID=ffffffff", "parentCID=0badcafe\nparentFileNameHint=\"base.vmdk\"");
    fs::write(&ground.descriptor, text).expect("it is ours");
    ground.assert_refused(&["snapshot", "consolidate"]);
}

#[test]
fn an_extent_that_may_only_be_read() {
    let ground = Ground::new("RDONLY 8192 FLAT \"good.vmdk\" 0");
    let kept = [ground.extent.as_path()];
    let words = ["RDONLY", "RW"];
    assert_refused(&ground.scratch, &ground.source, &ground.descriptor, &kept, &words);
    let copy = ground.scratch.path("copy.raw");
    super::sync_well(&ground.scratch, &["--create"], &ground.descriptor, &copy);
    assert_eq!(super::hash(&copy), super::hash(&ground.extent));
}
