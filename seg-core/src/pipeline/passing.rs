//! A request for another service behind the same address: nobody is asked for a name, and nothing
//! is judged. What is removed from a request on the way to a mail server is removed here too.

use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{HOST, LOCATION, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use super::switching::asks_for_websocket;
use super::{Stop, Walk, expects_continue, fits, refusing};
use crate::config::BearerChallenge;
use crate::filter::ChallengeRule;
use crate::forward::{self, Errand, Held, LimitedBody};
use crate::message::{Reply, Request};
use crate::protocol::Plan;
use crate::respond;
use crate::route::{self, CanonicalPath, NoRoute, Pass, Route};
use crate::telemetry::metrics::{Outcome, Protocol};
use crate::transform::{self, Inward};

impl Walk<'_> {
    /// Serves a pass-through route.
    pub(super) async fn pass(&mut self, place: usize, request: Request) -> Result<Reply, Stop> {
        let snapshot = Arc::clone(self.snapshot);
        let Some(pass) = snapshot.passes.at(place) else {
            return Err(self.bad("no_route", "", StatusCode::NOT_FOUND));
        };
        self.record.protocol(Protocol::Route);
        self.record.command("route");
        let Request {
            method,
            uri,
            headers,
            body,
            switch,
            ..
        } = request;
        if let Some(switch) = switch.filter(|_| pass.websocket)
            && asks_for_websocket(&method, &headers)
        {
            let inward = self.tell_of(pass, headers);
            return Box::pin(self.websocket(pass, path(&uri), inward, switch)).await;
        }
        // Another protocol on this connection would be one that nobody reads.
        if headers.contains_key(UPGRADE) || method == Method::TRACE {
            return Err(self.bad("upgrade", "", StatusCode::FORBIDDEN));
        }
        let server = &snapshot.config.server;
        let most = pass.body_max.or(server.body_max);
        let body = match LimitedBody::new(body, most, server.body_timeout) {
            Ok(body) => body,
            Err(error) => return Err(self.bad_body(&error)),
        };
        let expects = expects_continue(&headers);
        let held = if expects && !fits(&body) {
            Held::nothing(body)
        } else {
            match Held::read(body).await {
                Ok(held) => held,
                Err(error) => return Err(self.bad_body(&error)),
            }
        };
        let inward = self.tell_of(pass, headers);
        let peer = self.connection.peer.ip().to_string();
        let choice = pass.leg.choose(None, &peer);
        let chosen = choice.and_then(|choice| Some((choice, pass.leg.upstream(choice)?)));
        let Some((choice, upstream)) = chosen else {
            return Err(self.no_upstream());
        };
        self.record.upstream(&upstream.name);
        let patience = pass.leg.response_within;
        let errand = Errand {
            leg: Arc::clone(&pass.leg),
            choice,
            path: path(&uri),
            inward,
            expects: expects && held.bytes.is_empty(),
            held,
            private: None,
            stays: false,
            plan: Plan {
                head_within: patience,
                body_idle: patience,
                // RFC 9110 section 9.2.2: what changes nothing may be asked twice.
                replay: matches!(method, Method::GET | Method::HEAD | Method::OPTIONS),
                detached: false,
                poll: false,
            },
            method,
        };
        let Some(mut going) = forward::start(&self.connection.core, errand) else {
            return Err(self.no_upstream());
        };
        let exchange = match going.watched(None).await {
            forward::Went::Answered(exchange) => exchange,
            forward::Went::Failed(error) => return Ok(self.failed(&error)),
            // Without a lease nobody sends one.
            forward::Went::Signalled(_) => return Ok(Reply::unavailable()),
        };
        self.record.outcome(Outcome::Forwarded);
        let untouched = ChallengeRule {
            filter: false,
            when_empty: snapshot.config.challenges.when_empty,
            upn_proven: true,
            ntlm_pinned: false,
            bearer: &BearerChallenge::Pass,
        };
        let metrics = &self.connection.core.shared.metrics;
        Ok(respond::forwarded(
            exchange, None, untouched, None, None, metrics,
        ))
    }

    /// Over plain HTTP only pass-through routes are served; whoever asks for anything else is sent
    /// to the TLS listener, before he says who he is a second time.
    pub(super) fn sent_to_https(
        &mut self,
        routed: &Result<Route, NoRoute>,
        request: &Request,
    ) -> Option<Reply> {
        match routed {
            Ok(Route::Pass(_) | Route::LbHealth)
            | Err(NoRoute::Host | NoRoute::Path(_) | NoRoute::Misdirected) => return None,
            _ => {}
        }
        let server = &self.snapshot.config.server;
        let authority = match &server.public_url {
            Some(ours) => ours.authority(),
            None => {
                let host = route::host(&request.uri, &request.headers).ok()?;
                match server.listen.first().map(SocketAddr::port) {
                    None | Some(443) => host.to_owned(),
                    Some(port) => format!("{host}:{port}"),
                }
            }
        };
        let target = request
            .uri
            .path_and_query()
            .map_or("/", PathAndQuery::as_str);
        let location = HeaderValue::try_from(format!("https://{authority}{target}")).ok()?;
        self.record.outcome(Outcome::Local);
        let mut reply = Reply::empty(StatusCode::PERMANENT_REDIRECT);
        reply.headers.insert(LOCATION, location);
        refusing::close(&mut reply);
        Some(reply)
    }

    /// The headers for the way inward. Where the route has a header for the client's certificate,
    /// only we write it.
    fn tell_of(&self, pass: &Pass, mut headers: HeaderMap) -> Inward {
        let host = pass.leg.host_header(headers.get(HOST));
        if let Some(name) = &pass.certificate_header {
            headers.remove(name);
        }
        let mut inward = transform::inward(headers, host, &self.forwarded());
        if let (Some(name), Some(certificate)) =
            (&pass.certificate_header, &self.connection.certificate)
        {
            inward.add(name, &certificate.line(name));
        }
        inward
    }
}

/// The path and query that are forwarded: one that can be read in one way only, and the client's
/// query as it stands.
fn path(uri: &Uri) -> PathAndQuery {
    let raw = uri.path();
    let Ok(canonical) = CanonicalPath::parse(raw) else {
        // The table of routes has let it in.
        return PathAndQuery::from_static("/");
    };
    let mut path = String::with_capacity(raw.len() + 1);
    for byte in canonical.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    // To many a server a folder is not the file of that name.
    if raw.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    path.parse()
        .unwrap_or_else(|_| PathAndQuery::from_static("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_its_meaning_and_loses_every_other() {
        for (raw, forwarded) in [
            ("/mdm/enrol/", "/mdm/enrol/"),
            ("/mdm//enrol", "/mdm/enrol"),
            ("/%6Ddm/a%20b", "/mdm/a%20b"),
            ("/mdm/%C3%A9?x=%2e%2e/", "/mdm/%C3%A9?x=%2e%2e/"),
            ("/", "/"),
            ("/a?", "/a?"),
        ] {
            let uri: Uri = raw.parse().expect("a target");
            assert_eq!(path(&uri).as_str(), forwarded);
        }
    }
}
