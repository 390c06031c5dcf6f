//! New images, judged by qemu; and everything that must not be overwritten.

use std::os::unix::fs::{MetadataExt, symlink};

use super::*;
use crate::disk::vmdk::tests::machine;
use crate::disk::vmdk::{self, CreateType};

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_raw_image_is_sparse_and_of_the_size_asked_for() {
    let scene = tempfile::tempdir().unwrap();
    let path = scene.path().join("disk.img");
    create_raw(&path, (1 << 30) + 17).unwrap();
    let metadata = path.metadata().unwrap();
    assert_eq!(metadata.len(), (1 << 30) + 17);
    assert!(metadata.blocks() < 64, "{} blocks", metadata.blocks());
}

#[test]
fn nothing_that_exists_is_overwritten() {
    let scene = tempfile::tempdir().unwrap();
    let path = |name: &str| scene.path().join(name);
    fs::write(path("disk.img"), "kept").unwrap();
    symlink("nowhere", path("link.img")).unwrap();
    for name in ["disk.img", "link.img"] {
        assert!(matches!(create_raw(&path(name), 512), Err(ImageError::Exists { .. })), "{name}");
    }
    assert_eq!(fs::read(path("disk.img")).unwrap(), b"kept");
    assert!(!path("nowhere").exists());

    let five_gib = 5 << 30;
    fs::write(path("a-f003.vmdk"), "kept").unwrap();
    let before = names(scene.path());
    let refused = create_vmdk_flat(&path("a.vmdk"), five_gib, CreateType::TwoGbMaxExtentFlat);
    assert!(
        matches!(&refused, Err(ImageError::Exists { path }) if path.ends_with("a-f003.vmdk")),
        "{refused:?}"
    );
    assert_eq!(names(scene.path()), before, "nothing is left behind");
    assert_eq!(fs::read(path("a-f003.vmdk")).unwrap(), b"kept");

    fs::write(path("b.vmdk"), "kept").unwrap();
    let refused = create_vmdk_flat(&path("b.vmdk"), 512, CreateType::Vmfs);
    assert!(matches!(refused, Err(ImageError::Exists { .. })), "{refused:?}");
    assert!(!path("b-flat.vmdk").exists());
}

#[test]
fn sizes_and_names_that_do_not_do_are_refused() {
    let scene = tempfile::tempdir().unwrap();
    let raw = |size| create_raw(&scene.path().join("x.img"), size);
    assert!(matches!(raw(0), Err(ImageError::Size { .. })));
    assert!(matches!(raw(u64::MAX), Err(ImageError::Size { .. })));
    assert!(matches!(raw(limits::DISK_BYTES_MAX), Err(ImageError::TooLargeForFilesystem { .. })));
    assert!(matches!(create_raw(Path::new("/"), 1), Err(ImageError::Name { .. })));
    assert!(matches!(create_raw(&scene.path().join("x/"), 1), Err(ImageError::Name { .. })));
    assert!(matches!(create_raw(&scene.path().join("no/x"), 1), Err(ImageError::NoDirectory { .. })));

    let vmdk =
        |name: &str, size, create_type| match create_vmdk_flat(&scene.path().join(name), size, create_type)
            .unwrap_err()
        {
            ImageError::Layout { source, .. } => source,
            other => panic!("{other}"),
        };
    let flat = CreateType::MonolithicFlat;
    assert!(matches!(vmdk("x.img", 512, flat), LayoutError::NotVmdk { .. }));
    assert!(matches!(vmdk(".vmdk", 512, flat), LayoutError::NotVmdk { .. }));
    assert!(matches!(vmdk("ä\"b.vmdk", 512, flat), LayoutError::Character { character: '"', .. }));
    assert!(matches!(vmdk("a\nb.vmdk", 512, flat), LayoutError::Character { character: '\n', .. }));
    assert!(matches!(vmdk("x.vmdk", 0, flat), LayoutError::Size { .. }));
    let uneven = vmdk("x.vmdk", 1025, flat);
    assert!(uneven.to_string().contains("make it 1536 bytes"), "{uneven}");
    let split = CreateType::TwoGbMaxExtentFlat;
    assert!(matches!(vmdk("x.vmdk", (64 << 40) + 512, split), LayoutError::TooManyFiles { .. }));
    assert_eq!(names(scene.path()), Vec::<String>::new());
}

