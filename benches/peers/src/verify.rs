//! Whether a contestant's target equals the source, by readers that are not
//! `failback`. Never part of a measured time.

use crate::device::LoopDevice;
use crate::error::{Error, on_path};
use crate::measure::output_of;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Compares two devices byte for byte: `dd` reads the target past the page
/// cache, `cmp` compares with the source.
///
/// # Errors
/// They differ, or a reader fails.
pub(crate) fn devices(source: &LoopDevice, target: &LoopDevice, contestant: &str) -> Result<(), Error> {
    let mut reader = Command::new("dd")
        .arg(format!("if={}", target.argument()))
        .args(["bs=1M", "iflag=direct", "status=none"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Error::Start { program: "dd".to_owned(), source: error })?;
    let stdin = reader.stdout.take().map_or_else(Stdio::null, Stdio::from);
    let compared = Command::new("cmp")
        .args(["-", &source.argument()])
        .stdin(stdin)
        .output()
        .map_err(|error| Error::Start { program: "cmp".to_owned(), source: error });
    let read = reader.wait().map_err(|error| Error::Start { program: "dd".to_owned(), source: error })?;
    let compared = compared?;
    source.forget_pages()?;
    if compared.status.success() && read.success() {
        return Ok(());
    }
    Err(different(contestant, &[&compared.stdout, &compared.stderr]))
}

/// Compares two sparse images: their sizes, and with `qemu-img`, which skips
/// what is a hole in both, their bytes.
///
/// # Errors
/// They differ, or a reader fails.
pub(crate) fn sparse_images(source: &Path, target: &Path, contestant: &str) -> Result<(), Error> {
    let size_of = |path: &Path| fs::metadata(path).map(|data| data.len()).map_err(on_path("look at", path));
    if size_of(source)? != size_of(target)? {
        return Err(different(contestant, &[b"another size"]));
    }
    let (source, target) = (source.display().to_string(), target.display().to_string());
    let output = output_of("qemu-img", &["compare", "-f", "raw", "-F", "raw", &source, &target])?;
    if output.status.success() {
        Ok(())
    } else {
        Err(different(contestant, &[&output.stdout, &output.stderr]))
    }
}

fn different(contestant: &str, texts: &[&[u8]]) -> Error {
    let texts = texts.iter().map(|text| String::from_utf8_lossy(text).trim().to_owned());
    let message = texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    Error::Different { contestant: contestant.to_owned(), message }
}
