//! What each fuzz target does with its bytes: read them or refuse them in
//! bounded time, never a panic; and what was read is sound.
//!
//! The fuzz targets call these functions, and so does an ordinary test, with
//! every file under `corpus/`.

use failback_datapath::delta::{Content, Packed};
use failback_datapath::disk::vmdk::{Descriptor, Encoding, sniff};
use failback_datapath::journal::{Pair, loose};
use failback_datapath::limits;
use failback_datapath::pipeline::{Codec, Digester, unpack, unseal};
use failback_datapath::wire::{
    Cut, End, Fence, Fenced, Finished, HEADER_BYTES, Header, Join, Location, Open, Opened, Point, Progress,
    Protect, Protecting, Refused, Remark, Start, Started,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A VMDK descriptor; what is read reads the same once written.
pub fn vmdk_descriptor(bytes: &[u8]) {
    let _ = sniff(bytes);
    match Descriptor::parse(bytes) {
        Ok(descriptor) => check_descriptor(&descriptor),
        Err(error) => assert!(error.to_string().len() < 1024),
    }
}

fn check_descriptor(descriptor: &Descriptor) {
    assert!((1..=limits::PIECES_MAX).contains(&descriptor.extents.len()));
    assert!((512..=limits::DISK_BYTES_MAX).contains(&descriptor.size_bytes()));
    for extent in &descriptor.extents {
        if let Some((name, offset)) = extent.place() {
            assert!(!name.is_empty() && offset.checked_add(extent.length()).is_some());
        }
    }
    let mut again = Descriptor::parse(descriptor.to_string().as_bytes()).expect("what is written is read");
    for (extent, original) in again.extents.iter_mut().zip(&descriptor.extents) {
        extent.line = original.line;
    }
    assert_eq!(again, Descriptor { encoding: Encoding::Utf8, ..descriptor.clone() });
}

/// The size of a disk, and a frame's header.
pub fn frame_header(bytes: &[u8]) {
    let Some((size, rest)) = bytes.split_first_chunk::<8>() else { return };
    let Some(header) = rest.first_chunk::<HEADER_BYTES>() else { return };
    let size = u64::from_le_bytes(*size);
    match Header::decode(header) {
        Ok(decoded) => {
            assert!(decoded.payload_bytes <= 2 * limits::DELTA_BYTES_MAX);
            assert_eq!(decoded.encode(), *header);
            if decoded.check_chunks(size).is_ok() {
                assert!(!decoded.extent.is_empty() && decoded.extent.end() <= size);
            }
        }
        Err(error) => assert!(error.to_string().len() < 1024),
    }
}

/// A path or URL, as a user writes it.
pub fn location(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Location>() {
        Ok(Location::Ssh(ssh)) => {
            let plain = |part: &str| !part.is_empty() && !part.starts_with('-');
            assert!(plain(&ssh.host) && ssh.user.as_deref().is_none_or(plain), "{ssh:?}");
            assert!(ssh.path.starts_with('/') && !ssh.path.contains('\0'), "{ssh:?}");
        }
        Ok(Location::Served { address, export }) => {
            assert!(!export.is_empty() && export.len() <= limits::EXPORT_NAME_MAX);
            assert!(!address.host().is_empty() && !address.host().starts_with('-'), "{address}");
        }
        Ok(Location::Local(path)) => assert!(!path.as_os_str().is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The body of a control frame, as each message that it may be.
pub fn control_message(bytes: &[u8]) {
    read_again::<Open>(bytes);
    read_again::<Opened>(bytes);
    read_again::<Start>(bytes);
    read_again::<Started>(bytes);
    read_again::<Join>(bytes);
    read_again::<End>(bytes);
    read_again::<Finished>(bytes);
    read_again::<Refused>(bytes);
    read_again::<Protect>(bytes);
    read_again::<Protecting>(bytes);
    read_again::<Cut>(bytes);
    read_again::<Point>(bytes);
    read_again::<Remark>(bytes);
    read_again::<Fence>(bytes);
    read_again::<Fenced>(bytes);
    read_again::<Progress>(bytes);
}

/// What is read reads the same once written. A reason of a newer version is
/// known by no name, so it is not.
fn read_again<M: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(message) = serde_json::from_slice::<M>(bytes) else { return };
    let written = serde_json::to_vec(&message).expect("what was read can be written");
    if let Ok(again) = serde_json::from_slice::<M>(&written) {
        assert_eq!(serde_json::to_vec(&again).expect("as before"), written);
    }
}

/// A codec, a length, and a packed extent.
pub fn unpack_extent(bytes: &[u8]) {
    let [codec, low, high, packed @ ..] = bytes else { return };
    let Some(codec) = Codec::from_number(*codec) else { return };
    let mut into = vec![0; usize::from(u16::from_le_bytes([*low, *high]))];
    if let Err(error) = unpack(codec, packed, &mut into) {
        assert_eq!(error.expected_bytes, into.len());
    }
}

/// A delta; whatever opens has just the bytes that its digests were made of.
pub fn delta(bytes: &[u8]) {
    match Packed::decode(bytes) {
        Ok(packed) => {
            assert_eq!(packed.encode(), bytes);
            let shape = packed.head().header().shape;
            let digester = Digester::new(shape.algorithm, [7; 32]);
            let Ok((opened, _)) = unseal(packed, &digester, Vec::new()) else { return };
            let mut end = 0;
            for entry in opened.entries() {
                assert!(entry.extent.offset() >= end && shape.chunk.fits(entry.extent, shape.disk_bytes));
                end = entry.extent.end();
                if let Content::Data { digest, .. } = entry.content {
                    assert_eq!(digester.digest(opened.bytes(entry)), digest);
                }
            }
        }
        Err(error) => assert!(error.to_string().len() < 1024),
    }
}

/// A record of a journal's segment, whatever its checksum says.
pub fn journal_record(bytes: &[u8]) {
    // Nothing with this seed was ever written.
    assert!(loose::record(bytes, Some(0x5eed)).is_none());
    let Some(record) = loose::record(bytes, None) else { return };
    assert!(record.frame.head_bytes as usize <= bytes.len());
    let written = serde_json::to_vec(&record).expect("what was read can be shown");
    assert!(written.len() < bytes.len() * 8 + 4096);
}

/// A page of a journal's index: its header, a leaf; one of its digests; and the
/// file of a pair.
pub fn journal_page(bytes: &[u8]) {
    assert!(loose::leaf(bytes, Some(0x5eed)).is_err());
    if let Ok(entries) = loose::leaf(bytes, None) {
        assert!(entries.len() <= 85);
    }
    let incarnation = bytes.get(16..24).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    if let Ok(header) = loose::table_header(bytes, None, incarnation) {
        assert!(header.first <= header.last && header.levels.len() <= 4);
    }
    for seed in [None, Some(0x5eed)] {
        let digests = loose::digest_page(bytes, 0, seed);
        assert!(digests.is_none_or(|digests| digests.len() == 252));
        let _ = (loose::leaf_at(bytes, 1, seed), loose::digest_header(bytes, seed));
    }
    if let Ok(pair) = Pair::decode(bytes) {
        assert!(pair.chunks() <= limits::PROTECTED_CHUNKS_MAX);
    }
}
