//! The bytes of nf_tables messages: attributes written and read, messages put together. What they mean is in
//! `encode` and `decode`. Reading never trusts a length.

/// `NFNL_SUBSYS_NFTABLES`, the high byte of message types.
const SUBSYSTEM: u16 = 10;

/// Messages, by their numbers within nf_tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    GetSet = 10,
    NewSetElem = 12,
    GetSetElem = 13,
    DelSetElem = 14,
}

impl Message {
    pub(super) fn kind(self) -> u16 {
        (SUBSYSTEM << 8) | self as u16
    }
}

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NESTED: u16 = 0x8000;
const KIND_MASK: u16 = 0x3fff;

/// Attributes being written.
#[derive(Debug, Default)]
pub(super) struct Attrs(pub(super) Vec<u8>);

impl Attrs {
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        // No attribute here comes near 64 KiB: lists are cut into messages, names and values are short.
        let len = (value.len() + 4) as u16;
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    pub(super) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(kind | NESTED, &inner.0)
    }
}

/// Attributes being read: pairs of kind and value. Ends at the first that does not fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Reader<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, _) = self.0.split_first_chunk::<4>()?;
        let [l0, l1, k0, k1] = *head;
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & KIND_MASK, value))
    }
}

impl<'a> Reader<'a> {
    /// The value of the attribute `kind`.
    pub(super) fn find(mut self, kind: u16) -> Option<&'a [u8]> {
        self.find_map(|(found, value)| (found == kind).then_some(value))
    }

    pub(super) fn nested(self, kind: u16) -> Option<Self> {
        self.find(kind).map(Reader)
    }

    pub(super) fn u32(self, kind: u16) -> Option<u32> {
        self.find(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn str(self, kind: u16) -> Option<String> {
        text(self.find(kind)?)
    }
}

/// The text before the terminator.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8(bytes.get(..end)?.to_vec()).ok()
}

/// Writes one message: header, nf_tables' own header, attributes.
pub(super) fn message(kind: Message, family: u8, flags: u16, sequence: u32, attrs: &Attrs, into: &mut Vec<u8>) {
    raw(kind.kind(), family, 0, flags, sequence, &attrs.0, into);
}

/// Writes what opens a transaction.
pub(super) fn begin(sequence: u32, into: &mut Vec<u8>) {
    raw(BATCH_BEGIN, 0, SUBSYSTEM, 0, sequence, &[], into);
}

/// Writes what commits a transaction.
pub(super) fn end(sequence: u32, into: &mut Vec<u8>) {
    raw(BATCH_END, 0, SUBSYSTEM, 0, sequence, &[], into);
}

fn raw(kind: u16, family: u8, resource: u16, flags: u16, sequence: u32, attrs: &[u8], into: &mut Vec<u8>) {
    let len = (16 + 4 + attrs.len()) as u32;
    into.extend(len.to_ne_bytes());
    into.extend(kind.to_ne_bytes());
    into.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
    into.extend(sequence.to_ne_bytes());
    into.extend(0u32.to_ne_bytes());
    into.extend([family, 0]);
    into.extend(resource.to_be_bytes());
    into.extend(attrs);
}

/// One message as read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    /// Everything after the netlink header.
    pub(super) body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// The IP family that an nf_tables message is about, and its attributes.
    pub(super) fn nf_tables(self) -> Option<(u8, Reader<'a>)> {
        let (head, attrs) = self.body.split_first_chunk::<4>()?;
        Some((head[0], Reader(attrs)))
    }
}

/// The messages in what one receive brought. Ends at the first that does not fit.
pub(super) fn answers(mut bytes: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let (head, _) = bytes.split_first_chunk::<16>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *head;
        let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let body = bytes.get(16..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            body,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_aligned_and_nest() {
        let mut attrs = Attrs::default();
        attrs.str(1, "abcd").nested(2, |inner| {
            inner.u32(3, 7);
        });
        assert_eq!(attrs.0.len(), 12 + 12);
        let reader = Reader(&attrs.0);
        assert_eq!(reader.str(1).as_deref(), Some("abcd"));
        assert_eq!(reader.nested(2).and_then(|inner| inner.u32(3)), Some(7));
        assert_eq!(reader.u32(9), None);
    }

    #[rstest::rstest]
    #[case(&[])]
    #[case(&[1, 2, 3])]
    #[case(&[200, 0, 1, 0, 9])]
    #[case(&[0, 0, 1, 0, 9, 9, 9, 9])]
    fn lengths_are_not_trusted(#[case] bytes: &[u8]) {
        assert_eq!(Reader(bytes).count(), 0);
        assert_eq!(answers(bytes).count(), 0);
    }
}
