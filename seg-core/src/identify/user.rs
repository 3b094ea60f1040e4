//! One person, one name: `CORP\alice`, `alice@corp.example`, a mail address and a bare `alice` are
//! the same user where the configuration says so.

use std::collections::HashMap;

use seg_compliance::UserKey;

use crate::config::Identity;
use crate::config::TableError;
use crate::config::aliases::{self, Aliases};

/// The longest name that is read, in bytes.
const LONGEST: usize = 256;

/// How names become users: `identity.domain.map`, `identity.default.domain`,
/// `identity.alias.path`.
#[derive(Clone, Debug, Default)]
pub struct IdentityRules {
    /// NetBIOS domain or other suffix, in lower case, to the domain that is meant.
    domains: HashMap<String, String>,
    default_domain: Option<String>,
    /// Alias to user, both canonical.
    aliases: HashMap<String, String>,
}

impl IdentityRules {
    /// Rules out of the configuration; case does not matter in any of them.
    pub fn new<'a>(
        domains: impl IntoIterator<Item = (&'a str, &'a str)>,
        default_domain: Option<&str>,
        aliases: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut rules = Self {
            domains: domains
                .into_iter()
                .map(|(from, to)| (from.trim().to_lowercase(), to.trim().to_lowercase()))
                .collect(),
            default_domain: default_domain
                .map(|domain| domain.trim().to_lowercase())
                .filter(|domain| !domain.is_empty()),
            aliases: HashMap::new(),
        };
        let aliases: HashMap<String, String> = aliases
            .into_iter()
            .filter_map(|(from, to)| Some((rules.qualified(from)?, rules.qualified(to)?)))
            .collect();
        rules.aliases = aliases;
        rules
    }

    /// The rules that the configuration gives, its file of aliases read.
    ///
    /// # Errors
    /// The file can't be read, or holds what is no alias.
    pub fn load(config: &Identity) -> Result<Self, TableError> {
        let aliases = match &config.alias_path {
            Some(path) => aliases::load(path)?,
            None => Aliases::default(),
        };
        let domains = config.domain_map.iter();
        Ok(Self::new(
            domains.map(|(from, to)| (from.as_str(), to.as_str())),
            config.default_domain.as_deref(),
            aliases.iter(),
        ))
    }

    /// The user that a name means. `None` where it is empty, too long or holds control characters.
    pub fn canonical(&self, name: &str) -> Option<UserKey> {
        let name = self.qualified(name)?;
        let name = self.aliases.get(&name).unwrap_or(&name);
        UserKey::new(name).ok()
    }

    /// Whether a name means this user. Clients write the bare name where the login is a full one,
    /// and the other way round: the same person as far as anybody can tell.
    pub fn same_person(&self, name: &str, user: &UserKey) -> bool {
        self.canonical(name).is_some_and(|named| {
            named == *user
                || bare(named.as_str()) == bare(user.as_str())
                    && (!is_qualified(named.as_str()) || !is_qualified(user.as_str()))
        })
    }

    /// `user@domain` where the rules know the domain, otherwise the name as it stands, in lower
    /// case.
    fn qualified(&self, name: &str) -> Option<String> {
        let name = name.trim();
        if name.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
            return None;
        }
        let name = name.to_lowercase();
        if let Some((domain, user)) = name.split_once('\\') {
            if user.is_empty() || user.contains('\\') {
                return None;
            }
            // Active Directory reads the part behind as the whole name where that names a domain.
            if user.contains('@') {
                return self.qualified(user);
            }
            return Some(match self.domains.get(domain) {
                Some(mapped) => format!("{user}@{mapped}"),
                // The DNS name of a domain, where its short one is usual: the account's implicit
                // user principal name.
                None if domain.contains('.') && domain != "." => {
                    return self.qualified(&format!("{user}@{domain}"));
                }
                // `.\alice` and an unmapped domain: the default, where there is one, only for the
                // former, or two domains' users would become one.
                None if domain.is_empty() || domain == "." => self.with_default(user),
                None => name,
            });
        }
        if let Some((user, domain)) = name.rsplit_once('@') {
            if user.is_empty() || domain.is_empty() {
                return None;
            }
            return Some(match self.domains.get(domain) {
                Some(mapped) => format!("{user}@{mapped}"),
                None => name,
            });
        }
        Some(self.with_default(&name))
    }

    fn with_default(&self, user: &str) -> String {
        match &self.default_domain {
            Some(domain) => format!("{user}@{domain}"),
            None => user.to_owned(),
        }
    }
}

/// The name without its domain.
fn bare(user: &str) -> &str {
    let user = user.rsplit('\\').next().unwrap_or(user);
    user.split('@').next().unwrap_or(user)
}

fn is_qualified(user: &str) -> bool {
    user.contains(['@', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> IdentityRules {
        IdentityRules::new(
            [("CORP", "corp.example"), ("old.example", "corp.example")],
            Some("Corp.Example"),
            [
                ("alice.smith@corp.example", "CORP\\alice"),
                ("asmith", "alice@corp.example"),
            ],
        )
    }

    #[test]
    fn every_form_of_a_name_is_one_user() {
        let rules = rules();
        for name in [
            "CORP\\alice",
            "corp\\ALICE",
            "alice@corp.example",
            "Alice@Old.Example",
            "alice",
            " alice ",
            "alice.smith@corp.example",
            "asmith",
            ".\\alice",
            "corp.example\\alice",
            "OLD.example\\alice",
            // As Android writes it where its field for the domain is empty.
            "\\alice@corp.example",
            "CORP\\alice@corp.example",
        ] {
            let user = rules.canonical(name);
            assert_eq!(
                user.as_ref().map(UserKey::as_str),
                Some("alice@corp.example"),
                "{name}"
            );
        }
    }

    #[test]
    fn unknown_domains_stay_apart() {
        let rules = rules();
        let other = rules.canonical("OTHER\\alice").expect("a name");
        assert_eq!(other.as_str(), "other\\alice");
    }

    #[test]
    fn what_is_no_name_is_none() {
        let rules = rules();
        let long = "a".repeat(300);
        for name in [
            "",
            "  ",
            "a\nb",
            "CORP\\",
            "@corp.example",
            "alice@",
            long.as_str(),
        ] {
            assert!(rules.canonical(name).is_none(), "{name:?}");
        }
    }
}
