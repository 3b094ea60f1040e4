//! Asks responders: one question at a time about one certificate, and keeps what they say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::ocsp::{self, Answer, CertId};
use super::{Authorities, Link, Standing};
use crate::config::{Revocation, WebAddress};
use crate::decide::Generations;
use crate::outbound::{Ask, Outbound};

/// Certificates whose standing is kept at least.
const KEPT: usize = 100_000;
/// An answer is believed no shorter: a responder whose answers end at once is not asked for every
/// connection.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long a responder that fails is left alone about a certificate.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

type Kept = (Standing, Instant);

/// The client of all responders.
#[derive(Debug)]
pub struct Responders {
    outbound: Outbound,
    kept: Generations<CertId, Kept>,
    asking: Mutex<HashMap<CertId, Arc<OnceCell<Kept>>>>,
}

impl Responders {
    /// Knows nothing yet.
    pub fn new(outbound: Outbound) -> Self {
        Self {
            outbound,
            kept: Generations::new(KEPT),
            asking: Mutex::default(),
        }
    }

    /// What a responder says of a certificate, and how long that holds; `None` where none is
    /// responsible.
    pub async fn ask(
        &self,
        rules: &Revocation,
        authorities: &Authorities,
        link: &Link,
    ) -> Option<(Standing, Duration)> {
        let (id, url) = question(rules, authorities, link)?;
        let left = |kept: &Kept| kept.1.checked_duration_since(Instant::now());
        if let Some(kept) = self.kept.recall(&id)
            && let Some(left) = left(&kept)
        {
            return Some((kept.0, left));
        }
        let cell = Arc::clone(self.asking.lock().entry(id.clone()).or_default());
        let kept = cell
            .get_or_init(|| self.question(rules, authorities, link, &id, url))
            .await
            .clone();
        self.kept.insert(id.clone(), kept.clone());
        self.asking.lock().remove(&id);
        let holds = left(&kept).unwrap_or_default();
        Some((kept.0, holds))
    }

    async fn question(
        &self,
        rules: &Revocation,
        authorities: &Authorities,
        link: &Link,
        id: &CertId,
        url: WebAddress,
    ) -> Kept {
        let name = url.to_string();
        let ask = Ask {
            body: Some(("application/ocsp-request", Bytes::from(id.request()))),
            ..Ask::get(url, rules.responder_timeout, ocsp::MAX_ANSWER)
        };
        let fetched = self.outbound.fetch(ask).await;
        let now = Instant::now();
        let failed = |why: String| {
            tracing::warn!(
                responder = name,
                "a certificate's standing is not known: {why}"
            );
            (Standing::Unknown(why), now + AFTER_FAILURE)
        };
        let bytes = match fetched {
            Ok(bytes) => bytes,
            Err(error) => return failed(error.to_string()),
        };
        // Several CAs may share a name: the one that signed the answer counts.
        let mut why = None;
        for issuer in authorities.named(&link.issuer) {
            match ocsp::read(&bytes, id, &issuer, Timestamp::now()) {
                Ok((answer, seconds)) => {
                    let holds =
                        Duration::from_secs(seconds).clamp(SHORTEST, rules.responder_max_age);
                    let standing = match answer {
                        Answer::Good => Standing::Good,
                        Answer::Revoked => Standing::Revoked(name),
                        Answer::Unknown => {
                            Standing::Unknown(format!("{name} doesn't know the certificate"))
                        }
                    };
                    return (standing, now + holds);
                }
                Err(error) => why = Some(error),
            }
        }
        failed(why.map_or_else(|| "its CA is gone".to_owned(), |why| why.to_string()))
    }
}

/// What is asked, and whom.
fn question(
    rules: &Revocation,
    authorities: &Authorities,
    link: &Link,
) -> Option<(CertId, WebAddress)> {
    let issuer = authorities.named(&link.issuer).next()?;
    let common_name = issuer
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default()
        .to_owned();
    let own = |authority: &Option<String>| authority.as_deref() == Some(common_name.as_str());
    let responder = rules
        .responders
        .iter()
        .find(|responder| own(&responder.authority))
        .or_else(|| rules.responders.iter().find(|one| one.authority.is_none()))?;
    let url = match &responder.url {
        Some(url) => url.clone(),
        None => WebAddress::parse(link.responder.as_deref()?).ok()?,
    };
    Some((CertId::new(link, &issuer), url))
}
