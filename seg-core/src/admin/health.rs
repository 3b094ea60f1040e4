//! Health, metrics, reload.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use seg_compliance::api::ReloadResult;
use serde::Serialize;

use super::endpoints::Api;
use super::error::ApiError;
use crate::telemetry::metrics::{DeviceState, Exposition};

/// The body of a good health check.
#[derive(Serialize)]
pub(super) struct Status {
    status: &'static str,
    /// Sources that have been silent for longer than they may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stale_sources: Vec<String>,
}

/// The process answers.
pub(super) async fn healthz() -> Json<Status> {
    Json(Status {
        status: "ok",
        stale_sources: Vec::new(),
    })
}

/// Configuration and journal are loaded, listeners are open.
pub(super) async fn readyz(State(api): State<Api>) -> Result<Json<Status>, ApiError> {
    let missing = api.gateway().not_ready();
    if missing.is_empty() {
        // Told, but no reason to take the gateway away: what then holds is configured.
        let stale = api.gateway().engine().sources().into_iter();
        let stale = stale.filter(|source| source.stale);
        return Ok(Json(Status {
            status: "ready",
            stale_sources: stale.map(|source| source.name).collect(),
        }));
    }
    Err(ApiError::unavailable("not_ready", missing.join("; ")))
}

/// The metrics, in the format that the scraper asks for.
pub(super) async fn metrics(
    State(api): State<Api>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ApiError> {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let format = Exposition::for_accept(accept);
    let text = api
        .blocking(move |gateway| {
            let (metrics, counts) = (gateway.metrics(), gateway.engine().counts());
            metrics.devices(DeviceState::Known, counts.known);
            metrics.devices(DeviceState::Unknown, counts.unknown);
            metrics.devices(DeviceState::Overridden, counts.overridden);
            for upstream in gateway.upstreams() {
                metrics.upstream_load(
                    &upstream.label,
                    upstream.ejected_until.is_some(),
                    upstream.in_flight,
                    upstream.connections,
                );
            }
            metrics.encode_as(format)
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text))
}

/// Reads the configuration again.
pub(super) async fn reload(State(api): State<Api>) -> Result<Json<ReloadResult>, ApiError> {
    api.blocking(|gateway| gateway.reload())
        .await?
        .map(Json)
        .map_err(|error| {
            ApiError::refused("configuration_refused", error.message).at(error.key, error.line)
        })
}
