//! The character sets of descriptors: bytes to names.

use std::fmt;

/// How a descriptor's `encoding` line says its names are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8: what ESXi and failback write, and what is read where nothing is said.
    Utf8,
    /// Windows-1252, of VMware products on western Windows.
    Windows1252,
    /// Another one, by name: names in plain ASCII can be read all the same,
    /// because every encoding that VMware writes leaves ASCII as it is.
    Other(String),
}

impl Encoding {
    /// The encoding called `name`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let is = |known: &[&str]| known.iter().any(|known| name.eq_ignore_ascii_case(known));
        if is(&["utf-8", "utf8", "us-ascii", "ascii"]) {
            Self::Utf8
        } else if is(&["windows-1252", "cp1252"]) {
            Self::Windows1252
        } else {
            Self::Other(name.to_owned())
        }
    }

    /// The text of `bytes`; `None` where they are none in this encoding.
    #[must_use]
    pub fn decode(&self, bytes: &[u8]) -> Option<String> {
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_owned),
            Self::Windows1252 => bytes.iter().map(|&byte| windows_1252(byte)).collect(),
            Self::Other(_) => {
                bytes.is_ascii().then(|| std::str::from_utf8(bytes).ok().map(str::to_owned)).flatten()
            }
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf8 => "UTF-8",
            Self::Windows1252 => "windows-1252",
            Self::Other(name) => name,
        })
    }
}

/// The characters of bytes 0x80 to 0x9f, where Windows-1252 is not Latin-1;
/// NUL stands for the five bytes that mean nothing.
const WINDOWS_1252_HIGH: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', //
    '\0', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

fn windows_1252(byte: u8) -> Option<char> {
    match byte {
        0x80..=0x9f => Some(WINDOWS_1252_HIGH[usize::from(byte - 0x80)]).filter(|&found| found != '\0'),
        _ => Some(char::from(byte)),
    }
}
