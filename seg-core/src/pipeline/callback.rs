//! What Exchange sends to a push subscriber, judged and passed on.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, USER_AGENT};
use http::{Method, StatusCode};
use jiff::Timestamp;
use seg_compliance::{Ask, Protocol};
use seg_ews::callback::{self, SubscriptionStatus};
use seg_ews::document::{self, Kind};

use super::{Stop, Walk};
use crate::callback::{Callbacks, SUBSCRIBER_WITHIN, Sealed};
use crate::forward::{Failure, Held, LimitedBody};
use crate::message::{Reply, Request};
use crate::telemetry::metrics::Outcome;
use crate::upstream::{BodyKind, Deadlines, NoBody, RequestHead, UpstreamBody, send};

/// The command in events and metrics.
const COMMAND: &str = "SendNotification";

/// Largest notification, and largest answer to one, in bytes.
const LARGEST: usize = 1024 * 1024;

/// What is told to the subscriber besides the notification. Credentials are not: Exchange has none
/// for him, and who else calls here has none to give.
static COPIED: [HeaderName; 3] = [
    CONTENT_TYPE,
    USER_AGENT,
    HeaderName::from_static("soapaction"),
];

impl Walk<'_> {
    /// Serves one call.
    pub(super) async fn callback(
        &mut self,
        callbacks: &Callbacks,
        request: Request,
    ) -> Result<Reply, Stop> {
        if request.method != Method::POST {
            return Err(self.bad("callback_method", "", StatusCode::METHOD_NOT_ALLOWED));
        }
        let query = request.uri.query().unwrap_or_default();
        let token = query.strip_prefix("t=").unwrap_or_default();
        let sealed = match callbacks.open(token, Timestamp::now()) {
            Ok(sealed) => sealed,
            Err(refused) => {
                let text = refused.to_string();
                return Err(self.bad(refused.reason(), &text, StatusCode::FORBIDDEN));
            }
        };
        self.record.command(COMMAND);
        self.record.user(&sealed.user);
        self.record.device(sealed.device.as_ref(), &Arc::from(""));
        let body = self.notification(request.body).await?;
        if let Some(reply) = self.ended(&sealed) {
            return Ok(reply);
        }
        let mut head = RequestHead::new(Method::POST, http::uri::PathAndQuery::from_static("/"));
        for name in &COPIED {
            if let Some(value) = request.headers.get(name) {
                head.headers.insert(name, value.clone());
            }
        }
        head.body = BodyKind::Full(body);
        Ok(self.relay(callbacks, &sealed, head).await)
    }

    /// The body: a whole `SendNotification` and nothing else, so that nothing else can be sent to
    /// a subscriber through here.
    async fn notification(&mut self, body: crate::message::RequestBody) -> Result<Bytes, Stop> {
        let within = self.snapshot.config.server.body_timeout;
        let body = match LimitedBody::new(body, Some(LARGEST as u64), within) {
            Ok(body) => body,
            Err(error) => return Err(self.bad_body(&error)),
        };
        let mut held = Held::nothing(body);
        while held.rest.is_some() {
            if let Err(error) = held.more().await {
                return Err(self.bad_body(&error));
            }
        }
        let read = document::classify(&held.bytes, &seg_ews::Limits::default());
        match read {
            Ok(document) if document.kind == Kind::CallbackRequest => Ok(held.bytes),
            Ok(_) => Err(self.bad("callback_document", "", StatusCode::BAD_REQUEST)),
            Err(reject) => Err(self.bad(
                "callback_document",
                &reject.to_string(),
                StatusCode::BAD_REQUEST,
            )),
        }
    }

    /// The answer that ends the subscription, where the device may have no mail or its subscriber
    /// may not be called any more.
    fn ended(&mut self, sealed: &Sealed) -> Option<Reply> {
        let ask = Ask {
            device: sealed.device.as_ref(),
            user: Some(&sealed.user),
            agent: "",
            device_type: "",
            protocol: Protocol::Ews,
            command: COMMAND,
            via: seg_compliance::Via::default(),
        };
        let decision = self.connection.core.shared.engine.decide(&ask);
        self.record.decision(&decision);
        let policy = &self.snapshot.ews_settings.policy;
        let listed = sealed
            .url
            .parse::<http::Uri>()
            .ok()
            .and_then(|uri| uri.host().map(str::to_owned))
            .is_some_and(|host| policy.of(sealed.class).may_push_to(&host));
        if listed && !decision.refuses() {
            return None;
        }
        if !listed {
            self.record.because("ews_push_host", None);
        }
        self.record.outcome(Outcome::Refused);
        Some(Reply::full(
            StatusCode::OK,
            callback::CONTENT_TYPE,
            callback::result(SubscriptionStatus::Unsubscribe),
        ))
    }

    async fn relay(
        &mut self,
        callbacks: &Callbacks,
        sealed: &Sealed,
        mut head: RequestHead,
    ) -> Reply {
        let Ok((target, path)) = callbacks.subscriber(&sealed.url) else {
            self.record.outcome(Outcome::UpstreamFailed);
            self.record.because("callback_subscriber", None);
            return Reply::unavailable();
        };
        let name: Arc<str> = target.to_string().into();
        self.record.upstream(&name);
        head.path_and_query = path;
        let deadlines = Deadlines {
            connect: self.snapshot.ews.connect_within,
            head: SUBSCRIBER_WITHIN,
            between_bytes: SUBSCRIBER_WITHIN,
        };
        let pool = &self.connection.core.pool;
        let sent = send(pool, &target, head, NoBody, deadlines).await;
        let mut exchange = match sent.map_err(Failure::from) {
            Ok(exchange) => exchange,
            Err(failure) => return self.failed(&failure),
        };
        self.record.outcome(Outcome::Forwarded);
        let Some(body) = whole(&mut exchange.body).await else {
            self.record.outcome(Outcome::UpstreamFailed);
            self.record.because("callback_answer", None);
            return Reply::unavailable();
        };
        let mut reply = Reply::empty(exchange.status);
        if let Some(value) = exchange.headers.get(CONTENT_TYPE) {
            reply.headers.insert(CONTENT_TYPE, value.clone());
        }
        reply.body = crate::message::ReplyBody::Full(body);
        reply
    }
}

/// A subscriber's answer; `None` where it is torn or absurdly long.
async fn whole(body: &mut UpstreamBody) -> Option<Bytes> {
    let mut all = BytesMut::new();
    while let Some(piece) = poll_fn(|cx| body.poll_next(cx)).await {
        all.extend_from_slice(&piece.ok()?);
        if all.len() > LARGEST {
            return None;
        }
    }
    Some(all.freeze())
}
