//! Attachments: which ones a rule is about.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::links::is_below;

/// What becomes of attachments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// They stay, whatever later rules say.
    Allow,
    /// They are taken out; a text says so.
    Remove,
    /// They are shown, and can't be fetched.
    BlockFetch,
}

/// Which attachments, and what becomes of them. Every condition that is given must hold; a list
/// holds where one of its members does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachments {
    /// What becomes of them.
    pub action: Action,
    /// Extensions of their names, without the dot.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// MIME types, declared or found in the content: `application/pdf`, `image/*`.
    #[serde(default)]
    pub types: Vec<String>,
    /// Larger than so many bytes.
    pub larger_than: Option<u64>,
    /// In mail from these domains and what is below them.
    #[serde(default)]
    pub sender_domains: Vec<String>,
    /// In mail to these domains and what is below them.
    #[serde(default)]
    pub recipient_domains: Vec<String>,
    /// What stands in the body for one that was taken out; `{name}`, `{size}` and `{rule}` stand
    /// for what they say.
    #[serde(default = "removed_text")]
    pub text: String,
}

fn removed_text() -> String {
    "[The attachment {name} was removed by the rules of your organisation ({rule}).]".to_owned()
}

/// What is known of an attachment where it is met.
#[derive(Debug, Clone, Copy, Default)]
pub struct Met<'a> {
    /// Its name.
    pub name: Option<&'a str>,
    /// The type that its sender gave it.
    pub declared: Option<&'a str>,
    /// Its first bytes, decoded.
    pub begin: &'a [u8],
    /// Its size in bytes; an estimate where the server gives one.
    pub size: Option<u64>,
    /// Who sent the mail, as the header says.
    pub from: Option<&'a str>,
    /// Whom the mail is for, as the headers say.
    pub to: Option<&'a str>,
}

impl Attachments {
    /// Whether the rule is about this attachment. What is not known holds for nothing.
    #[must_use]
    pub fn covers(&self, met: &Met<'_>) -> bool {
        let extension = met.name.and_then(extension_of);
        let by_extension = |listed: &String| {
            let listed = listed.trim_start_matches('.');
            extension.is_some_and(|extension| extension.eq_ignore_ascii_case(listed))
        };
        let sniffed = infer::get(met.begin).map(|kind| kind.mime_type());
        let by_type = |listed: &String| {
            [met.declared, sniffed]
                .into_iter()
                .flatten()
                .any(|found| type_matches(found, listed))
        };
        let by_domain = |whose: Option<&str>, listed: &[String]| {
            whose.is_some_and(|whose| {
                domains_of(whose).any(|domain| listed.iter().any(|below| is_below(domain, below)))
            })
        };
        (self.extensions.is_empty() || self.extensions.iter().any(by_extension))
            && (self.types.is_empty() || self.types.iter().any(by_type))
            && self
                .larger_than
                .is_none_or(|limit| met.size.is_some_and(|size| size > limit))
            && (self.sender_domains.is_empty() || by_domain(met.from, &self.sender_domains))
            && (self.recipient_domains.is_empty() || by_domain(met.to, &self.recipient_domains))
    }

    /// The text in place of an attachment that was taken out.
    #[must_use]
    pub fn text_for(&self, met: &Met<'_>, rule: &str) -> String {
        let size = met
            .size
            .map_or_else(|| "?".to_owned(), |size| size.to_string());
        self.text
            .replace("{name}", met.name.unwrap_or("?"))
            .replace("{size}", &size)
            .replace("{rule}", rule)
    }
}

/// The extension of a name. Dots and blanks at its end are nothing to the systems that open it.
fn extension_of(name: &str) -> Option<&str> {
    let name = name.trim_end_matches(['.', ' ']);
    name.rsplit_once('.').map(|(_, extension)| extension)
}

fn type_matches(found: &str, listed: &str) -> bool {
    let found = found.split(';').next().unwrap_or(found).trim();
    match listed.strip_suffix("/*") {
        Some(class) => found
            .split_once('/')
            .is_some_and(|(of, _)| of.eq_ignore_ascii_case(class)),
        None => found.eq_ignore_ascii_case(listed),
    }
}

/// The domains of the addresses in a header.
fn domains_of(addresses: &str) -> impl Iterator<Item = &str> {
    addresses.split('@').skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '.'));
        rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest)
    })
}

/// The bytes that stand in `base64`, or those of its first `most` characters. Blanks don't count: some
/// servers break lines. `None`: it is no base64.
pub(super) fn decoded(base64: &[u8], most: usize) -> Option<Vec<u8>> {
    let digits = base64.iter().filter(|byte| !byte.is_ascii_whitespace());
    let digits: Vec<u8> = digits.take(most).copied().collect();
    STANDARD.decode(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(toml: &str) -> Attachments {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn every_condition_must_hold_and_one_member_of_a_list() {
        let rule = rule("action = 'remove'\nextensions = ['exe', '.docm']\nlarger_than = 10\n");
        let met = |name, size| Met {
            name: Some(name),
            size: Some(size),
            ..Met::default()
        };
        assert!(rule.covers(&met("a.EXE", 11)));
        assert!(rule.covers(&met("a.pdf.docm. ", 11)));
        assert!(!rule.covers(&met("a.exe", 10)));
        assert!(!rule.covers(&met("exe", 11)));
        assert!(
            !rule.covers(&Met::default()),
            "what is not known holds for nothing"
        );
    }

    #[test]
    fn types_are_declared_or_found() {
        let rule = rule("action = 'block-fetch'\ntypes = ['application/pdf', 'image/*']\n");
        let met = |declared, begin| Met {
            declared: Some(declared),
            begin,
            ..Met::default()
        };
        assert!(rule.covers(&met("Application/PDF; name=x", b"")));
        assert!(rule.covers(&met("text/plain", b"%PDF-1.7")));
        assert!(rule.covers(&met("image/heic", b"")));
        assert!(!rule.covers(&met("text/plain", b"hello")));
    }

    #[test]
    fn domains_are_those_of_the_addresses() {
        let rule = rule("action = 'allow'\nsender_domains = ['corp.example']\n");
        let met = |from| Met {
            from: Some(from),
            ..Met::default()
        };
        assert!(rule.covers(&met("\"A\" <a@mail.corp.example>")));
        assert!(!rule.covers(&met("a@corp.example.evil.example")));
        assert!(!rule.covers(&met("corp.example")));
    }
}
