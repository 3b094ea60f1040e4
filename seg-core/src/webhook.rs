//! Webhooks: a management system tells of a device the moment something happens to it, and an open
//! poll is cut.
//!
//! `POST /webhook/<source>` takes records as an import does (NDJSON, or one JSON object, or a list of
//! them), of a source in sources.toml. The caller is known by a signature with the source's
//! `webhook_secret`, or by a client certificate where `webhook.client.ca.path` is set. A signed call
//! carries `X-Seg-Timestamp` (seconds since 1970) and `X-Seg-Signature: sha256=<hex>`, the HMAC-SHA256 of
//! the timestamp, a dot and the body; it holds for five minutes and only once, across restarts too: the
//! audit trail, in which each call stands, tells which signatures were used.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use seg_compliance::Engine;
use seg_compliance::api::{AuditEntry, AuditEvent};
use seg_compliance::engine::{ImportOptions, Period};
use seg_compliance::record::ndjson;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::beside::{Answer, PATIENCE, Visitor, text};
use crate::runtime::Shared;
use crate::{hex, percent};

/// Largest body.
const BODY_MAX: usize = 1024 * 1024;
/// How far the caller's clock may be off, and how long a signature holds.
const CLOCK_SECONDS: i64 = 300;
/// Most signatures that are remembered; more calls than that in ten minutes are refused.
const REMEMBERED: usize = 200_000;

/// What the trail calls a webhook's call, and where the signature stands in it.
const ACTION: &str = "webhook";
const SIGNATURE: &str = "signature";

/// The signatures that were used, each with when that was.
#[derive(Debug, Default)]
pub struct Used {
    signatures: Mutex<HashMap<[u8; 32], i64>>,
    /// What was used before this process began is known.
    recalled: OnceCell<()>,
}

/// A signature and the time that it is for, as a caller gives them.
struct Given<'h> {
    timestamp: &'h str,
    signature: [u8; 32],
}

/// Why a call is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Source,
    Unsigned,
    Clock,
    Signature,
    Replay,
    Busy,
}

impl Used {
    /// Recalls from the audit trail what was used before this process began, once.
    async fn recall(&self, engine: &Arc<Engine>) -> Result<(), String> {
        let recalled = self.recalled.get_or_try_init(|| async {
            let engine = Arc::clone(engine);
            let from = Timestamp::now() - SignedDuration::from_secs(2 * CLOCK_SECONDS);
            let period = Period {
                from: Some(from),
                after: engine.audit_entries().saturating_sub(REMEMBERED as u64),
                ..Period::default()
            };
            let trail = tokio::task::spawn_blocking(move || engine.audit_trail(&period)).await;
            let trail = trail.map_err(|error| error.to_string())?;
            self.learn(&trail.map_err(|error| error.to_string())?);
            Ok(())
        });
        recalled.await.copied()
    }

    fn learn(&self, trail: &[AuditEntry]) {
        let calls = trail.iter().filter(|entry| entry.event.action == ACTION);
        let used = calls.filter_map(|entry| {
            let signature = entry.event.detail.get(SIGNATURE)?.as_str()?;
            Some((hex::sha256(signature)?, entry.at.as_second()))
        });
        self.signatures.lock().extend(used);
    }

    /// Notes a signature; an old one is a replay.
    fn note(&self, signature: [u8; 32], now: i64) -> Result<(), Refusal> {
        let mut used = self.signatures.lock();
        if used.len() >= REMEMBERED {
            used.retain(|_, at| now - *at <= 2 * CLOCK_SECONDS);
            if used.len() >= REMEMBERED {
                return Err(Refusal::Busy);
            }
        }
        match used.insert(signature, now) {
            None => Ok(()),
            Some(_) => Err(Refusal::Replay),
        }
    }
}

