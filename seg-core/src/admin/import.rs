//! `POST /v1/devices:import`: records line by line, as they arrive. Nothing is gathered beyond a
//! batch, so a fleet of a million costs no more memory than one of a thousand; only a strict
//! import has to be held until its last line is known to be good.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::{Extension, Json};
use futures_util::StreamExt;
use parking_lot::Mutex;
use seg_compliance::api::ImportResult;
use seg_compliance::engine::{Import, ImportMode, ImportOptions, Refused};
use seg_compliance::record::{Line, Reader};

use serde_json::{Value, json};

use super::audit::Told;
use super::endpoints::Api;
use super::error::ApiError;
use super::params::Params;
use super::questions;

/// Longest pause within a body.
const PAUSE: Duration = Duration::from_secs(60);
/// Longest name of a source, in bytes.
const SOURCE_MAX: usize = 64;

/// Reads the body to its end and answers what came of it.
pub(super) async fn import(
    State(api): State<Api>,
    mut query: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<(Extension<Told>, Json<ImportResult>), ApiError> {
    let guard = api.gateway().import_guard();
    let options = options(&mut query, guard)?;
    query.end()?;
    let dry_run = options.dry_run;
    let reader = reader(&headers)?;
    let turn = api.snapshots().begin(&options)?;
    // On a task of its own: a caller who leaves after his last line does not stop the import
    // between the records that it changes and those that it removes.
    let import = tokio::spawn(async move {
        let result = run(&api, options, reader, body).await;
        drop(turn);
        result
    });
    let result = import
        .await
        .map_err(|error| ApiError::internal(error.to_string()))??;
    // A dry run is no change.
    let told = if dry_run {
        Value::Null
    } else {
        json!({
            "read": result.read, "applied": result.applied, "unchanged": result.unchanged,
            "removed": result.removed, "cut": result.cut, "bad": result.errors.len(),
        })
    };
    Ok((Extension(Told(told)), Json(result)))
}

fn options(query: &mut Params, guard: u8) -> Result<ImportOptions, ApiError> {
    let mode = match query.text("mode").as_deref() {
        None | Some("delta") => ImportMode::Delta,
        Some("snapshot") => ImportMode::Snapshot,
        Some(other) => {
            let message = format!("mode: {other:?} is not delta or snapshot");
            return Err(ApiError::bad_request(message).about("mode"));
        }
    };
    let source = query.text("source");
    if let Some(source) = &source
        && (source.len() > SOURCE_MAX || source.chars().any(char::is_control))
    {
        let message = format!("source: at most {SOURCE_MAX} bytes without control characters");
        return Err(ApiError::bad_request(message).about("source"));
    }
    let dry_run = query.truth("dry_run")?.unwrap_or(false);
    let plan = query.truth("plan")?.unwrap_or(false);
    let limit = questions::limit(query)?;
    if plan && !dry_run {
        return Err(ApiError::bad_request("plan goes with dry_run=true").about("plan"));
    }
    let forced = query.truth("force")?.unwrap_or(false);
    let supplement = query.truth("supplement")?.unwrap_or(false);
    if supplement && mode == ImportMode::Snapshot {
        let message = "supplement goes with mode=delta: it removes nothing";
        return Err(ApiError::bad_request(message).about("supplement"));
    }
    Ok(ImportOptions {
        mode,
        source,
        strict: query.truth("strict")?.unwrap_or(false),
        dry_run,
        plan: plan.then_some(limit),
        guard: (!forced).then_some(guard),
        event: false,
        supplement,
    })
}

async fn run(
    api: &Api,
    options: ImportOptions,
    mut reader: Reader,
    body: Body,
) -> Result<ImportResult, ApiError> {
    let mut import = api.gateway().engine().begin_import(options);
    let mut chunks = body.into_data_stream();
    let mut lines: Vec<Line> = Vec::new();
    loop {
        let chunk = match tokio::time::timeout(PAUSE, chunks.next()).await {
            Ok(Some(Ok(chunk))) => Some(chunk),
            Ok(None) => None,
            Ok(Some(Err(_))) => return Err(broken("broke off")),
            Err(_) => return Err(broken("stood still")),
        };
        let Some(chunk) = chunk else { break };
        reader.feed(&chunk, &mut |line| lines.push(line));
        push(api, &mut import, &mut lines).await?;
    }
    reader.finish(&mut |line| lines.push(line));
    push(api, &mut import, &mut lines).await?;
    import.finish().await.map_err(refused)
}

async fn push(api: &Api, import: &mut Import<'_>, lines: &mut Vec<Line>) -> Result<(), ApiError> {
    for mut line in lines.drain(..) {
        if let Ok((_, patch)) = &mut line {
            api.canonical(patch);
        }
        let pushed = import.push(line).await;
        pushed.map_err(|error| ApiError::store(&error))?;
    }
    Ok(())
}

fn broken(how: &str) -> ApiError {
    ApiError::bad_request(format!(
        "the body {how}; whole batches before that are imported, nothing is removed"
    ))
}

fn refused(refused: Refused) -> ApiError {
    match refused {
        Refused::Store(error) => ApiError::store(&error),
        too_much @ Refused::TooMuch { .. } => ApiError::conflict(format!(
            "{too_much}. Look at what it would do with dry_run=true&plan=true (sync-compliance \
             plan, or pull --dry-run); if that is right, import it with force=true (--force)"
        ))
        .about("compliance.import.max.change.percent"),
        Refused::BadLines(result) => {
            let first = result.errors.first();
            let message = first.map_or("a line is bad", |error| error.message.as_str());
            let message = format!("{message}; the import is strict, nothing was applied");
            let line = first.map(|error| error.line);
            ApiError::refused("bad_lines", message).at(None, line)
        }
    }
}

/// A reader of the body's form: CSV where it is named; NDJSON under its names and those that programs
/// send by default.
fn reader(headers: &HeaderMap) -> Result<Reader, ApiError> {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media = value.split(';').next().unwrap_or_default().trim();
    match media.to_ascii_lowercase().as_str() {
        "text/csv" | "application/csv" => Ok(Reader::csv()),
        ""
        | "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/json"
        | "application/octet-stream"
        | "text/plain"
        | "application/x-www-form-urlencoded" => Ok(Reader::ndjson()),
        other => Err(ApiError::bad_request(format!(
            "content-type: {other:?} is not application/x-ndjson or text/csv"
        ))
        .about("content-type")),
    }
}

/// The sources with a snapshot under way. Two snapshots of one source at a time would each remove
/// what only the other names.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshots(Arc<Mutex<HashSet<Option<String>>>>);

/// A source's turn; over when it is dropped.
#[derive(Debug)]
struct Turn {
    snapshots: Snapshots,
    source: Option<String>,
}

impl Snapshots {
    /// Takes the source's turn where the import is a snapshot.
    fn begin(&self, options: &ImportOptions) -> Result<Option<Turn>, ApiError> {
        if options.mode != ImportMode::Snapshot || options.dry_run {
            return Ok(None);
        }
        let source = options.source.clone();
        if !self.0.lock().insert(source.clone()) {
            return Err(ApiError::conflict(
                "a snapshot of this source is being imported; try again when it is done",
            )
            .about("source"));
        }
        let snapshots = self.clone();
        Ok(Some(Turn { snapshots, source }))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.snapshots.0.lock().remove(&self.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_snapshot_of_a_source_at_a_time() {
        let options = |mode, source: &str| ImportOptions {
            mode,
            source: Some(source.to_owned()),
            ..ImportOptions::default()
        };
        let snapshots = Snapshots::default();
        let turn = snapshots
            .begin(&options(ImportMode::Snapshot, "a"))
            .unwrap();
        assert!(
            snapshots
                .begin(&options(ImportMode::Snapshot, "a"))
                .is_err()
        );
        assert!(snapshots.begin(&options(ImportMode::Snapshot, "b")).is_ok());
        assert!(snapshots.begin(&options(ImportMode::Delta, "a")).is_ok());
        drop(turn);
        assert!(snapshots.begin(&options(ImportMode::Snapshot, "a")).is_ok());
    }
}
