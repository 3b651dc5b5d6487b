//! One response, which shares the resources that it carries, and how it is written.
//!
//! A first response carries the whole mesh. Its resources are written from where they are held straight into the transport's
//! buffer; as messages of their own they would be copied once per proxy, name by name.

use super::Resource;
use bytes::BufMut;
use model::Str;
use prost::{Message, decode_length_delimiter, encode_length_delimiter, length_delimiter_len};
use proto::discovery::DeltaDiscoveryResponse;
use std::sync::Arc;

/// How much of a resource a type carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// All of it.
    Whole,
    /// The message in this field: `Workload` is a field of `Address`.
    Field(u8),
}

impl Form {
    /// The bytes of a resource in this form, if it has it.
    pub(super) fn of(self, resource: &Resource) -> Option<&[u8]> {
        let Self::Field(number) = self else { return Some(&resource.body) };
        let (first, mut rest) = resource.body.split_first()?;
        let length = decode_length_delimiter(&mut rest).ok()?;
        (*first == number << 3 | 2 && rest.len() == length).then_some(rest)
    }
}

/// One response.
#[derive(Debug)]
pub struct Push {
    /// Everything but the resources.
    pub(super) head: DeltaDiscoveryResponse,
    pub(super) resources: Vec<Arc<Resource>>,
    pub(super) form: Form,
    /// The proxy asks by name and is told by which other names it may.
    pub(super) with_aliases: bool,
}

/// Tags with the wire type of what has a length: field numbers of `DeltaDiscoveryResponse`, `Resource` and `Any`.
const RESOURCES: u8 = 2 << 3 | 2;
const VERSION: u8 = 1 << 3 | 2;
const RESOURCE: u8 = 2 << 3 | 2;
const NAME: u8 = 3 << 3 | 2;
const ALIASES: u8 = 4 << 3 | 2;
const TYPE_URL: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;
/// Versions are written as so many digits.
const DIGITS: usize = 16;

impl Push {
    /// Type of the resources.
    pub fn type_url(&self) -> &str {
        &self.head.type_url
    }

    /// How many resources it carries.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether it carries no resource; it may still remove some.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// Bytes on the wire.
    pub fn encoded_len(&self) -> usize {
        let resources = self.resources.iter().map(|resource| field(self.resource_len(resource)));
        self.head.encoded_len() + resources.sum::<usize>()
    }

    /// Writes it.
    pub fn encode(&self, out: &mut impl BufMut) {
        for resource in &self.resources {
            self.write(resource, out);
        }
        // The order of fields is free; an encoding into a buffer that grows does not fail.
        let _ = self.head.encode(out);
    }

    fn aliases<'a>(&self, resource: &'a Resource) -> &'a [Str] {
        if self.with_aliases { &resource.aliases } else { &[] }
    }

    fn any_len(&self, body: &[u8]) -> usize {
        field(self.head.type_url.len()) + field(body.len())
    }

    fn resource_len(&self, resource: &Resource) -> usize {
        let body = self.form.of(resource).unwrap_or_default();
        let aliases = self.aliases(resource).iter().map(|alias| field(alias.len()));
        field(DIGITS) + field(self.any_len(body)) + field(resource.name.len()) + aliases.sum::<usize>()
    }

    fn write(&self, resource: &Resource, out: &mut impl BufMut) {
        let body = self.form.of(resource).unwrap_or_default();
        header(RESOURCES, self.resource_len(resource), out);
        header(VERSION, DIGITS, out);
        for place in (0..DIGITS).rev() {
            let digit = (resource.version >> (4 * place)) as usize & 0xf;
            out.put_u8(b"0123456789abcdef"[digit]);
        }
        header(RESOURCE, self.any_len(body), out);
        text(TYPE_URL, self.head.type_url.as_bytes(), out);
        text(VALUE, body, out);
        text(NAME, resource.name.as_bytes(), out);
        for alias in self.aliases(resource) {
            text(ALIASES, alias.as_bytes(), out);
        }
    }
}

/// Bytes of a field with a length.
fn field(len: usize) -> usize {
    1 + length_delimiter_len(len) + len
}

fn header(tag: u8, len: usize, out: &mut impl BufMut) {
    out.put_u8(tag);
    // A buffer that grows has room.
    let _ = encode_length_delimiter(len, out);
}

fn text(tag: u8, bytes: &[u8], out: &mut impl BufMut) {
    header(tag, bytes.len(), out);
    out.put_slice(bytes);
}
