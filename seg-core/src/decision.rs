//! The decision service, for those who keep their load balancer: the same identity code and the same
//! engine answer whether a request may pass, and the load balancer carries it.
//!
//! - `GET /services/ActiveSync/Authorize`, as NetScaler's HTTP callout asks the connector for
//!   XenMobile (XNC), and `/services/ActiveSync/Version`;
//! - `/authorize`, for nginx' `auth_request`, Traefik's ForwardAuth and HAProxy: the original request
//!   in headers, 200 or 403;
//! - `/envoy/…`, for Envoy's ext_authz over HTTP, which puts its prefix before the original path.
//!
//! It says a verdict and nothing else: whether the password is right is the mail server's to say. A
//! request without credentials passes, for the mail server to draw its challenge.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper::body::Incoming;
use seg_compliance::{Ask, Decision, DeviceKey, Protocol, UserKey, Via};

use crate::beside::{Answer, Visitor, text};
use crate::config::UserMismatch;
use crate::decide;
use crate::identify::{self, Caller, CallerMemory};
use crate::percent;
use crate::protocol::{EasCall, LineMemory};
use crate::route::{CanonicalPath, EAS_PATH};
use crate::runtime::{Shared, Snapshot};
use crate::telemetry::metrics;

/// Longest parameter that is read, in bytes.
const PARAMETER_MAX: usize = 8 * 1024;

/// Standard alphabet (RFC 4648 section 4), with or without padding: that can be read in one way only.
const STANDARD_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Answers one question.
pub async fn answer(shared: Arc<Shared>, visitor: Visitor, request: Request<Incoming>) -> Answer {
    let snapshot = shared.snapshot();
    let path = request.uri().path();
    if path.eq_ignore_ascii_case("/services/ActiveSync/Version") {
        return text(StatusCode::OK, env!("CARGO_PKG_VERSION"));
    }
    if path.eq_ignore_ascii_case("/services/ActiveSync/Authorize") {
        let query = request.uri().query().unwrap_or_default();
        return callout(&shared, &snapshot, query);
    }
    let original = if path.eq_ignore_ascii_case("/authorize") {
        told(request.headers())
    } else if let Some(rest) = path.strip_prefix("/envoy") {
        let query = request.uri().query();
        let whole = query.map_or_else(|| rest.to_owned(), |query| format!("{rest}?{query}"));
        target(&whole).map(|uri| (request.method().clone(), uri))
    } else {
        return text(StatusCode::NOT_FOUND, "");
    };
    let Some((method, uri)) = original else {
        return refused("bad_request");
    };
    // Envoy leaves the client's Host where it is; the others have a line for it.
    let host = if path.eq_ignore_ascii_case("/authorize") {
        line(request.headers(), "x-forwarded-host")
    } else {
        line(request.headers(), header::HOST.as_str())
    };
    let original = Original {
        peer: visitor.address.ip(),
        method: &method,
        uri: &uri,
        host: decide::without_port(host),
        headers: request.headers(),
    };
    forwarded(&shared, &snapshot, &original)
}

/// The original request, as load balancers tell it. One of them writes these lines anew; what stands
/// in those of another came from the client, and two that differ are no answer to the question which.
fn told(headers: &HeaderMap) -> Option<(Method, Uri)> {
    let only = |names: &[&str]| -> Result<Option<&str>, ()> {
        let mut lines = names.iter().flat_map(|name| headers.get_all(*name));
        let Some(first) = lines.next() else {
            return Ok(None);
        };
        if lines.any(|line| line != first) {
            return Err(());
        }
        first.to_str().map(Some).map_err(drop)
    };
    let method = only(&["x-original-method", "x-forwarded-method"]).ok()?;
    let uri = only(&["x-original-uri", "x-forwarded-uri", "x-original-url"]).ok()??;
    Some((method.unwrap_or("POST").parse().ok()?, target(uri)?))
}

/// A request as a load balancer got it.
struct Original<'o> {
    /// The load balancer.
    peer: IpAddr,
    method: &'o Method,
    uri: &'o Uri,
    host: &'o str,
    headers: &'o HeaderMap,
}

