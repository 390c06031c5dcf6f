//! What must happen to a window: runs of chunks that are equal, zero, or data.

use crate::pipeline::chunk_extents;
use crate::unit::Extent;

/// What a chunk of the target needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing: it holds what the source holds.
    Equal,
    /// To be made zero.
    Zero,
    /// The source's bytes.
    Data,
}

/// Neighbouring chunks of one fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The chunks together.
    pub extent: Extent,
    /// What they need.
    pub fate: Fate,
}

/// Asks for the fate of each chunk of `window` and joins neighbours.
pub fn runs(window: Extent, mut fate_of: impl FnMut(usize, Extent) -> Fate) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, chunk) in chunk_extents(window).enumerate() {
        let fate = fate_of(index, chunk);
        match runs.last_mut() {
            Some(last) if last.fate == fate => {
                last.extent = Extent::between(last.extent.offset(), chunk.end())
            }
            _ => runs.push(Run { extent: chunk, fate }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_fate_are_one_run() {
        let window = Extent::between(1 << 20, (1 << 20) + 5 * 65_536 + 7);
        let fates = [Fate::Equal, Fate::Data, Fate::Data, Fate::Zero, Fate::Zero, Fate::Zero];
        let found = runs(window, |index, _| fates[index]);
        let lengths: Vec<_> = found.iter().map(|run| (run.fate, run.extent.length())).collect();
        assert_eq!(lengths, [(Fate::Equal, 65_536), (Fate::Data, 131_072), (Fate::Zero, 131_079)]);
    }
}
