//! Swap on a protected disk: a writer that no freeze stops and nobody can ask.

use std::cell::RefCell;
use std::fs;
use std::time::Duration;

use serde::Deserialize;

use super::ends::Ends;
use super::oracle::Window;
use super::rig::{Listed, Rig, Setup, able};
use crate::fixture::{LoopDevice, Running, eventually, program, run, supervised};

const PAGE: usize = 4096;
const DISK_BYTES: u64 = 16 << 20;
/// Cuts are made until some fall into rests of the writer.
const CUTS_MAX: usize = 12;
const CUTS_WITHIN_RESTS: usize = 3;
/// Swap of this priority is used before any other.
const PRIORITY_MAX: u16 = 32_767;

/// Fills pages with a mark, a time, and words that follow from it; has them
/// swapped out; and again. Each page is written once between two swaps.
///
/// Of each round it tells when it began, when the device had completed all that was
/// swapped out, and which page lies where then: its slot, and its time.
const WRITER: &str = r#"
import ctypes, json, mmap, os, struct, sys, time
memory = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
pages = len(memory) // 4096
inflight = "/sys/class/block/" + sys.argv[1].split("/")[-1] + "/inflight"
device = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
held = mmap.mmap(-1, os.lseek(device, 0, os.SEEK_END))
while True:
    begun, made = time.time_ns(), []
    for page in range(pages):
        made.append(time.time_ns())
        words = [made[page] ^ number << 52 for number in range(2, 512)]
        memory[page * 4096:page * 4096 + 4096] = struct.pack("<512Q", 0x5357415050414745, made[page], *words)
    memory.madvise(21)
    while open(inflight).read().split() != ["0", "0"]:
        time.sleep(0.001)
    with open("/proc/self/pagemap", "rb", buffering=0) as map:
        map.seek(address // 4096 * 8)
        entries = struct.unpack("<%dQ" % pages, map.read(pages * 8))
    os.preadv(device, [held], 0)
    # Of pages that are swapped, the slots. Another device may be swapped to as
    # well: this one holds what was swapped to it.
    slots = [(entry >> 5 & (1 << 50) - 1, made[page]) for page, entry in enumerate(entries) if entry >> 62 & 1]
    here = [slot for slot in slots if slot[0] * 4096 < len(held)
            and struct.unpack_from("<Q", held, slot[0] * 4096 + 8)[0] == slot[1]]
    print(json.dumps({"begun": begun, "out": time.time_ns(), "pages": here}), file=sys.stderr, flush=True)
    time.sleep(0.7)
"#;
/// The writer rests at least so long after each round.
const RESTS_NS: u64 = 700_000_000;

/// What the writer tells of a round.
#[derive(Clone, Debug, Deserialize)]
struct Round {
    begun: u64,
    out: u64,
    /// Slots, each with the time of its page.
    pages: Vec<(usize, u64)>,
}

/// Swap on a device, off when it is dropped.
pub struct Swap<'a>(&'a LoopDevice);

impl<'a> Swap<'a> {
    /// `None` where this kernel has no swap.
    pub fn on(device: &'a LoopDevice, priority: u16) -> Option<Self> {
        run(program("mkswap").arg(device.path()));
        let on = program("swapon").args(["--priority", &priority.to_string()]).arg(device.path()).output();
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

impl Round {
    /// All that the writer has told so far.
    fn all(writer: &Running) -> Vec<Self> {
        let told = RefCell::new(Vec::new());
        let _none: Option<()> = writer.notice(Duration::ZERO, |line| {
            told.borrow_mut().push(serde_json::from_str(line).expect("a round"));
            None
        });
        told.into_inner()
    }

    /// The one that was completed before a cut, where the writer rested all through
    /// the cut.
    fn before(rounds: &[Self], cut: Window) -> Option<&Self> {
        let last = rounds.iter().rposition(|round| round.out < cut.from_ns)?;
        let rests_until = rounds.get(last + 1).map_or(rounds[last].out + RESTS_NS, |next| next.begun);
        (cut.to_ns < rests_until).then_some(&rounds[last])
    }
}

/// Judges a copy: its pages are whole, and none was made after the cut; what was
/// completed before a cut within a rest is there. How many pages that were.
fn judge_pages(rig: &Rig, point: &Listed, rounds: &[Round]) -> usize {
    let (copy, cut) = (rig.copy("swap", point.epoch), point.window);
    let bytes = fs::read(&copy).expect("it was made");
    fs::remove_file(&copy).expect("it is ours");
    // The first page says that it is swap.
    let made: Vec<Option<u64>> =
        std::iter::once(None).chain(bytes.chunks(PAGE).skip(1).map(made_ns)).collect();
    assert!(made.iter().flatten().all(|made_ns| *made_ns <= cut.to_ns), "a page of after the cut");
    let Some(before) = Round::before(rounds, cut) else { return 0 };
    for (slot, made_ns) in &before.pages {
        assert_eq!(made[*slot], Some(*made_ns), "slot {slot} at {cut:?}: it was completed before");
    }
    before.pages.len()
}

#[test]
fn a_disk_that_is_swapped_to_is_cut_too() {
    let Some(()) = able(&["mkswap", "swapon", "swapoff", "python3"]) else { return };
    let rig = Rig::new(&[("swap", DISK_BYTES)], Setup::default());
    let device = &rig.disks[0].source;
    let Some(swap) = Swap::on(device, PRIORITY_MAX) else {
        eprintln!("skipped the rest: needs a kernel that swaps");
        return;
    };
    let python = program("python3");
    let mut command = supervised(python.get_program().as_ref());
    let writer = Running::start(command.args(["-c", WRITER]).arg(device.path()));
    let ends = Ends::start(&rig);
    rig.wait_for_points();
    let mut resting = 0;
    for number in 0..CUTS_MAX {
        let known = Round::all(&writer).len();
        eventually("a round more", || Round::all(&writer).len() > known);
        let name = format!("cut-{number}");
        rig.cut(&name, &[]);
        resting +=
            usize::from(Round::before(&Round::all(&writer), rig.point("swap", &name).window).is_some());
        if resting >= CUTS_WITHIN_RESTS {
            break;
        }
    }
    let rounds = Round::all(&writer);
    writer.kill();
    drop(swap);
    ends.finish(&rig);
    let pages: Vec<usize> =
        rig.points("swap").iter().map(|point| judge_pages(&rig, point, &rounds)).collect();
    println!("pages that had to be in each point: {pages:?}");
    assert!(
        pages.iter().any(|count| *count > 0),
        "nothing was swapped out before a cut: {} rounds",
        rounds.len()
    );
}
