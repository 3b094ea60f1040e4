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
use crate::percent;

/// What a handler tells the audit trail of what it did, where the request's body does not: goes
/// with its answer.
#[derive(Clone, Debug)]
pub(super) struct Told(pub(super) Value);

/// Entries that are given out at once where the caller names no limit.
const PAGE: usize = 10_000;
/// Longest name of a path that is kept, in characters.
const NAME_MAX: usize = 256;

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
    let (action, target) = deed(&method, &path, request.uri().path());
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
        action,
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

/// What is done, as the table of endpoints writes it, and the name that stands in the path for `{…}`.
/// An order is the last part of the name, because a DeviceId may have colons of its own.
fn deed(method: &Method, template: &str, path: &str) -> (String, Option<String>) {
    let pairs = template.split('/').zip(path.split('/'));
    let mut named = pairs.filter(|(template, _)| template.starts_with('{'));
    let Some((_, name)) = named.next() else {
        return (format!("{method} {template}"), None);
    };
    let order = (*method == Method::POST)
        .then(|| name.rsplit_once(':'))
        .flatten();
    let (name, order) = order.map_or((name, None), |(name, order)| (name, Some(order)));
    let action = match order {
        Some(order) => format!("{method} {template}:{}", shown(order)),
        None => format!("{method} {template}"),
    };
    (action, Some(shown(name)))
}

/// A part of a path as a person writes it.
fn shown(part: &str) -> String {
    let decoded = percent::decoded(part);
    let text = decoded.as_deref().unwrap_or(part);
    text.chars().take(NAME_MAX).collect()
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
    fn the_deed_and_its_target_stand_in_the_path() {
        for (method, template, path, action, target) in [
            (
                "PUT",
                "/v1/devices/{id}/override",
                "/v1/devices/D1/override",
                "PUT /v1/devices/{id}/override",
                Some("D1"),
            ),
            (
                "POST",
                "/v1/devices/{id}",
                "/v1/devices/D1:wipe",
                "POST /v1/devices/{id}:wipe",
                Some("D1"),
            ),
            (
                "POST",
                "/v1/devices/{id}",
                "/v1/devices/A:B%3AC:resync",
                "POST /v1/devices/{id}:resync",
                Some("A:B:C"),
            ),
            (
                "DELETE",
                "/v1/devices/{id}/order",
                "/v1/devices/A:B/order",
                "DELETE /v1/devices/{id}/order",
                Some("A:B"),
            ),
            (
                "PUT",
                "/v1/users/{user}/override",
                "/v1/users/alice%40corp.example/override",
                "PUT /v1/users/{user}/override",
                Some("alice@corp.example"),
            ),
            ("POST", "/v1/reload", "/v1/reload", "POST /v1/reload", None),
        ] {
            let method: Method = method.parse().unwrap();
            let found = deed(&method, template, path);
            assert_eq!(
                found,
                (action.to_owned(), target.map(str::to_owned)),
                "{path}"
            );
        }
    }
}
