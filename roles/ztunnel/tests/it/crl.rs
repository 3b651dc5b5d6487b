//! Revocation lists as files, written byte by byte: issuer and serial of a certificate, which is all that counts.

use base64::{Engine, prelude::BASE64_STANDARD};

/// One value of DER: its tag, its content, what follows it.
fn value(der: &[u8]) -> (u8, &[u8], &[u8], &[u8]) {
    let (length, head) = match usize::from(der[1]) {
        short if short < 0x80 => (short, 2),
        long => {
            let bytes = long & 0x7f;
            (der[2..2 + bytes].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + bytes)
        }
    };
    (der[0], &der[head..head + length], &der[head + length..], &der[..head + length])
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut der = vec![tag];
    if length < 0x80 {
        der.push(u8::try_from(length).unwrap());
    } else {
        der.push(0x82);
        der.extend(u16::try_from(length).unwrap().to_be_bytes());
    }
    der.extend(content);
    der
}

/// The DER of a PEM text's first block.
fn der(pem: &str) -> Vec<u8> {
    let lines = pem.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1);
    let body: String = lines.take_while(|line| !line.starts_with("-----END")).collect();
    BASE64_STANDARD.decode(body).unwrap()
}

/// A list, as PEM, that revokes the certificate.
pub(crate) fn revoking(certificate_pem: &str) -> String {
    let certificate = der(certificate_pem);
    let (_, to_be_signed, ..) = value(value(&certificate).1);
    let (tag, _, after_version, _) = value(to_be_signed);
    assert_eq!(tag, 0xa0, "a certificate of version 3");
    let (_, _, rest, serial) = value(after_version);
    let (_, _, rest, algorithm) = value(rest);
    let (_, _, _, issuer) = value(rest);
    let date = wrap(0x17, b"260101000000Z");
    let entry = wrap(0x30, &[serial, &date].concat());
    let list = [&wrap(0x02, &[1]), algorithm, issuer, &date, &wrap(0x30, &entry)].concat();
    let crl = wrap(0x30, &[&wrap(0x30, &list), algorithm, &wrap(0x03, &[0, 0])].concat());
    format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", BASE64_STANDARD.encode(crl))
}
