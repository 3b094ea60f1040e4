//! Devices: list, show, change, forget, export; and requests in flight.

use std::io;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use seg_compliance::engine::Filter;
use seg_compliance::record::Patch;
use seg_compliance::{Ask, DeviceKey, Protocol, Via, api};
use tokio::sync::mpsc;

use super::endpoints::Api;
use super::error::ApiError;
use super::params::{Name, Params, Payload};

/// Devices on a page where the caller names no limit.
const PAGE: usize = 100;
/// Bytes of an export that are sent at once.
const CHUNK: usize = 64 * 1024;
/// Chunks that may wait for a slow reader of an export.
const CHUNKS_WAITING: usize = 4;

/// `GET /v1/devices`.
pub(super) async fn list(
    State(api): State<Api>,
    mut query: Params,
) -> Result<Json<api::Devices>, ApiError> {
    let filter = Filter {
        user: query.text("user").map(|user| api.user(&user)).transpose()?,
        verdict: query.parsed("verdict")?,
        known: query.truth("known")?,
    };
    let after: Option<DeviceKey> = query.parsed("after")?;
    let limit = query.parsed("limit")?.unwrap_or(PAGE);
    query.end()?;
    let page = api
        .blocking(move |gateway| gateway.engine().list(&filter, after.as_ref(), limit))
        .await?;
    Ok(Json(page))
}

/// `GET /v1/devices/{id}`.
pub(super) async fn show(
    State(api): State<Api>,
    Name(id): Name,
    mut query: Params,
) -> Result<Json<api::Device>, ApiError> {
    let device = api.device(&id)?;
    let user = query.text("user").map(|user| api.user(&user)).transpose()?;
    query.end()?;
    let found = api.gateway().engine().device(&device, user.as_ref());
    let mut found = found.ok_or_else(|| unknown(&device))?;
    if let Some(binding) = api.gateway().binding(&device) {
        let standing = binding.suspect.as_ref().filter(|suspect| suspect.stands);
        if let Some(suspect) = standing {
            let last = found.last_request.as_ref();
            let decision = api.gateway().engine().decide(&Ask {
                device: Some(&device),
                user: user.as_ref().or(found.record.user.as_ref()),
                agent: last.map_or("", |last| last.agent.as_str()),
                device_type: "",
                protocol: Protocol::Eas,
                command: "",
                via: Via {
                    suspect: &suspect.reason,
                    ..Via::default()
                },
            });
            found.decision = api::Decision::from(&decision);
        }
        found.binding = Some(Box::new(binding));
    }
    Ok(Json(found))
}

/// `DELETE /v1/devices/{id}/binding`: the next use binds the device anew.
pub(super) async fn unbind(
    State(api): State<Api>,
    Name(id): Name,
    query: Params,
) -> Result<Json<api::Device>, ApiError> {
    query.end()?;
    let device = api.device(&id)?;
    if !api.gateway().unbind(&device) {
        return Err(ApiError::not_found(format!("{device}: bound to nobody")).about("device"));
    }
    let found = api.gateway().engine().device(&device, None);
    found.map(Json).ok_or_else(|| unknown(&device))
}

/// `PUT /v1/devices/{id}`: merges the fields given.
pub(super) async fn merge(
    State(api): State<Api>,
    Name(id): Name,
    query: Params,
    Payload(body): Payload,
) -> Result<Json<api::Applied>, ApiError> {
    query.end()?;
    let device = api.device(&id)?;
    let (named, mut patch) = Patch::from_json(&body).map_err(ApiError::bad_request)?;
    if named.is_some_and(|named| named != device) {
        return Err(
            ApiError::bad_request("device_id differs from the device in the path")
                .about("device_id"),
        );
    }
    api.canonical(&mut patch);
    let engine = api.gateway().engine();
    let applied = engine.put_record(&device, &patch).await;
    applied.map(Json).map_err(|error| ApiError::store(&error))
}

/// `DELETE /v1/devices/{id}`.
pub(super) async fn forget(
    State(api): State<Api>,
    Name(id): Name,
    query: Params,
) -> Result<Json<api::Applied>, ApiError> {
    query.end()?;
    let device = api.device(&id)?;
    let forgotten = api.gateway().engine().forget(&device).await;
    forgotten
        .map_err(|error| ApiError::store(&error))?
        .map(Json)
        .ok_or_else(|| unknown(&device))
}

fn unknown(device: &DeviceKey) -> ApiError {
    ApiError::not_found(format!("{device}: no record, and never seen")).about("device")
}

/// `GET /v1/devices:export`: every record, one JSON object a line, at the reader's pace.
pub(super) async fn export(State(api): State<Api>, query: Params) -> Result<Response, ApiError> {
    query.end()?;
    let (chunks, waiting) = mpsc::channel::<io::Result<Bytes>>(CHUNKS_WAITING);
    let engine = api.gateway().engine().clone();
    tokio::task::spawn_blocking(move || {
        let mut chunk = Vec::with_capacity(CHUNK + 4096);
        for record in engine.export() {
            if let Err(error) = serde_json::to_writer(&mut chunk, &record) {
                // Ends the answer without its last chunk: the reader sees a broken transfer.
                let _ = chunks.blocking_send(Err(error.into()));
                return;
            }
            chunk.push(b'\n');
            if chunk.len() >= CHUNK {
                let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK + 4096));
                if chunks.blocking_send(Ok(full.into())).is_err() {
                    // The reader has left.
                    return;
                }
            }
        }
        let _ = chunks.blocking_send(Ok(chunk.into()));
    });
    let body = stream::unfold(waiting, async |mut waiting| {
        let chunk = waiting.recv().await?;
        Some((chunk, waiting))
    });
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::from_stream(body)).into_response())
}

/// `GET /v1/sessions`.
pub(super) async fn sessions(
    State(api): State<Api>,
    query: Params,
) -> Result<Json<api::Sessions>, ApiError> {
    query.end()?;
    let sessions = api.blocking(|gateway| gateway.engine().sessions()).await?;
    Ok(Json(api::Sessions { sessions }))
}
