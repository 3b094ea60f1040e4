//! A profile with gaps: `{{user}}` and the like, filled in for each person.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};

use super::Recipient;

/// The largest template, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// A template that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("enrolment.template.path: {}: {message}", path.display())]
pub struct TemplateError {
    path: PathBuf,
    message: String,
}

/// What stands in a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Gap {
    User,
    Account,
    Domain,
    Mail,
    Name,
    Pkcs12,
    /// A UUID that is the same for the same person and word.
    Uuid(String),
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Gap(Gap),
}

/// A template, read and checked.
pub struct Template(Vec<Part>);

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({} parts)", self.0.len())
    }
}

impl Template {
    /// Reads one. `host` fills `{{host}}`; `has_pkcs12` says whether `{{pkcs12}}` has a source.
    ///
    /// # Errors
    /// It can't be read, or has a gap that nothing fills.
    pub(super) fn load(
        path: &Path,
        host: Option<&str>,
        has_pkcs12: bool,
    ) -> Result<Self, TemplateError> {
        let wrong = |message: String| TemplateError {
            path: path.to_path_buf(),
            message,
        };
        let length = std::fs::metadata(path).map(|file| file.len());
        let length = length.map_err(|error| wrong(format!("can't be read: {error}")))?;
        if length > LONGEST {
            return Err(wrong(format!("has more than {LONGEST} bytes")));
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| wrong(format!("can't be read as text: {error}")))?;
        Self::parse(&text, host, has_pkcs12).map_err(wrong)
    }

    fn parse(text: &str, host: Option<&str>, has_pkcs12: bool) -> Result<Self, String> {
        if !text.trim_start().starts_with('<') {
            return Err("is no property list in XML".to_owned());
        }
        let mut parts = Vec::new();
        let mut pieces = text.split("{{");
        parts.push(Part::Text(pieces.next().unwrap_or_default().to_owned()));
        for piece in pieces {
            let (gap, rest) = piece
                .split_once("}}")
                .ok_or_else(|| "has a {{ without its }}".to_owned())?;
            parts.push(match gap {
                "host" => {
                    let host = host.ok_or_else(|| {
                        "holds {{host}}, which server.public.url would fill".to_owned()
                    })?;
                    Part::Text(escaped(host))
                }
                "pkcs12" if !has_pkcs12 => {
                    let message = "holds {{pkcs12}}, which enrolment.pkcs12.path would fill";
                    return Err(message.to_owned());
                }
                gap => Part::Gap(Gap::parse(gap)?),
            });
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The profile for somebody; `None`: something that it needs is missing for him.
    pub(super) fn fill(&self, recipient: &Recipient, pkcs12: Option<&str>) -> Option<String> {
        let mut text = String::new();
        let user = recipient.user.as_str();
        for part in &self.0 {
            match part {
                Part::Text(fixed) => text.push_str(fixed),
                Part::Gap(Gap::User) => text.push_str(&escaped(user)),
                Part::Gap(Gap::Account) => text.push_str(&escaped(&recipient.account)),
                Part::Gap(Gap::Domain) => {
                    let domain = user.rsplit_once('@').map(|(_, domain)| domain);
                    text.push_str(&escaped(domain.unwrap_or_default()));
                }
                Part::Gap(Gap::Mail) => text.push_str(&escaped(&recipient.mail)),
                Part::Gap(Gap::Name) => text.push_str(&escaped(&recipient.name)),
                Part::Gap(Gap::Pkcs12) => text.push_str(pkcs12?),
                Part::Gap(Gap::Uuid(word)) => text.push_str(&uuid(user, word)),
            }
        }
        Some(text)
    }
}

impl Gap {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "user" => Self::User,
            "account" => Self::Account,
            "domain" => Self::Domain,
            "mail" => Self::Mail,
            "name" => Self::Name,
            "pkcs12" => Self::Pkcs12,
            _ => match text.strip_prefix("uuid:") {
                Some(word) if !word.is_empty() => Self::Uuid(word.to_owned()),
                _ => {
                    return Err(format!(
                        "holds {{{{{text}}}}}, which is not known; known are user, account, domain, mail, name, host, pkcs12, uuid:WORD"
                    ));
                }
            },
        })
    }
}

/// Text as it stands in XML; what XML 1.0 can't hold is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && !matches!(c, '\t' | '\n') => {}
            c => out.push(c),
        }
    }
    out
}

/// A UUID of version 8 (RFC 9562 5.8): a profile that is fetched again takes the place of the one
/// before.
fn uuid(user: &str, word: &str) -> String {
    let hash = digest(&SHA256, format!("{user}\0{word}").as_bytes());
    let mut bytes = [0_u8; 16];
    for (to, from) in bytes.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    let mut value = u128::from_be_bytes(bytes);
    value = value & !(0xf << 76) | 0x8 << 76;
    value = value & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{value:032X}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

#[cfg(test)]
mod tests {
    use seg_compliance::UserKey;

    use super::*;

    fn recipient() -> Recipient {
        Recipient {
            user: UserKey::new("alice@corp.example").expect("a key"),
            account: "alice".to_owned(),
            mail: "a&b@corp.example".to_owned(),
            name: "<Alice>".to_owned(),
        }
    }

    #[test]
    fn gaps_are_filled_and_nothing_in_them_is_markup() {
        let text = "<plist>{{user}} {{account}} {{domain}} {{mail}} {{name}} {{host}} {{pkcs12}} {{uuid:mail}}</plist>";
        let template = Template::parse(text, Some("mail.corp.example"), true).expect("a template");
        let filled = template
            .fill(&recipient(), Some("QUJD"))
            .expect("a profile");
        assert!(
            filled.starts_with(
                "<plist>alice@corp.example alice corp.example a&amp;b@corp.example &lt;Alice&gt; mail.corp.example QUJD "
            ),
            "{filled}"
        );
        assert_eq!(template.fill(&recipient(), Some("QUJD")), Some(filled));
        // Without his certificate there is no profile for him.
        assert_eq!(template.fill(&recipient(), None), None);
    }

    #[test]
    fn uuids_are_whose_they_are() {
        let one = uuid("alice", "mail");
        assert_ne!(one, uuid("bob", "mail"));
        assert_ne!(one, uuid("alice", "other"));
        let (version, variant) = (one.get(14..15), one.get(19..20));
        assert_eq!((one.len(), version), (36, Some("8")));
        assert!(variant.is_some_and(|c| "89AB".contains(c)));
    }

    #[test]
    fn what_nothing_fills_is_refused() {
        for (text, part) in [
            ("<a>{{users}}</a>", "not known"),
            ("<a>{{user</a>", "without"),
            ("<a>{{host}}</a>", "server.public.url"),
            ("<a>{{pkcs12}}</a>", "enrolment.pkcs12.path"),
            ("bplist00", "XML"),
        ] {
            let error = Template::parse(text, None, false).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }
}
