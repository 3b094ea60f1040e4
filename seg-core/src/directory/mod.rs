//! People in Active Directory: is the password right, is the account good, which groups is it in?
//!
//! A password is checked here before the mail server sees it. What stands between the directory
//! and the world keeps accounts from being locked: a wrong password is asked about once, however
//! often a forgotten phone sends it, and after a few different ones nobody is asked any more for a
//! while. All of it runs on the background runtime.

mod client;
mod guard;
mod memory;
mod services;

pub use client::{Account, Answer};
pub use guard::{Allowed, Guard};
pub use memory::Found;
pub use services::{Delegate, Owner};

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use seg_compliance::UserKey;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::config;
use crate::identify::{CredentialDigest, DigestKey};
use crate::tls::TlsError;
use client::Client;
use memory::{ENDING, Memory, Turns};

/// People who are remembered at least.
const KEPT: usize = 100_000;
/// Checks at one time.
const AT_ONCE: usize = 32;

/// The outcome of a check.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Right password, good account.
    Good(Arc<Account>),
    /// Not to be let in; the reason is for the log alone.
    Refused(&'static str),
    /// The directory can't be asked.
    Unavailable(String),
}

/// The directory, and what is remembered of it.
pub struct Directory {
    /// Its settings.
    pub config: config::Directory,
    client: Client,
    guard: Guard,
    /// Accounts of people who came without a password.
    accounts: Arc<Memory<Arc<Account>>>,
    /// Devices to which certificates belong.
    devices: Arc<Memory<Arc<str>>>,
    /// One check at a time for each person, so that failures are counted one by one.
    turns: Turns,
    room: Arc<Semaphore>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory")
            .field("urls", &self.config.urls)
            .finish_non_exhaustive()
    }
}

