//! The lives that are played: what happens to a pair, in which order.

use failback_datapath::limits;

use super::script::{Author, Script};

/// The whole life of a pair.
pub fn life(seed: u64) -> Script {
    let mut author = Author::new(seed);
    author.bring();
    author.cut();
    for _ in 0..3 {
        author.epoch();
    }
    author.land();
    author.begin_synchronization();
    author.bring();
    author.cut();
    author.epoch();
    author.begin_synchronization();
    author.bring();
    author.cancel_synchronization();
    author.epoch();
    author.land();
    author.fence();
    author.rewind();
    author.rewind();
    author.rewind();
    author.commit();
    author.begin_synchronization();
    author.bring();
    author.cut();
    author.epoch();
    author.finish()
}

/// The life of a pair with more points than are merged into one index, of which
/// the oldest are dropped, and with epochs that do not fit in memory.
pub fn crowded_life(seed: u64) -> Script {
    let mut author = Author::new(seed);
    author.spill_at(usize::try_from(1 + seed % 2).expect("small"));
    author.bring();
    author.cut();
    fill_up(&mut author);
    author.tend();
    author.expire(2);
    long_epoch(&mut author);
    author.begin_synchronization();
    author.bring();
    author.cancel_synchronization();
    fill_up(&mut author);
    author.tend();
    author.give_up(3);
    author.land();
    author.fence();
    author.rewind();
    author.commit();
    author.begin_synchronization();
    author.bring();
    author.cut();
    // So many that segments go with them.
    author.expire(12);
    author.tend();
    author.epoch();
    author.finish()
}

/// Until there are enough points for a merge.
fn fill_up(author: &mut Author) {
    while author.epochs_kept() <= limits::MERGE_FAN {
        author.little_epoch();
    }
}

/// One of so many batches that the runs that it is spilled to are merged.
fn long_epoch(author: &mut Author) {
    for _ in 0..limits::MERGE_FAN + 2 {
        author.land_little();
    }
    author.cut();
}
