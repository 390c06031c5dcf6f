//! Swap on a protected disk: a writer that no freeze stops and nobody can ask.

use std::fs::{self, File};
use std::io::Read;

use super::ends::Ends;
use super::rig::{LONG, Listed, Rig, Setup, able};
use crate::fixture::{LoopDevice, Running, program, run, supervised};

const PAGE: usize = 4096;
const DISK_BYTES: u64 = 16 << 20;
const CUTS: usize = 4;

/// Fills pages with a mark, a time, and words that follow from it; has them
/// swapped out; and again. Each page is written once between two swaps.
const WRITER: &str = r#"
import mmap, struct, time
memory = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
while True:
    for page in range(0, len(memory), 4096):
        now = time.time_ns()
        words = [now ^ number << 52 for number in range(2, 512)]
        memory[page:page + 4096] = struct.pack("<512Q", 0x5357415050414745, now, *words)
    memory.madvise(21)
    print("out", flush=True)
    time.sleep(0.5)
"#;

/// Swap on a device, off when it is dropped.
struct Swap<'a>(&'a LoopDevice);

impl<'a> Swap<'a> {
    /// `None` where this kernel has no swap.
    fn on(device: &'a LoopDevice) -> Option<Self> {
        run(program("mkswap").arg(device.path()));
        let on = program("swapon").args(["--priority", "32767"]).arg(device.path()).output();
        on.is_ok_and(|output| output.status.success()).then_some(Self(device))
    }
}

impl Drop for Swap<'_> {
    fn drop(&mut self) {
        let _ = program("swapoff").arg(self.0.path()).output();
    }
}

/// When a page was made; `None` where it is not of the writer.
fn made_ns(page: &[u8]) -> Option<u64> {
    let words: Vec<u64> =
        page.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes"))).collect();
    let is_ours = words[0].to_le_bytes() == *b"EGAPPAWS";
    let is_whole = (2..).zip(&words[2..]).all(|(number, word)| *word == words[1] ^ number << 52);
    assert!(!is_ours || is_whole, "a page is torn");
    is_ours.then_some(words[1])
}

/// How many pages of a copy are the writer's; all of them whole, and none made
/// after the cut.
fn judge_pages(rig: &Rig, point: &Listed) -> usize {
    let copy = rig.copy("swap", point.epoch);
    let (mut bytes, mut ours) = (Vec::new(), 0);
    File::open(&copy).and_then(|mut file| file.read_to_end(&mut bytes)).expect("it was made");
    for page in bytes.chunks(PAGE).skip(1) {
        if let Some(made_ns) = made_ns(page) {
            assert!(made_ns <= point.window.to_ns, "a page of after the cut");
            ours += 1;
        }
    }
    fs::remove_file(&copy).expect("it is ours");
    ours
}

#[test]
fn a_disk_that_is_swapped_to_is_cut_too() {
    let Some(()) = able(&["mkswap", "swapon", "swapoff", "python3"]) else { return };
    let rig = Rig::new(&[("swap", DISK_BYTES)], Setup::default());
    let Some(swap) = Swap::on(&rig.disks[0].source) else {
        eprintln!("skipped the rest: needs a kernel that swaps");
        return;
    };
    let python = program("python3");
    let writer = Running::start(supervised(python.get_program().as_ref()).args(["-c", WRITER]));
    writer.wait_for(LONG, |line| (line == "out").then_some(()));
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    let skipped: usize = (0..CUTS).map(|number| rig.cut(&format!("cut-{number}"), &[])).sum();
    writer.kill();
    drop(swap);
    ends.finish(&rig);
    let pages: Vec<usize> = rig.points("swap").iter().map(|point| judge_pages(&rig, point)).collect();
    println!("{skipped} cuts were skipped; pages of the writer in each point: {pages:?}");
    assert!(pages.iter().any(|count| *count > 0), "nothing was swapped out");
}