impl Directory {
    /// The directory of a configuration. What is remembered stays where nothing about it changed.
    ///
    /// # Errors
    /// A CA file that can't be used.
    pub fn new(
        config: Option<&config::Directory>,
        before: Option<&Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, TlsError> {
        let Some(config) = config else {
            return Ok(None);
        };
        let client = Client::new(config)?;
        if let Some(before) = before.filter(|before| before.config == *config) {
            return Ok(Some(Arc::clone(before)));
        }
        Ok(Some(Arc::new(Self {
            client,
            guard: Guard::new(config),
            accounts: Arc::new(Memory::new(KEPT, config.cache)),
            devices: Arc::new(Memory::new(KEPT, config.cache)),
            turns: Turns::default(),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            config: config.clone(),
        })))
    }

    /// Checks Basic credentials: what follows the scheme, still in base64.
    pub async fn check(
        self: &Arc<Self>,
        runtime: &Handle,
        key: &DigestKey,
        user: &UserKey,
        credentials: &[u8],
        peer: IpAddr,
    ) -> Verdict {
        let Some((typed, password)) = decode(credentials) else {
            return Verdict::Refused("password_unreadable");
        };
        // A domain that no rule maps to ours: somebody else's account of that name is not his.
        if user.as_str().contains('\\') {
            return Verdict::Refused("domain_unknown");
        }
        // RFC 4513 5.1.2: a server may answer such a bind with success.
        if password.is_empty() {
            return Verdict::Refused("password_empty");
        }
        // Of the password alone: what counts as the same guess is the same under each name.
        let digest = key.digest_of(password.as_bytes());
        if let Some(verdict) = self.guard.recall(user, &digest, peer) {
            return verdict;
        }
        let turn = self.turns.of(user);
        let this = Arc::clone(self);
        let owner = user.clone();
        // A task of its own: a client that leaves must not make a failure uncounted.
        let checked = runtime.spawn(async move {
            let _turn = turn.lock().await;
            // Somebody may have asked meanwhile.
            if let Some(verdict) = this.guard.recall(&owner, &digest, peer) {
                return verdict;
            }
            let Ok(_room) = this.room.acquire().await else {
                return Verdict::Unavailable(ENDING.to_owned());
            };
            let bind_as = if typed.contains(['@', '\\']) {
                &typed
            } else {
                owner.as_str()
            };
            let verdict = this.log_in(&owner, bind_as, &password, digest, peer).await;
            this.guard.learn(&owner, digest, peer, &verdict);
            verdict
        });
        let verdict = checked
            .await
            .unwrap_or_else(|_| Verdict::Unavailable(ENDING.to_owned()));
        self.turns.over(user);
        verdict
    }

    /// Asks the directory. An account has many names; failures under each of them count for the
    /// account as a whole, as the directory counts them.
    async fn log_in(
        &self,
        owner: &UserKey,
        bind_as: &str,
        password: &str,
        digest: CredentialDigest,
        peer: IpAddr,
    ) -> Verdict {
        let attempt = match self.client.begin(owner.as_str()).await {
            Ok(Ok(attempt)) => attempt,
            Ok(Err(reason)) => return Verdict::Refused(reason),
            Err(error) => return Verdict::Unavailable(error),
        };
        let account = attempt.account_name().and_then(guard::account_key);
        let Some(account) = account else {
            return self
                .client
                .finish(attempt, owner.as_str(), bind_as, password)
                .await;
        };
        let turn = self.turns.of(&account);
        let verdict = {
            let _turn = turn.lock().await;
            match self.guard.recall(&account, &digest, peer) {
                Some(Verdict::Refused(reason)) => Verdict::Refused(reason),
                _ => {
                    let finished = self
                        .client
                        .finish(attempt, owner.as_str(), bind_as, password);
                    let verdict = finished.await;
                    self.guard.learn_of_account(&account, digest, &verdict);
                    verdict
                }
            }
        };
        drop(turn);
        self.turns.over(&account);
        verdict
    }

    /// The account of somebody who came by a certificate, a token or a ticket. `None`: we have no
    /// account of our own to ask with.
    pub async fn account(self: &Arc<Self>, runtime: &Handle, user: &UserKey) -> Option<Verdict> {
        if self.config.bind_user.is_empty() {
            return None;
        }
        let (this, name) = (Arc::clone(self), user.clone());
        let asked = async move { this.client.look_up(name.as_str()).await };
        Some(self.looked_up(runtime, user, asked).await)
    }

    /// The account that has one of these `altSecurityIdentities`; remembered by `print`, the
    /// certificate's fingerprint. `None`: we have no account of our own to ask with, or nothing to
    /// ask for.
    pub async fn mapped(
        self: &Arc<Self>,
        runtime: &Handle,
        print: &str,
        identities: Vec<String>,
    ) -> Option<Verdict> {
        if self.config.bind_user.is_empty() || identities.is_empty() {
            return None;
        }
        let key = certificate_key(print)?;
        let this = Arc::clone(self);
        let asked = async move { this.client.look_up_mapped(&identities).await };
        Some(self.looked_up(runtime, &key, asked).await)
    }

    /// The device that an entry of the directory names for a certificate; remembered by `print`.
    /// `filter`: which entry, as `directory.device.filter` says.
    pub async fn device(
        self: &Arc<Self>,
        runtime: &Handle,
        print: &str,
        filter: String,
    ) -> Found<Arc<str>> {
        let Some(key) = certificate_key(print) else {
            return Ok(Err("device_unknown"));
        };
        let this = Arc::clone(self);
        let asked = async move {
            let found = this.client.look_up_device(&filter).await?;
            Ok(found.map(Arc::from))
        };
        self.devices.find(runtime, &self.room, &key, asked).await
    }

    async fn looked_up(
        self: &Arc<Self>,
        runtime: &Handle,
        key: &UserKey,
        asked: impl Future<Output = Result<Answer, String>> + Send + 'static,
    ) -> Verdict {
        let asked = async move {
            Ok(match asked.await? {
                Answer::Account(account) => Ok(Arc::new(account)),
                Answer::Refused(reason) => Err(reason),
            })
        };
        match self.accounts.find(runtime, &self.room, key, asked).await {
            Ok(Ok(account)) => Verdict::Good(account),
            Ok(Err(reason)) => Verdict::Refused(reason),
            Err(why) => Verdict::Unavailable(why),
        }
    }

    /// The mail server has refused a password that we have let pass: it was changed.
    pub fn forget(&self, user: &UserKey) {
        self.guard.forget(user);
    }

    /// `account@domain`, by which every account of the directory can be named.
    pub fn login_name(&self, account: &Account) -> String {
        format!("{}@{}", account.name, self.client.domain())
    }

    /// Whether the groups of an account let it in here.
    ///
    /// # Errors
    /// Why not, for the log.
    pub fn admits(&self, account: &Account, host: &str, path: &str) -> Result<(), &'static str> {
        let member = |group: &str| {
            account
                .groups
                .iter()
                .any(|own| own.eq_ignore_ascii_case(group))
        };
        if self.config.denied.iter().any(|group| member(group)) {
            return Err("group_denied");
        }
        if self.config.permitted.is_empty() {
            return Ok(());
        }
        let mut of_any = false;
        for rule in self
            .config
            .permitted
            .iter()
            .filter(|rule| member(&rule.group))
        {
            of_any = true;
            let host_fits = rule
                .host
                .as_ref()
                .is_none_or(|own| own.eq_ignore_ascii_case(host));
            let path_fits = rule.path.as_ref().is_none_or(|own| {
                path.get(..own.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(own))
            });
            if host_fits && path_fits {
                return Ok(());
            }
        }
        Err(if of_any {
            "group_not_here"
        } else {
            "group_missing"
        })
    }
}

