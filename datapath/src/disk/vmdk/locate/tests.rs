//! Extents that are where they belong, and every way not to be.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::disk::vmdk::tests::machine;

/// A directory `images` with a descriptor of these extents, and `elsewhere`
/// beside it.
fn scene(extents: &str) -> (tempfile::TempDir, PathBuf) {
    let scene = tempfile::tempdir().unwrap();
    let images = scene.path().join("images");
    fs::create_dir_all(&images).unwrap();
    fs::create_dir_all(scene.path().join("elsewhere")).unwrap();
    let descriptor = images.join("disk.vmdk");
    let head = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"vmfs\"\n";
    fs::write(&descriptor, format!("{head}{extents}\n")).unwrap();
    (scene, descriptor)
}

fn sized(path: &Path, sectors: u64) {
    File::create_new(path).unwrap().set_len(sectors * 512).unwrap();
}

fn locate_at(path: &Path) -> Result<Vec<Located>, LocateError> {
    locate(path, &Descriptor::parse(&fs::read(path).unwrap()).unwrap())
}

/// The fault of the extent in `line`, and what it says.
fn fault(path: &Path, line: usize) -> (LocateFault, String) {
    let error = locate_at(path).unwrap_err();
    let text = error.to_string();
    let LocateError::Extent { line: found, fault, .. } = error else { panic!("{text}") };
    assert_eq!(found, line, "{text}");
    assert!(text.contains("disk.vmdk") && text.contains(&format!("line {line}")), "{text}");
    (fault, text)
}

#[test]
fn extents_with_offsets_zeroes_and_folders_are_found() {
    let (_scene, path) = scene(
        "RW 63 FLAT \"a.vmdk\" 0\nRW 8 ZERO\nRDONLY 100 FLAT \"a.vmdk\" 63\nRW 4 VMFS \"./sub/b.vmdk\"\nRW 1 FLAT \"link\" 163",
    );
    let images = path.parent().unwrap().canonicalize().unwrap();
    sized(&images.join("a.vmdk"), 164);
    fs::create_dir(images.join("sub")).unwrap();
    sized(&images.join("sub/b.vmdk"), 5);
    symlink("a.vmdk", images.join("link")).unwrap();
    let located = locate_at(&path).unwrap();
    let places: Vec<_> =
        located.iter().map(|extent| (extent.path.clone(), extent.file_offset, extent.length)).collect();
    let (a, b) = (images.join("a.vmdk"), images.join("sub/b.vmdk"));
    let expected = [
        (Some(a.clone()), 0, 63 * 512),
        (None, 0, 8 * 512),
        (Some(a.clone()), 63 * 512, 100 * 512),
        (Some(b), 0, 4 * 512),
        (Some(a.clone()), 163 * 512, 512),
    ];
    assert_eq!(places, expected);
    assert_eq!(located[2].access, Access::ReadOnly);
    assert_eq!(located[0].identity, Some(FileIdentity::of(&a.metadata().unwrap())));
    assert_eq!(located[4].identity, located[0].identity);
    assert_eq!(located[1].identity, None);
}

#[test]
fn a_descriptor_behind_a_link_has_its_files_where_it_is() {
    let (scene, path) = scene("RW 1 FLAT \"a.vmdk\" 0");
    sized(&path.with_file_name("a.vmdk"), 1);
    let link = scene.path().join("elsewhere/disk.vmdk");
    symlink(&path, &link).unwrap();
    let found = locate_at(&link).unwrap()[0].path.clone().unwrap();
    assert_eq!(found, path.with_file_name("a.vmdk").canonicalize().unwrap());
}

#[test]
fn absolute_names_are_refused() {
    for name in ["/dev/sda", "\\\\.\\PhysicalDrive0", "C:\\disks\\a.vmdk", "d:/a.vmdk"] {
        let (_scene, path) = scene(&format!("RW 1 ZERO\nRW 1 FLAT \"{name}\" 0"));
        assert!(matches!(fault(&path, 7), (LocateFault::Absolute { .. }, _)), "{name}");
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../elsewhere/a.vmdk", "..", "sub/../a.vmdk", "sub/../../elsewhere/a.vmdk"] {
        let (scene, path) = scene(&format!("RW 1 FLAT \"{name}\" 0"));
        sized(&scene.path().join("elsewhere/a.vmdk"), 1);
        assert!(matches!(fault(&path, 6), (LocateFault::Escapes { .. }, _)), "{name}");
    }
}

#[test]
fn links_that_lead_out_are_refused() {
    let (scene, path) = scene("RW 1 FLAT \"folder/a.vmdk\" 0");
    let outside = scene.path().join("elsewhere");
    sized(&outside.join("a.vmdk"), 1);
    symlink(&outside, path.with_file_name("folder")).unwrap();
    let (found, text) = fault(&path, 6);
    assert!(matches!(found, LocateFault::LinksOut { .. }) && text.contains("elsewhere/a.vmdk"), "{text}");
    // A folder whose name merely begins like the directory's is outside too.
    let (scene, path) = scene_with_link("images-of-others");
    assert!(matches!(fault(&path, 6), (LocateFault::LinksOut { .. }, _)), "{scene:?}");
}

fn scene_with_link(folder: &str) -> (tempfile::TempDir, PathBuf) {
    let (scene, path) = scene("RW 1 FLAT \"a.vmdk\" 0");
    fs::create_dir(scene.path().join(folder)).unwrap();
    let target = scene.path().join(folder).join("a.vmdk");
    sized(&target, 1);
    symlink(target, path.with_file_name("a.vmdk")).unwrap();
    (scene, path)
}

