//! Whose name is given to which realm.

use super::Delegation;
use crate::config::{self, KerberosName};
use crate::delegate::refusal::Refusal;
use crate::delegate::tickets::UserName;

/// The realm that is asked, and the name by which it is asked.
///
/// # Errors
/// A domain that no rule has turned into a suffix is somebody else's: its users are none of the
/// default realm.
pub(super) fn user_name<'c>(
    config: &'c config::Kerberos,
    user: &str,
) -> Result<(&'c str, UserName), Refusal> {
    if user.contains('\\') {
        return Err(Refusal::foreign(user));
    }
    let default = config.default_realm();
    let (account, domain) = user.rsplit_once('@').unwrap_or((user, default));
    Ok(match (config.user_name, config.realm(domain)) {
        (KerberosName::Principal, Some(realm)) => (
            realm,
            UserName::Principal(format!("{account}@{realm}").into()),
        ),
        // A suffix of its own: the domain controller knows whose it is.
        (_, realm) => (realm.unwrap_or(default), UserName::Enterprise(user.into())),
    })
}

impl Delegation {
    /// The name of a user whose domain is none of our realms: a suffix that a domain controller may
    /// know, or another forest's.
    pub(super) fn of_elsewhere(&self, user: &UserName) -> Option<Box<str>> {
        let UserName::Enterprise(name) = user else {
            return None;
        };
        let (_, domain) = name.rsplit_once('@')?;
        let ours = self.config.realm(domain).is_some();
        (!ours).then(|| name.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_of_another_domain_is_nobody_of_ours() {
        let config = |user_name| config::Kerberos {
            principals: ["HTTP/gw@CORP.EXAMPLE", "HTTP/gw@LAB.EXAMPLE"]
                .map(str::to_owned)
                .to_vec(),
            keytab: None,
            kdcs: Vec::new(),
            user_name,
            accept: false,
            channel_binding: true,
            cache: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            threads: 1,
        };
        let principal = config(KerberosName::Principal);
        let enterprise = config(KerberosName::Enterprise);
        for (given, as_principal) in [
            ("alice", "alice@CORP.EXAMPLE"),
            ("alice@lab.example", "alice@LAB.EXAMPLE"),
        ] {
            let found = user_name(&principal, given).ok().map(|(_, name)| name);
            assert_eq!(found, Some(UserName::Principal(as_principal.into())));
            let found = user_name(&enterprise, given).ok().map(|(_, name)| name);
            assert_eq!(found, Some(UserName::Enterprise(given.into())));
        }
        for config in [&principal, &enterprise] {
            for given in ["OTHER\\alice", "\\alice", "OTHER\\alice@corp.example"] {
                let refused = user_name(config, given).err();
                let refused = refused.map(|refusal| (refusal.reason, refusal.of_user));
                assert_eq!(refused, Some(("kerberos_user_realm", true)), "{given}");
            }
        }
    }
}
