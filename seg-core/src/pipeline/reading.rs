//! What is read of a request before anybody decides: its head, and what must be known of its body.

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use seg_compliance::UserKey;
use seg_ews::{Limits, Progress, Reject, Scanner};

use super::{Asked, Body, Stop, Walk};
use crate::config::{EwsRefusal, UserMismatch};
use crate::forward::{HELD_BYTES, Held, LimitedBody, ScannedBody};
use crate::message::Reply;
use crate::protocol::{Call, EasCall, EwsCall, NotEas};
use crate::route::{EwsRoute, Route};
use crate::telemetry::metrics::Outcome;

impl Walk<'_> {
    /// Reads the request line and the headers: whoever asks, a head that its protocol does not
    /// know is nobody's request.
    pub(super) fn read_head(
        &mut self,
        route: &Route,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Asked, Stop> {
        match route {
            Route::Ews(EwsRoute::Soap) if *method == Method::POST => Ok(Asked::Soap),
            Route::Ews(route) => {
                let version = self.snapshot.ews_version.current();
                match EwsCall::plain(route, method, version, self.plain_refusal()) {
                    Some(call) => Ok(Asked::Known(Call::Ews(call))),
                    None => Err(self.bad("ews_method", "", StatusCode::METHOD_NOT_ALLOWED)),
                }
            }
            // Neither comes here: they have left for walks of their own.
            Route::Autodiscover(_) | Route::Pass(_) | Route::Enrol(_) => {
                Err(self.bad("no_route", "", StatusCode::NOT_FOUND))
            }
            Route::Eas | Route::LbHealth | Route::Callback => {
                match EasCall::identify(method, uri.query(), headers, &self.connection.lines) {
                    Ok(call) => Ok(Asked::Known(Call::Eas(call))),
                    Err(error) => {
                        let status = match error {
                            NotEas::Method => StatusCode::METHOD_NOT_ALLOWED,
                            _ => StatusCode::BAD_REQUEST,
                        };
                        Err(self.bad(error.reason(), &error.to_string(), status))
                    }
                }
            }
        }
    }

    /// Reads an EWS request up to its operation; to its end, where that is within what is held.
    pub(super) async fn read_soap(
        &mut self,
        headers: &HeaderMap,
        body: LimitedBody,
    ) -> Result<(Call, Body), Stop> {
        let version = self.snapshot.ews_version.current();
        let plain_refusal = self.plain_refusal();
        let lines = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let acceptable = seg_ews::request_acceptable(
            lines(header::CONTENT_TYPE),
            lines(header::CONTENT_ENCODING),
        );
        if let Err(reject) = acceptable {
            return Err(self.rejected(&reject));
        }
        let mut scanner = Box::new(Scanner::new(Limits::default()));
        let mut held = Held::nothing(body);
        let mut scanned = 0;
        let mut progress = Progress::NeedMore;
        while held.rest.is_some() && held.bytes.len() < HELD_BYTES {
            if let Err(error) = held.more().await {
                return Err(self.bad_body(&error));
            }
            let fresh = held.bytes.get(scanned..).unwrap_or_default();
            scanned = held.bytes.len();
            progress = match scanner.feed(fresh) {
                Ok(progress) => progress,
                Err(reject) => return Err(self.rejected(&reject)),
            };
        }
        let call = match held.rest.take() {
            None => match scanner.finish() {
                Ok(envelope) => EwsCall::soap(envelope, version, plain_refusal),
                Err(reject) => return Err(self.rejected(&reject)),
            },
            Some(rest) => {
                let Some(facts) = scanner.so_far().filter(|_| progress == Progress::Decided) else {
                    let text = "the operation is not named within the first 64 KiB";
                    return Err(self.bad("ews_operation_late", text, StatusCode::BAD_REQUEST));
                };
                if facts.operation.group() == seg_ews::Group::Notify {
                    // What they say is judged whole, and no client has so much to say.
                    let text = "a subscription has more than 64 KiB";
                    return Err(self.bad("ews_too_large", text, StatusCode::PAYLOAD_TOO_LARGE));
                }
                // The rest is read while it is forwarded; the end of what is held waits for it.
                let end = held.bytes.split_off(held.bytes.len().saturating_sub(1));
                held.rest = Some(ScannedBody::scanned(rest.into_body(), scanner, end));
                EwsCall::large(facts, version, plain_refusal)
            }
        };
        Ok((Call::Ews(call), Body::Held(held)))
    }

    fn plain_refusal(&self) -> bool {
        self.snapshot.config.ews_refusal == EwsRefusal::Forbidden
    }

    fn rejected(&mut self, reject: &Reject) -> Stop {
        self.bad(
            reject.kind.reason(),
            &reject.to_string(),
            StatusCode::BAD_REQUEST,
        )
    }

    /// The verdict is taken for the authenticated user; another `User` parameter is a mistake of
    /// the client's, or an attempt.
    pub(super) fn check_claimed_user(&mut self, call: &Call, user: &UserKey) -> Result<(), Stop> {
        let Call::Eas(call) = call else { return Ok(()) };
        let Some(claimed) = call.claimed_user() else {
            return Ok(());
        };
        // Nearly every client writes what it logs in with.
        let same = claimed.eq_ignore_ascii_case(user.as_str())
            || self.snapshot.identity.same_person(claimed, user);
        if same {
            return Ok(());
        }
        self.connection
            .core
            .shared
            .metrics
            .bad_request("user_mismatch");
        self.record.because("user_mismatch", None);
        if self.snapshot.config.identity.user_mismatch == UserMismatch::Refuse {
            self.record.outcome(Outcome::Refused);
            let text = "The User parameter names somebody else than the credentials.\n";
            return Err(Reply::text(StatusCode::FORBIDDEN, text).into());
        }
        Ok(())
    }
}

impl crate::forward::BodyScan for Scanner {
    fn feed(&mut self, piece: &[u8]) -> Result<(), String> {
        let read = Self::feed(self, piece);
        read.map(drop).map_err(|reject| reject.to_string())
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        let ended = Self::finish(*self);
        ended.map(drop).map_err(|reject| reject.to_string())
    }

    fn mailboxes(&self) -> &[String] {
        Self::mailboxes(self)
    }
}
