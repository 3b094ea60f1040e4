//! Webhooks: a management system tells of a device the moment something happens to it, and an open
//! poll is cut.
//!
//! `POST /webhook/<source>` takes records as an import does (NDJSON, or one JSON object, or a list of
//! them), of a source in sources.toml. The caller is known by a signature with the source's
//! `webhook_secret`, or by a client certificate where `webhook.client.ca.path` is set. A signed call
//! carries `X-Seg-Timestamp` (seconds since 1970) and `X-Seg-Signature: sha256=<hex>`, the HMAC-SHA256 of
//! the timestamp, a dot and the body; it holds for five minutes and only once.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use jiff::Timestamp;
use parking_lot::Mutex;
use seg_compliance::api::AuditEvent;
use seg_compliance::engine::ImportOptions;
use seg_compliance::record::ndjson;
use serde_json::{Value, json};

use crate::beside::{Answer, PATIENCE, Visitor, text};
use crate::hex;
use crate::runtime::Shared;

/// Largest body.
const BODY_MAX: usize = 1024 * 1024;
/// How far the caller's clock may be off, and how long a signature holds.
const CLOCK_SECONDS: i64 = 300;
/// Most signatures that are remembered; more calls than that in ten minutes are refused.
const REMEMBERED: usize = 200_000;

/// The signatures that were used.
#[derive(Debug, Default)]
pub struct Used(Mutex<HashMap<[u8; 32], i64>>);

/// Why a call is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Unsigned,
    Clock,
    Signature,
    Replay,
    Busy,
}

impl Used {
    /// Notes a signature; an old one is a replay.
    fn note(&self, signature: [u8; 32], now: i64) -> Result<(), Refusal> {
        let mut used = self.0.lock();
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
    let Some(name) = request
        .uri()
        .path()
        .strip_prefix("/webhook/")
        .map(str::to_owned)
    else {
        return text(StatusCode::NOT_FOUND, "");
    };
    let snapshot = shared.snapshot();
    // An unknown source and a wrong signature look the same.
    let refuse = || {
        text(
            StatusCode::UNAUTHORIZED,
            "not signed as this source must be\n",
        )
    };
    let Ok(source) = snapshot.sources.find(&name) else {
        return refuse();
    };
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_MAX).collect();
    let body = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return text(StatusCode::PAYLOAD_TOO_LARGE, "at most 1 MiB\n"),
        Err(_) => return text(StatusCode::REQUEST_TIMEOUT, ""),
    };
    let checked = match source.webhook_secret() {
        Some(Ok(secret)) => signed(
            &parts.headers,
            &body,
            &secret,
            Timestamp::now(),
            &shared.webhooks,
        ),
        Some(Err(error)) => {
            tracing::error!(target: "seg::webhook", source = name, %error, "its secret can't be read");
            return text(StatusCode::SERVICE_UNAVAILABLE, "");
        }
        None if visitor.certified => Ok(()),
        None => Err(Refusal::Unsigned),
    };
    match checked {
        Ok(()) => {}
        Err(Refusal::Busy) => return text(StatusCode::TOO_MANY_REQUESTS, ""),
        Err(why) => {
            tracing::warn!(target: "seg::webhook", source = name, peer = %visitor.address, ?why, "a call is refused");
            return refuse();
        }
    }
    import(&shared, &name, visitor.address, &body).await
}

/// Checks signature, clock and that it was not used before.
fn signed(
    headers: &HeaderMap,
    body: &[u8],
    secret: &[u8],
    now: Timestamp,
    used: &Used,
) -> Result<(), Refusal> {
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
    let signature = signature.ok_or(Refusal::Signature)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let message = [timestamp.as_bytes(), b".", body].concat();
    // Takes as long for a wrong signature as for a right one.
    hmac::verify(&key, &message, &signature).map_err(|_| Refusal::Signature)?;
    used.note(signature, now.as_second())
}

async fn import(shared: &Shared, source: &str, peer: SocketAddr, body: &Bytes) -> Answer {
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
    let (status, detail, body) = match finished {
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
                json!(null),
                json!({"error": "store"}),
            )
        }
        Err(error) => {
            let told = json!({ "error": error.to_string() });
            (StatusCode::UNPROCESSABLE_ENTITY, told.clone(), told)
        }
    };
    let event = AuditEvent {
        who: source.to_owned(),
        role: String::new(),
        action: "webhook".to_owned(),
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
        let check = |headers: &HeaderMap, body: &[u8]| signed(headers, body, b"secret", now, &used);
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
    }
}
