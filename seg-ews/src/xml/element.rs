//! Complete tags: names, attributes, and the stack of open elements.

use super::characters::{is_name_start, is_space, name_end};
use super::namespace::{Mark, Namespace, Scopes};
use super::reference::expand;
use crate::limits::Limits;
use crate::reject::RejectKind;
use smallvec::SmallVec;
use std::borrow::Cow;

/// One attribute that declares no namespace.
#[derive(Clone, Copy, Debug)]
struct Attribute<'t> {
    prefix: &'t str,
    local: &'t str,
    /// As written.
    value: &'t str,
}

type Attributes<'t> = SmallVec<[Attribute<'t>; 8]>;

/// A start tag, understood.
#[derive(Debug)]
pub(crate) struct Element<'t> {
    /// The namespace of its name.
    pub(crate) namespace: Namespace,
    /// Its name without prefix.
    pub(crate) local: &'t str,
    /// How deep it stands; the root is 1.
    pub(crate) depth: usize,
    attributes: Attributes<'t>,
}

impl Element<'_> {
    /// The value of an attribute in no namespace, references resolved.
    pub(crate) fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let attribute = self
            .attributes
            .iter()
            .find(|attribute| attribute.prefix.is_empty() && attribute.local == name)?;
        // Checked when the tag was read.
        expand(attribute.value).ok()
    }
}

/// An open element: where its name lies in [`Stack::names`], and what to go back to after it.
#[derive(Debug)]
struct Open {
    name: usize,
    scope: Mark,
}

/// The open elements and the namespaces in force.
#[derive(Debug)]
pub(super) struct Stack {
    open: Vec<Open>,
    names: String,
    scopes: Scopes,
}

impl Stack {
    /// Nothing is open. There is room for what clients send.
    pub(super) fn new() -> Self {
        Self {
            open: Vec::with_capacity(16),
            names: String::with_capacity(256),
            scopes: Scopes::new(),
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    /// Takes the content of a start tag (`m:GetFolder a="b"`), opens the element and describes it.
    pub(super) fn open<'t>(
        &mut self,
        content: &'t str,
        limits: &Limits,
    ) -> Result<Element<'t>, RejectKind> {
        if self.open.len() >= limits.depth {
            return Err(RejectKind::TooDeep);
        }
        let (prefix, local) = leading_name(content, limits)?;
        let name_len = local.len()
            + if prefix.is_empty() {
                0
            } else {
                prefix.len() + 1
            };
        let raw_name = content.get(..name_len).unwrap_or_default();
        self.open.push(Open {
            name: self.names.len(),
            scope: self.scopes.mark(),
        });
        self.names.push_str(raw_name);
        let rest = content.get(name_len..).unwrap_or_default();
        let attributes = if rest.is_empty() {
            Attributes::new()
        } else {
            self.attributes(rest, limits)?
        };
        let namespace = self.scopes.namespace(prefix)?;
        Ok(Element {
            namespace,
            local,
            depth: self.open.len(),
            attributes,
        })
    }

    /// Closes the innermost element.
    pub(super) fn close(&mut self) {
        if let Some(open) = self.open.pop() {
            self.names.truncate(open.name);
            self.scopes.reset(open.scope);
        }
    }

    /// Whether an end tag of this name closes the innermost element.
    pub(super) fn is_innermost(&self, raw_name: &str) -> bool {
        self.open
            .last()
            .is_some_and(|open| self.names.get(open.name..) == Some(raw_name))
    }

