//! Disks of every kind that failback copies between, made, written and read
//! without a line of failback.

use std::fmt::Write;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::fixture::Need::{LoopDevices, Program};
use crate::fixture::{LoopDevice, Model, Need, Scratch, assert_same_bytes, assert_same_image};

use super::{KIB, MIB, qemu_img};

/// What all kinds need together.
pub const NEEDS: [Need; 3] = [LoopDevices, Program("qemu-img"), Program("cmp")];

/// The range of [`Kind::Zero`] that holds nothing.
const ZERO_RANGE: std::ops::Range<usize> = 2 * MIB..3 * MIB + 3 * 512;

/// What a disk is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Raw,
    Loop512,
    Loop4096,
    /// One flat extent, made by `qemu-img`.
    Monolithic,
    /// Several extents whose ends are no ends of windows or chunks.
    Split,
    /// Both halves in one file, the second one first, each at an offset.
    Offsets,
    Vmfs,
    /// An extent in the middle is `ZERO`.
    Zero,
}

pub const KINDS: [Kind; 8] = [
    Kind::Raw,
    Kind::Loop512,
    Kind::Loop4096,
    Kind::Monolithic,
    Kind::Split,
    Kind::Offsets,
    Kind::Vmfs,
    Kind::Zero,
];

/// A range of a disk: in a file, or nowhere.
pub struct Part {
    pub file: Option<PathBuf>,
    pub offset: u64,
    pub length: u64,
}

/// A disk to copy from or to.
pub struct Disk {
    kind: Kind,
    /// What failback is told.
    path: PathBuf,
    parts: Vec<Part>,
    descriptor: Option<String>,
    _device: Option<LoopDevice>,
}

impl Disk {
    /// A disk of `bytes` zeroes, a multiple of 4096, in a folder of its own.
    pub fn make(scratch: &Scratch, name: &str, kind: Kind, bytes: usize) -> Self {
        let folder = scratch.folder(name);
        let bytes = bytes as u64;
        let whole = |file: PathBuf| vec![Part { file: Some(file), offset: 0, length: bytes }];
        let image = |file: &str| scratch.image(&format!("{name}/{file}"), bytes);
        let device = |sector_bytes| LoopDevice::attach(&image("disk.raw"), sector_bytes);
        match kind {
            Kind::Raw => {
                let path = image("disk.raw");
                Self { kind, parts: whole(path.clone()), path, descriptor: None, _device: None }
            }
            Kind::Loop512 | Kind::Loop4096 => {
                let device = device(if kind == Kind::Loop512 { 512 } else { 4096 });
                let path = device.path().to_owned();
                Self { kind, parts: whole(path.clone()), path, descriptor: None, _device: Some(device) }
            }
            Kind::Monolithic => {
                let path = folder.join("disk.vmdk");
                let size = bytes.to_string();
                let options = ["create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat"];
                qemu_img(options.map(Path::new).into_iter().chain([path.as_path(), Path::new(&size)]));
                let descriptor = Some(fs::read_to_string(&path).expect("qemu-img wrote it"));
                Self { kind, parts: whole(folder.join("disk-flat.vmdk")), path, descriptor, _device: None }
            }
            Kind::Split | Kind::Offsets | Kind::Vmfs | Kind::Zero => {
                let parts = parts_of(kind, &folder, bytes);
                Self::described(kind, &folder, parts)
            }
        }
    }

