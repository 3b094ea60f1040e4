//! The directory's protocol: binds and searches, each on a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, Scope, SearchEntry, ldap_escape};
use parking_lot::Mutex;
use rustls::ClientConfig;

use crate::config::{self, UpstreamTls};
use crate::tls::{self, TlsError};

use super::Verdict;

/// LDAP_MATCHING_RULE_IN_CHAIN: members of members count too.
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";
/// ACCOUNTDISABLE in userAccountControl (MS-ADTS 2.2.16).
const DISABLED: u32 = 0x2;
/// NOT_DELEGATED.
const SENSITIVE: u32 = 0x10_0000;
/// Of msDS-User-Account-Control-Computed: too many wrong passwords (MS-ADA2 2.462).
const LOCKED: u32 = 0x10;
/// For how long no server is tried after none of them has answered.
const DOWN_FOR: Duration = Duration::from_secs(2);
/// What is asked of an account.
const OF_ACCOUNT: [&str; 7] = [
    "sAMAccountName",
    "userPrincipalName",
    "userAccountControl",
    "accountExpires",
    "msDS-User-Account-Control-Computed",
    "mail",
    "displayName",
];
/// invalidCredentials (RFC 4511 A.1).
const INVALID_CREDENTIALS: u32 = 49;

/// One person's account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its distinguished name.
    pub dn: String,
    /// `sAMAccountName`.
    pub name: String,
    /// `userPrincipalName`.
    pub upn: Option<String>,
    /// `mail`.
    pub mail: Option<String>,
    /// `displayName`.
    pub display_name: Option<String>,
    /// Those of the configured groups that it is in, through other groups too.
    pub groups: Vec<String>,
    /// It may not be delegated.
    pub sensitive: bool,
}

/// What the directory says.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The account.
    Account(Account),
    /// Why there is none that counts.
    Refused(&'static str),
}

/// A login half done.
pub(super) struct Attempt {
    ldap: Ldap,
    account: Option<Account>,
}

impl Attempt {
    /// The name of the account, where it is known before its password is tried.
    pub(super) fn account_name(&self) -> Option<&str> {
        self.account.as_ref().map(|account| account.name.as_str())
    }
}

/// Asks one of several servers.
#[derive(Debug)]
pub(super) struct Client {
    config: config::Directory,
    tls: Arc<ClientConfig>,
    /// The server that answered last.
    first: AtomicUsize,
    /// Since when none has, and why. While each of them is waited for, everybody who asks would wait
    /// in a row.
    down: Mutex<Option<(Instant, String)>>,
}

impl Client {
    pub(super) fn new(config: &config::Directory) -> Result<Self, TlsError> {
        let trust = UpstreamTls {
            ca: config.ca.clone(),
            ..UpstreamTls::default()
        };
        let mut tls = (*tls::client_config(&trust)?.config).clone();
        tls.alpn_protocols.clear();
        Ok(Self {
            config: config.clone(),
            tls: Arc::new(tls),
            first: AtomicUsize::new(0),
            down: Mutex::default(),
        })
    }

