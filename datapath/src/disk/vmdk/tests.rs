//! Descriptors as VMware, qemu and people write them, and as nobody should.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::limits;

pub(in crate::disk) mod machine;

const HEAD: &str =
    "# Disk DescriptorFile\nversion=1\nCID=764899c\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n";

fn with_extents(lines: &str) -> String {
    format!("{HEAD}\n# Extent description\n{lines}\n")
}

fn parse(text: &str) -> Result<Descriptor, DescriptorError> {
    Descriptor::parse(text.as_bytes())
}

fn extents(lines: &str) -> Result<Vec<ExtentLine>, DescriptorError> {
    parse(&with_extents(lines)).map(|descriptor| descriptor.extents)
}

fn flat(file_name: &str, offset_sectors: u64) -> ExtentKind {
    ExtentKind::Flat { file_name: file_name.to_owned(), offset_sectors }
}

#[test]
fn a_descriptor_is_known_by_its_first_lines() {
    for head in [
        "# Disk DescriptorFile\n",
        "# Disk DescriptorFile\r\nversion=1\r\n",
        "\u{feff}# Disk DescriptorFile\n",
        "# made by hand\n\n  \r\n# Disk Descriptor File",
        "# made by hand\nversion=3\n",
        "version=1\r\n",
        "\n\nversion = 2",
    ] {
        assert_eq!(sniff(head.as_bytes()), Sniff::Descriptor, "{head:?}");
    }
    for head in
        ["", "#!/bin/sh\necho\n", "version=4\n", "version\n", "# only\n# comments", "\0# Disk DescriptorFile"]
    {
        assert_eq!(sniff(head.as_bytes()), Sniff::Other, "{head:?}");
    }
    assert_eq!(sniff(b"KDMV\x01\0\0\0"), Sniff::SparseExtent);
    assert_eq!(sniff(b"COWD\x01\0\0\0"), Sniff::Cowd);
    assert_eq!(sniff(&[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0, 1]), Sniff::SeSparse);
    assert!(Sniff::Cowd.advice().is_some() && Sniff::Descriptor.advice().is_none());
}

#[test]
fn what_an_esxi_host_writes_is_read() {
    let text = fs::read(corpus().join("good-esxi.vmdk")).unwrap();
    let descriptor = Descriptor::parse(&text).unwrap();
    assert_eq!(descriptor.create_type, CreateType::Vmfs);
    assert_eq!(descriptor.content_id, 0xffff_fffe);
    assert_eq!(descriptor.size_bytes(), 83_886_080 * 512);
    let kind = ExtentKind::Vmfs { file_name: "web-01-flat.vmdk".to_owned(), offset_sectors: 0 };
    assert_eq!(descriptor.extents[0].kind, kind);
    assert_eq!(descriptor.adapter_type.as_deref(), Some("lsilogic"));
    assert_eq!(descriptor.change_track_path(), Some("web-01-ctk.vmdk"));
    assert_eq!(descriptor.entry("ddb.thinProvisioned"), Some("1"));
    assert_eq!(descriptor.entry("DDB.longcontentid"), Some("2f8a3f0e7f0b9c4be0b6d6a2fffffffe"));
    assert_eq!(descriptor.entry("ddb.nothing"), None);
}

#[test]
fn extents_are_read_as_written() {
    let found = extents(
        "RW 8 FLAT \"a b=c-f001.vmdk\" 16\r\nRDONLY 4 VMFS \"x-flat.vmdk\"\nRW 2 ZERO\nnoaccess 1 flat \"d\" 0\n\
         RW 63 FLAT \"b\"q.vmdk\" 0 partitionUUID \"\\\\.\\x\" deviceIdentifier \"y z\"",
    )
    .unwrap();
    let kinds: Vec<_> = found.iter().map(|extent| extent.kind.clone()).collect();
    let vmfs = ExtentKind::Vmfs { file_name: "x-flat.vmdk".to_owned(), offset_sectors: 0 };
    assert_eq!(
        kinds,
        [flat("a b=c-f001.vmdk", 16), vmfs, ExtentKind::Zero, flat("d", 0), flat("b\"q.vmdk", 0)]
    );
    assert_eq!(found[0].place(), Some(("a b=c-f001.vmdk", 8192)));
    assert_eq!(found[1].access, Access::ReadOnly);
    assert_eq!(found[3].access, Access::None);
    assert_eq!(found[4].rest.as_deref(), Some("partitionUUID \"\\\\.\\x\" deviceIdentifier \"y z\""));
    assert_eq!(found.iter().map(|extent| extent.line).collect::<Vec<_>>(), [8, 9, 10, 11, 12]);
}

