//! Spellings of paths and their one form. A spelling that has none is refused.

use super::*;

/// As written, and its form under the default option; an empty form is a refusal.
const FORMS: &[(&str, &str)] = &[
    ("/", "/"),
    ("/a", "/a"),
    ("/a/", "/a/"),
    ("/a/b", "/a/b"),
    ("/a//b", "/a//b"),
    ("//a", "//a"),
    ("/a/./b", "/a/b"),
    ("/a/.", "/a/"),
    ("/./a", "/a"),
    ("/a/../b", "/b"),
    ("/a/..", "/"),
    ("/a/../", "/"),
    ("/..", "/"),
    ("/../a", "/a"),
    ("/../../a", "/a"),
    ("/a/b/../../c", "/c"),
    ("/a/b/../c/./d", "/a/c/d"),
    ("/a/.../b", "/a/.../b"),
    ("/a/..b", "/a/..b"),
    ("/a/b..", "/a/b.."),
    ("/.a", "/.a"),
    ("/a\\b", "/a/b"),
    ("/a\\..\\b", "/b"),
    ("\\a", ""),
    ("/a/%2e/b", "/a/b"),
    ("/a/%2E/b", "/a/b"),
    ("/a/%2e%2e/b", "/b"),
    ("/a/%2E%2e/b", "/b"),
    ("/a/.%2e/b", "/b"),
    ("/a/%2e./b", "/b"),
    ("/%61", "/a"),
    ("/%41", "/A"),
    ("/%7Ea", "/~a"),
    ("/%2D%5F", "/-_"),
    ("/a%2fb", "/a%2Fb"),
    ("/a%2Fb", "/a%2Fb"),
    ("/a%5cb", "/a%5Cb"),
    ("/a%5Cb", "/a%5Cb"),
    ("/a%2f..%2fb", "/a%2F..%2Fb"),
    ("/a%20b", "/a%20b"),
    ("/a%3fb", "/a%3Fb"),
    ("/a%23b", "/a%23b"),
    ("/a%25b", "/a%25b"),
    ("/a%252e%252e/b", "/a%252e%252e/b"),
    ("/a%c3%a9", "/a%C3%A9"),
    ("/a;b=c", "/a;b=c"),
    ("/a;/../b", "/b"),
    ("/a/..;/b", "/a/..;/b"),
    ("/a%3b", "/a%3B"),
    ("/a+b", "/a+b"),
    ("/a@b:c", "/a@b:c"),
    ("/a%", ""),
    ("/a%2", ""),
    ("/a%zz", ""),
    ("/a%2g", ""),
    ("/a%-1", ""),
    ("/a%+1", ""),
    ("/a%u002e", ""),
    ("/a%00", ""),
    ("/a%0a", ""),
    ("/a%0d%0a", ""),
    ("/a%09", ""),
    ("/a%1f", ""),
    ("/a%7f", ""),
    ("/a#b", ""),
    ("/a b", ""),
    ("/a\tb", ""),
    ("", ""),
    ("a", ""),
    ("a/b", ""),
    ("./a", ""),
    ("http://x/a", ""),
    ("*", "*"),
];

#[test]
fn every_spelling_has_one_form_or_none() {
    for (written, form) in FORMS {
        let got = normalize(written, Normalization::Base);
        assert_eq!(got.as_deref().unwrap_or_default(), *form, "{written:?}");
        // What is sent on is judged alike by whoever comes next.
        if let Ok(got) = got {
            assert_eq!(normalize(&got, Normalization::Base).as_deref(), Ok(&*got), "{written:?}");
        }
    }
}

#[test]
fn options_go_further() {
    let merged = |path| normalize(path, Normalization::MergeSlashes).unwrap().into_owned();
    assert_eq!((merged("//a///b/"), merged("/a//../b")), ("/a/b/".to_owned(), "/b".to_owned()));
    let decoded = |path| normalize(path, Normalization::DecodeAndMergeSlashes).unwrap().into_owned();
    assert_eq!((decoded("/a%2f%2Fb"), decoded("/a%5c..%2fb")), ("/a/b".to_owned(), "/b".to_owned()));
    assert_eq!(normalize("/a/../b", Normalization::None).as_deref(), Ok("/a/../b"));
}
