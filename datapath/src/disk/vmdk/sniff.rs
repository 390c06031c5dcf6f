//! What the first bytes of a file say about its format.

use super::error::Advice;

/// What the first bytes of a file look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// The text of a VMDK descriptor.
    Descriptor,
    /// A sparse VMDK extent (`KDMV`), alone or with a descriptor inside:
    /// `monolithicSparse`, `streamOptimized`, or a part of `twoGbMaxExtentSparse`.
    SparseExtent,
    /// A sparse extent of old ESX hosts and their snapshots (`COWD`).
    Cowd,
    /// A space-efficient sparse extent of ESXi snapshots.
    SeSparse,
    /// Nothing that this room knows: a raw image, as far as it can tell.
    Other,
}

impl Sniff {
    /// What to do with a file whose format is known and not readable; `None`
    /// for descriptors and for what is not VMDK at all.
    #[must_use]
    pub const fn advice(self) -> Option<Advice> {
        match self {
            Self::Descriptor | Self::Other => None,
            Self::SparseExtent => Some(Advice::Convert),
            Self::Cowd | Self::SeSparse => Some(Advice::Consolidate),
        }
    }
}

const SPARSE_MAGIC: &[u8] = b"KDMV";
const COWD_MAGIC: &[u8] = b"COWD";
/// 0x00000000cafebabe, little-endian.
const SE_SPARSE_MAGIC: &[u8] = &[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0];
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Says what a file is by its first bytes; 4096 of them are plenty, 512 do for
/// every descriptor seen in practice.
///
/// A raw image's first sector belongs to the machine that wrote it, and could be
/// written to look like a descriptor. Where a path is said to be raw, do not ask.
#[must_use]
pub fn sniff(head: &[u8]) -> Sniff {
    if head.starts_with(SPARSE_MAGIC) {
        Sniff::SparseExtent
    } else if head.starts_with(COWD_MAGIC) {
        Sniff::Cowd
    } else if head.starts_with(SE_SPARSE_MAGIC) {
        Sniff::SeSparse
    } else if is_descriptor(head) {
        Sniff::Descriptor
    } else {
        Sniff::Other
    }
}

/// Whether `head`, the first bytes of a file, starts a VMDK descriptor: only
/// comments and blank lines, and then the signature `# Disk DescriptorFile` or,
/// as qemu has it, a line `version=1`, `2` or `3`.
#[must_use]
pub fn is_descriptor(head: &[u8]) -> bool {
    let text = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii();
        if let Some(comment) = line.strip_prefix(b"#") {
            if is_signature(comment) {
                return true;
            }
        } else if !line.is_empty() {
            return is_version(line);
        }
    }
    false
}

/// VMware writes `Disk DescriptorFile`; `Disk Descriptor File` is about as well.
fn is_signature(comment: &[u8]) -> bool {
    let letters = comment.iter().filter(|byte| !byte.is_ascii_whitespace()).map(u8::to_ascii_lowercase);
    letters.take(18).eq(*b"diskdescriptorfile")
}

fn is_version(line: &[u8]) -> bool {
    let Some((key, value)) = line.iter().position(|&byte| byte == b'=').map(|at| line.split_at(at)) else {
        return false;
    };
    key.trim_ascii().eq_ignore_ascii_case(b"version")
        && matches!(value.get(1..).map(<[u8]>::trim_ascii), Some(b"1" | b"2" | b"3"))
}
