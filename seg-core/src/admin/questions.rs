//! Questions about the fleet as a whole: the policies in force, what others would change, a report.

use std::path::Path;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use seg_compliance::Policies;
use seg_compliance::api::{Plan, PolicyList, Report};

use super::endpoints::Api;
use super::error::ApiError;
use super::params::{Params, Payload};
use crate::config::policies;

/// Changes that a plan tells one by one where the caller names no limit, and at most.
pub(super) const CHANGES: usize = 10_000;
pub(super) const CHANGES_MAX: usize = 1_000_000;

/// `GET /v1/policies`.
pub(super) async fn in_force(
    State(api): State<Api>,
    query: Params,
) -> Result<Json<PolicyList>, ApiError> {
    query.end()?;
    Ok(Json(PolicyList::of(&api.gateway().engine().policies())))
}

/// `POST /v1/policies:plan`: which verdicts the policies of the body would change.
pub(super) async fn plan(
    State(api): State<Api>,
    mut query: Params,
    Payload(body): Payload,
) -> Result<Json<Plan>, ApiError> {
    let limit = limit(&mut query)?;
    query.end()?;
    let text = std::str::from_utf8(&body)
        .map_err(|_| ApiError::bad_request("the policies are not UTF-8"))?;
    let policies = read(text)?;
    let plan = api
        .blocking(move |gateway| gateway.engine().plan_policies(policies, limit))
        .await?;
    Ok(Json(plan))
}

/// The policies of a file of which nothing is wrong, not in the tables of others either: what can't
/// be put in force is not worth a plan.
fn read(text: &str) -> Result<Policies, ApiError> {
    let refused = |message: String| ApiError::refused("policies_refused", message);
    let parsed = Policies::parse(text).map_err(|error| {
        let line = error.line.map(|line| line as u64);
        refused(error.to_string()).at(error.policy.clone(), line)
    })?;
    let tables = policies::of_text(text, Path::new("policies")).map_err(|error| {
        let line = error.place.map(|(line, _)| line as u64);
        refused(error.to_string()).at(None, line)
    })?;
    seg_ews::policy::Policy::compile(tables.ews).map_err(|error| refused(error.to_string()))?;
    Ok(parsed)
}

/// How many changes are told one by one.
pub(super) fn limit(query: &mut Params) -> Result<usize, ApiError> {
    let limit: Option<usize> = query.parsed("limit")?;
    Ok(limit.unwrap_or(CHANGES).min(CHANGES_MAX))
}

/// `GET /v1/report`: JSON, or CSV with `format=csv`.
pub(super) async fn report(
    State(api): State<Api>,
    mut query: Params,
) -> Result<Response, ApiError> {
    let format = query.text("format");
    query.end()?;
    let as_csv = match format.as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(other) => {
            let message = format!("format: {other:?} is not json or csv");
            return Err(ApiError::bad_request(message).about("format"));
        }
    };
    let report = api.blocking(|gateway| gateway.engine().report()).await?;
    if !as_csv {
        return Ok(Json(report).into_response());
    }
    let text = csv(&report).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response())
}

fn csv(report: &Report) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "kind",
        "value",
        "devices",
        "allow",
        "quarantine",
        "block",
        "age_seconds",
    ])?;
    for row in &report.rows {
        let age = report
            .sources
            .iter()
            .find(|source| row.kind == "source" && source.source == row.value);
        // A cell that begins like a formula is one to a spreadsheet.
        let value = if row.value.starts_with(['=', '+', '-', '@', '\t', '\r']) {
            format!("'{}", row.value)
        } else {
            row.value.clone()
        };
        writer.write_record([
            row.kind.clone(),
            value,
            row.devices.to_string(),
            row.allow.to_string(),
            row.quarantine.to_string(),
            row.block.to_string(),
            age.map_or_else(String::new, |source| source.age_seconds.to_string()),
        ])?;
    }
    Ok(writer.into_inner()?)
}
