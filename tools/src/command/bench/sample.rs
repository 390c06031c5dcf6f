//! What is measured with: text, zeroes and random bytes, in turns, the same
//! every time.

use failback_datapath::limits;
use failback_datapath::unit::{to_u64, to_usize};

/// Windows of one kind in a row: 16 MiB.
const TURN_WINDOWS: u64 = 16;

/// Windows in memory: one turn of each kind, more than any processor's cache.
const SAMPLE_WINDOWS: u64 = 4 * TURN_WINDOWS;

/// Words that text is made of.
const WORDS: usize = 2048;

const SEED: u64 = 0x6661_696c_6261_636b;

/// The bytes of a window as an index.
const WINDOW: usize = to_usize(limits::WINDOW_BYTES as u64);

/// What a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Words and numbers, which shrink by about half.
    Text,
    /// Nothing.
    Zero,
    /// Bytes that do not shrink.
    Random,
}

/// What window `index` of the data holds: half of all is text, a quarter each
/// zero and random.
pub const fn content(index: u64) -> Content {
    match index / TURN_WINDOWS % 4 {
        0 | 2 => Content::Text,
        1 => Content::Zero,
        _ => Content::Random,
    }
}

/// Makes the windows of the data.
pub struct Generator {
    words: Vec<String>,
}

impl Generator {
    /// One with its dictionary.
    pub fn new() -> Self {
        let mut random = Random(SEED);
        let words = (0..WORDS).map(|_| word(&mut random)).collect();
        Self { words }
    }

    /// Fills `window` with what window `index` of the data holds.
    pub fn fill(&self, index: u64, window: &mut [u8]) {
        let mut random = Random(SEED ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        match content(index) {
            Content::Zero => window.fill(0),
            Content::Random => {
                for piece in window.chunks_mut(8) {
                    piece.copy_from_slice(&random.next().to_le_bytes()[..piece.len()]);
                }
            }
            Content::Text => self.write_text(&mut random, window),
        }
    }

    fn write_text(&self, random: &mut Random, window: &mut [u8]) {
        let mut rest = window;
        while !rest.is_empty() {
            let drawn = random.next();
            // The smaller of two draws: as in a language, few words are frequent.
            let place = (drawn & 0xffff).min((drawn >> 16) & 0xffff);
            let index = (place * to_u64(self.words.len())) >> 16;
            let word = self.words[to_usize(index)].as_bytes();
            let length = word.len().min(rest.len());
            rest[..length].copy_from_slice(&word[..length]);
            rest = &mut rest[length..];
            if let Some(first) = rest.first_mut() {
                *first = if drawn >> 60 == 0 { b'\n' } else { b' ' };
                rest = &mut rest[1..];
            }
        }
    }
}

fn word(random: &mut Random) -> String {
    const CONSONANTS: &[u8; 16] = b"bcdfghklmnprstvz";
    const VOWELS: &[u8; 8] = b"aeiouaei";
    let mut drawn = random.next();
    let syllables = 1 + drawn % 4;
    (0..syllables)
        .flat_map(|_| {
            drawn = random.next();
            [CONSONANTS[to_usize((drawn >> 8) & 15)], VOWELS[to_usize((drawn >> 16) & 7)]]
        })
        .map(char::from)
        .collect()
}

/// `SplitMix64`, which is enough for bytes that only must not shrink.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// The first 64 MiB of the data, in memory.
pub struct Sample {
    bytes: Vec<u8>,
}

impl Sample {
    /// Made by `generator`.
    pub fn new(generator: &Generator) -> Self {
        let mut bytes = vec![0; to_usize(SAMPLE_WINDOWS) * WINDOW];
        for (index, window) in (0..).zip(bytes.chunks_mut(WINDOW)) {
            generator.fill(index, window);
        }
        Self { bytes }
    }

    /// Its windows that hold what `wanted` wants, in order.
    pub fn windows(&self, wanted: impl Fn(Content) -> bool) -> Vec<&[u8]> {
        let windows = (0..).zip(self.bytes.chunks(WINDOW));
        windows.filter(|(index, _)| wanted(content(*index))).map(|(_, window)| window).collect()
    }
}

#[cfg(test)]
mod tests {
    use failback_datapath::pipeline::{Codec, Compression, Packer, is_zero};

    use super::*;

    #[test]
    fn each_kind_is_what_it_says() {
        let generator = Generator::new();
        let mut window = vec![1; WINDOW];
        let mut packer = Packer::new(Compression::Lz4);
        for index in [0, TURN_WINDOWS, 2 * TURN_WINDOWS, 3 * TURN_WINDOWS] {
            generator.fill(index, &mut window);
            let (codec, packed) = packer.pack(&window);
            match content(index) {
                Content::Zero => assert!(is_zero(&window)),
                Content::Random => assert_eq!(codec, Codec::Raw),
                Content::Text => {
                    assert!((WINDOW / 3..WINDOW * 4 / 5).contains(&packed.len()), "{}", packed.len())
                }
            }
            let again = window.clone();
            generator.fill(index, &mut window);
            assert!(again == window, "the same every time");
        }
    }
}
