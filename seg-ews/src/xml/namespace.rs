//! Namespaces: the few that matter here, and which prefix means which where.

use crate::reject::RejectKind;

/// A namespace, known or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// No namespace at all.
    None,
    /// SOAP 1.1, which EWS speaks.
    Soap11,
    /// SOAP 1.2, which it does not.
    Soap12,
    /// EWS operations.
    Messages,
    /// EWS data.
    Types,
    /// Autodiscover over SOAP.
    Autodiscover,
    /// A known one spelled with `https://`.
    HttpsTypo,
    /// `xml:` itself.
    Xml,
    /// Any other.
    Other,
}

const XML: &str = "http://www.w3.org/XML/1998/namespace";
const XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// Names without their scheme, because the wrong scheme is a known mistake.
const KNOWN: [(&str, Namespace); 5] = [
    ("://schemas.xmlsoap.org/soap/envelope/", Namespace::Soap11),
    (
        "://schemas.microsoft.com/exchange/services/2006/messages",
        Namespace::Messages,
    ),
    (
        "://schemas.microsoft.com/exchange/services/2006/types",
        Namespace::Types,
    ),
    (
        "://schemas.microsoft.com/exchange/2010/Autodiscover",
        Namespace::Autodiscover,
    ),
    ("://www.w3.org/2003/05/soap-envelope", Namespace::Soap12),
];

impl Namespace {
    fn of(uri: &str) -> Self {
        let known = |rest: &str| KNOWN.iter().find(|(name, _)| *name == rest);
        if uri.is_empty() {
            return Self::None;
        }
        if let Some(&(_, namespace)) = uri.strip_prefix("http").and_then(known) {
            return namespace;
        }
        match uri {
            XML => Self::Xml,
            _ if uri.strip_prefix("https").and_then(known).is_some() => Self::HttpsTypo,
            _ => Self::Other,
        }
    }
}

/// One declaration: prefix and name lie in the arena of [`Scopes`].
#[derive(Debug)]
struct Binding {
    prefix: std::ops::Range<usize>,
    uri: std::ops::Range<usize>,
    namespace: Namespace,
}

/// A place in [`Scopes`] to come back to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    bindings: usize,
    arena: usize,
}

/// The declarations in force at one point of a document.
#[derive(Debug)]
pub(super) struct Scopes {
    bindings: Vec<Binding>,
    arena: String,
}

impl Scopes {
    pub(super) fn new() -> Self {
        Self {
            bindings: Vec::with_capacity(8),
            arena: String::with_capacity(512),
        }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            bindings: self.bindings.len(),
            arena: self.arena.len(),
        }
    }

    /// Forgets everything declared since `mark`.
    pub(super) fn reset(&mut self, mark: Mark) {
        self.bindings.truncate(mark.bindings);
        self.arena.truncate(mark.arena);
    }

    /// Declares a prefix; the empty one is the default namespace.
    pub(super) fn declare(
        &mut self,
        prefix: &str,
        uri: &str,
        limit: usize,
    ) -> Result<(), RejectKind> {
        if self.bindings.len() >= limit {
            return Err(RejectKind::TooManyNamespaces);
        }
        let reserved = match prefix {
            "xmlns" => true,
            "xml" => uri != XML,
            "" => uri == XML || uri == XMLNS,
            _ => uri == XML || uri == XMLNS || uri.is_empty(),
        };
        if reserved {
            return Err(RejectKind::NamespacePrefix);
        }
        let start = self.arena.len();
        self.arena.push_str(prefix);
        let middle = self.arena.len();
        self.arena.push_str(uri);
        self.bindings.push(Binding {
            prefix: start..middle,
            uri: middle..self.arena.len(),
            namespace: Namespace::of(uri),
        });
        Ok(())
    }

    /// The namespace that a prefix stands for, as [`resolve`](Self::resolve) says.
    pub(super) fn namespace(&self, prefix: &str) -> Result<Namespace, RejectKind> {
        let arena = self.arena.as_bytes();
        for binding in self.bindings.iter().rev() {
            if arena.get(binding.prefix.clone()) == Some(prefix.as_bytes()) {
                return Ok(binding.namespace);
            }
        }
        self.resolve(prefix).map(|(namespace, _)| namespace)
    }

    /// What a prefix stands for: the namespace and its full name. The empty prefix is the default
    /// namespace, and stands for none where none is declared.
    pub(super) fn resolve(&self, prefix: &str) -> Result<(Namespace, &str), RejectKind> {
        for binding in self.bindings.iter().rev() {
            if self.arena.get(binding.prefix.clone()) == Some(prefix) {
                let uri = self.arena.get(binding.uri.clone()).unwrap_or_default();
                return Ok((binding.namespace, uri));
            }
        }
        match prefix {
            "" => Ok((Namespace::None, "")),
            "xml" => Ok((Namespace::Xml, XML)),
            _ => Err(RejectKind::NamespacePrefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = "http://schemas.microsoft.com/exchange/services/2006/messages";

    #[test]
    fn the_innermost_declaration_holds_until_it_is_left() {
        let mut scopes = Scopes::new();
        scopes.declare("m", MESSAGES, 9).expect("first");
        let mark = scopes.mark();
        scopes.declare("m", "urn:x", 9).expect("second");
        scopes.declare("", MESSAGES, 9).expect("default");
        assert_eq!(scopes.resolve("m"), Ok((Namespace::Other, "urn:x")));
        assert_eq!(scopes.resolve(""), Ok((Namespace::Messages, MESSAGES)));
        scopes.declare("", "", 9).expect("undeclare the default");
        assert_eq!(scopes.resolve(""), Ok((Namespace::None, "")));
        scopes.reset(mark);
        assert_eq!(scopes.resolve("m"), Ok((Namespace::Messages, MESSAGES)));
        assert_eq!(scopes.resolve(""), Ok((Namespace::None, "")));
        assert_eq!(scopes.resolve("n"), Err(RejectKind::NamespacePrefix));
    }

    #[test]
    fn reserved_names_stay_reserved() {
        let mut scopes = Scopes::new();
        for (prefix, uri) in [
            ("xmlns", "urn:x"),
            ("xml", "urn:x"),
            ("x", XML),
            ("", XMLNS),
            ("p", ""),
        ] {
            assert_eq!(
                scopes.declare(prefix, uri, 9),
                Err(RejectKind::NamespacePrefix)
            );
        }
        assert_eq!(scopes.declare("xml", XML, 9), Ok(()));
        assert_eq!(
            scopes.declare("a", "urn:a", 1),
            Err(RejectKind::TooManyNamespaces)
        );
    }

    #[test]
    fn known_names_are_exact() {
        assert_eq!(Namespace::of(MESSAGES), Namespace::Messages);
        assert_eq!(
            Namespace::of(&MESSAGES.replace("http:", "https:")),
            Namespace::HttpsTypo
        );
        assert_eq!(Namespace::of(&MESSAGES.to_uppercase()), Namespace::Other);
        assert_eq!(Namespace::of(&format!("{MESSAGES}/")), Namespace::Other);
        assert_eq!(
            Namespace::of("https://www.w3.org/2003/05/soap-envelope"),
            Namespace::HttpsTypo
        );
    }
}