/// What is remembered of a certificate stands under its own kind of name: no person's holds a
/// backslash in here.
fn certificate_key(print: &str) -> Option<UserKey> {
    UserKey::new(&format!("certificate\\{print}")).ok()
}

/// Name and password out of Basic credentials (RFC 7617), UTF-8 or Latin-1.
fn decode(credentials: &[u8]) -> Option<(String, Zeroizing<String>)> {
    let decoded = Zeroizing::new(BASE64_STANDARD.decode(credentials).ok()?);
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = decoded.split_at_checked(colon)?;
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    };
    Some((text(name), Zeroizing::new(text(password.get(1..)?))))
}

/// A refusal takes this long, or a multiple of it where the directory is slow, whether it was asked
/// or not: so its time tells nothing of the account.
const REFUSAL_TAKES: Duration = Duration::from_millis(300);

/// How long a refusal still waits before it is told, when it has taken so long already.
pub fn until_told(taken: Duration) -> Duration {
    let step = REFUSAL_TAKES.as_millis();
    let over = taken.as_millis() % step;
    Duration::from_millis(u64::try_from(step - over).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_in_steps() {
        for (taken, told) in [(0, 300), (1, 300), (299, 300), (300, 600), (750, 900)] {
            let taken = Duration::from_millis(taken);
            assert_eq!(taken + until_told(taken), Duration::from_millis(told));
        }
    }

    #[test]
    fn names_and_passwords_are_told_apart() {
        let of = |text: &[u8]| decode(BASE64_STANDARD.encode(text).as_bytes());
        let (name, password) = of(b"CORP\\alice:a:b").expect("credentials");
        assert_eq!((name.as_str(), password.as_str()), ("CORP\\alice", "a:b"));
        assert_eq!(of(b"alice:").expect("credentials").1.as_str(), "");
        assert_eq!(
            of("alice:p\u{f6}".as_bytes()).expect("UTF-8").1.as_str(),
            "p\u{f6}"
        );
        assert_eq!(of(b"alice:p\xf6").expect("Latin-1").1.as_str(), "p\u{f6}");
        assert!(of(b"alice").is_none() && decode(b"!").is_none());
    }
}
