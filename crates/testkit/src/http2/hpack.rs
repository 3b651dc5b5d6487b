//! Header blocks (RFC 7541): written entry by entry, so that each can be wrong in its own way, and read as a client reads answers.

use super::huffman;
use anyhow::{Result, anyhow, bail};
use std::collections::VecDeque;

/// Index of `:authority` in the static table.
pub const AUTHORITY: u64 = 1;
/// Index of `:method` (GET) in the static table.
pub const METHOD: u64 = 2;
/// Index of `:path` (/) in the static table.
pub const PATH: u64 = 4;
/// Index of `:scheme` (http) in the static table.
pub const SCHEME: u64 = 6;
/// Index of `:status` (200) in the static table.
pub const STATUS: u64 = 8;

/// Whether a literal enters the dynamic table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indexing {
    /// It does (§6.2.1).
    With,
    /// It does not (§6.2.2).
    Without,
    /// Nor may it further on (§6.2.3).
    Never,
}

/// A name: of the tables, or spelt out.
#[derive(Debug, Clone, Copy)]
pub enum Name<'a> {
    /// By its place.
    Index(u64),
    /// As it is.
    Text(&'a [u8]),
}

impl From<u64> for Name<'_> {
    fn from(index: u64) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a str> for Name<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.as_bytes())
    }
}

impl<'a> From<&'a [u8]> for Name<'a> {
    fn from(text: &'a [u8]) -> Self {
        Self::Text(text)
    }
}

/// A header block in the making.
#[derive(Debug, Clone, Default)]
pub struct Block(Vec<u8>);

impl Block {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// A field of the tables.
    pub fn indexed(self, index: u64) -> Self {
        self.raw(&integer(0x80, 7, index))
    }

    /// A literal without Huffman.
    pub fn literal<'a>(self, how: Indexing, name: impl Into<Name<'a>>, value: impl AsRef<[u8]>) -> Self {
        self.entry(how, name.into(), value.as_ref(), false)
    }

    /// A literal with its strings Huffman-coded.
    pub fn compressed<'a>(self, how: Indexing, name: impl Into<Name<'a>>, value: impl AsRef<[u8]>) -> Self {
        self.entry(how, name.into(), value.as_ref(), true)
    }

    fn entry(self, how: Indexing, name: Name<'_>, value: &[u8], huffman: bool) -> Self {
        let (pattern, bits) = match how {
            Indexing::With => (0x40, 6),
            Indexing::Without => (0x00, 4),
            Indexing::Never => (0x10, 4),
        };
        let block = match name {
            Name::Index(index) => self.raw(&integer(pattern, bits, index)),
            Name::Text(text) => self.raw(&integer(pattern, bits, 0)).raw(&string(text, huffman)),
        };
        block.raw(&string(value, huffman))
    }

    /// A field that enters no table.
    pub fn field<'a>(self, name: impl Into<Name<'a>>, value: impl AsRef<[u8]>) -> Self {
        self.literal(Indexing::Without, name, value)
    }

    /// A change of the dynamic table's size.
    pub fn size(self, size: u64) -> Self {
        self.raw(&integer(0x20, 5, size))
    }

    /// Any bytes.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    /// A proper request for a tunnel.
    pub fn connect(authority: &str) -> Self {
        Self::new().field(METHOD, "CONNECT").field(AUTHORITY, authority)
    }
}

impl From<Block> for Vec<u8> {
    fn from(block: Block) -> Self {
        block.0
    }
}

/// An integer with a prefix of `bits` (§5.1).
pub fn integer(pattern: u8, bits: u8, value: u64) -> Vec<u8> {
    let most = (1_u64 << bits) - 1;
    let low = |value: u64| u8::try_from(value & 0xff).unwrap_or_default();
    if value < most {
        return vec![pattern | low(value)];
    }
    let mut bytes = vec![pattern | low(most)];
    let mut rest = value - most;
    while rest >= 128 {
        bytes.push(low(rest) | 0x80);
        rest >>= 7;
    }
    bytes.push(low(rest));
    bytes
}

