//! Header blocks (RFC 9113 §4.3, RFC 7541).

use super::{Case, Stage::*, Target, answered, close, malformed, row};
use crate::http2::{
    Frame, bytes,
    code::{COMPRESSION_ERROR, PROTOCOL_ERROR},
    hpack::{
        AUTHORITY, Block,
        Indexing::{Never, With, Without},
        METHOD, coded, end_of_string_inside, integer, padded_with_zeros, string,
    },
};

pub(super) fn rows(target: &Target) -> Vec<Case> {
    [indices(target), tables(target), integers(target), strings(target), literals(target), states(target)].concat()
}

fn request(clause: &'static str, what: &str, block: Block, right: Vec<super::Reaction>) -> Case {
    row(clause, what, Greeted, Frame::headers(1, block).bytes(), right)
}

fn broken(clause: &'static str, what: &str, block: Block) -> Case {
    request(clause, what, block, close(COMPRESSION_ERROR))
}

fn indices(target: &Target) -> Vec<Case> {
    vec![
        broken("7541 6.1", "index 0", target.connect().indexed(0)),
        broken("7541 2.3.3", "the first index of an empty dynamic table", target.connect().indexed(62)),
        broken("7541 2.3.3", "an index far beyond the tables", target.connect().indexed(1 << 20)),
        broken("7541 2.3.3", "a name's index beyond the tables", target.connect().field(70, "x")),
        broken(
            "7541 2.3.3",
            "the name's index of an indexed literal beyond the tables",
            target.connect().literal(With, 70, "x"),
        ),
        broken(
            "7541 2.3.3",
            "the name's index of a never indexed literal beyond the tables",
            target.connect().literal(Never, 70, "x"),
        ),
    ]
}

fn tables(target: &Target) -> Vec<Case> {
    let sized = |size| Block::new().size(size);
    let connect = |block: Block| block.raw(&Vec::from(target.connect()));
    let large = "v".repeat(5_000);
    vec![
        request("7541 6.3", "a smaller table", connect(sized(100)), answered(1, 200)),
        request("7541 6.3", "a table of nothing", connect(sized(0)), answered(1, 200)),
        request(
            "7541 4.2",
            "a table of nothing, and then the largest",
            connect(sized(0).size(4_096)),
            answered(1, 200),
        ),
        broken("7541 6.3", "a table larger than was offered", connect(sized(4_097))),
        broken("7541 6.3", "a table of 2^30", connect(sized(1 << 30))),
        broken("7541 4.2", "another size after a field", target.connect().size(0)),
        request(
            "7541 4.4",
            "an entry larger than the table",
            target.connect().literal(With, "a", &large),
            answered(1, 200),
        ),
        broken(
            "7541 4.4",
            "the index of an entry that was larger than the table",
            target.connect().literal(With, "a", &large).indexed(62),
        ),
        broken("7541 4.3", "the index of an entry of a table that was emptied", {
            let first = target.connect().literal(With, "a", "b");
            first.size(0).indexed(62)
        }),
    ]
}

fn integers(target: &Target) -> Vec<Case> {
    let raw = |bytes: &[u8]| target.connect().raw(bytes);
    vec![
        broken("7541 5.1", "an index of endless length", raw(&[&[0xff][..], &[0x80; 30], &[0x01]].concat())),
        broken("7541 5.1", "an index beyond 64 bits", raw(&[&[0xff][..], &[0xff; 12], &[0x7f]].concat())),
        broken("7541 5.1", "an index that is cut short", raw(&[0xff, 0x80])),
        broken("7541 5.1", "a name's length that is cut short", raw(&[0x00, 0x7f])),
        broken(
            "7541 5.1",
            "a table's size beyond 64 bits",
            Block::new().raw(&[&[0x3f][..], &[0xff; 12], &[0x7f]].concat()),
        ),
    ]
}

