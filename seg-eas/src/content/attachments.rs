//! Attachments: which ones a rule is about.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::is_unseen;
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
    /// Its name; several, where it was given several, and every reader takes another.
    pub names: &'a [&'a str],
    /// Whether it is a text that may be shown as well: rules about types alone are about it.
    pub is_shown: bool,
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
    /// Whether the rule is about this attachment. What is not known holds for nothing. What several
    /// readers could see in several ways must be allowed in all of them, and is withheld in any.
    #[must_use]
    pub fn covers(&self, met: &Met<'_>) -> bool {
        if met.is_shown && self.types.is_empty() {
            return false;
        }
        let found = infer::get(met.begin);
        let holds = |mut conditions: &mut dyn Iterator<Item = bool>| {
            let first = conditions.next();
            match self.action {
                Action::Allow => {
                    first.is_some() && first.into_iter().chain(&mut conditions).all(|holds| holds)
                }
                _ => first.into_iter().chain(&mut conditions).any(|holds| holds),
            }
        };
        let by_extension = |extension: Option<String>| {
            extension.is_some_and(|extension| {
                let mut listed = self.extensions.iter();
                listed.any(|listed| {
                    listed
                        .trim_start_matches('.')
                        .eq_ignore_ascii_case(&extension)
                })
            })
        };
        // What has no name gets one from what it is.
        let nameless = || found.map(|kind| kind.extension().to_owned());
        let by_type = |kind: &str| self.types.iter().any(|listed| type_matches(kind, listed));
        let by_domain = |whose: Option<&str>, listed: &[String]| {
            let domains = whose.map(domains_of).unwrap_or_default();
            let below = |domain: &String| listed.iter().any(|below| is_below(domain, below));
            holds(&mut domains.iter().map(below))
        };
        (self.extensions.is_empty()
            || if met.names.is_empty() {
                by_extension(nameless())
            } else {
                holds(
                    &mut met
                        .names
                        .iter()
                        .map(|name| by_extension(extension_of(name))),
                )
            })
            && (self.types.is_empty()
                || holds(&mut types_of(met.declared, met.begin).into_iter().map(by_type)))
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
            .replace("{name}", met.names.first().copied().unwrap_or("?"))
            .replace("{size}", &size)
            .replace("{rule}", rule)
    }
}

/// The extension of a name, as the systems see it that open the file: dots and blanks at the end are
/// nothing to them, and neither is what nobody sees.
fn extension_of(name: &str) -> Option<String> {
    let name: String = name.chars().filter(|letter| !is_unseen(*letter)).collect();
    let name =
        name.trim_end_matches(|letter: char| letter.is_whitespace() || "./\\\"'".contains(letter));
    name.rsplit_once('.')
        .map(|(_, extension)| extension.to_owned())
}

/// What an attachment is: as its sender says, and as its content does.
fn types_of<'m>(declared: Option<&'m str>, begin: &[u8]) -> Vec<&'m str> {
    let declared = declared.map(|kind| kind.split(';').next().unwrap_or(kind).trim());
    let sniffed = if begin.starts_with(&TNEF) {
        Some("application/ms-tnef")
    } else {
        infer::get(begin).map(|kind| kind.mime_type())
    };
    // A container that the declared type is made of tells nothing else.
    let sniffed = sniffed.filter(|sniffed| {
        let mut made_of = MADE_OF.iter();
        !made_of.any(|(container, of)| {
            container == sniffed && declared.is_some_and(|declared| begins(declared, of))
        })
    });
    [declared, sniffed].into_iter().flatten().collect()
}

/// What `winmail.dat` begins with (MS-OXTNEF 2.1.3.1).
const TNEF: [u8; 4] = [0x78, 0x9F, 0x3E, 0x22];

/// Types that are another one's, with names of their own.
const MADE_OF: [(&str, &str); 8] = [
    ("application/zip", "application/vnd.openxmlformats-"),
    ("application/zip", "application/vnd.oasis."),
    ("application/zip", "application/epub+zip"),
    ("application/zip", "application/java-archive"),
    ("application/x-ole-storage", "application/msword"),
    ("application/x-ole-storage", "application/vnd.ms-"),
    ("text/xml", "image/svg+xml"),
    ("text/xml", "application/xml"),
];