    /// A VMDK of these parts; their files are made, as long as they need be.
    pub fn described(kind: Kind, folder: &Path, parts: Vec<Part>) -> Self {
        for part in &parts {
            let Some(path) = &part.file else { continue };
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
            let file = file.expect("the scratch directory has room");
            let length = file.metadata().expect("it is open").len().max(part.offset + part.length);
            file.set_len(length).expect("the filesystem makes sparse files");
        }
        let text = descriptor(kind, &parts);
        let path = folder.join("disk.vmdk");
        fs::write(&path, &text).expect("the scratch directory has room");
        Self { kind, path, parts, descriptor: Some(text), _device: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `model` zero where this disk can hold nothing else.
    pub fn bend(&self, model: &mut Model) {
        let mut at = 0;
        for part in &self.parts {
            let end = at + usize::try_from(part.length).expect("it is in memory");
            if part.file.is_none() {
                model.bytes[at..end].fill(0);
            }
            at = end;
        }
    }

    /// Writes all bytes, past failback.
    pub fn fill(&self, model: &Model) {
        let mut at = 0;
        for part in &self.parts {
            let end = at + usize::try_from(part.length).expect("it is in memory");
            if let Some(path) = &part.file {
                let file = OpenOptions::new().write(true).open(path).expect("it was made");
                file.write_all_at(&model.bytes[at..end], part.offset).expect("the filesystem has room");
                file.sync_all().expect("the filesystem works");
            }
            at = end;
        }
    }

    /// # Panics
    /// Where an independent reader finds anything but `model`, or the
    /// descriptor is not what it was.
    pub fn assert_holds(&self, model: &Model, scratch: &Scratch) {
        let expected = scratch.path("expected.raw");
        model.save(&expected);
        match self.kind {
            Kind::Raw | Kind::Loop512 | Kind::Loop4096 => {
                assert_same_bytes(&expected, &self.path, model.bytes.len() as u64);
            }
            // qemu passes over such extents, and sees a shorter disk.
            Kind::Zero => {
                let found = scratch.path("found.raw");
                fs::write(&found, self.read()).expect("the scratch directory has room");
                assert_same_bytes(&expected, &found, model.bytes.len() as u64);
            }
            _ => assert_same_image(&expected, "raw", &self.path, "vmdk"),
        }
        if let Some(text) = &self.descriptor {
            let now = fs::read_to_string(&self.path).expect("the descriptor is there");
            assert_eq!(text, &now, "the descriptor was changed");
        }
    }

    /// All bytes, read past failback.
    pub fn read(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            let at = bytes.len();
            bytes.resize(at + usize::try_from(part.length).expect("it fits in memory"), 0);
            if let Some(path) = &part.file {
                let file = File::open(path).expect("it was made");
                file.read_exact_at(&mut bytes[at..], part.offset).expect("it is long enough");
            }
        }
        bytes
    }
}

fn parts_of(kind: Kind, folder: &Path, bytes: u64) -> Vec<Part> {
    let in_file = |name: &str, offset: u64, length: usize| Part {
        file: Some(folder.join(name)),
        offset,
        length: length as u64,
    };
    let rest = |taken: usize| usize::try_from(bytes).expect("it is in memory") - taken;
    match kind {
        Kind::Split => {
            let (first, second) = (MIB + 7 * 512, 3 * MIB + 64 * KIB - 512);
            vec![
                in_file("disk-f001.vmdk", 0, first),
                in_file("disk-f002.vmdk", 0, second),
                in_file("disk-f003.vmdk", 0, 512),
                in_file("disk-f004.vmdk", 0, rest(first + second + 512)),
            ]
        }
        Kind::Offsets => {
            let first = 5 * MIB + 3 * 512;
            let second = rest(first);
            vec![
                in_file("packed.vmdk", 9 * 512 + second as u64, first),
                in_file("packed.vmdk", 3 * 512, second),
            ]
        }
        Kind::Zero => vec![
            in_file("disk-f001.vmdk", 0, ZERO_RANGE.start),
            Part { file: None, offset: 0, length: ZERO_RANGE.len() as u64 },
            in_file("disk-f002.vmdk", 0, rest(ZERO_RANGE.end)),
        ],
        _ => vec![in_file("disk-flat.vmdk", 0, rest(0))],
    }
}

fn descriptor(kind: Kind, parts: &[Part]) -> String {
    let (create_type, word) = match kind {
        Kind::Vmfs => ("vmfs", "VMFS"),
        Kind::Monolithic => ("monolithicFlat", "FLAT"),
        _ => ("twoGbMaxExtentFlat", "FLAT"),
    };
    let mut text = format!(
        "# Disk DescriptorFile\nversion=1\nCID=0badcafe\nparentCID=ffffffff\ncreateType=\"{create_type}\"\n\n\
         # Extent description\n"
    );
    for part in parts {
        let sectors = part.length / 512;
        let name = part.file.as_ref().map(|file| file.file_name().expect("it is a file").display());
        let line = match name {
            None => writeln!(text, "RW {sectors} ZERO"),
            Some(name) if word == "VMFS" => writeln!(text, "RW {sectors} VMFS \"{name}\""),
            Some(name) => writeln!(text, "RW {sectors} {word} \"{name}\" {}", part.offset / 512),
        };
        line.expect("text grows");
    }
    text + "\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.adapterType = \"lsilogic\"\n"
}