/// A string (§5.2).
pub fn string(text: &[u8], huffman: bool) -> Vec<u8> {
    if !huffman {
        return [integer(0, 7, text.len() as u64), text.to_vec()].concat();
    }
    coded(huffman::encode(text.iter().map(|byte| usize::from(*byte)), true))
}

/// Bytes that are passed off as a Huffman-coded string.
pub fn coded(code: impl Into<Vec<u8>>) -> Vec<u8> {
    let code = code.into();
    [integer(0x80, 7, code.len() as u64), code].concat()
}

/// A Huffman-coded string with the end-of-string symbol inside.
pub fn end_of_string_inside() -> Vec<u8> {
    coded(huffman::encode([usize::from(b'a'), huffman::END_OF_STRING, usize::from(b'b')], true))
}

/// A Huffman-coded string whose last bits are not those of the end-of-string symbol.
pub fn padded_with_zeros(text: &str) -> Vec<u8> {
    coded(huffman::encode(text.bytes().map(usize::from), false))
}

/// A name and its value.
pub type Field = (String, String);

/// Reads the blocks of one direction.
#[derive(Debug, Default)]
pub struct Decoder {
    dynamic: VecDeque<Field>,
}

impl Decoder {
    /// The fields of a block.
    pub fn decode(&mut self, mut block: &[u8]) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        while let Some(first) = block.first().copied() {
            let (bits, enters) = match first {
                0x80.. => {
                    let index = take_integer(&mut block, 7)?;
                    fields.push(self.field(index)?);
                    continue;
                }
                0x40..=0x7f => (6, true),
                0x20..=0x3f => {
                    take_integer(&mut block, 5)?;
                    continue;
                }
                _ => (4, false),
            };
            let name = match take_integer(&mut block, bits)? {
                0 => take_string(&mut block)?,
                index => self.field(index)?.0,
            };
            let field = (name, take_string(&mut block)?);
            if enters {
                self.dynamic.push_front(field.clone());
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn field(&self, index: usize) -> Result<Field> {
        let unknown = || anyhow!("index {index} is in neither table");
        if let Some((name, value)) = STATIC.get(index.checked_sub(1).ok_or_else(unknown)?) {
            return Ok(((*name).to_owned(), (*value).to_owned()));
        }
        if index <= 61 {
            bail!("index {index} is of no name that an answer has");
        }
        self.dynamic.get(index - 62).cloned().ok_or_else(unknown)
    }
}

/// The front of the static table (appendix A), as far as answers of a tunnel's server and its tests need it.
const STATIC: [(&str, &str); 14] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
];

fn take_integer(block: &mut &[u8], bits: u8) -> Result<usize> {
    let mut next = || {
        let (first, rest) = block.split_first().ok_or_else(|| anyhow!("an integer is cut short"))?;
        *block = rest;
        Ok::<_, anyhow::Error>(usize::from(*first))
    };
    let most = (1 << bits) - 1;
    let mut value = next()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let byte = next()?;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("an integer is too long")
}

fn take_string(block: &mut &[u8]) -> Result<String> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = take_integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or_else(|| anyhow!("a string is cut short"))?;
    *block = rest;
    let text = if coded { huffman::decode(text).ok_or_else(|| anyhow!("no Huffman code"))? } else { text.to_vec() };
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_the_rfcs() {
        assert_eq!(integer(0, 5, 10), [10]);
        assert_eq!(integer(0, 5, 1337), [31, 154, 10]);
        assert_eq!(integer(0x80, 8, 42)[0] & 0x7f, 42);
    }

    #[test]
    fn what_is_written_is_read_and_the_table_is_kept() {
        let mut decoder = Decoder::default();
        let block = Block::new().indexed(8).compressed(Indexing::With, "baggage", "service.name=web");
        let field = ("baggage".to_owned(), "service.name=web".to_owned());
        let read = decoder.decode(&Vec::from(block)).unwrap();
        assert_eq!(read, [(":status".to_owned(), "200".to_owned()), field.clone()]);
        assert_eq!(decoder.decode(&Vec::from(Block::new().indexed(62))).unwrap(), [field]);
        assert!(decoder.decode(&Vec::from(Block::new().indexed(63))).is_err());
    }
}