fn strings(target: &Target) -> Vec<Case> {
    let name = |code: &[u8]| target.connect().raw(&[0]).raw(code).raw(&string(b"v", false));
    let value = |code: &[u8]| target.connect().raw(&[0]).raw(&string(b"n", false)).raw(code);
    vec![
        broken("7541 5.2", "a value longer than its block", value(&integer(0, 7, 100))),
        broken("7541 5.2", "a name longer than its block", target.connect().raw(&[0]).raw(&integer(0, 7, 100))),
        broken("7541 5.2", "a value of 2^28 bytes that is not there", value(&integer(0, 7, 1 << 28))),
        broken("7541 5.2", "the end of the string inside a value", value(&end_of_string_inside())),
        broken("7541 5.2", "the end of the string inside a name", name(&end_of_string_inside())),
        broken("7541 5.2", "a value padded with zeros", value(&padded_with_zeros("a"))),
        broken("7541 5.2", "a value padded with more than seven bits", value(&coded([0x1f, 0xff]))),
        broken("7541 5.2", "a value of padding alone", value(&coded([0xff]))),
        broken("7541 5.2", "a value without its string", value(&[])),
    ]
}

fn literals(target: &Target) -> Vec<Case> {
    let each = [("indexed", With), ("not indexed", Without), ("never indexed", Never)];
    let mut rows: Vec<Case> = Vec::new();
    for (what, how) in each {
        let plain = Block::new().literal(how, METHOD, "CONNECT").literal(how, AUTHORITY, &target.echo);
        let block = plain.literal(how, "baggage", "a=b");
        rows.push(request("7541 6.2", &format!("literals {what}"), block, answered(1, 200)));
        let coded = Block::new().compressed(how, METHOD, "CONNECT").compressed(how, AUTHORITY, &target.echo);
        let block = coded.compressed(how, "baggage", "a=b");
        rows.push(request("7541 6.2", &format!("Huffman-coded literals {what}"), block, answered(1, 200)));
        let spelt = Block::new().literal(how, ":method", "CONNECT").literal(how, ":authority", &target.echo);
        rows.push(request("7541 6.2", &format!("pseudo-fields spelt out, {what}"), spelt, answered(1, 200)));
    }
    rows
}

/// The table is the connection's: what one block enters, the next may use, whatever became of the stream.
fn states(target: &Target) -> Vec<Case> {
    let entered = || Block::new().literal(With, METHOD, "CONNECT").literal(With, AUTHORITY, &target.echo);
    // The newest entry has the lowest index.
    let used = || Block::new().indexed(63).indexed(62);
    let two = |first: Block| bytes(&[Frame::headers(1, first), Frame::headers(3, used())]);
    let malformed_first = |extra: Block| entered().raw(&Vec::from(extra));
    vec![
        row("7541 2.3.2", "a request of nothing but entries", Greeted, two(entered()), answered(3, 200)),
        row(
            "9113 4.3",
            "entries of a malformed request",
            Greeted,
            two(malformed_first(Block::new().field("Capital", "x"))),
            carried_on(),
        ),
        row(
            "9113 4.3",
            "entries of a request that is refused",
            Greeted,
            two(malformed_first(Block::new().field(":verb", "x"))),
            carried_on(),
        ),
        row(
            "7541 2.3.3",
            "entries that the next request's table has lost",
            Greeted,
            bytes(&[Frame::headers(1, entered()), Frame::headers(3, Block::new().size(0).indexed(63))]),
            close(COMPRESSION_ERROR),
        ),
        row(
            "7541 4.4",
            "an entry that later ones have pushed out",
            Greeted,
            pushed_out(target),
            [close(COMPRESSION_ERROR), malformed(3)].concat(),
        ),
    ]
}

/// The second request is served, unless the first has ended the connection.
fn carried_on() -> Vec<super::Reaction> {
    [answered(3, 200), close(PROTOCOL_ERROR)].concat()
}

fn pushed_out(target: &Target) -> Vec<u8> {
    let filler = "f".repeat(900);
    let first = (0..6).fold(target.connect().literal(With, "first", "1"), |block, n| {
        block.literal(With, "x-filler", format!("{n}{filler}"))
    });
    bytes(&[Frame::headers(1, first), Frame::headers(3, target.connect().indexed(62 + 6))])
}
