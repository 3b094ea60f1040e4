//! The servers behind the gateway, and where its users have moved.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::endpoints::Api;
use super::error::ApiError;
use crate::servers::UpstreamState;

/// Every server.
#[derive(Serialize)]
pub(super) struct Upstreams {
    upstreams: Vec<UpstreamState>,
}

/// How every server stands.
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Upstreams>, ApiError> {
    let upstreams = api.blocking(|gateway| gateway.upstreams()).await?;
    Ok(Json(Upstreams { upstreams }))
}
