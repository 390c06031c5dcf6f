//! Files of settings: TOML, small, and without a key that nobody knows.
//!
//! What a file may hold is said by the types that it is read into, in the
//! modules beside this one. Each of them has `deny_unknown_fields`: a misspelt
//! setting must not be taken for one that was left out.

pub mod agent;
pub mod master_target;
pub mod quantity;

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::control::Failed;
use crate::exit::Exit;

/// A file of settings in bytes: some thousands of disks.
const BYTES_MAX: u64 = 1 << 20;

/// Reads the settings in the file at `path`.
///
/// # Errors
/// [`Exit::Refused`], with file, line and column where it is wrong.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failed> {
    let failed = |what: &dyn Display| (Exit::Refused, format!("{}: {what}", path.display()));
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes));
    let read = read.map_err(|error| failed(&format_args!("cannot be read: {error}")))?;
    if u64::try_from(read).is_ok_and(|read| read > BYTES_MAX) {
        return Err(failed(&format_args!("more than {BYTES_MAX} bytes are no file of settings")));
    }
    let wrong = |at: usize, what: &str| {
        let (line, column) = place(&bytes, at);
        (Exit::Refused, format!("{}:{line}:{column}: {what}", path.display()))
    };
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| wrong(error.valid_up_to(), "what stands here is not UTF-8"))?;
    toml::from_str(text).map_err(|error| match error.span() {
        Some(span) => wrong(span.start, error.message()),
        None => failed(&error.message()),
    })
}

/// Line and column of a byte, as editors count.
fn place(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = &bytes[..at.min(bytes.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::Deserialize;

    use super::*;
    use quantity::{Bytes, Share, Span};

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Settings {
        name: String,
        read_rate: Option<Bytes>,
        #[serde(default)]
        disk: Vec<Disk>,
        limits: Option<Limits>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Disk {
        device: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limits {
        cpu: Share,
        time: Span,
    }

    fn settings(text: impl AsRef<[u8]>) -> Result<Settings, Failed> {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let path = folder.path().join("agent.toml");
        fs::write(&path, text).expect("a file");
        read(&path)
    }

    /// What is wrong with `text`, without the folder.
    fn wrong(text: impl AsRef<[u8]>) -> String {
        let (exit, why) = settings(text).expect_err("it is wrong");
        assert_eq!(exit, Exit::Refused);
        why.rsplit_once('/').map_or(why.clone(), |(_, why)| why.to_owned())
    }

    #[test]
    fn settings_are_read() {
        let text = "name = \"web-1\"\nread-rate = \"200M\"\n\
            [[disk]]\ndevice = \"/dev/vda\"\n[[disk]]\ndevice = \"/dev/vdb\"\n\
            [limits]\ncpu = \"50%\"\ntime = \"1h 30m\"\n";
        let settings = settings(text).expect("it is right");
        assert_eq!((settings.name.as_str(), settings.read_rate), ("web-1", Some(Bytes(200 << 20))));
        assert_eq!(
            settings.disk.iter().map(|disk| &*disk.device).collect::<Vec<_>>(),
            ["/dev/vda", "/dev/vdb"]
        );
        let limits = settings.limits.expect("they are there");
        assert_eq!((limits.cpu, limits.time.0.as_secs()), (Share(50), 5400));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let misspelt = wrong("name = \"a\"\n[limits]\ncpu = \"50%\"\ntimes = \"1s\"\n");
        assert!(misspelt.starts_with("agent.toml:4:1: unknown field `times`"), "{misspelt}");
        let broken = wrong("name = \"a\"\nread-rate = \n");
        assert!(broken.starts_with("agent.toml:2:"), "{broken}");
        let quantity = wrong("name = \"é\" # é\nread-rate = \"much\"\n");
        assert!(quantity.starts_with("agent.toml:2:13: "), "{quantity}");
        assert!(wrong("[limits]\ncpu = \"50%\"\ntime = \"1s\"\n").contains("missing field `name`"));
        assert!(wrong("name = \"a\"\nname = \"b\"\n").starts_with("agent.toml:2:"));
        assert_eq!(wrong(b"name = \"\xff\""), "agent.toml:1:9: what stands here is not UTF-8");
    }

    #[test]
    fn what_is_no_file_of_settings_is_refused() {
        assert!(wrong(vec![b'#'; 2 << 20]).contains("more than"));
        assert!(wrong("a = ".to_owned() + &"[".repeat(100_000)).starts_with("agent.toml:1:"));
        let missing = read::<Settings>(Path::new("/nowhere/agent.toml")).expect_err("it is not there");
        assert!(missing.0 == Exit::Refused && missing.1.starts_with("/nowhere/agent.toml: cannot be read"));
        assert!(read::<Settings>(Path::new("/")).is_err());
    }

    #[test]
    fn places_are_those_of_editors() {
        let text = "é=1\nab".as_bytes();
        assert_eq!(
            [place(text, 0), place(text, 2), place(text, 6), place(text, 99)],
            [(1, 1), (1, 2), (2, 2), (2, 3)]
        );
    }
}
