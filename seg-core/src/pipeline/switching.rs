//! A WebSocket of a pass-through route that allows it: the two connections are joined, and nothing
//! of what passes is looked at.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::{Stop, Walk, refusing};
use crate::handshake::while_it_counts;
use crate::message::{Reply, Switch};
use crate::route::Pass;
use crate::telemetry::metrics::Outcome;
use crate::transform::{self, Inward};
use crate::upstream::{self, RequestHead};

/// The one protocol that a connection may go on in (RFC 6455).
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const CONNECTION_UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// Whether a request asks for a WebSocket and for nothing else.
pub(super) fn asks_for_websocket(method: &Method, headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(UPGRADE).iter();
    let only = lines.next().filter(|_| lines.next().is_none());
    let named = only.is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"websocket"));
    named && method == Method::GET && !headers.contains_key(CONTENT_LENGTH)
}

impl Walk<'_> {
    /// Asks the route's server, and joins the connections where it agrees. Whatever else it says goes
    /// to the client without its body.
    pub(super) async fn websocket(
        &mut self,
        pass: &Pass,
        path: PathAndQuery,
        inward: Inward,
        switch: Switch,
    ) -> Result<Reply, Stop> {
        let peer = self.connection.peer.ip().to_string();
        let choice = pass.leg.choose(None, &peer);
        let Some(upstream) = choice.and_then(|choice| pass.leg.upstream(choice)) else {
            return Err(self.no_upstream());
        };
        self.record.upstream(&upstream.name);
        let mut head = RequestHead::new(Method::GET, path);
        let Inward {
            headers,
            host,
            about,
        } = inward;
        let asked = b"connection: upgrade\r\nupgrade: websocket\r\n";
        head.added = Bytes::from([&about[..], asked].concat());
        (head.headers, head.host, head.passes) = (headers, host, transform::passes);
        let asking = upstream::switch(&upstream.target, head, pass.leg.response_within);
        let mut answered = match Box::pin(asking).await {
            Ok(answered) => answered,
            Err(why) => {
                self.record.outcome(Outcome::UpstreamFailed);
                self.record.because("websocket", Some(why));
                return Ok(Reply::unavailable());
            }
        };
        self.record.outcome(Outcome::Forwarded);
        let agrees = answered.status == StatusCode::SWITCHING_PROTOCOLS
            && answered
                .headers
                .get(UPGRADE)
                .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
        transform::outward(&mut answered.headers);
        answered.headers.remove(CONTENT_LENGTH);
        let mut reply = Reply::empty(answered.status);
        reply.headers = answered.headers;
        if !agrees {
            if answered.status.is_informational() {
                reply.status = StatusCode::BAD_GATEWAY;
            }
            refusing::close(&mut reply);
            return Ok(reply);
        }
        reply.headers.insert(CONNECTION, CONNECTION_UPGRADE);
        reply.headers.insert(UPGRADE, WEBSOCKET);
        let connection = Arc::clone(self.connection);
        let mut server = answered.line;
        tokio::spawn(async move {
            // A drain waits for it as for any connection.
            let _connected = connection.core.connected();
            if let Some(mut client) = switch.connection().await {
                connection.phase.switched();
                // However it ends, both ends see it.
                let joined = async move {
                    tokio::io::copy_bidirectional(&mut client, &mut server)
                        .await
                        .ok()
                };
                let _ended = match &connection.certificate {
                    None => joined.await,
                    Some(certificate) => {
                        let (core, peer) = (&connection.core, connection.peer);
                        Box::pin(while_it_counts(core, joined, certificate, peer)).await
                    }
                };
            }
        });
        Ok(reply)
    }
}
