//! What the figures were measured on: without it they say nothing.

use crate::error::Error;
use crate::measure::{answer_of, output_of};
use crate::runner::busy_seconds;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How long the machine is watched for other work.
const WATCH: Duration = Duration::from_secs(2);

/// The machine, and the versions of what ran on it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Processors this process may use.
    pub(crate) cores: usize,
    /// The processor's model.
    pub(crate) processor: String,
    /// Memory in MiB.
    pub(crate) memory_mib: u64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The system's name.
    pub(crate) system: String,
    /// The file system under the loop devices.
    pub(crate) file_system: String,
    /// CPU seconds a second that others used just before the first run or after
    /// the last, whichever was more; beyond a few hundredths all figures are noise.
    pub(crate) busy_with_others: f64,
    /// Version lines by program.
    pub(crate) versions: BTreeMap<String, String>,
}

impl Machine {
    /// Looks at the machine, for two seconds; versions are added later.
    ///
    /// # Errors
    /// `/proc/stat` cannot be read.
    pub(crate) fn look(directory: &Path) -> Result<Self, Error> {
        let busy_with_others = watch()?;
        let place = directory.display().to_string();
        let file_system = answer_of("findmnt", &["-no", "FSTYPE,OPTIONS", "--target", &place]);
        Ok(Self {
            cores: thread::available_parallelism().map_or(1, usize::from),
            processor: field_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            memory_mib: memory_mib(),
            kernel: first_line("/proc/sys/kernel/osrelease"),
            system: system_name(),
            file_system: file_system
                .ok()
                .and_then(|text| text.lines().last().map(words))
                .unwrap_or_else(|| "unknown".to_owned()),
            busy_with_others,
            versions: BTreeMap::new(),
        })
    }

    /// Watches once more, after the last run.
    ///
    /// # Errors
    /// `/proc/stat` cannot be read.
    pub(crate) fn look_again(&mut self) -> Result<(), Error> {
        self.busy_with_others = self.busy_with_others.max(watch()?);
        Ok(())
    }

    /// Notes the version of each program that is installed.
    pub(crate) fn note_versions(&mut self, programs: impl Iterator<Item = String>) {
        for program in programs {
            if self.versions.contains_key(&program) {
                continue;
            }
            if let Some(version) = version_of(&program) {
                self.versions.insert(program, version);
            }
        }
    }
}

/// CPU seconds a second that the machine uses while this program does nothing.
fn watch() -> Result<f64, Error> {
    let busy = busy_seconds()?;
    thread::sleep(WATCH);
    Ok((busy_seconds()? - busy) / WATCH.as_secs_f64())
}

/// Whether a program of that name is on `PATH`.
pub(crate) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn version_of(program: &str) -> Option<String> {
    if !program.contains('/') && !is_on_path(program) {
        return None;
    }
    let option = if program == "socat" { "-V" } else { "--version" };
    let output = output_of(program, &[option]).ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut lines = text.lines().filter(|line| line.contains(|letter: char| letter.is_ascii_digit()));
    let line = if program == "socat" { lines.find(|line| line.contains("version")) } else { lines.next() };
    Some(line.map_or_else(|| "unknown".to_owned(), words))
}

fn field_of(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_once([':', '=']).map(|(_, value)| words(value))
}

fn memory_mib() -> u64 {
    let total = field_of("/proc/meminfo", "MemTotal").unwrap_or_default();
    total.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn system_name() -> String {
    let name = field_of("/etc/os-release", "PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned());
    name.trim_matches('"').to_owned()
}

fn first_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().lines().next().unwrap_or("unknown").to_owned()
}

/// The text with single spaces.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
