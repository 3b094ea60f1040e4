//! A stream that was cut leaves a subscription behind. Where the client's credentials can be used
//! for one more request (they belong to the request and not to its connection), the server is told
//! to drop it.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use seg_ews::callback;

use crate::route::EWS_PATH;
use crate::runtime::Core;
use crate::servers::Upstream;
use crate::transform::Inward;
use crate::upstream::{BodyKind, Deadlines, NoBody, RequestHead, send};

/// Subscriptions that are ended for one stream.
const MOST: usize = 20;

/// What leads a request to the mailbox's own server goes with it.
static COPIED: [HeaderName; 5] = [
    AUTHORIZATION,
    COOKIE,
    USER_AGENT,
    HeaderName::from_static("x-anchormailbox"),
    HeaderName::from_static("x-preferserveraffinity"),
];

/// The requests that end a stream's subscriptions.
#[derive(Debug)]
pub struct Unsubscribe {
    core: Arc<Core>,
    upstream: Arc<Upstream>,
    headers: Box<[(u8, HeaderValue)]>,
    host: Option<HeaderValue>,
    ids: Box<[String]>,
    deadlines: Deadlines,
}

fn own(value: Option<&HeaderValue>) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value?.as_bytes()).ok()
}

impl Unsubscribe {
    /// For a stream that listens to `ids` and was asked for with `inward`. `None` where there is nothing to end or nobody to end it as.
    pub fn new(
        core: &Arc<Core>,
        upstream: &Arc<Upstream>,
        inward: &Inward,
        ids: &[String],
        deadlines: Deadlines,
    ) -> Option<Self> {
        let headers = &inward.headers;
        if ids.is_empty() || !headers.contains_key(AUTHORIZATION) {
            return None;
        }
        // Copies: the lines are slices of the connection's read buffer, which must not wait too.
        let headers = (0u8..).zip(&COPIED).filter_map(|(at, name)| {
            let mut value = own(headers.get(name))?;
            value.set_sensitive(*name == AUTHORIZATION);
            Some((at, value))
        });
        Some(Self {
            core: Arc::clone(core),
            upstream: Arc::clone(upstream),
            headers: headers.collect(),
            host: own(inward.host.as_ref()),
            ids: ids.iter().take(MOST).cloned().collect(),
            deadlines,
        })
    }

    /// Ends the subscriptions, one after the other. Whether the server agrees changes nothing for
    /// anybody: it drops what nobody asks for by itself after a while.
    pub async fn run(self) {
        let shared = Arc::clone(&self.core.shared);
        let Some(_place) = shared.ews.unsubscribe().await else {
            return;
        };
        for id in &self.ids {
            let mut head = RequestHead::new(Method::POST, PathAndQuery::from_static(EWS_PATH));
            for (at, value) in &self.headers {
                if let Some(name) = COPIED.get(usize::from(*at)) {
                    head.headers.insert(name.clone(), value.clone());
                }
            }
            let content_type = HeaderValue::from_static(callback::CONTENT_TYPE);
            head.headers.insert(CONTENT_TYPE, content_type);
            head.host = self.host.clone();
            head.body = BodyKind::Full(Bytes::from(callback::unsubscribe(id)));
            let sent = send(
                &self.core.pool,
                &self.upstream.target,
                head,
                NoBody,
                self.deadlines,
            );
            match sent.await {
                Ok(exchange) => {
                    tracing::debug!(
                        status = exchange.status.as_u16(),
                        "a cut stream's subscription was ended"
                    );
                }
                Err(error) => {
                    tracing::info!(error = %error, "a cut stream's subscription could not be ended");
                }
            }
        }
    }
}