/// Names of one type.
const SAME: [&[&str]; 8] = [
    &[
        "application/vnd.microsoft.portable-executable",
        "application/x-msdownload",
        "application/x-msdos-program",
        "application/x-dosexec",
        "application/x-exe",
    ],
    &[
        "application/zip",
        "application/x-zip-compressed",
        "application/x-zip",
    ],
    &[
        "application/vnd.rar",
        "application/x-rar-compressed",
        "application/x-rar",
    ],
    &["application/x-7z-compressed", "application/x-7zip"],
    &["application/gzip", "application/x-gzip"],
    &["application/rtf", "text/rtf"],
    &["application/ms-tnef", "application/vnd.ms-tnef"],
    &[
        "text/javascript",
        "application/javascript",
        "application/x-javascript",
    ],
];

fn begins(kind: &str, with: &str) -> bool {
    kind.get(..with.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(with))
}

fn type_matches(found: &str, listed: &str) -> bool {
    if let Some(class) = listed.strip_suffix("/*") {
        return found
            .split_once('/')
            .is_some_and(|(of, _)| of.eq_ignore_ascii_case(class));
    }
    let is_one_of =
        |names: &&&[&str], one: &str| names.iter().any(|name| name.eq_ignore_ascii_case(one));
    found.eq_ignore_ascii_case(listed)
        || SAME
            .iter()
            .any(|names| is_one_of(&names, found) && is_one_of(&names, listed))
}

/// The domains of the addresses in a header, without what their owners are called: a name may look
/// like an address.
fn domains_of(addresses: &str) -> Vec<String> {
    let (mut domains, mut text, mut address) = (Vec::new(), String::new(), None::<String>);
    let (mut is_quoted, mut comment, mut is_escaped) = (false, 0_usize, false);
    for letter in addresses.chars().chain([',']) {
        if std::mem::take(&mut is_escaped) {
            continue;
        }
        match letter {
            '\\' if is_quoted || comment > 0 => is_escaped = true,
            '"' if comment == 0 => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '(' => comment += 1,
            ')' if comment > 0 => comment -= 1,
            _ if comment > 0 => {}
            '<' => text.clear(),
            '>' => address = Some(std::mem::take(&mut text)),
            ',' | ';' => {
                let address = address.take().unwrap_or_else(|| std::mem::take(&mut text));
                text.clear();
                if let Some((_, domain)) = address.rsplit_once('@') {
                    domains.push(domain.trim().trim_end_matches('.').to_owned());
                }
            }
            _ => text.push(letter),
        }
    }
    if is_quoted || comment > 0 {
        // Where a name has no end, everything in it may be an address.
        let all = addresses.split('@').skip(1).map(|rest| {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '.'));
            rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest)
        });
        return all.map(str::to_owned).collect();
    }
    domains
}

/// A reference as it is remembered: servers write it with escapes, which a query is written with once
/// more, and understand it with and without them.
#[must_use]
pub fn canonical_reference(reference: &str) -> Cow<'_, str> {
    let mut reference = Cow::Borrowed(reference);
    for _ in 0..ESCAPED_MAX {
        let decoded = unescaped(&reference);
        match decoded {
            Some(decoded) => reference = Cow::Owned(decoded),
            None => break,
        }
    }
    reference
}

/// How often escapes are undone.
const ESCAPED_MAX: usize = 4;