    /// Checks the attributes, declares the namespaces among them and returns the others. `rest` is
    /// what follows the element's name.
    fn attributes<'t>(
        &mut self,
        rest: &'t str,
        limits: &Limits,
    ) -> Result<Attributes<'t>, RejectKind> {
        let mut others = Attributes::new();
        let mut declared: SmallVec<[&str; 8]> = SmallVec::new();
        let mut rest = rest;
        while let Some(found) = next_attribute(&mut rest, limits)? {
            if others.len() + declared.len() >= limits.attributes {
                return Err(RejectKind::TooManyAttributes);
            }
            if found.value.len() > limits.attribute_bytes {
                return Err(RejectKind::AttributeTooLong);
            }
            let expanded = expand(found.value)?;
            let declares = match (found.prefix, found.local) {
                ("", "xmlns") => Some(""),
                ("xmlns", local) => Some(local),
                _ => None,
            };
            let Some(declares) = declares else {
                others.push(found);
                continue;
            };
            if declared.contains(&declares) {
                return Err(RejectKind::DuplicateAttribute);
            }
            if expanded.len() > limits.namespace_bytes {
                return Err(RejectKind::AttributeTooLong);
            }
            declared.push(declares);
            self.scopes
                .declare(declares, &expanded, limits.namespaces)?;
        }
        self.refuse_duplicates(&others)?;
        Ok(others)
    }

    /// No two attributes may have one name, nor two prefixes that mean the same before one name.
    fn refuse_duplicates(&self, attributes: &[Attribute<'_>]) -> Result<(), RejectKind> {
        let mut rest = attributes;
        while let Some((one, others)) = rest.split_first() {
            rest = others;
            let meaning = match one.prefix {
                "" => None,
                prefix => Some(self.scopes.resolve(prefix)?.1),
            };
            for other in others.iter().filter(|other| other.local == one.local) {
                let same = match (meaning, other.prefix) {
                    (None, "") => true,
                    (None, _) | (Some(_), "") => false,
                    (Some(meaning), prefix) => self.scopes.resolve(prefix)?.1 == meaning,
                };
                if same {
                    return Err(RejectKind::DuplicateAttribute);
                }
            }
        }
        Ok(())
    }
}

/// Takes the next attribute (production 41) off the front of `rest`, with the white space that must
/// stand before it. None at the end of the tag.
fn next_attribute<'t>(
    rest: &mut &'t str,
    limits: &Limits,
) -> Result<Option<Attribute<'t>>, RejectKind> {
    let behind_space = skip_space(rest);
    if behind_space.is_empty() {
        return Ok(None);
    }
    if behind_space.len() == rest.len() {
        return Err(RejectKind::Attribute);
    }
    let (prefix, local) = leading_name(behind_space, limits)?;
    let name_len = local.len()
        + if prefix.is_empty() {
            0
        } else {
            prefix.len() + 1
        };
    let behind_name = skip_space(behind_space.get(name_len..).unwrap_or_default());
    let value = behind_name.strip_prefix('=').map(skip_space);
    let quoted = value.and_then(|value| {
        let quote = value
            .bytes()
            .next()
            .filter(|first| matches!(first, b'"' | b'\''))?;
        let value = value.get(1..)?;
        let end = memchr::memchr(quote, value.as_bytes())?;
        Some((value.get(..end)?, value.get(end + 1..)?))
    });
    let (value, behind) = quoted.ok_or(RejectKind::Attribute)?;
    *rest = behind;
    Ok(Some(Attribute {
        prefix,
        local,
        value,
    }))
}

fn skip_space(text: &str) -> &str {
    let spaces = text.bytes().take_while(|&byte| is_space(byte)).count();
    text.get(spaces..).unwrap_or_default()
}

/// Prefix (may be empty) and local part of the qualified name that the text begins with: all of it
/// up to white space or `=`.
fn leading_name<'n>(text: &'n str, limits: &Limits) -> Result<(&'n str, &'n str), RejectKind> {
    let first = name_end(text);
    let (prefix, local) = match text.as_bytes().get(first) {
        Some(b':') => {
            let local = text.get(first + 1..).unwrap_or_default();
            let end = name_end(local);
            if local
                .as_bytes()
                .get(end)
                .is_some_and(|&byte| !ends_name(byte))
            {
                return Err(RejectKind::Name);
            }
            (text.get(..first), local.get(..end))
        }
        Some(&byte) if !ends_name(byte) => return Err(RejectKind::Name),
        _ => (None, text.get(..first)),
    };
    let local = local.unwrap_or_default();
    if local.len() + prefix.map_or(0, |prefix| prefix.len() + 1) > limits.name_bytes {
        return Err(RejectKind::NameTooLong);
    }
    let begins_as_name = |name: &str| name.bytes().next().is_some_and(is_name_start);
    if !begins_as_name(local) || prefix.is_some_and(|prefix| !begins_as_name(prefix)) {
        return Err(RejectKind::Name);
    }
    Ok((prefix.unwrap_or_default(), local))
}

