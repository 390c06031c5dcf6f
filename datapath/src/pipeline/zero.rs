//! Finding bytes that are all zero.

/// Whether all of `bytes` are zero. Stops at the first 128 that are not, so
/// that data costs nothing.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    let mut blocks = bytes.chunks_exact(128);
    // An OR over a fixed block is what the compiler turns into vector code.
    blocks.all(|block| block.iter().fold(0, |seen, byte| seen | byte) == 0)
        && blocks.remainder().iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::is_zero;

    #[test]
    fn one_byte_anywhere_is_found() {
        for length in [0, 1, 127, 128, 129, 1000] {
            let mut bytes = vec![0; length];
            assert!(is_zero(&bytes));
            for at in 0..length {
                bytes[at] = 1;
                assert!(!is_zero(&bytes), "byte {at} of {length}");
                bytes[at] = 0;
            }
        }
    }
}
