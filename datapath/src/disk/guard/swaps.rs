//! Which devices and files are used as swap.
//!
//! In: the text of `/proc/swaps`. Out: paths. Lines of another shape are left out.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::mounts::unescape;
use crate::disk::storage::Host;

/// `/proc/swaps` in bytes: the kernel has at most 32 areas.
const SWAPS_BYTES_MAX: u64 = 1 << 20;

/// All areas in use. A kernel without swap has none.
pub(crate) fn swaps(host: &Host) -> io::Result<Vec<PathBuf>> {
    let mut text = Vec::new();
    match File::open(host.path("proc/swaps")) {
        Ok(file) => file.take(SWAPS_BYTES_MAX).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(parse(&text))
}

/// One line names the columns; of each further one the first column is the path.
pub(super) fn parse(text: &[u8]) -> Vec<PathBuf> {
    let path = |line: &[u8]| {
        let name = line.split(|byte| matches!(byte, b' ' | b'\t')).next()?;
        let name = unescape(name);
        let name = name.strip_suffix(b" (deleted)").unwrap_or(&name);
        name.starts_with(b"/").then(|| PathBuf::from(OsString::from_vec(name.to_vec())))
    };
    text.split(|byte| *byte == b'\n').skip(1).filter_map(path).collect()
}
