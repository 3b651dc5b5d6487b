//! HPACK's Huffman code (RFC 7541 appendix B). It is canonical: the lengths of the codes say everything.

/// Length of each byte's code; the last is the end of a string, which must not occur.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const LONGEST: usize = 30;
const END: u16 = 256;

/// The code in the order of its codes.
struct Canonical {
    /// Bytes by the order of their codes.
    symbols: [u16; 257],
    /// For each length: the first code, how many there are, and where their bytes begin.
    lengths: [(u32, u32, u16); LONGEST + 1],
}

static CODE: Canonical = canonical();

const fn canonical() -> Canonical {
    let (mut symbols, mut lengths) = ([0; 257], [(0, 0, 0); LONGEST + 1]);
    let (mut code, mut filled, mut length) = (0_u32, 0_u16, 1);
    while length <= LONGEST {
        code <<= 1;
        let (first, start) = (code, filled);
        let mut symbol = 0_u16;
        while symbol <= END {
            if LENGTHS[symbol as usize] as usize == length {
                symbols[filled as usize] = symbol;
                filled += 1;
                code += 1;
            }
            symbol += 1;
        }
        lengths[length] = (first, code - first, start);
        length += 1;
    }
    Canonical { symbols, lengths }
}

/// Decodes `text` to the end of `out`; false if it is not of this code.
pub(super) fn decode(text: &[u8], out: &mut Vec<u8>) -> bool {
    // What has been read and is not decoded: `held` bits of `bits`.
    let (mut bits, mut held) = (0_u64, 0_usize);
    let mut rest = text.iter();
    loop {
        while held <= 32 {
            let Some(byte) = rest.next() else { break };
            bits = bits << 8 | u64::from(*byte);
            held += 8;
        }
        let Some((symbol, length)) = symbol(bits, held) else {
            // The end is filled with the beginning of the code of END: less than a byte of ones.
            let padding = (1_u64 << held) - 1;
            return held < 8 && bits & padding == padding;
        };
        let Ok(byte) = u8::try_from(symbol) else { return false };
        out.push(byte);
        held -= length;
    }
}

/// The first symbol of the lower `held` bits and the length of its code.
fn symbol(bits: u64, held: usize) -> Option<(u16, usize)> {
    for length in 5..=LONGEST.min(held) {
        #[allow(clippy::cast_possible_truncation, reason = "at most 30 bits are left")]
        let code = (bits >> (held - length) & ((1 << length) - 1)) as u32;
        let (first, count, start) = CODE.lengths[length];
        if let Some(offset) = code.checked_sub(first).filter(|offset| *offset < count) {
            return Some((CODE.symbols[usize::from(start) + offset as usize], length));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Examples of RFC 7541 appendix C.
    #[rstest::rstest]
    #[case("f1e3c2e5f23a6ba0ab90f4ff", Some("www.example.com"))]
    #[case("a8eb10649cbf", Some("no-cache"))]
    #[case("25a849e95bb8e8b4bf", Some("custom-value"))]
    #[case("d07abe941054d444a8200595040b8166e082a62d1bff", Some("Mon, 21 Oct 2013 20:13:21 GMT"))]
    #[case("", Some(""))]
    #[case("a8eb10649cbe", None)]
    #[case("a8eb10649cbfff", None)]
    #[case("ffffffff", None)]
    #[case("fffffffc", None)]
    fn strings(#[case] hex: &str, #[case] expected: Option<&str>) {
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let mut out = Vec::new();
        let decoded = decode(&bytes, &mut out).then(|| String::from_utf8(out).unwrap());
        assert_eq!(decoded.as_deref(), expected);
    }
}
