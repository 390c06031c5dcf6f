//! What this machine can do for tracking, and why not: for a person to read.

use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use super::attached::purpose;
use super::device::Device;
use super::kernel::KernelLayout;
use super::layout::Geometry;
use super::pins::is_filesystem;
use super::program::{Event, program};
use super::switches::{Switches, watch_switches};
use crate::limits;
use crate::sys::bpf;
use crate::unit::ChunkSize;

/// One thing that tracking needs, or likes to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What.
    pub what: &'static str,
    /// Whether it is there.
    pub is_met: bool,
    /// Whether there is no tracking without it.
    pub is_required: bool,
    /// What was found, or why not.
    pub detail: String,
}

impl Fact {
    fn of(what: &'static str, found: Result<String, impl Display>) -> Self {
        let (is_met, detail) = match found {
            Ok(detail) => (true, detail),
            Err(reason) => (false, reason.to_string()),
        };
        Self { what, is_met, is_required: true, detail }
    }
}

/// Looks at the kernel, and at the disk behind `path`, and for
/// [`limits::SWITCHES_WATCHED`] at the tasks that run. Loads programs, and lets
/// them go; changes nothing.
#[must_use]
pub fn facts(path: &Path) -> Vec<Fact> {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let kernel = KernelLayout::running();
    let device = Device::find(path);
    let mut facts = vec![
        Fact::of("kernel", release),
        Fact::of("types of the kernel", kernel.as_ref().map(|_| "all fields that are needed".to_owned())),
        Fact::of(
            "disk",
            device.as_ref().map(|device| format!("{} ({})", device.node.display(), device.number)),
        ),
    ];
    if let (Ok(kernel), Ok(device)) = (&kernel, &device) {
        facts.extend(Event::ALL.map(|event| {
            let what = match event {
                Event::Issue => "program for the issue of requests",
                Event::Completion => "program for the completion of requests",
            };
            Fact::of(what, try_program(kernel, device, event))
        }));
    }
    facts.push(filesystem());
    facts.extend(device.as_ref().ok().map(counted));
    facts.push(shown());
    facts
}

fn try_program(kernel: &KernelLayout, device: &Device, event: Event) -> Result<String, String> {
    let geometry = Geometry { size_bytes: device.size_bytes, chunk_size: ChunkSize::MAX };
    let map = bpf::map("failback", 1).map_err(|error| format!("no map: {error}"))?;
    let code = program(kernel, purpose(device, geometry, event), map.as_fd().as_raw_fd());
    let code = code.ok_or("the kernel's structures are too far apart")?;
    let program =
        bpf::load(event.name(), &code).map_err(|refused| format!("{}: {}", refused.source, refused.log))?;
    let facts = bpf::program_facts(program.as_fd()).map_err(|error| error.to_string())?;
    Ok(format!("{} instructions, {} verified", code.len(), facts.verified))
}

fn filesystem() -> Fact {
    let path = Path::new("/sys/fs/bpf");
    let found = if is_filesystem(path) {
        Ok("mounted")
    } else if path.is_dir() {
        Ok("not mounted; the agent mounts it")
    } else {
        Err("the kernel has no /sys/fs/bpf")
    };
    Fact::of("BPF filesystem", found.map(str::to_owned))
}

fn counted(device: &Device) -> Fact {
    let found = if device.is_counted() {
        Ok("on: each check compares with it".to_owned())
    } else {
        Err("off (queue/iostats is not 1): what was missed would stay unseen")
    };
    Fact::of("the kernel's count of sectors", found)
}

/// Not required: the count tells of what is hidden.
fn shown() -> Fact {
    let found = match watch_switches(limits::SWITCHES_WATCHED) {
        Ok(Switches { shown, hidden: 0 }) => Ok(format!("all of {shown} switches between tasks were shown")),
        Ok(Switches { shown, hidden }) => Err(format!(
            "{hidden} of {shown} switches between tasks do not go on from the one before: the kernel hides \
             tasks, and what completes while one runs; a disk that meets it is resynchronized"
        )),
        Err(error) => Err(format!("not known: {error}")),
    };
    Fact { is_required: false, ..Fact::of("every task is shown", found) }
}