/// The text without its escapes; `None`: it has none.
fn unescaped(text: &str) -> Option<String> {
    let hex = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    (out.len() < text.len()).then(|| String::from_utf8_lossy(&out).into_owned())
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
        let covers = |names: &[&str], size| {
            rule.covers(&Met {
                names,
                size: Some(size),
                ..Met::default()
            })
        };
        assert!(covers(&["a.EXE"], 11));
        assert!(covers(&["a.pdf.docm. "], 11));
        assert!(!covers(&["a.exe"], 10));
        assert!(!covers(&["exe"], 11));
        assert!(!covers(&[], 11));
        assert!(
            !rule.covers(&Met::default()),
            "what is not known holds for nothing"
        );
        for name in [
            "a.ex\u{200b}e",
            "a.exe\u{a0}",
            "a.exe\t",
            "a.exe/",
            "\u{202e}txt.a.exe",
            "a.exe\u{0}",
            "'a.exe'",
        ] {
            assert!(covers(&[name], 11), "{name:?}");
        }
    }

    #[test]
    fn what_is_called_two_things_must_be_allowed_as_both() {
        let deny = rule("action = 'remove'\nextensions = ['exe']\n");
        let allow = rule("action = 'allow'\nextensions = ['pdf']\n");
        let covers = |rule: &Attachments, names: &[&str]| {
            rule.covers(&Met {
                names,
                ..Met::default()
            })
        };
        for names in [["a.pdf", "a.exe"], ["a.exe", "a.pdf"]] {
            assert!(covers(&deny, &names));
            assert!(!covers(&allow, &names));
        }
        assert!(covers(&allow, &["a.pdf", "b.PDF"]));
        assert!(!covers(&allow, &[]), "what is not known is not allowed");

        let types = rule("action = 'allow'\ntypes = ['application/pdf']\n");
        let met = |declared, begin: &'static [u8]| Met {
            declared: Some(declared),
            begin,
            ..Met::default()
        };
        assert!(types.covers(&met("application/pdf", b"%PDF-1.7")));
        assert!(!types.covers(&met("application/pdf", b"MZ\x90\0\x03\0\0\0")));
        let office = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
        let allow = rule(&format!("action = 'allow'\ntypes = ['{office}']\n"));
        assert!(allow.covers(&met(office, b"PK\x03\x04 and more")));
    }

    #[test]
    fn types_are_declared_or_found() {
        let rule = rule(
            "action = 'block-fetch'\ntypes = ['application/pdf', 'image/*', 'application/x-msdownload']\n",
        );
        let met = |declared, begin| Met {
            declared: Some(declared),
            begin,
            ..Met::default()
        };
        assert!(rule.covers(&met("Application/PDF; name=x", b"")));
        assert!(rule.covers(&met("text/plain", b"%PDF-1.7")));
        assert!(rule.covers(&met("image/heic", b"")));
        // Names of one type are one.
        assert!(rule.covers(&met("text/plain", b"MZ\x90\0\x03\0\0\0")));
        assert!(rule.covers(&met("application/x-dosexec", b"")));
        assert!(!rule.covers(&met("text/plain", b"hello")));
        let tnef = Attachments {
            types: vec!["application/ms-tnef".to_owned()],
            ..rule
        };
        assert!(tnef.covers(&met("application/octet-stream", b"\x78\x9f\x3e\x22\x01")));
    }

    #[test]
    fn a_reference_is_one_however_it_is_escaped() {
        for written in [
            "5:1:0",
            "5%3a1%3a0",
            "5%3A1%3A0",
            "5%253a1%253A0",
            "%35:1%3a0",
        ] {
            assert_eq!(canonical_reference(written), "5:1:0", "{written}");
        }
        assert_eq!(canonical_reference("100%"), "100%");
        assert_eq!(
            canonical_reference("mail/INBOX/1/2%zz"),
            "mail/INBOX/1/2%zz"
        );
    }

    #[test]
    fn domains_are_those_of_the_addresses() {
        let covers = |action: &str, from| {
            rule(&format!(
                "action = '{action}'\nsender_domains = ['corp.example']\n"
            ))
            .covers(&Met {
                from: Some(from),
                ..Met::default()
            })
        };
        for from in [
            "\"A\" <a@mail.corp.example>",
            "a@CORP.example.",
            "a@corp.example (from home), ",
            "\"x@evil.example\" <a@corp.example>",
        ] {
            assert!(covers("allow", from) && covers("remove", from), "{from}");
        }
        for from in [
            "a@corp.example.evil.example",
            "corp.example",
            "",
            "\"a@corp.example\" <b@evil.example>",
            "a@corp.example <b@evil.example>",
            "\"a@corp.example\"@evil.example",
            "b@evil.example (a@corp.example)",
            "\"x\\\" <a@corp.example>\" <b@evil.example>",
        ] {
            assert!(!covers("allow", from) && !covers("remove", from), "{from}");
        }
        // One of several senders: enough to be withheld, and not to be allowed.
        for from in [
            "a@corp.example, b@evil.example",
            "Bob, a@corp.example, x <b@evil.example>",
            "\"a@corp.example <b@evil.example>",
        ] {
            assert!(!covers("allow", from) && covers("remove", from), "{from}");
        }
    }
}