#[test]
fn what_qemu_leaves_behind_the_text_is_no_text() {
    let text = with_extents("RW 1 FLAT \"x\" 0");
    let parse = |behind: &[u8]| Descriptor::parse(&[text.as_bytes(), behind].concat());
    assert!(parse(&[0; 512]).is_ok());
    assert!(parse(b"\x00647\"\n\0\0\0").is_ok(), "of a longer content identifier");
    let lost = Err(DescriptorError::NulByte { line: 9 });
    assert_eq!(parse(b"\0W 1 ZERO\n"), lost);
    assert_eq!(parse(b"\0\0\0\0\0\0\0\0\0RW 1 ZERO\n"), lost);
    let cut = text.replace("0\n", "0\0\n");
    assert_eq!(Descriptor::parse(cut.as_bytes()), Err(DescriptorError::NulByte { line: 8 }), "within a line");
}

#[test]
fn names_are_read_in_the_encoding_of_the_descriptor() {
    let in_encoding = |encoding: &str, name: &[u8]| {
        let mut text = with_extents("RW 1 FLAT \"").into_bytes();
        text.pop();
        text.extend(name);
        text.extend(format!("\" 0\nencoding=\"{encoding}\"\n").bytes());
        Descriptor::parse(&text).map(|descriptor| descriptor.extents[0].kind.clone())
    };
    assert_eq!(in_encoding("windows-1252", b"Gr\xfc\xdfe-\x80.vmdk"), Ok(flat("Grüße-€.vmdk", 0)));
    assert_eq!(in_encoding("UTF-8", "Grüße.vmdk".as_bytes()), Ok(flat("Grüße.vmdk", 0)));
    assert_eq!(in_encoding("Shift_JIS", b"plain.vmdk"), Ok(flat("plain.vmdk", 0)));
    for (encoding, name) in [
        ("windows-1252", &b"\x81"[..]),
        ("UTF-8", b"\xfc"),
        ("Shift_JIS", b"\x83\x5c"),
        ("UTF-8", b"\x1b[2J"),
    ] {
        let refused = in_encoding(encoding, name);
        assert!(
            matches!(refused, Err(DescriptorError::UndecodableName { line: 8, .. })),
            "{encoding}: {refused:?}"
        );
    }
}

#[test]
fn a_snapshot_is_refused_by_its_parents_name() {
    let text = fs::read(corpus().join("bad-snapshot.vmdk")).unwrap();
    let refused = Descriptor::parse(&text).unwrap_err();
    let DescriptorError::HasParent { line: 5, parent: Some(parent) } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(parent, "web-01.vmdk");
    let unnamed = parse(&with_extents("RW 1 ZERO").replace("ffffffff", "12345678"));
    assert_eq!(unnamed, Err(DescriptorError::HasParent { line: 4, parent: None }));
}

#[test]
fn other_arrangements_are_refused_with_advice() {
    for (name, expected) in [
        ("monolithicSparse", Advice::Convert),
        ("twoGbMaxExtentSparse", Advice::Convert),
        ("streamOptimized", Advice::Convert),
        ("vmfsSparse", Advice::Consolidate),
        ("seSparse", Advice::Consolidate),
        ("fullDevice", Advice::NameTheDevice),
        ("partitionedDevice", Advice::NameTheDevice),
        ("vmfsPassthroughRawDeviceMap", Advice::NameTheDevice),
        ("custom", Advice::Unknown),
        ("somethingNew", Advice::Unknown),
    ] {
        let refused = parse(&with_extents("RW 1 ZERO").replace("monolithicFlat", name)).unwrap_err();
        let DescriptorError::UnsupportedCreateType { line: 5, advice, .. } = &refused else {
            panic!("{refused:?}")
        };
        assert_eq!(*advice, expected, "{name}");
        assert!(refused.to_string().contains(name), "{refused}");
    }
    let sparse = extents("RW 1 ZERO\nRW 2048 SPARSE \"x-s001.vmdk\"").unwrap_err();
    let expected = DescriptorError::UnsupportedExtentKind {
        line: 9,
        name: "SPARSE".to_owned(),
        advice: Advice::Convert,
    };
    assert_eq!(sparse, expected);
}

