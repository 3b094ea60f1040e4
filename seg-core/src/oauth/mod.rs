//! Bearer tokens, checked before the mail server sees them: issuer, audience, time, signature.
//!
//! Keys come from their issuers (JWKS, RFC 7517), are fetched anew when a token names one that is
//! not known, and serve for days when the issuer can't be reached. A token that may act for
//! anybody is refused whoever has signed it.

mod jwt;

pub use jwt::{Keys, TokenError, verify};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::config::{self, WebAddress};
use crate::decide::Generations;
use crate::identify::CredentialDigest;
use crate::outbound::{Ask, Outbound};

/// Tokens that are remembered at least.
const KEPT: usize = 100_000;
/// The largest set of keys, in bytes.
const MAX_KEYS_BYTES: usize = 512 * 1024;
/// How long keys may take to arrive.
const FETCH_WITHIN: Duration = Duration::from_secs(10);
/// A token with an unknown key makes us ask this often at most.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Checks tokens.
#[derive(Debug)]
pub struct Tokens {
    /// Whose tokens count.
    pub config: config::OAuth,
    folder: PathBuf,
    issuers: HashMap<String, Arc<Issuer>>,
    /// Tokens that were good, until their end, under the keys of a turn.
    good: Generations<CredentialDigest, (i64, u64)>,
    /// Turns whenever an issuer has other keys.
    turn: AtomicU64,
}

#[derive(Debug)]
struct Issuer {
    address: WebAddress,
    known: Mutex<Known>,
    /// One question at a time.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Arc<Keys>,
    /// When they came.
    at: Option<SystemTime>,
    asked: Option<Instant>,
}

impl Tokens {
    /// The checks of a configuration; what is known stays where nothing about it changed.
    pub fn new(
        config: Option<&config::OAuth>,
        data_dir: &Path,
        before: Option<&Arc<Self>>,
    ) -> Option<Arc<Self>> {
        let config = config?;
        if let Some(before) = before.filter(|before| before.config == *config) {
            return Some(Arc::clone(before));
        }
        let folder = data_dir.join("oauth");
        let issuers = config.issuers.iter().map(|(name, address)| {
            let issuer = Issuer {
                address: address.clone(),
                known: Mutex::new(kept(&folder, address).unwrap_or_default()),
                asking: tokio::sync::Mutex::default(),
            };
            (name.clone(), Arc::new(issuer))
        });
        Some(Arc::new(Self {
            issuers: issuers.collect(),
            good: Generations::new(KEPT),
            turn: AtomicU64::new(0),
            folder,
            config: config.clone(),
        }))
    }

    /// Checks a token.
    ///
    /// # Errors
    /// Why it does not count.
    pub async fn check(
        self: &Arc<Self>,
        outbound: &Outbound,
        digest: &CredentialDigest,
        token: &str,
    ) -> Result<(), TokenError> {
        let now = Timestamp::now().as_second();
        let leeway = i64::try_from(self.config.leeway.as_secs()).unwrap_or(0);
        let keys_are = self.turn.load(Ordering::Relaxed);
        if self
            .good
            .recall(digest)
            .is_some_and(|(end, keys)| now < end.saturating_add(leeway) && keys == keys_are)
        {
            return Ok(());
        }
        let claims = jwt::claims(token)?;
        jwt::check_claims(&claims, &self.config, now)?;
        let issuer = self.issuers.get(&claims.iss).ok_or(TokenError::Issuer)?;
        let (keys, is_due) = self.keys(issuer);
        let mut verified = verify(token, &keys);
        if verified == Err(TokenError::UnknownKey) {
            // Whoever has started it may leave: it goes on, and those who come next have its keys.
            if self.fetching(outbound, issuer).await.is_err() {
                tracing::error!("the fetch of an issuer's keys has not come to its end");
            }
            verified = verify(token, &self.keys(issuer).0);
        } else if is_due {
            drop(self.fetching(outbound, issuer));
        }
        verified?;
        self.good.insert(*digest, (claims.exp, keys_are));
        Ok(())
    }

    /// The keys that count now, and whether newer ones should be asked for.
    fn keys(&self, issuer: &Issuer) -> (Arc<Keys>, bool) {
        let known = issuer.known.lock();
        let age = known
            .at
            .and_then(|at| at.elapsed().ok())
            .unwrap_or_default();
        if known.at.is_none() || age > self.config.offline {
            return (Arc::default(), true);
        }
        (Arc::clone(&known.keys), age > self.config.refresh)
    }

    /// Fetches keys in a task of its own.
    fn fetching(self: &Arc<Self>, outbound: &Outbound, issuer: &Arc<Issuer>) -> JoinHandle<()> {
        let (this, on, issuer) = (Arc::clone(self), outbound.clone(), Arc::clone(issuer));
        outbound
            .runtime()
            .spawn(async move { this.fetch(&on, &issuer, ASK_AGAIN).await })
    }

    async fn fetch(&self, outbound: &Outbound, issuer: &Issuer, at_most_every: Duration) {
        let _one = issuer.asking.lock().await;
        {
            let mut known = issuer.known.lock();
            if known
                .asked
                .is_some_and(|asked| asked.elapsed() < at_most_every)
            {
                return;
            }
            known.asked = Some(Instant::now());
        }
        let ask = Ask {
            ca: self.config.ca.clone(),
            ..Ask::get(issuer.address.clone(), FETCH_WITHIN, MAX_KEYS_BYTES)
        };
        let fetched = match outbound.fetch(ask).await {
            Ok(bytes) => Keys::read(&bytes)
                .map(|keys| (keys, bytes))
                .ok_or_else(|| format!("{} gives no keys that can be used", issuer.address)),
            Err(error) => Err(error.to_string()),
        };
        match fetched {
            Ok((keys, bytes)) => {
                let file = kept_file(&self.folder, &issuer.address);
                let kept = std::fs::create_dir_all(&self.folder)
                    .and_then(|()| std::fs::write(&file, &bytes));
                if let Err(error) = kept {
                    tracing::warn!(file = %file.display(), error = %error, "keys of an issuer can't be kept on disk");
                }
                let mut known = issuer.known.lock();
                if *known.keys != keys {
                    known.keys = Arc::new(keys);
                    // A key that was taken back takes back what was verified with it.
                    self.turn.fetch_add(1, Ordering::Relaxed);
                }
                known.at = Some(SystemTime::now());
            }
            Err(why) => {
                tracing::warn!("keys of an issuer can't be fetched: {why}; the last ones hold");
            }
        }
    }
}

/// What was fetched before the last restart.
fn kept(folder: &Path, address: &WebAddress) -> Option<Known> {
    let file = kept_file(folder, address);
    let at = std::fs::metadata(&file).ok()?.modified().ok()?;
    let keys = Keys::read(&std::fs::read(&file).ok()?)?;
    Some(Known {
        keys: Arc::new(keys),
        at: Some(at),
        asked: None,
    })
}

fn kept_file(folder: &Path, address: &WebAddress) -> PathBuf {
    use aws_lc_rs::digest::{SHA256, digest};
    let hash = digest(&SHA256, address.to_string().as_bytes());
    let name: String = hash
        .as_ref()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    folder.join(format!("{name}.json"))
}
