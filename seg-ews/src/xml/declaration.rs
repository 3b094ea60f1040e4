//! The XML declaration: version 1.0, and the encoding that the text is in.

use super::characters::is_space;
use super::encoding::Encoding;
use crate::reject::RejectKind;
use quick_xml::events::attributes::Attributes;

/// Checks a declaration (production 23), given what is between `<?` and `?>`, against the encoding
/// that the bytes are in. Version, encoding and standalone come at most once and in this order.
pub(super) fn check(content: &str, encoding: Encoding) -> Result<(), RejectKind> {
    let mut expected = ["version", "encoding", "standalone"].iter();
    let mut seen_version = false;
    for attribute in Attributes::new(content, "xml".len()) {
        let attribute = attribute.map_err(|_| RejectKind::Declaration)?;
        let key = attribute.key.into_inner();
        if !follows_space(content, key) || !expected.any(|name| *name == key) {
            return Err(RejectKind::Declaration);
        }
        match (key, &*attribute.value) {
            ("version", "1.0") => seen_version = true,
            ("encoding", name) if agrees(name, encoding) => {}
            ("encoding", _) => return Err(RejectKind::DeclaredEncoding),
            ("standalone", "yes" | "no") => {}
            _ => return Err(RejectKind::Declaration),
        }
    }
    if seen_version {
        Ok(())
    } else {
        Err(RejectKind::Declaration)
    }
}

/// quick-xml takes `a="1"b="2"`; XML wants white space between (production 40).
fn follows_space(content: &str, key: &str) -> bool {
    let at = (key.as_ptr() as usize).wrapping_sub(content.as_ptr() as usize);
    let before = at
        .checked_sub(1)
        .and_then(|before| content.as_bytes().get(before));
    before.is_some_and(|&byte| is_space(byte))
}

fn agrees(name: &str, encoding: Encoding) -> bool {
    let expected = match encoding {
        Encoding::Utf8 => "utf-8",
        Encoding::Utf16Le | Encoding::Utf16Be => "utf-16",
    };
    name.eq_ignore_ascii_case(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations() {
        for good in [
            "xml version='1.0'",
            "xml version = \"1.0\" encoding='UTF-8' ",
            "xml\nversion='1.0' standalone='yes'",
            "xml version='1.0' encoding='utf-8' standalone='no'",
        ] {
            assert_eq!(check(good, Encoding::Utf8), Ok(()), "{good}");
        }
        for bad in [
            "xml",
            "xml encoding='utf-8'",
            "xml version='1.1'",
            "xml version='1.0' version='1.0'",
            "xml version='1.0'encoding='utf-8'",
            "xml standalone='yes' version='1.0'",
            "xml version='1.0' standalone='maybe'",
            "xml version='1.0' other=''",
            "xml version=1.0",
        ] {
            assert_eq!(
                check(bad, Encoding::Utf8),
                Err(RejectKind::Declaration),
                "{bad}"
            );
        }
        let encoded =
            |name, encoding| check(&format!("xml version='1.0' encoding='{name}'"), encoding);
        assert_eq!(encoded("utf-16", Encoding::Utf16Be), Ok(()));
        for (name, encoding) in [
            ("utf-16", Encoding::Utf8),
            ("utf-8", Encoding::Utf16Le),
            ("us-ascii", Encoding::Utf8),
            ("utf-7", Encoding::Utf8),
            ("", Encoding::Utf8),
        ] {
            assert_eq!(
                encoded(name, encoding),
                Err(RejectKind::DeclaredEncoding),
                "{name}"
            );
        }
    }
}
