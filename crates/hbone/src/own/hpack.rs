//! HPACK (RFC 7541): a decoder that takes everything legal, and an encoder that uses the static table and literals alone.
//!
//! The decoder's table has the default size, which our settings do not change. Sizes of header lists are the caller's to
//! limit: every field is handed on, so that the table stays the peer's.

mod huffman;
mod table;

use super::error::{Code, Fault};
use table::Table;

const BROKEN: Fault = Fault::Connection(Code::COMPRESSION_ERROR, "a header block cannot be decoded");

/// The decoding side of one connection.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    table: Table,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// Decodes a whole header block, field by field.
    pub(super) fn decode(&mut self, mut block: &[u8], field: &mut impl FnMut(&[u8], &[u8])) -> Result<(), Fault> {
        let mut begun = false;
        while let Some(first) = block.first().copied() {
            if first & 0xe0 == 0x20 {
                // Sizes change only before the first field.
                let size = integer(&mut block, 5)?;
                if begun || !self.table.resize(size) {
                    return Err(BROKEN);
                }
                continue;
            }
            begun = true;
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                let (name, value) = self.table.get(index).ok_or(BROKEN)?;
                field(name, value);
                continue;
            }
            let indexed = first & 0x40 != 0;
            let index = integer(&mut block, if indexed { 6 } else { 4 })?;
            self.name.clear();
            if index == 0 {
                string(&mut block, &mut self.name)?;
            } else {
                self.name.extend_from_slice(self.table.get(index).ok_or(BROKEN)?.0);
            }
            self.value.clear();
            string(&mut block, &mut self.value)?;
            field(&self.name, &self.value);
            if indexed {
                self.table.insert(&self.name, &self.value);
            }
        }
        Ok(())
    }
}

/// An integer in the lower `bits` of the first byte and as many more as it needs (§5.1).
fn integer(block: &mut &[u8], bits: u32) -> Result<usize, Fault> {
    let (first, mut rest) = block.split_first().ok_or(BROKEN)?;
    let mask = (1_usize << bits) - 1;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        // Three more bytes are two million: more than anything here may be.
        for shift in [0, 7, 14, 21] {
            let (byte, after) = rest.split_first().ok_or(BROKEN)?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Ok(value);
            }
        }
        return Err(BROKEN);
    }
    *block = rest;
    Ok(value)
}

/// A string (§5.2), appended to `out`.
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let coded = block.first().ok_or(BROKEN)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(BROKEN)?;
    *block = rest;
    if !coded {
        out.extend_from_slice(text);
    } else if !huffman::decode(text, out) {
        return Err(BROKEN);
    }
    Ok(())
}

/// Index in the static table of `:authority`.
const AUTHORITY: usize = 1;
/// Index of `:method`.
const METHOD: usize = 2;
/// Index of the first `:status`.
const STATUS: usize = 8;
/// Statuses that have an index of their own, from [`STATUS`] on.
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];

/// Writes `:method: CONNECT` and `:authority`.
pub(super) fn write_connect(out: &mut Vec<u8>, authority: &str) {
    write_named(out, METHOD, b"CONNECT");
    write_named(out, AUTHORITY, authority.as_bytes());
}

/// Writes `:status`.
pub(super) fn write_status(out: &mut Vec<u8>, status: u16) {
    match STATUSES.iter().position(|known| *known == status) {
        Some(offset) => write_integer(out, 0x80, 7, STATUS + offset),
        None => write_named(out, STATUS, status.to_string().as_bytes()),
    }
}

/// Writes any other field; its name is in lower case.
pub(super) fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(0);
    write_string(out, name);
    write_string(out, value);
}

fn write_named(out: &mut Vec<u8>, index: usize, value: &[u8]) {
    write_integer(out, 0, 4, index);
    write_string(out, value);
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    write_integer(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

#[allow(clippy::cast_possible_truncation, reason = "the value is brought below one byte first")]
fn write_integer(out: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let mask = (1_usize << bits) - 1;
    if value < mask {
        return out.push(first | value as u8);
    }
    out.push(first | mask as u8);
    let mut left = value - mask;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests;
