//! Orders to devices: wipe, resync, reprovision. Given by hand, each one by its name; durable
//! before a device is told of it.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use seg_compliance::OrderKind;
use seg_compliance::api::{Applied, OrderGiven};

use super::endpoints::Api;
use super::error::ApiError;
use super::params::{Name, Params, Payload, check_reason};

/// `POST /v1/devices/{id}:wipe`, `:resync` and `:reprovision`: what stands behind the last colon
/// of the path is the action; colons before it are the DeviceId's own.
pub(super) async fn give(
    State(api): State<Api>,
    Name(name): Name,
    query: Params,
    Payload(body): Payload,
) -> Result<Json<Applied>, ApiError> {
    query.end()?;
    let Some((id, action)) = name.rsplit_once(':') else {
        return Err(ApiError::not_found(
            "a device is told to do something by POST /v1/devices/{id}:wipe, :resync or :reprovision"
                .to_owned(),
        ));
    };
    let device = api.device(id)?;
    let given = read(&body)?;
    let kind = match (action, given.account_only) {
        ("wipe", false) => OrderKind::Wipe,
        ("wipe", true) => OrderKind::WipeAccount,
        ("resync", false) => OrderKind::Resync,
        ("reprovision", false) => OrderKind::Reprovision,
        ("resync" | "reprovision", true) => {
            return Err(
                ApiError::bad_request("only a wipe can be of the account alone")
                    .about("account_only"),
            );
        }
        _ => {
            return Err(ApiError::not_found(format!(
                "there is no action {action:?}; there are wipe, resync and reprovision"
            )));
        }
    };
    let user = given
        .user
        .as_deref()
        .map(|user| api.user(user))
        .transpose()?;
    let gateway = api.gateway();
    let reason = given.reason.as_deref();
    let now = Timestamp::now();
    let applied = gateway
        .engine()
        .order(&device, kind, user.as_ref(), reason, now)
        .await
        .map_err(|error| ApiError::store(&error))?;
    tracing::info!(
        target: "admin",
        device = %gateway.pseudonym().device(device.as_str()),
        action = kind.name(),
        revision = applied.revision,
        cut = applied.cut,
        "order"
    );
    Ok(Json(applied))
}

/// `DELETE /v1/devices/{id}/order`.
pub(super) async fn cancel(
    State(api): State<Api>,
    Name(id): Name,
    query: Params,
) -> Result<Json<Applied>, ApiError> {
    query.end()?;
    let device = api.device(&id)?;
    let cancelled = api.gateway().engine().cancel_order(&device).await;
    let cancelled = cancelled.map_err(|error| ApiError::store(&error))?;
    tracing::info!(
        target: "admin",
        device = %api.gateway().pseudonym().device(device.as_str()),
        "order taken back"
    );
    cancelled
        .map(Json)
        .ok_or_else(|| ApiError::not_found(format!("{device}: no order was given")).about("device"))
}

fn read(body: &[u8]) -> Result<OrderGiven, ApiError> {
    if body.is_empty() {
        return Ok(OrderGiven::default());
    }
    let given: OrderGiven = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the order can't be read: {error}")))?;
    check_reason(given.reason.as_deref())?;
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_completely_or_not_at_all() {
        assert_eq!(read(b"").unwrap(), OrderGiven::default());
        let given = read(br#"{"account_only":true,"reason":"sold","user":"alice"}"#).unwrap();
        assert!(given.account_only);
        assert_eq!(given.reason.as_deref(), Some("sold"));
        for body in ["null", r#"{"account":true}"#, r#"{"reason":"a\u0007"}"#] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
