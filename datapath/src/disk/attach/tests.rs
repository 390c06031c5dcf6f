//! Loop devices over real images; each is detached however its test ends.

use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use crate::disk::image::{create_raw, create_vmdk_flat};
use crate::disk::vmdk::CreateType;
use crate::disk::vmdk::tests::machine;
use crate::unit::Extent;

/// An attachment that ends with the test.
struct Guarded(Attached);

impl Drop for Guarded {
    fn drop(&mut self) {
        // A device that the test has freed may be another test's by now.
        if devices_of(&self.0.backing).contains(&self.0.device) {
            let _ = detach(&self.0.device);
        }
    }
}

fn devices_of(image: &Path) -> Vec<PathBuf> {
    list_for(image).unwrap_or_default().into_iter().map(|attachment| attachment.device).collect()
}

fn attach_guarded(path: &Path, options: Options) -> Result<Guarded, AttachError> {
    attach(path, options).map(Guarded)
}

/// What the kernel says of a device.
fn system(device: &Path, name: &str) -> String {
    let folder = Path::new("/sys/block").join(device.file_name().unwrap());
    fs::read_to_string(folder.join(name)).unwrap().trim().to_owned()
}

/// A raw image of `sectors` sectors, the number of each in its first byte.
fn numbered(folder: &Path, sectors: u8) -> PathBuf {
    let path = folder.join("disk.img");
    create_raw(&path, u64::from(sectors) * 512).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    for sector in 0..sectors {
        file.write_all_at(&[sector], u64::from(sector) * 512).unwrap();
    }
    path
}

fn byte_at(device: &Path, offset: u64) -> u8 {
    let mut byte = [0];
    File::open(device).unwrap().read_exact_at(&mut byte, offset).unwrap();
    byte[0]
}