#[test]
fn a_bad_extent_is_named_by_line_and_field() {
    let largest = limits::DISK_BYTES_MAX / SECTOR_BYTES;
    for (line, expected) in [
        ("RW", Field::ExtentSize),
        ("RW x FLAT \"a\" 0", Field::ExtentSize),
        ("RW 0 FLAT \"a\" 0", Field::ExtentSize),
        ("RW -1 FLAT \"a\" 0", Field::ExtentSize),
        ("RW +1 FLAT \"a\" 0", Field::ExtentSize),
        ("RW 18446744073709551615 FLAT \"a\" 0", Field::ExtentSize),
        ("RW 99999999999999999999 FLAT \"a\" 0", Field::ExtentSize),
        ("RW 1", Field::ExtentKind),
        ("RW 1 FLAT", Field::ExtentFileName),
        ("RW 1 FLAT a 0", Field::ExtentFileName),
        ("RW 1 FLAT \"a 0", Field::ExtentFileName),
        ("RW 1 FLAT \"\" 0", Field::ExtentFileName),
        ("RW 1 FLAT \"a\"0", Field::ExtentFileName),
        ("RW 1 FLAT \"a\" x", Field::ExtentOffset),
        ("RW 1 FLAT \"a\" -1", Field::ExtentOffset),
        (&format!("RW 1 FLAT \"a\" {largest}"), Field::ExtentOffset),
    ] {
        let refused = extents(line);
        assert!(
            matches!(refused, Err(DescriptorError::InvalidField { line: 8, field, .. }) if field == expected),
            "{line}: {refused:?}"
        );
    }
    let sum = extents(&format!("RW {largest} ZERO\nRW 1 ZERO"));
    assert_eq!(sum, Err(DescriptorError::TooLarge { line: 9 }));
    assert_eq!(extents("# none"), Err(DescriptorError::NoExtents));
    let remarks = extents(&"a=\n".repeat(1025));
    assert_eq!(remarks, Err(DescriptorError::TooManyEntries { line: 8 + 1024 }));
    let many = "RW 1 ZERO\n".repeat(limits::PIECES_MAX);
    assert_eq!(extents(&many).unwrap().len(), limits::PIECES_MAX);
    let too_many = extents(&format!("{many}RW 1 ZERO"));
    assert_eq!(too_many, Err(DescriptorError::TooManyExtents { line: 8 + limits::PIECES_MAX }));
}

#[test]
fn a_bad_header_is_named_by_line_and_field() {
    let good = with_extents("RW 1 ZERO");
    assert!(parse(&good).is_ok());
    for (from, to, expected) in [
        ("version=1", "version=4", Field::Version),
        ("CID=764899c", "CID=", Field::ContentId),
        ("CID=764899c", "CID=+1", Field::ContentId),
        ("CID=764899c", "CID=123456789", Field::ContentId),
        ("\"monolithicFlat\"", "\"monolithicFlat", Field::CreateType),
    ] {
        let refused = parse(&good.replacen(from, to, 1));
        assert!(
            matches!(refused, Err(DescriptorError::InvalidField { field, .. }) if field == expected),
            "{to}: {refused:?}"
        );
    }
    for (line, field) in [
        ("version=1\n", Field::Version),
        ("\nCID=764899c", Field::ContentId),
        ("parentCID=ffffffff\n", Field::ParentContentId),
        ("createType=\"monolithicFlat\"\n", Field::CreateType),
    ] {
        assert_eq!(parse(&good.replacen(line, "", 1)), Err(DescriptorError::MissingField { field }));
    }
    let twice = parse(&format!("{good}parentcid=0\n"));
    let expected = DescriptorError::RepeatedField { line: 9, field: Field::ParentContentId, first_line: 4 };
    assert_eq!(twice, Err(expected));
    assert!(matches!(parse(&format!("{good}what\n")), Err(DescriptorError::UnknownLine { line: 9, .. })));
    assert_eq!(parse("KDMV"), Err(DescriptorError::NotADescriptor));
    let long = vec![b'#'; usize::try_from(limits::DESCRIPTOR_BYTES_MAX).unwrap() + 1];
    assert!(matches!(Descriptor::parse(&long), Err(DescriptorError::TooLong { .. })));
}

