//! Whether the kernel shows every task to those who watch it.
//!
//! Some do not: while one of certain tasks runs, as a sandbox's own or the idle
//! one, nothing that happens on its processor is told to any tracer, and no miss
//! is counted. An interrupt that arrives then, with the completions that it
//! brings, is unseen as well. The tracker notices by the kernel's count of sectors
//! (`count`), and the disk must be resynchronized.
//!
//! A switch names the task that ends and the one that begins. On each processor
//! the one that ends is the one that began last:
//!
//! ```text
//! shown:    a→b     b→c             d→a     the third does not go on from c:
//! happened: a→b     b→c     c→d     d→a     a switch was hidden
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::assembler::{Arithmetic, Assembler, Call, Condition, Register, Width};
use super::layout::PAGE_WORDS;
use super::program::lookup;
use crate::sys::bpf::{self, SharedWords};

use Register::{Frame, R0, R1, R2, R3, R6, R7, R8, R9};

/// The map: a page of the task that began last on each processor, a page of counts.
const PAGES: u32 = 2;
const SHOWN: i16 = 0;
const HIDDEN: i16 = 8;
/// Where the place of the counts stands on the stack.
const COUNTS: i16 = -16;

/// What was seen of the switches between tasks, on the first 512 processors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// Switches that were shown.
    pub shown: u64,
    /// How many of them did not go on from the one shown before.
    pub hidden: u64,
}

/// Watches the machine's tasks for some time.
///
/// # Errors
/// Those of `bpf(2)`.
pub fn watch_switches(time: Duration) -> io::Result<Switches> {
    let map = bpf::map("failback", PAGES)?;
    let memory = SharedWords::new(map.as_fd(), PAGES)?;
    let code = program(map.as_fd().as_raw_fd()).ok_or(io::ErrorKind::InvalidInput)?;
    let program = bpf::load("switches", &code).map_err(|refused| refused.source)?;
    let link = bpf::attach(c"sched_switch", program.as_fd())?;
    std::thread::sleep(time);
    drop(link);
    let counts = &memory.words()[PAGE_WORDS..];
    Ok(Switches { shown: counts[0].load(SeqCst), hidden: counts[1].load(SeqCst) })
}

fn program(map: RawFd) -> Option<Vec<u64>> {
    let mut code = Assembler::default();
    let end = code.label();
    code.load(Width::Long, R7, R1, 8);
    code.load(Width::Long, R8, R1, 16);
    code.call(Call::Processor);
    code.set(R9, R0);
    code.jump_if(R9, Condition::Above, 511, end);
    code.set(R1, 1);
    lookup(&mut code, map, R1);
    code.jump_if(R0, Condition::Equal, 0, end);
    code.store(Width::Long, Frame, COUNTS, R0);
    code.set(R1, 0);
    lookup(&mut code, map, R1);
    code.jump_if(R0, Condition::Equal, 0, end);
    code.compute(Arithmetic::ShiftLeft, R9, 3);
    code.compute(Arithmetic::And, R9, 0xff8);
    code.compute(Arithmetic::Add, R0, R9);
    code.load(Width::Long, R6, R0, 0);
    code.store(Width::Long, R0, 0, R8);
    // The first that is seen of a processor goes on from nothing.
    code.jump_if(R6, Condition::Equal, 0, end);
    code.load(Width::Long, R2, Frame, COUNTS);
    code.set(R3, 1);
    code.atomic_add(R2, SHOWN, R3);
    code.jump_if(R6, Condition::Equal, R7, end);
    code.atomic_add(R2, HIDDEN, R3);
    code.place(end);
    code.set(R0, 0);
    code.exit();
    code.finish()
}
