//! The audit trail: every call that changes something, or was refused to, is written to the store
//! before it is answered; and `GET /v1/audit` gives it out.

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use seg_compliance::api::AuditEvent;
use seg_compliance::engine::Period;
use serde_json::{Value, json};

use super::endpoints::{Api, BODY_MAX};
use super::error::ApiError;
use super::listener::Peer;
use super::params::Params;
use super::tokens::Caller;

/// What a handler tells the audit trail of what it did, where the request's body does not: goes
/// with its answer.
#[derive(Clone, Debug)]
pub(super) struct Told(pub(super) Value);

/// Entries that are given out at once where the caller names no limit.
const PAGE: usize = 10_000;

/// Writes what a call changed.
pub(super) async fn witness(State(api): State<Api>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    if method == Method::GET || path.ends_with(":plan") {
        return next.run(request).await;
    }
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return next.run(request).await;
    };
    let from = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let target = target(&path, request.uri().path());
    let query = request.uri().query().unwrap_or_default().to_owned();
    // Imports are told by what they counted.
    let (request, body) = if path.ends_with(":import") {
        (request, Value::Null)
    } else {
        match held(request).await {
            Ok(held) => held,
            Err(error) => return error.into_response(),
        }
    };
    let response = next.run(request).await;
    let status = response.status();
    let told = response.extensions().get::<Told>();
    let detail = told.map_or(body, |told| told.0.clone());
    let event = AuditEvent {
        who: caller.name,
        role: caller.role.name().to_owned(),
        action: format!("{method} {path}"),
        target,
        detail: if query.is_empty() {
            detail
        } else {
            json!({ "query": query, "said": detail })
        },
        from: from.map(|address| address.to_string()),
        status: status.as_u16(),
        revision: api.gateway().engine().revision(),
    };
    if !told.is_some_and(|told| told.0 == Value::Null) || !status.is_success() {
        let engine = api.gateway().engine();
        if let Err(error) = engine.audit(event).await {
            // The change itself is told by its own answer; that it is not on record is told here.
            tracing::error!(target: "admin", %error, "an entry of the audit trail is lost");
        }
    }
    response
}

/// The body as a value, and the request with its body again.
async fn held(request: Request) -> Result<(Request, Value), ApiError> {
    let (parts, body) = request.into_parts();
    let bytes: Bytes = axum::body::to_bytes(body, BODY_MAX)
        .await
        .map_err(|_| ApiError::bad_request(format!("the body has more than {BODY_MAX} bytes")))?;
    let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Ok((Request::from_parts(parts, Body::from(bytes)), value))
}

/// What stands in the path for `{…}`, as it was sent.
fn target(template: &str, path: &str) -> Option<String> {
    let pairs = template.split('/').zip(path.split('/'));
    let mut named = pairs.filter(|(template, _)| template.starts_with('{'));
    let (_, name) = named.next()?;
    Some(
        name.split(':')
            .next()
            .unwrap_or(name)
            .chars()
            .take(256)
            .collect(),
    )
}

/// `GET /v1/audit`: one entry a line.
pub(super) async fn trail(State(api): State<Api>, mut query: Params) -> Result<Response, ApiError> {
    let period = Period {
        from: query.parsed::<Timestamp>("from")?,
        to: query.parsed::<Timestamp>("to")?,
        after: query.parsed("after")?.unwrap_or(0),
        limit: Some(query.parsed("limit")?.unwrap_or(PAGE).min(PAGE)),
    };
    query.end()?;
    let entries = api
        .blocking(move |gateway| gateway.engine().audit_trail(&period))
        .await?
        .map_err(|error| ApiError::store(&error))?;
    let mut text = String::new();
    for entry in &entries {
        if let Ok(line) = serde_json::to_string(entry) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((StatusCode::OK, content_type, text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_what_stands_in_the_path() {
        assert_eq!(
            target("/v1/devices/{id}/override", "/v1/devices/D1/override").as_deref(),
            Some("D1")
        );
        assert_eq!(target("/v1/reload", "/v1/reload"), None);
    }
}
