//! `callout.url`: the gateway asks a decision service of somebody else's, in the form in which
//! NetScaler asks the connector for XenMobile, and refuses what that denies.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use parking_lot::Mutex;
use seg_compliance::{Ask, Decision, DeviceKey, Step, UserKey, Verdict};

use crate::config::WebAddress;
use crate::outbound::{self, Outbound};

/// Bytes of the answer in which the word must stand.
const WINDOW: usize = 20;
/// Largest answer that is read.
const ANSWER_MAX: usize = 64 * 1024;
/// Most answers that are remembered.
const REMEMBERED: usize = 100_000;

/// Whom to ask, and what holds when there is no answer.
#[derive(Clone, Debug)]
pub struct Callout {
    /// `callout.url`.
    pub url: WebAddress,
    /// `callout.timeout.seconds`.
    pub within: Duration,
    /// `callout.failure`: whether a request passes that nobody could be asked about.
    pub pass_when_failed: bool,
    /// `callout.cache.seconds`: how long an answer holds; nothing: for one request.
    pub cached: Duration,
}

/// The answers that still hold. The key is a fingerprint of the whole question, because the verdict
/// may depend on everything in it: the service's address, user, client, address, path and query.
#[derive(Debug, Default)]
pub struct Answers(Mutex<HashMap<Fingerprint, (Instant, bool)>>);

type Fingerprint = [u8; 32];

impl Callout {
    /// The decision that refuses the request; `None`: it may pass.
    pub async fn refuses(
        &self,
        ask: &Ask<'_>,
        uri: &Uri,
        outbound: &Outbound,
        answers: &Answers,
    ) -> Option<Decision> {
        let question = self.question(ask, uri);
        let fingerprint = self.fingerprint(&question);
        let known = fingerprint.and_then(|question| answers.recall(&question, self.cached));
        let allowed = match known {
            Some(allowed) => Ok(allowed),
            None => self.put(&question, outbound).await,
        };
        let (allowed, reason) = match allowed {
            Ok(allowed) => {
                if let (None, Some(question)) = (known, fingerprint) {
                    answers.keep(question, allowed);
                }
                (allowed, "callout_denied")
            }
            Err(why) => {
                tracing::warn!(target: "seg::callout", url = %self.url.origin, why, "no answer");
                (self.pass_when_failed, "callout_failed")
            }
        };
        (!allowed).then(|| Decision {
            verdict: Verdict::Block,
            step: Step::Policy,
            rule: Some("callout".into()),
            reason: Some(reason.into()),
            revision: 0,
            enforced: true,
            trial: None,
        })
    }

    /// What an answer is kept under; `None`: answers are not kept.
    fn fingerprint(&self, question: &str) -> Option<Fingerprint> {
        if self.cached.is_zero() {
            return None;
        }
        let whole = format!("{} {question}", self.url.origin);
        digest(&SHA256, whole.as_bytes()).as_ref().try_into().ok()
    }

    /// The path and query that ask.
    fn question(&self, ask: &Ask<'_>, uri: &Uri) -> String {
        let query = uri.path_and_query().map_or("/", |target| target.as_str());
        let url = format!("https://{}{query}", ask.via.host);
        let address = ask
            .via
            .address
            .map(|address| address.to_canonical().to_string());
        let parameters = [
            ("user", ask.user.map_or("", UserKey::as_str)),
            ("agent", ask.agent),
            ("ip", address.as_deref().unwrap_or_default()),
            ("url", &BASE64_STANDARD.encode(url)),
            ("resultType", "json"),
            ("DeviceId", ask.device.map_or("", DeviceKey::as_str)),
        ];
        let mut target = self.url.path.clone();
        let mut sign = if target.contains('?') { '&' } else { '?' };
        for (name, value) in parameters {
            target.push(sign);
            target.push_str(name);
            target.push('=');
            percent_encode(value, &mut target);
            sign = '&';
        }
        target
    }

    async fn put(&self, question: &str, outbound: &Outbound) -> Result<bool, String> {
        let to = WebAddress {
            origin: self.url.origin.clone(),
            path: question.to_owned(),
        };
        let ask = outbound::Ask::get(to, self.within, ANSWER_MAX);
        // The address would tell of user and device: the error is said without it.
        let body = outbound.fetch(ask).await.map_err(|error| match error {
            outbound::OutboundError::Status(_, status) => format!("it answers {status}"),
            outbound::OutboundError::Late(..) => "it is late".to_owned(),
            _ => "it can't be reached".to_owned(),
        })?;
        allows(&body).ok_or_else(|| "its answer says neither allow nor deny".to_owned())
    }
}

/// Whether an answer says `allow`; `None`: it does not say `deny` either. Who is `disallowed` is not
/// allowed: a yes is a word of its own.
fn allows(body: &[u8]) -> Option<bool> {
    let window = body.get(..WINDOW).unwrap_or(body);
    let is_letter = |at: Option<usize>| {
        at.and_then(|at| body.get(at))
            .is_some_and(u8::is_ascii_alphabetic)
    };
    let stands = |word: &'static [u8]| {
        let parts = window.windows(word.len()).enumerate();
        parts
            .filter(move |(_, part)| part.eq_ignore_ascii_case(word))
            .map(|(at, _)| at)
    };
    if stands(b"deny").next().is_some() {
        return Some(false);
    }
    let mut yes = stands(b"allow");
    yes.any(|at| !is_letter(at.checked_sub(1)) && !is_letter(at.checked_add(5)))
        .then_some(true)
}

impl Answers {
    fn recall(&self, question: &Fingerprint, cached: Duration) -> Option<bool> {
        let held = self.0.lock();
        let (at, allowed) = held.get(question)?;
        (at.elapsed() < cached).then_some(*allowed)
    }

    fn keep(&self, question: Fingerprint, allowed: bool) {
        let mut held = self.0.lock();
        if held.len() >= REMEMBERED {
            held.clear();
        }
        held.insert(question, (Instant::now(), allowed));
    }
}

/// Everything but unreserved characters (RFC 3986 section 2.3).
fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_is_a_word_of_its_own_within_the_first_bytes() {
        for (body, expected) in [
            ("allow", Some(true)),
            ("Allow", Some(true)),
            ("{\"result\":\"allow\"}", Some(true)),
            ("{ \"verdict\" : \"ALLOW\" }", Some(true)),
            ("deny", Some(false)),
            ("{\"result\":\"deny\"}", Some(false)),
            ("DENY, not allow", Some(false)),
            ("disallow", None),
            ("not allowed", None),
            ("{\"allowed\":false}", None),
            ("", None),
            ("maybe", None),
            // Behind the window, and across its end.
            ("a long way round to say allow", None),
            ("fifteen letters:allow", None),
            ("fifteen letter:allow", Some(true)),
            ("fifteen letter:allowed", None),
        ] {
            assert_eq!(allows(body.as_bytes()), expected, "{body}");
        }
    }
}