/// Takes one call.
pub async fn answer(shared: Arc<Shared>, visitor: Visitor, request: Request<Incoming>) -> Answer {
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "POST\n");
    }
    let path = request.uri().path();
    let Some(name) = path.strip_prefix("/webhook/").and_then(percent::decoded) else {
        return text(StatusCode::NOT_FOUND, "");
    };
    let snapshot = shared.snapshot();
    let refuse = |why: Refusal| {
        if why == Refusal::Busy {
            return text(StatusCode::TOO_MANY_REQUESTS, "");
        }
        tracing::warn!(target: "seg::webhook", source = name, peer = %visitor.address, ?why, "a call is refused");
        // An unknown source and a wrong signature look the same.
        text(
            StatusCode::UNAUTHORIZED,
            "not signed as this source must be\n",
        )
    };
    let Ok(source) = snapshot.sources.find(&name) else {
        return refuse(Refusal::Source);
    };
    let (parts, body) = request.into_parts();
    // Whoever can't be right does not get as far as sending a body.
    let now = Timestamp::now();
    let signed = match source.webhook_secret() {
        Some(Ok(secret)) => match given(&parts.headers, now) {
            Ok(given) => Some((given, secret)),
            Err(why) => return refuse(why),
        },
        Some(Err(error)) => {
            tracing::error!(target: "seg::webhook", source = name, %error, "its secret can't be read");
            return text(StatusCode::SERVICE_UNAVAILABLE, "");
        }
        None if visitor.certified => None,
        None => return refuse(Refusal::Unsigned),
    };
    let body = Limited::new(body, BODY_MAX).collect();
    let body = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return text(StatusCode::PAYLOAD_TOO_LARGE, "at most 1 MiB\n"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, ""),
    };
    let mut signature = None;
    if let Some((given, secret)) = signed {
        if let Err(why) = verify(&given, &body, &secret) {
            return refuse(why);
        }
        if let Err(error) = shared.webhooks.recall(&shared.engine).await {
            tracing::error!(target: "seg::webhook", error, "the audit trail can't be read");
            return text(StatusCode::SERVICE_UNAVAILABLE, "");
        }
        if let Err(why) = shared.webhooks.note(given.signature, now.as_second()) {
            return refuse(why);
        }
        signature = Some(given.signature);
    }
    import(&shared, &name, visitor.address, &body, signature).await
}

/// What a caller shows of a signature, as far as it is worth reading his body.
fn given(headers: &HeaderMap, now: Timestamp) -> Result<Given<'_>, Refusal> {
    let line = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(timestamp), Some(signature)) = (line("x-seg-timestamp"), line("x-seg-signature"))
    else {
        return Err(Refusal::Unsigned);
    };
    let at: i64 = timestamp.parse().map_err(|_| Refusal::Clock)?;
    if now.as_second().abs_diff(at) > CLOCK_SECONDS.unsigned_abs() {
        return Err(Refusal::Clock);
    }
    let signature = signature.strip_prefix("sha256=").and_then(hex::sha256);
    Ok(Given {
        timestamp,
        signature: signature.ok_or(Refusal::Signature)?,
    })
}

/// Checks the signature. Takes as long for a wrong one as for a right one.
fn verify(given: &Given<'_>, body: &[u8], secret: &[u8]) -> Result<(), Refusal> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let message = [given.timestamp.as_bytes(), b".", body].concat();
    hmac::verify(&key, &message, &given.signature).map_err(|_| Refusal::Signature)
}