#[test]
fn an_error_shows_no_control_characters_and_no_floods() {
    let refused = parse(&format!("{HEAD}\u{1b}[2J{}\n", "x".repeat(100_000))).unwrap_err().to_string();
    assert!(!refused.contains('\u{1b}') && refused.len() < 500, "{refused}");
}

/// The seeds of the fuzz target `vmdk_descriptor`, and what it has found.
fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/vmdk_descriptor")
}

#[test]
fn the_fuzz_corpus_is_read_or_refused_and_never_more() {
    let mut count = 0;
    for entry in fs::read_dir(corpus()).unwrap() {
        let path = entry.unwrap().path();
        let parsed = Descriptor::parse(&fs::read(&path).unwrap());
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!name.starts_with("good-") || parsed.is_ok(), "{name}: {parsed:?}");
        assert!(!name.starts_with("bad-") || parsed.is_err(), "{name}: {parsed:?}");
        if let Ok(descriptor) = parsed {
            assert_round_trip(&descriptor);
        }
        count += 1;
    }
    assert!(count >= 10, "the corpus has {count} files");
}

/// What is rendered says the same again; only lines move, and UTF-8 it is.
fn assert_round_trip(descriptor: &Descriptor) {
    let text = descriptor.to_string();
    let mut again = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    for (extent, original) in again.extents.iter_mut().zip(&descriptor.extents) {
        extent.line = original.line;
    }
    let expected = Descriptor { encoding: Encoding::Utf8, ..descriptor.clone() };
    assert_eq!(again, expected, "\n{text}");
}

fn extent_line() -> impl Strategy<Value = ExtentLine> {
    let name = "[a-zA-Z0-9 ._=#\\\\/äß€-]{1,20}";
    let kind = prop_oneof![
        (name, 0..1_u64 << 40).prop_map(|(name, offset)| flat(&name, offset)),
        (name, 0..4_u64)
            .prop_map(|(file_name, offset_sectors)| ExtentKind::Vmfs { file_name, offset_sectors }),
        Just(ExtentKind::Zero),
    ];
    let access = prop_oneof![Just(Access::ReadWrite), Just(Access::ReadOnly), Just(Access::None)];
    (access, 1..1_u64 << 40, kind).prop_map(|(access, sectors, kind)| ExtentLine {
        line: 0,
        access,
        sectors,
        kind,
        rest: None,
    })
}

fn descriptor() -> impl Strategy<Value = Descriptor> {
    let create_type = prop_oneof![
        Just(CreateType::MonolithicFlat),
        Just(CreateType::TwoGbMaxExtentFlat),
        Just(CreateType::Vmfs)
    ];
    let entries = |key: &'static str| {
        let entry = (key, "[ -~äß]{0,20}").prop_map(|(key, value)| Entry { key, value });
        prop::collection::vec(entry, 0..4)
    };
    let extents = prop::collection::vec(extent_line(), 1..20);
    let adapter_type = prop::option::of("[a-z]{1,10}");
    let database = entries("ddb\\.x[a-z.]{1,10}");
    (1..4_u32, any::<u32>(), create_type, extents, adapter_type, database, entries("x[a-zA-Z]{1,10}"))
        .prop_map(|(version, content_id, create_type, extents, adapter_type, database, remarks)| Descriptor {
            version,
            encoding: Encoding::Utf8,
            content_id,
            create_type,
            extents,
            adapter_type,
            database,
            remarks,
        })
}

proptest! {
    #[test]
    fn what_is_rendered_reads_the_same(descriptor in descriptor()) {
        assert_round_trip(&descriptor);
    }

    #[test]
    fn mutated_descriptors_never_panic_and_what_is_read_is_sound(
        descriptor in descriptor(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..12),
    ) {
        let mut text = descriptor.to_string().into_bytes();
        for (at, byte, how) in mutations {
            let at = at.index(text.len());
            match how {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                2 if text.len() > 1 => drop(text.remove(at)),
                _ => text.truncate(at.max(1)),
            }
        }
        if let Ok(read) = Descriptor::parse(&text) {
            prop_assert!(read.size_bytes() <= limits::DISK_BYTES_MAX && !read.extents.is_empty());
            assert_round_trip(&read);
        }
    }

    #[test]
    fn any_bytes_after_a_header_never_panic(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = [HEAD.as_bytes(), &tail].concat();
        let _ = Descriptor::parse(&text);
    }
}