#[test]
fn what_is_missing_is_named() {
    let (_scene, path) = scene("RW 1 FLAT \"a.vmdk\" 0\nRW 1 FLAT \"b.vmdk\" 0");
    sized(&path.with_file_name("a.vmdk"), 1);
    let (found, text) = fault(&path, 7);
    assert!(matches!(found, LocateFault::Missing { .. }) && text.contains("images/b.vmdk"), "{text}");
    symlink("nowhere", path.with_file_name("b.vmdk")).unwrap();
    assert!(matches!(fault(&path, 7), (LocateFault::Missing { .. }, _)));
}

#[test]
fn what_is_no_file_is_refused() {
    let (_scene, path) = scene("RW 1 FLAT \"a.vmdk\" 0");
    let named = path.with_file_name("a.vmdk");
    fs::create_dir(&named).unwrap();
    assert!(matches!(fault(&path, 6), (LocateFault::NotAFile { .. }, _)));
    fs::remove_dir(&named).unwrap();
    nix::unistd::mkfifo(&named, nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert!(matches!(fault(&path, 6), (LocateFault::NotAFile { .. }, _)));
    let (_scene, path) = scene("RW 1 FLAT \"a.vmdk/b\" 0");
    sized(&path.with_file_name("a.vmdk"), 1);
    assert!(matches!(fault(&path, 6), (LocateFault::Unreadable { .. }, _)));
}

#[test]
fn the_descriptor_is_no_extent_of_itself_by_any_name() {
    for name in ["disk.vmdk", "soft.vmdk", "hard.vmdk"] {
        let (_scene, path) = scene(&format!("RW 1 FLAT \"{name}\" 0"));
        File::options().append(true).open(&path).unwrap().set_len(512).unwrap();
        symlink(&path, path.with_file_name("soft.vmdk")).unwrap();
        fs::hard_link(&path, path.with_file_name("hard.vmdk")).unwrap();
        assert!(matches!(fault(&path, 6), (LocateFault::IsDescriptor { .. }, _)), "{name}");
    }
}

#[test]
fn short_files_are_refused_with_both_sizes() {
    let (_scene, path) = scene("RW 8 FLAT \"a.vmdk\" 3");
    sized(&path.with_file_name("a.vmdk"), 10);
    let (found, text) = fault(&path, 6);
    assert!(matches!(found, LocateFault::TooShort { needed_bytes: 5632, has_bytes: 5120, .. }), "{text}");
    File::options().append(true).open(path.with_file_name("a.vmdk")).unwrap().set_len(5632).unwrap();
    assert!(locate_at(&path).is_ok());
}

#[test]
fn shared_bytes_are_refused_by_any_name() {
    let (_scene, path) = scene(
        "RW 8 FLAT \"a.vmdk\" 0\nRW 4 FLAT \"c.vmdk\" 0\nRW 8 FLAT \"hard.vmdk\" 16\nRW 8 FLAT \"soft.vmdk\" 7",
    );
    let file = path.with_file_name("a.vmdk");
    sized(&file, 100);
    sized(&path.with_file_name("c.vmdk"), 100);
    fs::hard_link(&file, path.with_file_name("hard.vmdk")).unwrap();
    symlink("a.vmdk", path.with_file_name("soft.vmdk")).unwrap();
    let (found, text) = fault(&path, 9);
    let expected = Extent::between(7 * 512, 8 * 512);
    assert!(
        matches!(found, LocateFault::Overlap { other_line: 6, shared, .. } if shared == expected),
        "{text}"
    );
    let touching = fs::read_to_string(&path).unwrap().replace("soft.vmdk\" 7", "soft.vmdk\" 8");
    fs::write(&path, touching).unwrap();
    assert!(locate_at(&path).is_ok());
}

#[test]
fn extents_without_access_and_lost_descriptors_are_refused() {
    let (_scene, path) = scene("RW 1 ZERO\nNOACCESS 1 ZERO");
    assert!(matches!(fault(&path, 7), (LocateFault::NoAccess, _)));
    let descriptor = Descriptor::parse(&fs::read(&path).unwrap()).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(locate(&path, &descriptor), Err(LocateError::Descriptor { .. })));
}

#[test]
fn images_of_qemu_are_found_also_after_qemu_wrote_to_them() {
    if !machine::has_program("qemu-img") || !machine::has_program("qemu-io") {
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    for (name, subformat, size, count) in [
        ("one disk.vmdk", "monolithicFlat", 10 << 20, 1),
        ("many.vmdk", "twoGbMaxExtentFlat", 5_u64 << 30, 3),
    ] {
        let options = format!("subformat={subformat}");
        let size_text = size.to_string();
        machine::run(
            scene.path(),
            "qemu-img",
            &["create", "-q", "-f", "vmdk", "-o", &options, name, &size_text],
        );
        machine::run(scene.path(), "qemu-io", &["-f", "vmdk", "-c", "write -P 7 1M 64k", name]);
        let path = scene.path().join(name);
        let descriptor = Descriptor::parse(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(descriptor.size_bytes(), size);
        let located = locate(&path, &descriptor).unwrap();
        assert_eq!(located.len(), count);
        assert_eq!(located.iter().map(|extent| extent.length).sum::<u64>(), size);
        let first = File::open(located[0].path.as_ref().unwrap()).unwrap();
        let mut bytes = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(&first, &mut bytes, 1 << 20).unwrap();
        assert_eq!(bytes, [7; 4]);
    }
}