async fn import(
    shared: &Shared,
    source: &str,
    peer: SocketAddr,
    body: &Bytes,
    signature: Option<[u8; 32]>,
) -> Answer {
    let mut import = shared.engine.begin_import(ImportOptions {
        source: Some(source.to_owned()),
        strict: true,
        event: true,
        ..ImportOptions::default()
    });
    let mut lines = Vec::new();
    // One object over several lines, or a list of them, is as good as one a line.
    let whole: Option<Value> = serde_json::from_slice(body).ok();
    let flat = match whole {
        Some(Value::Array(list)) => Some(list.iter().map(|item| format!("{item}\n")).collect()),
        Some(object @ Value::Object(_)) => Some(object.to_string()),
        _ => None,
    };
    let mut reader = ndjson::Reader::new();
    let bytes = flat
        .as_ref()
        .map_or(&body[..], |text: &String| text.as_bytes());
    reader.feed(bytes, &mut |line| lines.push(line));
    reader.finish(&mut |line| lines.push(line));
    let snapshot = shared.snapshot();
    for mut line in lines {
        if let Ok((_, patch)) = &mut line
            && let Some(Some(user)) = &mut patch.user
            && let Some(canonical) = snapshot.identity.canonical(user.as_str())
        {
            *user = canonical;
        }
        if import.push(line).await.is_err() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "");
        }
    }
    let finished = import.finish().await;
    let (status, mut detail, body) = match finished {
        Ok(result) => {
            let told = json!({
                "read": result.read, "applied": result.applied, "unchanged": result.unchanged,
                "cut": result.cut, "revision": result.revision,
            });
            (StatusCode::OK, told.clone(), told)
        }
        Err(seg_compliance::engine::Refused::Store(error)) => {
            tracing::error!(target: "seg::webhook", source, %error, "a call is lost");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                json!({"error": "store"}),
                json!({"error": "store"}),
            )
        }
        Err(error) => {
            let told = json!({ "error": error.to_string() });
            (StatusCode::UNPROCESSABLE_ENTITY, told.clone(), told)
        }
    };
    if let (Some(signature), Value::Object(detail)) = (signature, &mut detail) {
        detail.insert(SIGNATURE.to_owned(), hex::text(&signature).into());
    }
    let event = AuditEvent {
        who: source.to_owned(),
        role: String::new(),
        action: ACTION.to_owned(),
        target: Some(source.to_owned()),
        detail,
        from: Some(peer.ip().to_string()),
        status: status.as_u16(),
        revision: shared.engine.revision(),
    };
    if let Err(error) = shared.engine.audit(event).await {
        tracing::error!(target: "seg::webhook", %error, "an entry of the audit trail is lost");
    }
    text(status, format!("{body}\n"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn call(secret: &[u8], at: i64, body: &[u8]) -> HeaderMap {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&key, &[at.to_string().as_bytes(), b".", body].concat());
        let hex: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-seg-timestamp",
            HeaderValue::from_str(&at.to_string()).unwrap(),
        );
        let signature = format!("sha256={hex}");
        headers.insert(
            "x-seg-signature",
            HeaderValue::from_str(&signature).unwrap(),
        );
        headers
    }

    #[test]
    fn a_call_is_taken_once_with_its_signature_in_its_time() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let at = now.as_second();
        let used = Used::default();
        let check = |headers: &HeaderMap, body: &[u8]| {
            let given = given(headers, now)?;
            verify(&given, body, b"secret")?;
            used.note(given.signature, at)
        };
        let good = call(b"secret", at, b"body");
        assert_eq!(check(&good, b"other"), Err(Refusal::Signature));
        assert_eq!(check(&good, b"body"), Ok(()));
        assert_eq!(check(&good, b"body"), Err(Refusal::Replay));
        assert_eq!(check(&call(b"secret", at + 1, b"body"), b"body"), Ok(()));
        assert_eq!(
            check(&call(b"wrong", at, b"body"), b"body"),
            Err(Refusal::Signature)
        );
        for late in [
            at - CLOCK_SECONDS - 1,
            at + CLOCK_SECONDS + 1,
            i64::MIN,
            i64::MAX,
        ] {
            assert_eq!(
                check(&call(b"secret", late, b"body"), b"body"),
                Err(Refusal::Clock)
            );
        }
        assert_eq!(check(&HeaderMap::new(), b"body"), Err(Refusal::Unsigned));
        let mut short = good.clone();
        short.insert("x-seg-signature", HeaderValue::from_static("sha256=00"));
        assert_eq!(check(&short, b"body"), Err(Refusal::Signature));
    }

    #[test]
    fn more_signatures_than_can_be_remembered_are_refused_not_forgotten() {
        let used = Used::default();
        let signature = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            bytes
        };
        for number in 0..REMEMBERED {
            assert_eq!(used.note(signature(number), 0), Ok(()));
        }
        assert_eq!(used.note(signature(REMEMBERED), 1), Err(Refusal::Busy));
        assert_eq!(
            used.note(signature(0), 1),
            Err(Refusal::Busy),
            "or a replay"
        );
        // Those of which a copy would be too old make room.
        let later = 2 * CLOCK_SECONDS + 1;
        assert_eq!(used.note(signature(REMEMBERED), later), Ok(()));
    }
}
