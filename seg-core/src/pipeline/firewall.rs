//! The protocol firewall (`[eas]` of policies.toml) on the way of a request.
//!
//! It stands behind the verdict: a blocked device is told that it is blocked. Its rules about the
//! head come before the body is read, those about the body before the first byte is forwarded; a
//! body that is too long to be held is read while it passes.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use seg_eas::Command;
use seg_eas::answer::Status;
use seg_eas::firewall::{Busy, Check, Firewall, Violation};

use super::refusing::close;
use super::{Body, Stop, Walk};
use crate::decide::{OpenPing, TooBusy};
use crate::forward::{BodyScan, Held, ScannedBody};
use crate::identify::Known;
use crate::message::Reply;
use crate::protocol::EasCall;
use crate::telemetry::metrics::Metrics;

const VERSIONS: HeaderName = HeaderName::from_static("ms-asprotocolversions");
const COMMANDS: HeaderName = HeaderName::from_static("ms-asprotocolcommands");

/// The answer to a request that the firewall does not let in, and what is left to read of it.
pub(super) struct TurnedAway(Stop, Option<Box<Body>>);

impl Walk<'_> {
    /// What the request line and the headers break. The body comes back with the limit of its
    /// command.
    pub(super) fn firewall_head(
        &mut self,
        firewall: &Firewall,
        call: &EasCall,
        known: &Known,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(Body, Option<OpenPing>), TurnedAway> {
        let Some(command) = call.eas_command() else {
            return Ok((body, None));
        };
        if let Err(violation) = firewall.admit(command, call.version(), call.attachment()) {
            let reply = self.refuse_violation(call, &violation);
            return Err(TurnedAway(reply.into(), Some(Box::new(body))));
        }
        // What is compressed can't be checked while it passes; no client of ActiveSync does it.
        if headers.contains_key(header::CONTENT_ENCODING) {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(TurnedAway(self.bad("content_encoding", "", status), None));
        }
        let body = match (firewall.largest_body(command), body) {
            (Some(max), Body::Untouched(body)) => match body.within(max) {
                Ok(body) => Body::Untouched(body),
                Err(error) => return Err(TurnedAway(self.bad_body(&error), None)),
            },
            (_, body) => body,
        };
        let rates = &self.connection.core.shared.rates;
        match rates.enter(call.device_key(), known, command == Command::Ping, firewall) {
            Ok(ping) => Ok((body, ping)),
            Err(busy) => {
                let reply = self.busy(firewall, call, busy);
                Err(TurnedAway(reply.into(), Some(Box::new(body))))
            }
        }
    }

    /// Gives somebody who was turned away time to finish what he was writing.
    pub(super) async fn turn_away(refused: TurnedAway, expects: bool) -> Stop {
        let TurnedAway(Stop(mut reply), body) = refused;
        if let Some(body) = body
            && !Self::drain(*body, expects).await
        {
            close(&mut reply);
        }
        Stop(reply)
    }

    /// What the body breaks. A body that is not all there comes back with its check.
    pub(super) fn firewall_body(
        &mut self,
        firewall: &Firewall,
        call: &EasCall,
        mut held: Held,
    ) -> Result<Held, Stop> {
        let Some(command) = call.eas_command().filter(|_| call.has_wbxml()) else {
            return Ok(held);
        };
        let rest = held.rest.take();
        let length = match &rest {
            None if held.bytes.is_empty() => return Ok(held),
            None => Some(held.bytes.len() as u64),
            Some(rest) => rest.length().map(|rest| rest + held.bytes.len() as u64),
        };
        let mut check = firewall.check(command, length);
        if let Err(violation) = check.feed(&held.bytes) {
            return Err(self.refuse_violation(call, &violation).into());
        }
        let metrics = &self.connection.core.shared.metrics;
        match rest {
            None => match check.finish() {
                Ok(unknown) => metrics.unknown_tags(unknown),
                Err(violation) => return Err(self.refuse_violation(call, &violation).into()),
            },
            Some(rest) => {
                // The end of what is held waits until more of it has been found good.
                let end = held.bytes.split_off(held.bytes.len().saturating_sub(1));
                let check = Box::new(CheckedBody {
                    check,
                    metrics: Arc::clone(metrics),
                });
                held.rest = Some(ScannedBody::scanned(rest.into_body(), check, end));
            }
        }
        Ok(held)
    }

    fn refuse_violation(&mut self, call: &EasCall, violation: &Violation) -> Reply {
        self.record
            .bad_request(violation.reason(), Some(violation.to_string()));
        match violation {
            Violation::Command(_) => call.common(Status::CommandNotSupported),
            Violation::Version(_) => call.common(Status::VersionNotSupported),
            Violation::DocumentLibrary | Violation::Credentials | Violation::Link => {
                call.common(Status::AccessDenied)
            }
            Violation::Wbxml(_) | Violation::Root { .. } => {
                let mut reply = Reply::empty(StatusCode::BAD_REQUEST);
                close(&mut reply);
                reply
            }
        }
    }

    fn busy(&mut self, firewall: &Firewall, call: &EasCall, busy: TooBusy) -> Reply {
        self.record.bad_request(busy.reason(), None);
        let mut reply = match firewall.when_busy {
            Busy::Status => call.common(Status::RetryLater),
            Busy::Http => Reply::empty(StatusCode::SERVICE_UNAVAILABLE),
        };
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = HeaderValue::from(firewall.retry_after_seconds);
            reply.headers.insert(header::RETRY_AFTER, seconds);
        }
        reply
    }
}

/// Narrows what an OPTIONS answer offers to what is let through.
pub(super) fn narrow(firewall: &Firewall, headers: &mut HeaderMap) {
    type Narrowed = fn(&Firewall, &str) -> Option<String>;
    let lists: [(HeaderName, Narrowed); 2] = [
        (VERSIONS, Firewall::narrowed_versions),
        (COMMANDS, Firewall::narrowed_commands),
    ];
    for (name, narrowed) in lists {
        let offered = headers.get(&name).and_then(|value| value.to_str().ok());
        let kept = offered.and_then(|offered| narrowed(firewall, offered));
        if let Some(kept) = kept.and_then(|kept| HeaderValue::from_str(&kept).ok()) {
            headers.insert(name, kept);
        }
    }
}

/// The check of a body that is still arriving.
#[derive(Debug)]
struct CheckedBody {
    check: Check,
    metrics: Arc<Metrics>,
}

impl BodyScan for CheckedBody {
    fn feed(&mut self, piece: &[u8]) -> Result<(), String> {
        let fed = self.check.feed(piece);
        fed.map_err(|violation| self.count(&violation))
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        match self.check.finish() {
            Ok(unknown) => {
                self.metrics.unknown_tags(unknown);
                Ok(())
            }
            Err(violation) => Err(self.count(&violation)),
        }
    }
}

impl CheckedBody {
    fn count(&self, violation: &Violation) -> String {
        self.metrics.bad_request(violation.reason());
        violation.to_string()
    }
}
