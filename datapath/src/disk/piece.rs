//! Where a range of the disk lies: in a file, or nowhere because it is zero.

use crate::unit::Extent;

/// A range of the disk and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The range of the disk.
    pub extent: Extent,
    /// Where it lies.
    pub place: Place,
}

/// Where a piece lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the disk's file of this index, from this byte on.
    File {
        /// Index among the disk's files.
        index: usize,
        /// First byte in the file.
        position: u64,
        /// Whether the disk may be written there.
        writable: bool,
    },
    /// Nowhere: it reads as zero and cannot be written.
    Zero,
}

impl Piece {
    /// The part of this piece within `extent`; `None` where they share nothing.
    #[must_use]
    pub fn part(&self, extent: Extent) -> Option<Self> {
        let shared = self.extent.intersection(extent)?;
        let place = match self.place {
            Place::Zero => Place::Zero,
            Place::File { index, position, writable } => {
                Place::File { index, position: position + (shared.offset() - self.extent.offset()), writable }
            }
        };
        Some(Self { extent: shared, place })
    }
}

/// The parts of `pieces` (sorted, without gaps) that make up `extent`.
pub(super) fn parts(pieces: &[Piece], extent: Extent) -> impl Iterator<Item = Piece> + '_ {
    let first = pieces.partition_point(|piece| piece.extent.end() <= extent.offset());
    pieces[first..].iter().map_while(move |piece| piece.part(extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_an_extent_across_pieces() {
        let file = |index, position| Place::File { index, position, writable: true };
        let pieces = [
            Piece { extent: Extent::between(0, 100), place: file(0, 1000) },
            Piece { extent: Extent::between(100, 150), place: Place::Zero },
            Piece { extent: Extent::between(150, 300), place: file(1, 0) },
        ];
        let found: Vec<_> = parts(&pieces, Extent::between(40, 200)).collect();
        assert_eq!(
            found,
            [
                Piece { extent: Extent::between(40, 100), place: file(0, 1040) },
                Piece { extent: Extent::between(100, 150), place: Place::Zero },
                Piece { extent: Extent::between(150, 200), place: file(1, 0) },
            ]
        );
        assert_eq!(parts(&pieces, Extent::between(300, 400)).count(), 0);
    }
}