/// What may stand behind a name in a tag.
const fn ends_name(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(content: &str) -> Result<String, RejectKind> {
        let mut stack = Stack::new();
        let limits = Limits::default();
        stack.open("r xmlns:a='urn:x' xmlns:b='urn:x' xmlns:c='urn:c'", &limits)?;
        let element = stack.open(content, &limits)?;
        Ok(format!(
            "{:?} {} {}",
            element.namespace,
            element.local,
            element.attributes.len()
        ))
    }

    #[test]
    fn tags_and_their_faults() {
        assert_eq!(open("x").as_deref(), Ok("None x 0"));
        assert_eq!(open("a:x i = '1' \n j=\"2\" ").as_deref(), Ok("Other x 2"));
        assert_eq!(
            open("x xmlns='urn:q' xmlns:z='urn:z' z:i='' i=''").as_deref(),
            Ok("Other x 2")
        );
        assert_eq!(open("x a:i='' c:i=''").as_deref(), Ok("None x 2"));
        assert_eq!(open("x xml:lang='de'").as_deref(), Ok("None x 1"));
        for (content, kind) in [
            ("", RejectKind::Name),
            (" x", RejectKind::Name),
            ("1x", RejectKind::Name),
            (":x", RejectKind::Name),
            ("a:", RejectKind::Name),
            ("a:b:c", RejectKind::Name),
            ("x/y", RejectKind::Name),
            ("q:x", RejectKind::NamespacePrefix),
            ("x q:i=''", RejectKind::NamespacePrefix),
            ("x i", RejectKind::Attribute),
            ("x i=", RejectKind::Attribute),
            ("x i=1", RejectKind::Attribute),
            ("x i='1", RejectKind::Attribute),
            ("x i='1'j='2'", RejectKind::Attribute),
            ("x i='1'/", RejectKind::Attribute),
            ("x i='' i=''", RejectKind::DuplicateAttribute),
            ("x a:i='' b:i=''", RejectKind::DuplicateAttribute),
            (
                "x xmlns:p='urn:p' xmlns:p='urn:p'",
                RejectKind::DuplicateAttribute,
            ),
            ("x xmlns='' xmlns=''", RejectKind::DuplicateAttribute),
            ("x i='&nope;'", RejectKind::Entity),
            ("x xmlns:p=''", RejectKind::NamespacePrefix),
        ] {
            assert_eq!(open(content), Err(kind), "{content}");
        }
    }

    #[test]
    fn limits_hold() {
        let limits = Limits {
            depth: 2,
            attributes: 2,
            attribute_bytes: 3,
            name_bytes: 4,
            ..Limits::default()
        };
        let opened = |content| {
            let mut stack = Stack::new();
            stack.open("r", &limits)?;
            stack.open(content, &limits).map(|_| stack)
        };
        assert!(opened("four a='123' b=''").is_ok());
        assert_eq!(opened("fives").err(), Some(RejectKind::NameTooLong));
        assert_eq!(
            opened("x a='' b='' c='u'").err(),
            Some(RejectKind::TooManyAttributes)
        );
        assert_eq!(
            opened("x a='1234'").err(),
            Some(RejectKind::AttributeTooLong)
        );
        let mut stack = opened("x").expect("two deep");
        assert_eq!(stack.open("y", &limits).err(), Some(RejectKind::TooDeep));
    }

    #[test]
    fn attribute_values_are_read_with_references_resolved() {
        let mut stack = Stack::new();
        let element = stack
            .open("x Id='a&amp;b'", &Limits::default())
            .expect("well-formed");
        assert_eq!(element.attribute("Id").as_deref(), Some("a&b"));
        assert_eq!(element.attribute("id"), None);
    }
}
