//! One target per parser of foreign bytes.

#[test]
fn wds_address() {
    fuzz::run("wds_address", &[b"\x0a\x04\x0a\x02c1"], |bytes| drop(xds::wds::decode_address(bytes)));
}
