//! The bytes that the benches of this package work on, the same every time.
//!
//! `cargo bench -p failback-benches` runs the benches themselves (`stages.rs`);
//! `-- --quick` is good enough to see whether a change matters, and a name as in
//! `-- digest/xxh3` runs only those. What a whole host can do is measured by
//! `failback bench`, and how others do it by the package `failback-peers`.

/// What a chunk or a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Lines as of a log: they shrink well.
    Text,
    /// Bytes that do not shrink.
    Random,
    /// Nothing.
    Zero,
}

impl Content {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Text, Self::Random, Self::Zero];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Random => "random",
            Self::Zero => "zero",
        }
    }

    /// `length` bytes of it.
    #[must_use]
    pub fn bytes(self, length: usize) -> Vec<u8> {
        match self {
            Self::Text => lines().flat_map(String::into_bytes).take(length).collect(),
            Self::Random => numbers().flat_map(u64::to_le_bytes).take(length).collect(),
            Self::Zero => vec![0; length],
        }
    }
}

fn lines() -> impl Iterator<Item = String> {
    const VERBS: [&str; 4] = ["opened", "closed", "sent", "flushed"];
    (0_u64..).zip(numbers()).map(|(number, random)| {
        let verb = VERBS[usize::from(random.to_le_bytes()[0] % 4)];
        format!(
            "{number:08} session {:04x}: {verb} segment {} of disk {}\n",
            random >> 48,
            random & 0xfff,
            random % 7
        )
    })
}

/// `SplitMix64`: enough for bytes that only must not shrink.
fn numbers() -> impl Iterator<Item = u64> {
    let mut state = 0x6661_696c_6261_636b_u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}