/// Judged as if it had come here.
fn forwarded(shared: &Shared, snapshot: &Snapshot, original: &Original<'_>) -> Answer {
    let Original {
        method,
        uri,
        headers,
        ..
    } = *original;
    let Ok(path) = CanonicalPath::parse(uri.path()) else {
        return refused("path");
    };
    let caller = identify::caller(
        headers,
        None,
        &snapshot.identity,
        &shared.digest_key,
        &CallerMemory::default(),
        snapshot.generation,
    );
    let user = match caller {
        Caller::Known(known) => known.user,
        Caller::Anonymous => return passed(None, None, None),
        Caller::Unreadable(why) => return refused(why.reason()),
        // It names somebody to the gateway itself, which would answer it: a question can't.
        Caller::Ticket => return refused("authorization_ticket"),
    };
    let Some(eas) = is_eas(&path) else {
        return refused("path");
    };
    let call = match eas
        .then(|| EasCall::identify(method, uri.query(), headers, &LineMemory::default()))
    {
        Some(Ok(call)) => Some(call),
        Some(Err(error)) => return refused(error.reason()),
        None => None,
    };
    if call.as_ref().is_some_and(|call| !call.judged()) {
        return passed(None, Some(&user), None);
    }
    if is_refused_claim(shared, snapshot, call.as_ref(), &user) {
        return refused("user_mismatch");
    }
    let trusted = &snapshot.config.server.trusted_proxies;
    let Some(address) = client(headers, original.peer, trusted) else {
        return refused("address");
    };
    let asked = Asked {
        call: call.as_ref(),
        device: call.as_ref().and_then(EasCall::device_key),
        user: Some(&user),
        agent: line(headers, header::USER_AGENT.as_str()),
        address: Some(address),
        host: original.host,
        path: uri.path(),
        method: method.as_str(),
    };
    let decision = asked.decide(shared);
    if decision.refuses() {
        let mut answer = refused(decision.reason.as_deref().unwrap_or("refused"));
        tell(&mut answer, Some(&decision), Some(&user), asked.device);
        return answer;
    }
    passed(Some(&decision), Some(&user), asked.device)
}

/// What is asked, whatever the way it came.
struct Asked<'a> {
    call: Option<&'a EasCall>,
    device: Option<&'a DeviceKey>,
    user: Option<&'a UserKey>,
    agent: &'a str,
    address: Option<IpAddr>,
    host: &'a str,
    path: &'a str,
    method: &'a str,
}

impl Asked<'_> {
    fn decide(&self, shared: &Shared) -> Decision {
        let (protocol, command, version) = match self.call {
            Some(call) => (Protocol::Eas, call.command_name(), call.version_name()),
            None => (Protocol::Ews, "", ""),
        };
        let decision = shared.engine.decide(&Ask {
            device: self.device,
            user: self.user,
            agent: self.agent,
            device_type: self.call.map_or("", EasCall::device_type_name),
            protocol,
            command,
            via: Via {
                address: self.address,
                host: self.host,
                path: self.path,
                method: self.method,
                version,
                suspect: "",
            },
        });
        let counted = match protocol {
            Protocol::Eas => metrics::Protocol::Eas,
            Protocol::Ews => metrics::Protocol::Ews,
        };
        shared.metrics.decided(counted, &decision);
        tracing::info!(
            target: "seg::decision",
            protocol = protocol.name(),
            command,
            verdict = decision.verdict.name(),
            step = decision.step.name(),
            rule = decision.rule.as_deref(),
            reason = decision.reason.as_deref(),
            enforced = decision.enforced,
            "asked"
        );
        decision
    }
}

/// NetScaler's callout: `user`, `agent`, `ip`, `url` (the whole URL in standard base64, in which `+`
/// is a digit and no blank), `resultType`, `DeviceId`. What can't be read is no.
fn callout(shared: &Shared, snapshot: &Snapshot, query: &str) -> Answer {
    let question = Question(query);
    let form = question.text("resultType").ok().flatten();
    let json = form.is_some_and(|form| form.eq_ignore_ascii_case("json"));
    let allow = may_pass(shared, snapshot, &question).unwrap_or(false);
    let words = &snapshot.config.decision.answers;
    let (word, media) = match (json, allow) {
        (true, true) => (&words.json_allow, "application/json"),
        (true, false) => (&words.json_deny, "application/json"),
        (false, true) => (&words.text_allow, "text/plain"),
        (false, false) => (&words.text_deny, "text/plain"),
    };
    let mut answer = text(StatusCode::OK, word.clone());
    let media = HeaderValue::from_static(media);
    answer.headers_mut().insert(header::CONTENT_TYPE, media);
    // A verdict is for this question only: a cache in between would share it.
    let never = HeaderValue::from_static("no-store");
    answer.headers_mut().insert(header::CACHE_CONTROL, never);
    answer
}

