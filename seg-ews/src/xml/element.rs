//! Complete tags: names, attributes, and the stack of open elements.

use super::characters::{is_ncname, is_space};
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
#[derive(Debug, Default)]
pub(super) struct Stack {
    open: Vec<Open>,
    names: String,
    scopes: Scopes,
}

impl Stack {
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
        let name_len = content.bytes().position(is_space).unwrap_or(content.len());
        let raw_name = content.get(..name_len).unwrap_or_default();
        let (prefix, local) = split_name(raw_name, limits)?;
        self.open.push(Open {
            name: self.names.len(),
            scope: self.scopes.mark(),
        });
        self.names.push_str(raw_name);
        let attributes = if name_len == content.len() {
            Attributes::new()
        } else {
            self.attributes(content, name_len, limits)?
        };
        let (namespace, _) = self.scopes.resolve(prefix)?;
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

    /// Checks the attributes, declares the namespaces among them and returns the others.
    fn attributes<'t>(
        &mut self,
        content: &'t str,
        name_len: usize,
        limits: &Limits,
    ) -> Result<Attributes<'t>, RejectKind> {
        let mut others = Attributes::new();
        let mut declared: SmallVec<[&str; 8]> = SmallVec::new();
        for attribute in
            quick_xml::events::attributes::Attributes::new(content, name_len).with_checks(false)
        {
            let attribute = attribute.map_err(|_| RejectKind::Attribute)?;
            let (key, value) = (attribute.key.into_inner(), attribute.value);
            let Cow::Borrowed(value) = value else {
                return Err(RejectKind::Attribute);
            };
            if others.len() + declared.len() >= limits.attributes {
                return Err(RejectKind::TooManyAttributes);
            }
            if value.len() > limits.attribute_bytes {
                return Err(RejectKind::AttributeTooLong);
            }
            if !follows_space(content, key) {
                return Err(RejectKind::Attribute);
            }
            let (prefix, local) = split_name(key, limits)?;
            let expanded = expand(value)?;
            let declares = match (prefix, local) {
                ("", "xmlns") => Some(""),
                ("xmlns", local) => Some(local),
                _ => None,
            };
            if let Some(declares) = declares {
                if declared.contains(&declares) {
                    return Err(RejectKind::DuplicateAttribute);
                }
                if expanded.len() > limits.namespace_bytes {
                    return Err(RejectKind::AttributeTooLong);
                }
                declared.push(declares);
                self.scopes
                    .declare(declares, &expanded, limits.namespaces)?;
            } else {
                others.push(Attribute {
                    prefix,
                    local,
                    value,
                });
            }
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

/// quick-xml takes `a="1"b="2"`; XML wants white space between (production 40).
pub(super) fn follows_space(content: &str, key: &str) -> bool {
    let at = (key.as_ptr() as usize).wrapping_sub(content.as_ptr() as usize);
    let before = at
        .checked_sub(1)
        .and_then(|before| content.as_bytes().get(before));
    before.is_some_and(|&byte| is_space(byte))
}

/// Prefix (may be empty) and local part of a qualified name.
fn split_name<'n>(name: &'n str, limits: &Limits) -> Result<(&'n str, &'n str), RejectKind> {
    if name.len() > limits.name_bytes {
        return Err(RejectKind::NameTooLong);
    }
    let (prefix, local) = match name.split_once(':') {
        Some((prefix, local)) if is_ncname(prefix) => (prefix, local),
        Some(_) => return Err(RejectKind::Name),
        None => ("", name),
    };
    if is_ncname(local) {
        Ok((prefix, local))
    } else {
        Err(RejectKind::Name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(content: &str) -> Result<String, RejectKind> {
        let mut stack = Stack::default();
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
            let mut stack = Stack::default();
            stack.open("r", &limits)?;
            stack.open(content, &limits).map(|_| stack)
        };
        assert!(opened("four a='123' b=''").is_ok());
        assert_eq!(opened("fives").err(), Some(RejectKind::NameTooLong));
        assert_eq!(
            opened("x a='' b='' xmlns:c='u'").err(),
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
        let mut stack = Stack::default();
        let element = stack
            .open("x Id='a&amp;b'", &Limits::default())
            .expect("well-formed");
        assert_eq!(element.attribute("Id").as_deref(), Some("a&b"));
        assert_eq!(element.attribute("id"), None);
    }
}
