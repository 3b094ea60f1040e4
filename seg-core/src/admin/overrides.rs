//! Overrides of devices and users. A stricter verdict is in force before it is durable, a milder
//! one after: the answer comes when it is both.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use seg_compliance::StoreError;
use seg_compliance::api::{Applied, Override};

use super::endpoints::Api;
use super::error::ApiError;
use super::params::{Name, Params, Payload, check_reason};

/// `PUT /v1/devices/{id}/override`.
pub(super) async fn put_device(
    State(api): State<Api>,
    Name(id): Name,
    query: Params,
    Payload(body): Payload,
) -> Result<Json<Applied>, ApiError> {
    query.end()?;
    let device = api.device(&id)?;
    let set = read(&body, Timestamp::now())?;
    let name = api.gateway().pseudonym();
    let verdict = set.verdict.name();
    let applied = api.gateway().engine().override_device(&device, set).await;
    note("device", &name.device(device.as_str()), verdict, applied)
}

/// `DELETE /v1/devices/{id}/override`.
pub(super) async fn delete_device(
    State(api): State<Api>,
    Name(id): Name,
    query: Params,
) -> Result<Json<Applied>, ApiError> {
    query.end()?;
    let device = api.device(&id)?;
    let name = api.gateway().pseudonym();
    let applied = api.gateway().engine().clear_device_override(&device).await;
    note("device", &name.device(device.as_str()), "none", applied)
}

/// `PUT /v1/users/{user}/override`.
pub(super) async fn put_user(
    State(api): State<Api>,
    Name(user): Name,
    query: Params,
    Payload(body): Payload,
) -> Result<Json<Applied>, ApiError> {
    query.end()?;
    let user = api.user(&user)?;
    let set = read(&body, Timestamp::now())?;
    let name = api.gateway().pseudonym();
    let verdict = set.verdict.name();
    let applied = api.gateway().engine().override_user(&user, set).await;
    note("user", &name.user(user.as_str()), verdict, applied)
}

/// `DELETE /v1/users/{user}/override`.
pub(super) async fn delete_user(
    State(api): State<Api>,
    Name(user): Name,
    query: Params,
) -> Result<Json<Applied>, ApiError> {
    query.end()?;
    let user = api.user(&user)?;
    let name = api.gateway().pseudonym();
    let applied = api.gateway().engine().clear_user_override(&user).await;
    note("user", &name.user(user.as_str()), "none", applied)
}

/// Reads an override and refuses one that could never hold.
fn read(body: &[u8], now: Timestamp) -> Result<Override, ApiError> {
    let set: Override = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the override can't be read: {error}")))?;
    check_reason(set.reason.as_deref())?;
    if set.expires.is_some_and(|expires| expires <= now) {
        return Err(ApiError::bad_request("expires: must lie in the future").about("expires"));
    }
    Ok(set)
}

/// Who may have mail was changed by hand: the log says so.
fn note(
    kind: &'static str,
    name: &dyn std::fmt::Display,
    verdict: &'static str,
    applied: Result<Applied, StoreError>,
) -> Result<Json<Applied>, ApiError> {
    let applied = applied.map_err(|error| ApiError::store(&error))?;
    tracing::info!(
        target: "admin",
        kind,
        %name,
        verdict,
        revision = applied.revision,
        cut = applied.cut,
        now = applied.decision.verdict.name(),
        "override"
    );
    Ok(Json(applied))
}

#[cfg(test)]
mod tests {
    use seg_compliance::record::REASON_MAX;

    use super::*;

    #[test]
    fn overrides_that_could_never_hold_are_refused() {
        let now: Timestamp = "2026-11-22T09:00:00Z".parse().unwrap();
        assert!(read(br#"{"verdict":"block"}"#, now).is_ok());
        assert!(
            read(
                br#"{"verdict":"allow","reason":"VIP","expires":"2026-11-22T09:00:01Z"}"#,
                now
            )
            .is_ok()
        );
        let long = format!(
            r#"{{"verdict":"block","reason":"{}"}}"#,
            "x".repeat(REASON_MAX + 1)
        );
        for body in [
            "",
            "{}",
            "null",
            r#"{"verdict":"deny"}"#,
            r#"{"verdict":"block","until":1}"#,
            r#"{"verdict":"block","reason":"a\u0007"}"#,
            r#"{"verdict":"block","expires":"2026-11-22T09:00:00Z"}"#,
            &long,
        ] {
            assert!(read(body.as_bytes(), now).is_err(), "{body}");
        }
    }
}
