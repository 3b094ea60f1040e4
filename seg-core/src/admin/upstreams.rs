//! The servers behind the gateway, and where its users have moved.

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};

use super::endpoints::Api;
use super::error::ApiError;
use crate::redirect::Move;
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

/// Every user who has moved.
#[derive(Serialize)]
pub(super) struct Redirects {
    redirects: Vec<Move>,
}

/// Where users have moved.
pub(super) async fn redirects(State(api): State<Api>) -> Result<Json<Redirects>, ApiError> {
    let redirects = api.blocking(|gateway| gateway.redirects()).await?;
    Ok(Json(Redirects { redirects }))
}

/// Whose moves are forgotten.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    user: Option<String>,
}

/// How many moves are forgotten.
#[derive(Serialize)]
pub(super) struct Removed {
    removed: usize,
}

/// Forgets where a user, or everybody, has moved: the next request goes home.
pub(super) async fn forget(
    State(api): State<Api>,
    Query(whose): Query<Whose>,
) -> Result<Json<Removed>, ApiError> {
    let user = whose.user.map(|user| api.user(&user)).transpose()?;
    let removed = api
        .blocking(move |gateway| gateway.clear_redirects(user.as_ref()))
        .await?;
    Ok(Json(Removed { removed }))
}