/// Whether the request that a callout tells of may pass.
fn may_pass(
    shared: &Shared,
    snapshot: &Snapshot,
    question: &Question<'_>,
) -> Result<bool, Unreadable> {
    let url = question.text("url")?.ok_or(Unreadable)?;
    let url = STANDARD_BASE64.decode(url).map_err(|_| Unreadable)?;
    let url = target(std::str::from_utf8(&url).map_err(|_| Unreadable)?).ok_or(Unreadable)?;
    let path = CanonicalPath::parse(url.path()).map_err(|_| Unreadable)?;
    let eas = is_eas(&path).ok_or(Unreadable)?;
    let query = url.query().filter(|query| !query.is_empty());
    let call = match (eas, query) {
        (true, Some(_)) => {
            let (post, no_headers) = (Method::POST, HeaderMap::new());
            let call = EasCall::identify(&post, query, &no_headers, &LineMemory::default());
            Some(call.map_err(|_| Unreadable)?)
        }
        // OPTIONS and a bare GET: the mail server answers them.
        (true, None) => return Ok(true),
        (false, _) => None,
    };
    let named = question.text("DeviceId")?.map(|id| {
        seg_eas::DeviceId::parse_text(&id)
            .ok()
            .and_then(|id| DeviceKey::new(id.as_str()).ok())
    });
    let device = match (call.as_ref().and_then(EasCall::device_key), &named) {
        // Two names of a device: which one the mail server reads is anybody's guess.
        (Some(own), Some(named)) if named.as_ref() != Some(own) => return Err(Unreadable),
        // No device has such a name.
        (None, Some(None)) => return Err(Unreadable),
        (own, named) => own.or_else(|| named.as_ref().and_then(Option::as_ref)),
    };
    let claimed = call.as_ref().and_then(EasCall::claimed_user);
    let name = question.name("user")?;
    let name = name.as_deref().or(claimed).ok_or(Unreadable)?;
    let user = snapshot.identity.canonical(name).ok_or(Unreadable)?;
    if is_refused_claim(shared, snapshot, call.as_ref(), &user) {
        return Ok(false);
    }
    let address = question.text("ip")?.map(|ip| ip.parse());
    let agent = question.text("agent")?.unwrap_or_default();
    let asked = Asked {
        call: call.as_ref(),
        device,
        user: Some(&user),
        agent: &agent,
        address: address.transpose().map_err(|_| Unreadable)?,
        host: url.host().unwrap_or_default(),
        path: url.path(),
        method: "POST",
    };
    Ok(!asked.decide(shared).refuses())
}

/// Something of a question can't be read, or in two ways: who does not know what he is asked about
/// says no.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

/// The query of a callout.
struct Question<'q>(&'q str);

impl<'q> Question<'q> {
    /// A parameter as it stands there. An empty one says nothing.
    fn raw(&self, name: &str) -> Result<Option<&'q str>, Unreadable> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        let mut found = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value);
        // Twice is nobody's request.
        if found.next().is_some() || value.is_some_and(|value| value.len() > PARAMETER_MAX) {
            return Err(Unreadable);
        }
        Ok(value.filter(|value| !value.is_empty()))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Unreadable> {
        let value = self.raw(name)?;
        value
            .map(|value| percent::decoded(value).ok_or(Unreadable))
            .transpose()
    }

    /// A login name. Those are UTF-8, or of a client that says Latin-1, as in the credentials out of
    /// which the load balancer has taken it.
    fn name(&self, name: &str) -> Result<Option<String>, Unreadable> {
        let Some(value) = self.raw(name)? else {
            return Ok(None);
        };
        let bytes = percent::decoded_bytes(value).ok_or(Unreadable)?;
        let text = String::from_utf8(bytes);
        let text =
            text.unwrap_or_else(|error| error.as_bytes().iter().copied().map(char::from).collect());
        Ok(Some(text))
    }
}

/// The URL of a request. What stands behind a `#` is no part of it for one reader and is for another.
fn target(text: &str) -> Option<Uri> {
    text.parse().ok().filter(|_| !text.contains('#'))
}

