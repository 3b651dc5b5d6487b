//! The Huffman code of header strings (RFC 7541 §5.2, appendix B).
//!
//! The code is canonical: lengths in order of length and symbol give every code, so lengths are all that is written down.

use std::sync::LazyLock;

/// The symbol that must never be in a string.
pub(crate) const END_OF_STRING: usize = 256;

#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,  5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// Length and code of each symbol.
static CODES: LazyLock<Vec<(u8, u32)>> = LazyLock::new(|| {
    let mut order: Vec<usize> = (0..LENGTHS.len()).collect();
    order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
    let mut codes = vec![(0, 0); LENGTHS.len()];
    let (mut next, mut length) = (0_u32, 0);
    for symbol in order {
        next <<= LENGTHS[symbol] - length;
        length = LENGTHS[symbol];
        codes[symbol] = (length, next);
        next = next.wrapping_add(1);
    }
    codes
});

/// The code of symbols, filled up with `padding` to whole bytes.
pub(crate) fn encode(symbols: impl IntoIterator<Item = usize>, padding: bool) -> Vec<u8> {
    let mut bits = Vec::new();
    for symbol in symbols {
        let (length, code) = CODES[symbol];
        bits.extend((0..length).rev().map(|at| code >> at & 1 == 1));
    }
    bits.resize(bits.len().next_multiple_of(8), padding);
    bits.chunks(8).map(|byte| byte.iter().fold(0, |value, bit| value << 1 | u8::from(*bit))).collect()
}

/// The string behind a code; `None` when it is no code.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let (mut text, mut length, mut code) = (Vec::new(), 0_u8, 0_u32);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1))) {
        (length, code) = (length + 1, code << 1 | bit);
        if let Some(symbol) = CODES.iter().position(|known| *known == (length, code)) {
            text.push(u8::try_from(symbol).ok()?);
            (length, code) = (0, 0);
        } else if length > 30 {
            return None;
        }
    }
    // What is left is the beginning of the end-of-string symbol, which is all ones, and shorter than a byte.
    (length < 8 && code == (1 << length) - 1).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        let example = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&example).unwrap(), b"www.example.com");
        assert_eq!(encode(b"www.example.com".iter().map(|byte| usize::from(*byte)), true), example);
        assert_eq!(encode([END_OF_STRING], true), [0xff, 0xff, 0xff, 0xff]);
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None);
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(0..256, true)).unwrap(), all);
    }
}
