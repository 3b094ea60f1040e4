//! Looks through a small document, and changes values in place: what is not changed keeps every
//! byte.

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_xml_entity};
use quick_xml::events::Event;

/// Elements that may be open at once.
const DEPTH: usize = 64;

/// Why a document is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no document of Autodiscover: {0}")]
pub struct Malformed(pub String);

impl Malformed {
    fn of(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// An element that is open.
struct Open {
    name: String,
    /// Where its content begins.
    begins: usize,
    value: String,
    /// It holds text alone.
    simple: bool,
}

/// Shows every element that holds text alone, with the names of those around it, outermost first
/// and its own last. What `edit` gives takes the place of the text, white space around it stays.
pub(super) fn edit(
    document: &str,
    mut edit: impl FnMut(&[&str], &str) -> Option<String>,
) -> Result<String, Malformed> {
    let mut reader = Reader::from_str(document);
    let mut open: Vec<Open> = Vec::new();
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    let mut roots = 0;
    loop {
        let before = position(&reader)?;
        let event = reader.read_event().map_err(Malformed::of)?;
        match event {
            Event::Start(tag) => {
                roots += usize::from(open.is_empty());
                if open.len() >= DEPTH || roots > 1 {
                    return Err(Malformed::of("too deep, or more than one root"));
                }
                if let Some(parent) = open.last_mut() {
                    parent.simple = false;
                }
                check(&tag)?;
                open.push(Open {
                    name: tag.local_name().as_ref().to_owned(),
                    begins: position(&reader)?,
                    value: String::new(),
                    simple: true,
                });
            }
            Event::Empty(tag) => {
                roots += usize::from(open.is_empty());
                check(&tag)?;
                if let Some(parent) = open.last_mut() {
                    parent.simple = false;
                }
            }
            Event::End(_) => {
                let Some(closed) = open.pop() else {
                    return Err(Malformed::of("an end without a beginning"));
                };
                if closed.simple {
                    let mut path: Vec<&str> = open.iter().map(|open| &*open.name).collect();
                    path.push(&closed.name);
                    let value = closed.value.trim();
                    if let Some(new) = edit(&path, value).filter(|new| new != value) {
                        let text = document.get(closed.begins..before).unwrap_or_default();
                        let lead = text.len() - text.trim_start().len();
                        let trail = text.trim_start().len() - text.trim().len();
                        edits.push((closed.begins + lead, before - trail, new));
                    }
                }
            }
            Event::Text(text) => {
                add(&mut open, &text)?;
            }
            Event::CData(text) => {
                add(&mut open, &text)?;
            }
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(Malformed::of)?;
                match character {
                    Some(character) => add(&mut open, character.encode_utf8(&mut [0; 4]))?,
                    None => {
                        let text = resolve_xml_entity(&reference)
                            .ok_or_else(|| Malformed::of("an entity that nobody has declared"))?;
                        add(&mut open, text)?;
                    }
                }
            }
            Event::Decl(_) if before == 0 => {}
            Event::Comment(_) => {
                if let Some(open) = open.last_mut() {
                    open.simple = false;
                }
            }
            Event::DocType(_) | Event::PI(_) | Event::Decl(_) => {
                return Err(Malformed::of("a document type or a processing instruction"));
            }
            Event::Eof => break,
        }
    }
    if !open.is_empty() || roots != 1 {
        return Err(Malformed::of("it ends too early"));
    }
    Ok(applied(document, &edits))
}

fn applied(document: &str, edits: &[(usize, usize, String)]) -> String {
    let mut edited = String::with_capacity(document.len());
    let mut done = 0;
    for (from, to, new) in edits {
        edited.push_str(document.get(done..*from).unwrap_or_default());
        edited.push_str(&escape(new.as_str()));
        done = *to;
    }
    edited.push_str(document.get(done..).unwrap_or_default());
    edited
}

fn check(tag: &quick_xml::events::BytesStart<'_>) -> Result<(), Malformed> {
    for attribute in tag.attributes() {
        attribute.map_err(Malformed::of)?;
    }
    Ok(())
}

fn add(open: &mut [Open], text: &str) -> Result<(), Malformed> {
    match open.last_mut() {
        Some(open) => open.value.push_str(text),
        None if text.trim().is_empty() => {}
        None => return Err(Malformed::of("text outside of the root")),
    }
    Ok(())
}

fn position(reader: &Reader<&[u8]>) -> Result<usize, Malformed> {
    usize::try_from(reader.buffer_position()).map_err(Malformed::of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_change_and_nothing_else() {
        let document = "<?xml version=\"1.0\"?>\r\n<a xmlns='http://x/'> <!-- http://x -->\
            <b k=\"1\">\n one &amp; two </b><c/><d><![CDATA[one & two]]></d></a>\n";
        let edited = edit(document, |path, value| {
            (value == "one & two").then(|| format!("{}<3", path.join("/")))
        });
        assert_eq!(
            edited.expect("well-formed"),
            "<?xml version=\"1.0\"?>\r\n<a xmlns='http://x/'> <!-- http://x -->\
            <b k=\"1\">\n a/b&lt;3 </b><c/><d>a/d&lt;3</d></a>\n"
        );
        assert_eq!(edit(document, |_, _| None).as_deref(), Ok(document));
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        let deep = "<a>".repeat(80) + &"</a>".repeat(80);
        for document in [
            "",
            "text",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a></a>x",
            "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>",
            "<a>&x;</a>",
            "<a><?php ?></a>",
            "<a b=\"1\" b=\"2\"/>",
            "<a",
            &deep,
        ] {
            assert!(edit(document, |_, _| None).is_err(), "{document}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_what_is_left_alone_keeps_every_byte(document in "(<[a-z/!?]{0,3}|[a-z&;#\\]> ]|<a>|</a>|&amp;|&#x41;){0,40}") {
            if let Ok(same) = edit(&document, |_, _| None) {
                prop_assert_eq!(same, document);
            }
        }
    }
}