/// The User parameter names somebody else than the credentials: told, and refused where
/// `identity.user.mismatch` says so, as for requests that come here themselves.
fn is_refused_claim(
    shared: &Shared,
    snapshot: &Snapshot,
    call: Option<&EasCall>,
    user: &UserKey,
) -> bool {
    let claimed = call.and_then(EasCall::claimed_user);
    if claimed.is_none_or(|claimed| snapshot.identity.same_person(claimed, user)) {
        return false;
    }
    shared.metrics.bad_request("user_mismatch");
    snapshot.config.identity.user_mismatch == UserMismatch::Refuse
}

/// Whether a path is ActiveSync's. `None`: it lies below it, where servers answer ActiveSync too
/// (`/default.eas`), for no device that could be told.
fn is_eas(path: &CanonicalPath<'_>) -> Option<bool> {
    let lower = path.lower();
    let rest = lower.strip_prefix(&*EAS_PATH.to_ascii_lowercase());
    match rest {
        Some("") => Some(true),
        Some(rest) if rest.starts_with('/') => None,
        _ => Some(false),
    }
}

/// The client, as a trusted load balancer tells it: the asker itself is one. `None`: what it tells is
/// no address, or two.
fn client(headers: &HeaderMap, peer: IpAddr, trusted: &[ipnet::IpNet]) -> Option<IpAddr> {
    let mut real = headers.get_all("x-real-ip").iter();
    if let Some(told) = real.next() {
        let told = told.to_str().ok().filter(|_| real.next().is_none())?;
        return told.trim().parse().ok();
    }
    let mut trusted = trusted.to_vec();
    trusted.push(peer.into());
    let (method, uri) = (Method::GET, Uri::from_static("/"));
    let via = decide::via(peer, &trusted, &method, &uri, headers, "");
    Some(via.address.unwrap_or(peer))
}

fn line<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    let line = headers.get(name).and_then(|line| line.to_str().ok());
    line.unwrap_or_default()
}

fn passed(
    decision: Option<&Decision>,
    user: Option<&UserKey>,
    device: Option<&DeviceKey>,
) -> Answer {
    let mut answer = text(StatusCode::OK, "");
    tell(&mut answer, decision, user, device);
    answer
}

fn refused(reason: &str) -> Answer {
    let mut answer = text(StatusCode::FORBIDDEN, "");
    if let Ok(value) = HeaderValue::from_str(reason) {
        answer.headers_mut().insert("x-seg-reason", value);
    }
    answer
        .headers_mut()
        .insert("x-seg-verdict", HeaderValue::from_static("block"));
    answer
}

/// What the load balancer may log or hand on.
fn tell(
    answer: &mut Answer,
    decision: Option<&Decision>,
    user: Option<&UserKey>,
    device: Option<&DeviceKey>,
) {
    let verdict = decision.map_or("unjudged", |decision| decision.verdict.name());
    let lines = [
        ("x-seg-verdict", Some(verdict)),
        ("x-seg-user", user.map(UserKey::as_str)),
        ("x-seg-device", device.map(DeviceKey::as_str)),
    ];
    for (name, value) in lines {
        if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
            answer.headers_mut().insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_activesync_is_nobodys() {
        let eas = |path: &str| is_eas(&CanonicalPath::parse(path).expect("a path"));
        for path in [
            "/Microsoft-Server-ActiveSync",
            "/microsoft-server-activesync",
        ] {
            assert_eq!(eas(path), Some(true), "{path}");
        }
        for path in [
            "/Microsoft-Server-ActiveSync/default.eas",
            "/microsoft-server-activesync/x/y",
        ] {
            assert_eq!(eas(path), None, "{path}");
        }
        for path in ["/EWS/Exchange.asmx", "/Microsoft-Server-ActiveSyncs"] {
            assert_eq!(eas(path), Some(false), "{path}");
        }
    }

    #[test]
    fn the_original_request_is_read_from_every_load_balancers_headers() {
        for (method, uri) in [
            ("x-original-method", "x-original-uri"),
            ("x-forwarded-method", "x-forwarded-uri"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(method, HeaderValue::from_static("OPTIONS"));
            headers.insert(uri, HeaderValue::from_static("/a?b=c"));
            let (method, uri) = told(&headers).expect("a request");
            assert_eq!(
                (method, uri.to_string()),
                (Method::OPTIONS, "/a?b=c".to_owned())
            );
        }
        assert!(told(&HeaderMap::new()).is_none());
        // The client has added the line that another load balancer would write.
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-uri", HeaderValue::from_static("/a?b=c"));
        headers.insert("x-original-uri", HeaderValue::from_static("/other"));
        assert!(told(&headers).is_none());
    }
}
