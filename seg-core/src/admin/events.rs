//! `GET /v1/events`: the change feed as server-sent events (HTML Living Standard section 9.2).

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use seg_compliance::engine::Feed;
use tokio::sync::watch;

use super::endpoints::Api;
use super::error::ApiError;
use super::params::Params;

/// Pause after which a comment shows that the feed is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events after the revision `from`; a reader that comes back may name it as `Last-Event-ID`.
pub(super) async fn events(
    State(api): State<Api>,
    mut query: Params,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let asked: Option<u64> = query.parsed("from")?;
    query.end()?;
    let last = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let feed = api
        .gateway()
        .engine()
        .subscribe(asked.or(last))
        .map_err(|gone| {
            ApiError::gone(format!(
                "changes are kept from revision {} on; export, then follow from there",
                gone.oldest
            ))
            .about("from")
        })?;
    let events = stream::unfold((feed, api.stopped()), next);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

type Reader = (Feed, watch::Receiver<bool>);

/// The next event; the feed ends when the gateway stops.
async fn next((mut feed, mut stopped): Reader) -> Option<(Result<Event, Infallible>, Reader)> {
    let event = tokio::select! {
        event = feed.next() => event?,
        _ = stopped.wait_for(|stopped| *stopped) => return None,
    };
    let sent = Event::default()
        .event(event.name())
        .id(event.revision().to_string())
        .data(serde_json::to_string(&event).unwrap_or_default());
    Some((Ok(sent), (feed, stopped)))
}