#[test]
fn nothing_is_left_behind_where_the_filesystem_gives_up() {
    let scene = tempfile::tempdir().unwrap();
    let created =
        create_vmdk_flat(&scene.path().join("x.vmdk"), limits::DISK_BYTES_MAX / 512 * 512, CreateType::Vmfs);
    assert!(matches!(created, Err(ImageError::TooLargeForFilesystem { .. })), "{created:?}");
    assert_eq!(names(scene.path()), Vec::<String>::new());
}

#[test]
fn a_new_image_reads_as_it_was_meant() {
    let scene = tempfile::tempdir().unwrap();
    for (name, create_type, size, files) in [
        ("büro 1.vmdk", CreateType::MonolithicFlat, 10 << 20, vec!["büro 1-flat.vmdk", "büro 1.vmdk"]),
        ("v.vmdk", CreateType::Vmfs, 512, vec!["v-flat.vmdk", "v.vmdk"]),
        (
            "s.VMDK",
            CreateType::TwoGbMaxExtentFlat,
            (4_u64 << 30) + 512,
            vec!["s-f001.vmdk", "s-f002.vmdk", "s-f003.vmdk", "s.VMDK"],
        ),
    ] {
        let path = scene.path().join(name);
        let made = create_vmdk_flat(&path, size, create_type).unwrap();
        assert_eq!(made, files.iter().map(|file| scene.path().join(file)).collect::<Vec<_>>());
        let descriptor = Descriptor::parse(&fs::read(&path).unwrap()).unwrap();
        assert_eq!((descriptor.create_type, descriptor.size_bytes()), (create_type, size));
        assert!(descriptor.content_id < Descriptor::NO_PARENT - 1);
        let located = vmdk::locate(&path, &descriptor).unwrap();
        assert_eq!(located.len(), files.len() - 1);
    }
}

#[test]
fn a_new_descriptor_is_byte_for_byte_this() {
    let layout = Layout::new("disk.vmdk", 100 << 20, CreateType::MonolithicFlat, 0x0764_899c).unwrap();
    let expected = "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=0764899c\nparentCID=ffffffff\n\
         createType=\"monolithicFlat\"\n\n# Extent description\nRW 204800 FLAT \"disk-flat.vmdk\" 0\n\n\
         # The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\nddb.virtualHWVersion = \"10\"\n\
         ddb.geometry.cylinders = \"12\"\nddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\n";
    assert_eq!(layout.descriptor.to_string(), expected);
}

#[test]
fn qemu_accepts_what_is_made_here_and_writes_to_it() {
    if !machine::has_program("qemu-img") || !machine::has_program("qemu-io") {
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    let run = |program: &str, arguments: &[&str]| machine::run(scene.path(), program, arguments);
    let size = (4_u64 << 30) + (1 << 20);
    create_raw(&scene.path().join("same.img"), size).unwrap();
    run("qemu-io", &["-f", "raw", "-c", "write -P 9 2G 64k", "same.img"]);
    for (name, create_type) in [
        ("one büro.vmdk", CreateType::MonolithicFlat),
        ("split.vmdk", CreateType::TwoGbMaxExtentFlat),
        ("esx.vmdk", CreateType::Vmfs),
    ] {
        create_vmdk_flat(&scene.path().join(name), size, create_type).unwrap();
        let report = run("qemu-img", &["info", "--output=json", name]);
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["format"], "vmdk", "{report}");
        assert_eq!(report["virtual-size"], size, "{report}");
        assert_eq!(report["format-specific"]["data"]["create-type"], create_type.name(), "{report}");
        run("qemu-img", &["check", "-q", name]);
        run("qemu-io", &["-f", "vmdk", "-c", "write -P 9 2G 64k", name]);
        run("qemu-img", &["compare", "-q", "-f", "vmdk", "-F", "raw", name, "same.img"]);
        Descriptor::parse(&fs::read(scene.path().join(name)).unwrap()).unwrap();
    }
}