    /// The first half of a login: the account, where we have one of our own to look for it with.
    /// Then every form of a name is found, mail addresses too, and a disabled account is known
    /// before its password is tried.
    pub(super) async fn begin(&self, name: &str) -> Result<Result<Attempt, &'static str>, String> {
        if self.config.bind_user.is_empty() {
            let ldap = self.connect().await?;
            let account = None;
            return Ok(Ok(Attempt { ldap, account }));
        }
        let mut ldap = self.ourselves().await?;
        Ok(match self.find(&mut ldap, name).await? {
            Answer::Account(account) => Ok(Attempt {
                ldap,
                account: Some(account),
            }),
            Answer::Refused(reason) => Err(reason),
        })
    }

    /// The second half: is this the password? `bind_as`: the name as it was typed.
    pub(super) async fn finish(
        &self,
        attempt: Attempt,
        name: &str,
        bind_as: &str,
        password: &str,
    ) -> Verdict {
        match self.bound(attempt, name, bind_as, password).await {
            Ok(Answer::Account(account)) => Verdict::Good(Arc::new(account)),
            Ok(Answer::Refused(reason)) => Verdict::Refused(reason),
            Err(error) => Verdict::Unavailable(error),
        }
    }

    async fn bound(
        &self,
        attempt: Attempt,
        name: &str,
        bind_as: &str,
        password: &str,
    ) -> Result<Answer, String> {
        let Attempt { mut ldap, account } = attempt;
        let bind_as = account.as_ref().map_or(bind_as, |account| &account.dn);
        if let Answer::Refused(reason) = self.bind(&mut ldap, bind_as, password).await? {
            return Ok(Answer::Refused(reason));
        }
        let answer = match account {
            Some(account) => Answer::Account(account),
            None => self.find(&mut ldap, name).await?,
        };
        let _leave = ldap.unbind().await;
        Ok(answer)
    }

    /// The account of a name, asked by our own.
    pub(super) async fn look_up(&self, name: &str) -> Result<Answer, String> {
        let mut ldap = self.ourselves().await?;
        let answer = self.find(&mut ldap, name).await;
        let _leave = ldap.unbind().await;
        answer
    }

    /// A connection on which we are our own account.
    pub(super) async fn ourselves(&self) -> Result<Ldap, String> {
        let mut ldap = self.connect().await?;
        let name = &self.config.bind_user;
        let password = self.config.bind_password.reveal();
        match self.bind(&mut ldap, name, password).await? {
            Answer::Account(_) => Ok(ldap),
            Answer::Refused(reason) => Err(format!("our own account is refused: {reason}")),
        }
    }

    async fn bind(&self, ldap: &mut Ldap, name: &str, password: &str) -> Result<Answer, String> {
        let bound = ldap
            .with_timeout(self.config.timeout)
            .simple_bind(name, password)
            .await;
        let bound = bound.map_err(|error| error.to_string())?;
        match bound.rc {
            0 => Ok(Answer::Account(Account::default())),
            INVALID_CREDENTIALS => Ok(Answer::Refused(refusal(&bound.text))),
            code => Err(format!(
                "a bind is answered with code {code}: {}",
                bound.text
            )),
        }
    }

    /// An account by any of its names, with its state and its groups.
    async fn find(&self, ldap: &mut Ldap, name: &str) -> Result<Answer, String> {
        let account = name.split('@').next().unwrap_or(name);
        // A name with a domain is looked for as a whole first: another domain's alice is not ours.
        let whole = ldap_escape(name);
        let filter = if name.contains('@') {
            format!("(&(objectClass=user)(|(userPrincipalName={whole})(mail={whole})))")
        } else {
            format!(
                "(&(objectClass=user)(sAMAccountName={}))",
                ldap_escape(account)
            )
        };
        let mut found = self.search(ldap, &filter, OF_ACCOUNT.to_vec()).await?;
        if found.is_empty() && self.is_of_our_domain(name) {
            // The implicit principal name, account@domain, stands in no attribute.
            let filter = format!(
                "(&(objectClass=user)(sAMAccountName={}))",
                ldap_escape(account)
            );
            found = self.search(ldap, &filter, OF_ACCOUNT.to_vec()).await?;
        }
        self.state_of(ldap, found).await
    }

    /// The account that a certificate is mapped to (`altSecurityIdentities`), asked by our own.
    pub(super) async fn look_up_mapped(&self, identities: &[String]) -> Result<Answer, String> {
        let mut ldap = self.ourselves().await?;
        let any: String = identities
            .iter()
            .map(|identity| format!("(altSecurityIdentities={})", ldap_escape(identity.as_str())))
            .collect();
        let found = self
            .search(
                &mut ldap,
                &format!("(&(objectCategory=person)(objectClass=user)(|{any}))"),
                OF_ACCOUNT.to_vec(),
            )
            .await?;
        let answer = self.state_of(&mut ldap, found).await;
        let _leave = ldap.unbind().await;
        answer
    }

    /// The device that the one entry of a filter names, asked by our own account.
    pub(super) async fn look_up_device(
        &self,
        filter: &str,
    ) -> Result<Result<String, &'static str>, String> {
        let Some(lookup) = &self.config.device else {
            return Ok(Err("device_unknown"));
        };
        let mut ldap = self.ourselves().await?;
        let attributes = vec![lookup.attribute.clone()];
        let mut found = self.search(&mut ldap, filter, attributes).await?;
        let _leave = ldap.unbind().await;
        if found.len() > 1 {
            return Ok(Err("device_ambiguous"));
        }
        let attributes = found.pop().map(|entry| entry.attrs).unwrap_or_default();
        // The directory may write the attribute's name in another case than it was asked for.
        let mut values = attributes
            .into_iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(&lookup.attribute))
            .flat_map(|(_, values)| values);
        Ok(match (values.next(), values.next()) {
            (None, _) => Err("device_unknown"),
            (Some(device), None) => Ok(device),
            (Some(_), Some(_)) => Err("device_ambiguous"),
        })
    }

    /// The one account that was found, if it is good, with its groups.
    async fn state_of(
        &self,
        ldap: &mut Ldap,
        mut found: Vec<SearchEntry>,
    ) -> Result<Answer, String> {
        if found.len() > 1 {
            return Ok(Answer::Refused("account_ambiguous"));
        }
        let Some(entry) = found.pop() else {
            return Ok(Answer::Refused("account_unknown"));
        };
        let one = |name: &str| entry.attrs.get(name).and_then(|values| values.first());
        let bits = |name: &str| one(name).and_then(|text| text.parse::<i64>().ok());
        // Bit 31 is in use, and the directory writes such a number with a sign.
        let flags = |name: &str| bits(name).map_or(0, |bits| bits as u32);
        let (flags, computed) = (
            flags("userAccountControl"),
            flags("msDS-User-Account-Control-Computed"),
        );
        if flags & DISABLED != 0 {
            return Ok(Answer::Refused("account_disabled"));
        }
        if one("accountExpires").is_some_and(|text| is_past(text)) {
            return Ok(Answer::Refused("account_expired"));
        }
        if computed & LOCKED != 0 {
            return Ok(Answer::Refused("account_locked"));
        }
        let mut account = Account {
            name: one("sAMAccountName").cloned().unwrap_or_default(),
            upn: one("userPrincipalName").cloned(),
            mail: one("mail").cloned(),
            display_name: one("displayName").cloned(),
            groups: Vec::new(),
            sensitive: flags & SENSITIVE != 0,
            dn: entry.dn,
        };
        for group in self.config.groups() {
            if !account.groups.iter().any(|known| known == group)
                && self.is_member(ldap, &account.dn, group).await?
            {
                account.groups.push(group.to_owned());
            }
        }
        Ok(Answer::Account(account))
    }

    /// Whether the domain of `user@domain` is the one that `directory.base` spells.
    fn is_of_our_domain(&self, name: &str) -> bool {
        let domain = name.rsplit_once('@').map(|(_, domain)| domain);
        domain.is_some_and(|domain| domain.eq_ignore_ascii_case(&self.domain()))
    }

    /// The DNS name that `directory.base` spells.
    pub(super) fn domain(&self) -> String {
        let labels = self.config.base.split(',').filter_map(|part| {
            let (kind, label) = part.split_once('=')?;
            kind.trim()
                .eq_ignore_ascii_case("dc")
                .then_some(label.trim())
        });
        labels.collect::<Vec<_>>().join(".").to_lowercase()
    }

    async fn is_member(&self, ldap: &mut Ldap, dn: &str, group: &str) -> Result<bool, String> {
        let filter = format!(
            "(&(objectClass=group)(sAMAccountName={}))",
            ldap_escape(group)
        );
        let Some(group) = self.search(ldap, &filter, OF_ACCOUNT.to_vec()).await?.pop() else {
            // Of a group that lets in, nobody is a member. One that keeps out must be there: who is
            // in it can't be known otherwise.
            let keeps_out = self.config.denied.iter().any(|denied| denied == group);
            return if keeps_out {
                Err(format!(
                    "directory.groups.denied names {group}, and there is no such group"
                ))
            } else {
                Ok(false)
            };
        };
        let filter = format!("(memberOf:{IN_CHAIN}:={})", ldap_escape(group.dn.as_str()));
        let found = ldap
            .with_timeout(self.config.timeout)
            .search(dn, Scope::Base, &filter, vec!["1.1"])
            .await
            .and_then(ldap3::SearchResult::success)
            .map_err(|error| error.to_string())?;
        Ok(found
            .0
            .iter()
            .any(|entry| !entry.is_ref() && !entry.is_intermediate()))
    }

    pub(super) async fn search(
        &self,
        ldap: &mut Ldap,
        filter: &str,
        attributes: Vec<impl AsRef<str> + Send + Sync>,
    ) -> Result<Vec<SearchEntry>, String> {
        let (entries, _) = ldap
            .with_timeout(self.config.timeout)
            .search(&self.config.base, Scope::Subtree, filter, attributes)
            .await
            .and_then(ldap3::SearchResult::success)
            .map_err(|error| error.to_string())?;
        // A search from the domain's root comes with pointers to its other partitions.
        let entries = entries
            .into_iter()
            .filter(|entry| !entry.is_ref() && !entry.is_intermediate());
        Ok(entries.map(SearchEntry::construct).collect())
    }

    /// A connection to the server that answered last, or the next that does.
    async fn connect(&self) -> Result<Ldap, String> {
        if let Some((since, why)) = &*self.down.lock()
            && since.elapsed() < DOWN_FOR
        {
            return Err(why.clone());
        }
        let connected = self.first_that_answers().await;
        *self.down.lock() = connected
            .as_ref()
            .err()
            .map(|why| (Instant::now(), why.clone()));
        connected
    }

    async fn first_that_answers(&self) -> Result<Ldap, String> {
        let count = self.config.urls.len();
        let first = self.first.load(Ordering::Relaxed);
        let mut why = String::new();
        for step in 0..count {
            let place = (first + step) % count;
            let Some(url) = self.config.urls.get(place) else {
                continue;
            };
            let settings = LdapConnSettings::new()
                .set_conn_timeout(self.config.timeout)
                .set_config(Arc::clone(&self.tls))
                .set_starttls(url.starts_with("ldap://"));
            match LdapConnAsync::with_settings(settings, url).await {
                Ok((connection, ldap)) => {
                    tokio::spawn(async move {
                        // How it ends is told to whoever asks over it.
                        let _ended = connection.drive().await;
                    });
                    self.first.store(place, Ordering::Relaxed);
                    return Ok(ldap);
                }
                Err(error) => {
                    tracing::warn!(url, error = %error, "a directory server can't be asked");
                    why = format!("{url}: {error}");
                }
            }
        }
        Err(why)
    }
}