#[test]
fn a_raw_image_becomes_a_device_and_is_freed_again() {
    if !machine::has_loop_devices() {
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    let path = numbered(scene.path(), 64);
    for sector_size in [SectorSize::BYTES_512, SectorSize::BYTES_4096] {
        let attached = attach_guarded(&path, Options { sector_size, ..Options::default() }).unwrap();
        let device = attached.0.device.clone();
        assert_eq!(attached.0.size_bytes, 64 * 512);
        assert_eq!(system(&device, "queue/logical_block_size"), sector_size.bytes().to_string());
        assert_eq!(system(&device, "size"), "64");
        assert_eq!(system(&device, "ro"), "0");
        assert_eq!(system(&device, "loop/dio"), u8::from(attached.0.direct_io).to_string());
        assert_eq!(byte_at(&device, 63 * 512), 63);
        let listed = list_for(&path).unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!((&listed[0].device, &listed[0].backing), (&device, &path.canonicalize().unwrap()));
        assert_eq!(listed[0].range, Extent::between(0, 64 * 512));
        detach(&device).unwrap();
        assert_eq!(list_for(&path).unwrap(), []);
    }
}

#[test]
fn a_part_of_an_image_is_attached_as_asked() {
    if !machine::has_loop_devices() {
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    let path = numbered(scene.path(), 64);
    let options =
        Options { read_only: true, offset: 8 * 512, size_limit: Some(16 * 512), ..Options::default() };
    let attached = attach_guarded(&path, options).unwrap();
    let device = &attached.0.device;
    assert_eq!((system(device, "ro"), system(device, "size")), ("1".to_owned(), "16".to_owned()));
    assert_eq!((byte_at(device, 0), byte_at(device, 15 * 512)), (8, 23));
    assert_eq!(list_for(&path).unwrap()[0].range, Extent::between(8 * 512, 24 * 512));
    // Direct I/O needs whole blocks of the image's filesystem.
    let odd = Options { offset: 24 * 512 + 1, size_limit: Some(512), ..Options::default() };
    let odd = attach_guarded(&path, odd).unwrap();
    assert!(!odd.0.direct_io, "reported, and no error");
}

#[test]
fn the_same_bytes_are_never_behind_two_writable_devices() {
    if !machine::has_loop_devices() {
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    let path = numbered(scene.path(), 64);
    let alias = scene.path().join("alias.img");
    fs::hard_link(&path, &alias).unwrap();
    let half =
        |offset, read_only| Options { read_only, offset, size_limit: Some(32 * 512), ..Options::default() };
    let first = attach_guarded(&path, half(0, false)).unwrap();
    let second = attach_guarded(&alias, half(32 * 512, true)).unwrap();
    let refused = attach_guarded(&alias, half(0, true)).map(|guarded| guarded.0.clone());
    assert!(
        matches!(&refused, Err(AttachError::AlreadyAttached { device, .. }) if *device == first.0.device),
        "{refused:?}"
    );
    let third = attach_guarded(&path, half(32 * 512, true)).unwrap();
    assert_eq!(list_for(&path).unwrap().len(), 3);
    assert_ne!(second.0.device, third.0.device);
}

#[test]
fn one_flat_extent_is_attached_and_several_are_named() {
    if !machine::has_loop_devices() {
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    let one = scene.path().join("one.vmdk");
    create_vmdk_flat(&one, 32 << 10, CreateType::MonolithicFlat).unwrap();
    let attached = attach_guarded(&one, Options::default()).unwrap();
    assert!(attached.0.backing.ends_with("one-flat.vmdk") && attached.0.size_bytes == 32 << 10);
    assert_eq!(list_for(&one).unwrap().len(), 1);
    drop(attached);

    // An extent that starts within its file.
    numbered(scene.path(), 64);
    let text = fs::read_to_string(&one)
        .unwrap()
        .replace("RW 64 FLAT \"one-flat.vmdk\" 0", "RW 16 FLAT \"disk.img\" 8");
    fs::write(&one, &text).unwrap();
    let part = Options { offset: 512, ..Options::default() };
    let attached = attach_guarded(&one, part).unwrap();
    let device = &attached.0.device;
    assert_eq!((byte_at(device, 0), byte_at(device, 14 * 512)), (9, 23));
    assert_eq!(system(device, "size"), "15");
    drop(attached);

    fs::write(&one, text.replace("RW 16", "RDONLY 16")).unwrap();
    assert!(matches!(attach(&one, Options::default()), Err(AttachError::ReadOnlyExtent { .. })));
    let attached = attach_guarded(&one, Options { read_only: true, ..Options::default() }).unwrap();
    assert!(attached.0.read_only);

    let many = scene.path().join("many.vmdk");
    create_vmdk_flat(&many, 5 << 30, CreateType::TwoGbMaxExtentFlat).unwrap();
    let refused = attach(&many, Options::default()).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, AttachError::SeveralExtents { count: 3, .. }), "{text}");
    assert!(text.contains("many-f001.vmdk") && text.contains("many-f003.vmdk"), "{text}");
    drop(attach_guarded(&scene.path().join("many-f003.vmdk"), Options::default()).unwrap());
}

#[test]
fn what_cannot_be_attached_is_refused_and_leaves_no_device() {
    if !machine::has_loop_devices() {
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    let path = numbered(scene.path(), 63);
    let refused = |options| attach_guarded(&path, options).map(|guarded| guarded.0.clone()).unwrap_err();
    let large = Options { sector_size: SectorSize::BYTES_4096, ..Options::default() };
    let error = refused(large);
    assert!(
        matches!(error, AttachError::NotSectors { .. }) && error.to_string().contains("last 3584"),
        "{error}"
    );
    for (offset, size_limit) in
        [(63 * 512, None), (0, Some(64 * 512)), (512, Some(63 * 512)), (0, Some(0)), (u64::MAX, None)]
    {
        let error = refused(Options { offset, size_limit, ..Options::default() });
        assert!(matches!(error, AttachError::Outside { .. }), "{error}");
    }
    let huge = SectorSize::new(65_536).unwrap();
    let big = scene.path().join("big.img");
    create_raw(&big, 1 << 20).unwrap();
    // Newer kernels have such sectors; whoever does not says so and keeps nothing.
    match attach_guarded(&big, Options { sector_size: huge, ..Options::default() }) {
        Ok(attached) => assert_eq!(attached.0.sector_size, huge),
        Err(error) => assert!(matches!(error, AttachError::Configure { .. }), "{error}"),
    }
    assert_eq!(list_for(&path).unwrap(), []);
    assert_eq!(list_for(&big).unwrap(), []);
    assert!(matches!(attach(scene.path(), Options::default()), Err(AttachError::NotAFile { .. })));
    assert!(matches!(attach(Path::new("/dev/loop0"), Options::default()), Err(AttachError::IsDevice { .. })));
    assert!(matches!(attach(&scene.path().join("none"), Options::default()), Err(AttachError::Open { .. })));
    let sparse = scene.path().join("sparse.vmdk");
    fs::write(&sparse, b"KDMV").unwrap();
    assert!(matches!(attach(&sparse, Options::default()), Err(AttachError::NotFlat { .. })));
    let zeroes = scene.path().join("zeroes.vmdk");
    fs::write(&zeroes, "version=1\nCID=1\nparentCID=ffffffff\ncreateType=vmfs\nRW 8 ZERO\n").unwrap();
    assert!(matches!(attach(&zeroes, Options::default()), Err(AttachError::OnlyZeroes { .. })));
}

#[test]
fn a_failure_after_binding_frees_the_device() {
    if !machine::has_loop_devices() {
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    let path = numbered(scene.path(), 8);
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let binding = Binding {
        backing: &file,
        offset: 0,
        size_limit: 0,
        sector_size: SectorSize::BYTES_512,
        read_only: false,
        direct_io: false,
        scan_partitions: false,
    };
    let bound = Bound::new(&LoopControl::open().unwrap(), &binding, &path).unwrap();
    let device = bound.device.path().unwrap();
    assert_eq!(devices_of(&path), [device]);
    drop(bound);
    // Another test may be looking at the device just now.
    let deadline = std::time::Instant::now() + RELEASE_WAIT;
    while !devices_of(&path).is_empty() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(ATTEMPT_WAIT);
    }
}

#[test]
fn a_device_in_use_stays_attached() {
    if !machine::has_loop_devices() || !machine::has_program("mkfs.ext4") {
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    let path = scene.path().join("disk.img");
    create_raw(&path, 8 << 20).unwrap();
    machine::run(scene.path(), "mkfs.ext4", &["-q", "disk.img"]);
    let attached = attach_guarded(&path, Options::default()).unwrap();
    let device = attached.0.device.clone();
    let mount_point = scene.path().join("mounted");
    fs::create_dir(&mount_point).unwrap();
    let none = None::<&str>;
    nix::mount::mount(Some(&device), &mount_point, Some("ext4"), nix::mount::MsFlags::empty(), none).unwrap();
    let refused = detach(&device);
    nix::mount::umount(&mount_point).unwrap();
    let Err(AttachError::InUse { users, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(users.mount_points, [mount_point]);
    assert_eq!(devices_of(&path).first(), Some(&device));

    let held = File::open(&device).unwrap();
    let refused = detach(&device);
    assert!(matches!(&refused, Err(AttachError::InUse { .. })), "{refused:?}");
    drop(held);
    std::thread::sleep(Duration::from_millis(100));
    assert!(devices_of(&path).contains(&device), "a refused detach must not happen later");
    assert_eq!(system(&device, "loop/autoclear"), "0");

    // A moment's use is waited for.
    let held = File::open(&device).unwrap();
    let user = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(held);
    });
    detach(&device).unwrap();
    user.join().unwrap();
    assert_eq!(list_for(&path).unwrap(), []);
}

#[test]
fn a_partition_is_no_device_to_detach_and_keeps_the_whole() {
    if !machine::has_loop_devices() || !machine::has_program("sfdisk") || !machine::has_program("mkfs.ext4") {
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    let path = scene.path().join("disk.img");
    create_raw(&path, 8 << 20).unwrap();
    machine::run(scene.path(), "sh", &["-c", "echo 'start=2048, size=8192' | sfdisk -q -X dos disk.img"]);
    let attached = attach_guarded(&path, Options { scan_partitions: true, ..Options::default() }).unwrap();
    let device = attached.0.device.to_str().unwrap();
    assert_eq!(system(&attached.0.device, "loop/partscan"), "1");
    // Not every kernel reads partition tables itself.
    machine::run(scene.path(), "partx", &["-u", device]);
    let partition = format!("{device}p1");
    let refused = detach(Path::new(&partition));
    assert!(
        matches!(&refused, Err(AttachError::Partition { whole, .. }) if *whole == attached.0.device),
        "{refused:?}"
    );
    machine::run(scene.path(), "mkfs.ext4", &["-q", &partition]);
    machine::run(scene.path(), "mkdir", &["mounted"]);
    machine::run(scene.path(), "mount", &[&partition, "mounted"]);
    let refused = detach(&attached.0.device);
    machine::run(scene.path(), "umount", &["mounted"]);
    let Err(AttachError::InUse { users, .. }) = &refused else { panic!("{refused:?}") };
    assert_eq!(users.mount_points, [scene.path().join("mounted")]);
    detach(&attached.0.device).unwrap();
    assert_eq!(list_for(&path).unwrap(), []);
}

#[test]
fn only_loop_devices_are_detached() {
    assert!(matches!(detach(Path::new("/dev/null")), Err(AttachError::NotALoopDevice { .. })));
    assert!(matches!(detach(Path::new("/dev/none")), Err(AttachError::Open { .. })));
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(detach(file.path()), Err(AttachError::NotALoopDevice { .. })));
}

#[test]
fn many_at_once_all_get_a_device_of_their_own() {
    if !machine::has_loop_devices() {
        return;
    }
    let scene = tempfile::tempdir().unwrap();
    let attached: Vec<Guarded> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..12)
            .map(|number| {
                let path = scene.path().join(format!("{number}.img"));
                create_raw(&path, 4096).unwrap();
                scope.spawn(move || attach_guarded(&path, Options::default()).unwrap())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut devices: Vec<_> = attached.iter().map(|guarded| guarded.0.device.clone()).collect();
    devices.sort();
    devices.dedup();
    assert_eq!(devices.len(), 12);
}
