//! A first look at a page: whether its text can hold an address at all.
//!
//! To rewrite the targets of links, tags are enough; to find addresses in the text, every piece of it
//! has to be taken apart. Most pages have their addresses in tags only. What is passed over here as a
//! tag is part of one for every parser, because it ends at the first `>`; where parsers could see
//! text that is none here, the answer is yes.

use super::html::Decoded;
use super::links::Links;

/// Elements in which tags may be text, or text may be hidden from a simple reader.
const OPAQUE: [&[u8]; 14] = [
    b"frameset",
    b"iframe",
    b"listing",
    b"math",
    b"noembed",
    b"noframes",
    b"noscript",
    b"option",
    b"plaintext",
    b"select",
    b"svg",
    b"template",
    b"textarea",
    b"xmp",
];

/// Elements whose text nobody is shown, and that end where they are closed.
const UNSHOWN: [&[u8]; 3] = [b"script", b"style", b"title"];

impl Links {
    /// Whether an address may stand in the text of a page.
    pub(super) fn may_be_in_text(&self, html: &str) -> bool {
        let bytes = html.as_bytes();
        // Where the text began that is looked at next.
        let (mut begin, mut at) = (0, 0);
        while let Some(open) = memchr::memchr(b'<', bytes.get(at..).unwrap_or_default()) {
            let open = at + open;
            let tag = bytes.get(open + 1..).unwrap_or_default();
            at = open + 1;
            match tag.first() {
                Some(first) if first.is_ascii_alphabetic() || b"/?".contains(first) => {}
                Some(b'!') if !tag.starts_with(b"![") => {}
                // CDATA, where a parser knows it, is text.
                Some(b'!') => return true,
                // It is a sign, and no tag.
                _ => continue,
            }
            if self.is_in(html.get(begin..open)) {
                return true;
            }
            // `<style'>` is no `<style>`, and what stands in it is shown.
            let ends = |byte: &&u8| byte.is_ascii_whitespace() || b"/>".contains(byte);
            let name = tag.iter().take_while(|byte| !ends(byte));
            let name = tag.get(..name.count()).unwrap_or_default();
            let is_one = |names: &[&[u8]]| names.iter().any(|one| one.eq_ignore_ascii_case(name));
            if is_one(&OPAQUE) {
                return true;
            }
            let Some(end) = memchr::memchr(b'>', tag) else {
                // A tag without an end shows nothing.
                return false;
            };
            at += end + 1;
            if is_one(&UNSHOWN) {
                let Some(closed) = closing(bytes.get(at..).unwrap_or_default(), name) else {
                    return true;
                };
                at += closed;
            }
            begin = at;
        }
        self.is_in(html.get(begin..))
    }

    fn is_in(&self, text: Option<&str>) -> bool {
        // A beginning or an end that is none of a character can't be.
        text.is_none_or(|text| !self.found(&Decoded::of(text).text).is_empty())
    }
}

/// Where the end tag of an element begins.
fn closing(bytes: &[u8], name: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(bytes, b"</").find(|at| {
        let found = bytes.get(at + 2..at + 2 + name.len());
        found.is_some_and(|found| found.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::super::links::Template;
    use super::*;
    use proptest::prelude::*;

    fn links() -> Links {
        Links {
            template: Template::try_from("awbs://{url}".to_owned()).unwrap(),
            domains: None,
            except_domains: Vec::new(),
        }
    }

    #[test]
    fn addresses_in_tags_are_none_in_the_text() {
        for html in [
            "",
            "<p>words</p>",
            "<a href=\"https://a.example/?x=1&amp;y\">words &amp; more</a> 1 < 2",
            "<STYLE>a { background: url(http://a.example/) }</style><p>x",
            "<!-- http://a.example --><p title='http://a.example'>x",
            "<p>caf&eacute; &#8211; a:b/c</p>",
            "<a href=http://a.example",
        ] {
            assert!(!links().may_be_in_text(html), "{html}");
        }
        for html in [
            "http://a.example",
            "<p>see www.a.example",
            "<p>1 < http://a.example</p>",
            "<p>https&#58;//a.example",
            "<p>https&colon;&sol;/a.example",
            "<p title=\"a>b\" x=\"http://a.example\">",
            "<xmp><a http://a.example></xmp>",
            "<noscript><a href='http://a.example'>",
            "<svg><![CDATA[<a http://a.example]]></svg>",
            "<![CDATA[<a http://a.example]]>",
            "<!-- > http://a.example -->",
            "<style>a http://a.example",
            "<select><style></select>http://a.example",
            "<style'>http://a.example</style>",
            "<title-x>http://a.example</title>",
        ] {
            assert!(links().may_be_in_text(html), "{html}");
        }
    }

    proptest! {
        /// Whatever the quick way leaves as it is, the thorough one leaves too.
        #[test]
        fn both_ways_are_one(html in "(<(a|p|b|/a|style|/style|!--|svg|title|/title|x) ?(href=)?['\"]?|>|['\"]|-->|www\\.a\\.b|https?://a\\.b/|&#58;|<|[a-z ]{1,3}){0,14}") {
            let links = links();
            if !links.may_be_in_text(&html) {
                prop_assert_eq!(links.quickly(&html, 0).ok(), links.thoroughly(&html, 0).ok(), "{}", html);
            }
        }
    }
}