/// Active Directory's own code in the text of a refused bind (`data 52e`).
fn refusal(text: &str) -> &'static str {
    let code = text
        .split("data ")
        .nth(1)
        .and_then(|rest| rest.split([',', ' ']).next());
    match code {
        Some("525") => "account_unknown",
        Some("530" | "531") => "account_hours",
        Some("532") => "password_expired",
        Some("533") => "account_disabled",
        Some("701") => "account_expired",
        Some("773") => "password_must_change",
        Some("775") => "account_locked",
        _ => "password_wrong",
    }
}

/// Whether a time of Active Directory has passed: 100 ns since 1601; 0 and the largest mean never.
fn is_past(text: &str) -> bool {
    const TO_UNIX: i64 = 11_644_473_600;
    match text.parse::<i64>() {
        Ok(0 | i64::MAX) | Err(_) => false,
        Ok(time) => time / 10_000_000 - TO_UNIX < jiff::Timestamp::now().as_second(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_and_times_of_active_directory() {
        let of = |code: &str| {
            refusal(&format!(
                "80090308: LdapErr: DSID-0C09044E, comment: x, data {code}, v2580"
            ))
        };
        assert_eq!(of("52e"), "password_wrong");
        assert_eq!(of("533"), "account_disabled");
        assert_eq!(of("775"), "account_locked");
        assert_eq!(refusal(""), "password_wrong");
        for (text, past) in [("0", false), ("9223372036854775807", false), ("x", false)] {
            assert_eq!(is_past(text), past, "{text}");
        }
        assert!(is_past("132223104000000000"));
    }
}
