//! The one form of a request's path: what is authorised and routed is byte for byte what is sent on (§2.1).
//!
//! [`normalize`] gives the path in its form, or refuses it. The form has no dot segments, no backslashes, no control characters, and unreserved characters stand
//! for themselves. An escaped slash or backslash stays escaped or is decoded, as the mesh's option says.

use std::borrow::Cow;

/// How far paths are brought into one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Normalization {
    /// Not at all.
    None,
    /// Dot segments and backslashes are resolved.
    #[default]
    Base,
    /// And several slashes are one.
    MergeSlashes,
    /// And escaped slashes are slashes.
    DecodeAndMergeSlashes,
}

/// Why a path has no form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    Relative,
    /// An escape that is not two hexadecimal digits.
    #[error("an escape in the path is not two hexadecimal digits")]
    Escape,
    /// A character that cannot stand in a path, escaped or not.
    #[error("the path holds a control character or a fragment")]
    Character,
}

/// The form of a path without its query.
pub fn normalize(path: &str, how: Normalization) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') && path != "*" {
        return Err(BadPath::Relative);
    }
    if how == Normalization::None || is_plain(path) {
        return Ok(Cow::Borrowed(path));
    }
    let text = unescape(path, how)?;
    let merge = matches!(how, Normalization::MergeSlashes | Normalization::DecodeAndMergeSlashes);
    Ok(Cow::Owned(resolve(&text, merge)))
}

/// Nothing in it needs a second look.
fn is_plain(path: &str) -> bool {
    let mut previous = b'x';
    path.bytes().all(|byte| {
        let suspect = matches!(byte, b'%' | b'\\' | b'#' | 0..=0x20 | 0x7f..)
            || (previous == b'/' && matches!(byte, b'.' | b'/'));
        previous = byte;
        !suspect
    })
}

/// Escapes of unreserved characters are decoded, all others are written in capitals; backslashes become slashes.
fn unescape(path: &str, how: Normalization) -> Result<String, BadPath> {
    let mut text = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let value = high.zip(low).map(|(high, low)| high << 4 | low).ok_or(BadPath::Escape)?;
                escaped(u8::try_from(value).map_err(|_| BadPath::Escape)?, how, &mut text)?;
            }
            b'\\' => text.push('/'),
            b'#' | 0..=0x20 | 0x7f => return Err(BadPath::Character),
            // Bytes above ASCII are escaped: their meaning must not depend on who decodes them.
            0x80.. => text.push_str(&format!("%{byte:02X}")),
            _ => text.push(char::from(byte)),
        }
    }
    Ok(text)
}

fn escaped(byte: u8, how: Normalization, text: &mut String) -> Result<(), BadPath> {
    match byte {
        0..=0x1f | 0x7f => return Err(BadPath::Character),
        b'/' | b'\\' if how == Normalization::DecodeAndMergeSlashes => text.push('/'),
        b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => text.push(char::from(byte)),
        _ => text.push_str(&format!("%{byte:02X}")),
    }
    Ok(())
}

/// Removes dot segments (RFC 3986 §5.2.4), and empty ones with `merge`.
fn resolve(path: &str, merge: bool) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    let mut slash_at_end = false;
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match segment {
            "." => slash_at_end = last,
            ".." => {
                segments.pop();
                slash_at_end = last;
            }
            "" if last => slash_at_end = true,
            "" if merge => {}
            segment => segments.push(segment),
        }
    }
    let mut text = String::with_capacity(path.len());
    for segment in &segments {
        text.push('/');
        text.push_str(segment);
    }
    if slash_at_end || text.is_empty() {
        text.push('/');
    }
    text
}

#[cfg(test)]
mod tests;
