//! What is read of a SOAP body before anybody decides.

use http::{HeaderMap, Method, StatusCode, header};
use seg_ews::{Limits, Progress, Reject, Scanner};

use super::{Body, Identified, Stop, Walk};
use crate::config::EwsRefusal;
use crate::forward::{HELD_BYTES, Held, LimitedBody, ScannedBody};
use crate::protocol::{Call, EwsCall};
use crate::route::EwsRoute;

/// Reads an EWS request up to its operation; to its end, where that is within what is held.
pub(super) async fn ews(
    walk: &mut Walk<'_>,
    route: &EwsRoute,
    method: &Method,
    headers: &HeaderMap,
    body: LimitedBody,
) -> Result<Identified, Stop> {
    let version = walk.snapshot.ews_version.current();
    let plain_refusal = walk.snapshot.config.ews_refusal == EwsRefusal::Forbidden;
    if *method != Method::POST {
        return match EwsCall::plain(route, method, version, plain_refusal) {
            Some(call) => Ok(Identified {
                call: Call::Ews(call),
                body: Body::Untouched(body),
            }),
            None => Err(walk.bad("ews_method", "", StatusCode::METHOD_NOT_ALLOWED)),
        };
    }
    if *route != EwsRoute::Soap {
        return Err(walk.bad("ews_method", "", StatusCode::METHOD_NOT_ALLOWED));
    }
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let acceptable =
        seg_ews::request_acceptable(text(header::CONTENT_TYPE), text(header::CONTENT_ENCODING));
    if let Err(reject) = acceptable {
        return Err(rejected(walk, &reject));
    }
    let mut scanner = Box::new(Scanner::new(Limits::default()));
    let mut held = Held::nothing(body);
    let mut scanned = 0;
    let mut progress = Progress::NeedMore;
    while held.rest.is_some() && held.bytes.len() < HELD_BYTES {
        if let Err(error) = held.more().await {
            return Err(walk.bad_body(&error));
        }
        let fresh = held.bytes.get(scanned..).unwrap_or_default();
        scanned = held.bytes.len();
        progress = match scanner.feed(fresh) {
            Ok(progress) => progress,
            Err(reject) => return Err(rejected(walk, &reject)),
        };
    }
    let call = match held.rest.take() {
        None => match scanner.finish() {
            Ok(envelope) => EwsCall::soap(&envelope, version, plain_refusal),
            Err(reject) => return Err(rejected(walk, &reject)),
        },
        Some(rest) => {
            let Some(operation) = scanner
                .operation()
                .filter(|_| progress == Progress::Decided)
            else {
                let text = "the operation is not named within the first 64 KiB";
                return Err(walk.bad("ews_operation_late", text, StatusCode::BAD_REQUEST));
            };
            // The rest is read while it is forwarded; the end of what is held waits for it.
            let end = held.bytes.split_off(held.bytes.len().saturating_sub(1));
            held.rest = Some(ScannedBody::scanned(rest.into_body(), *scanner, end));
            EwsCall::large(operation, version, plain_refusal)
        }
    };
    Ok(Identified {
        call: Call::Ews(call),
        body: Body::Held(held),
    })
}

fn rejected(walk: &mut Walk<'_>, reject: &Reject) -> Stop {
    walk.bad(
        reject.kind.reason(),
        &reject.to_string(),
        StatusCode::BAD_REQUEST,
    )
}
