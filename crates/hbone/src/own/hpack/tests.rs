//! The examples of RFC 7541, and what is no header block.

use super::*;
use rstest::rstest;

fn unhex(text: &str) -> Vec<u8> {
    let text: String = text.split_whitespace().collect();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Fault> {
    let mut fields = Vec::new();
    decoder.decode(block, &mut |name, value| {
        fields.push(format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
    })?;
    Ok(fields)
}

/// RFC 7541 appendices C.3 and C.4: the same three requests, plain and Huffman-coded.
#[rstest]
#[case([
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
])]
#[case([
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
])]
fn the_examples_of_the_standard(#[case] blocks: [&str; 3]) {
    let mut decoder = Decoder::default();
    let base = [":method=GET", ":scheme=http", ":path=/", ":authority=www.example.com"];
    let expected = [
        base.to_vec(),
        [&base[..], &["cache-control=no-cache"]].concat(),
        vec![
            ":method=GET",
            ":scheme=https",
            ":path=/index.html",
            ":authority=www.example.com",
            "custom-key=custom-value",
        ],
    ];
    for (block, expected) in blocks.iter().zip(expected) {
        assert_eq!(decoded(&mut decoder, &unhex(block)).unwrap(), expected);
    }
}

/// RFC 7541 appendix C.5 with a table of 256 bytes: entries are evicted.
#[test]
fn old_entries_go() {
    let mut decoder = Decoder::default();
    // "Dynamic table size update" to 256.
    decoded(&mut decoder, &unhex("3fe101")).unwrap();
    let blocks = [
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
    ];
    decoded(&mut decoder, &unhex(blocks[0])).unwrap();
    let second = decoded(&mut decoder, &unhex(blocks[1])).unwrap();
    assert_eq!(
        second,
        [
            ":status=307",
            "cache-control=private",
            "date=Mon, 21 Oct 2013 20:13:21 GMT",
            "location=https://www.example.com"
        ]
    );
}

#[rstest]
#[case::index_zero("80")]
#[case::beyond_the_table("be")]
#[case::name_beyond_the_table("7f 00 01 61")]
#[case::cut_integer("ff")]
#[case::endless_integer("ff ff ff ff ff ff ff")]
#[case::cut_string("00 05 61")]
#[case::string_beyond_the_block("00 7f ff ff 7f")]
#[case::bad_huffman("00 81 ff 01 61")]
#[case::size_beyond_ours("3f e2 1f")]
#[case::size_after_a_field("82 20")]
fn what_is_no_header_block(#[case] block: &str) {
    assert_eq!(decoded(&mut Decoder::default(), &unhex(block)), Err(BROKEN));
}

#[test]
fn what_is_written_is_read_back() {
    let mut block = Vec::new();
    write_connect(&mut block, "10.0.0.1:80");
    write_field(&mut block, b"baggage", &[b'x'; 300]);
    let fields = decoded(&mut Decoder::default(), &block).unwrap();
    assert_eq!(fields[..2], [":method=CONNECT", ":authority=10.0.0.1:80"]);
    assert_eq!(fields[2], format!("baggage={}", "x".repeat(300)));
    for status in [200, 400, 401, 503] {
        let mut block = Vec::new();
        write_status(&mut block, status);
        assert_eq!(decoded(&mut Decoder::default(), &block).unwrap(), [format!(":status={status}")]);
    }
}
