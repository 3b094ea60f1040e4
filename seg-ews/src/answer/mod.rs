//! What the gateway answers itself, in the words of EWS.
//!
//! Clients take a refusal best as the answer they expected, with an error in it: status 200, the
//! operation's own response, `ErrorAccessDenied` for each thing asked for, and the
//! `ServerVersionInfo` without which some clients reject any answer. Operations whose response has
//! no `ResponseMessages` are answered with a SOAP fault and status 500. 401 and 503 would be taken
//! for a wrong password and a busy server, and tried again.
//!
//! The envelope's own tags carry no prefix, because one client looks for the literal text
//! `</Envelope>` to find the end of a message in a stream.

mod version;

pub use version::{ParseVersionError, SCAN_BYTES, ServerVersion};

use crate::operation::{Operation, ResponseShape};
use crate::xml::is_allowed;
use quick_xml::escape::escape;

/// Most response messages in one refusal. A larger batch gets this many, so that a small request
/// can't draw a huge answer.
pub const MAX_MESSAGES: usize = 4096;

/// The content type of every answer.
const CONTENT_TYPE: &str = "text/xml; charset=utf-8";

const DECLARATION: &str = r#"<?xml version="1.0" encoding="utf-8"?>"#;
const MESSAGES: &str = "http://schemas.microsoft.com/exchange/services/2006/messages";
const TYPES: &str = "http://schemas.microsoft.com/exchange/services/2006/types";
const ERRORS: &str = "http://schemas.microsoft.com/exchange/services/2006/errors";
const CODE: &str = "ErrorAccessDenied";

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status, 200 or 500.
    pub status: u16,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// The body, UTF-8.
    pub body: String,
}

/// The refusal of an operation, or of a request whose operation is not known.
///
/// `batch` is how many things were asked for ([`Envelope::batch`](crate::Envelope::batch)), taken
/// as 1 to [`MAX_MESSAGES`]. `text` is for people; it is escaped, and shown by most clients.
pub fn refusal(
    operation: Option<Operation>,
    batch: usize,
    version: &ServerVersion,
    text: &str,
) -> Answer {
    let text = legible(text);
    let shaped = operation.and_then(|operation| match operation.response() {
        ResponseShape::Batch(message) => Some(response(operation, "", message, batch, &text)),
        ResponseShape::Reported(message) => {
            let report = result(&text);
            Some(response(operation, &report, message, batch, &text))
        }
        ResponseShape::Single => None,
    });
    let (status, body) = match shaped {
        Some(body) => (200, body),
        None => (500, fault(&text)),
    };
    let body = format!("{DECLARATION}{}", envelope(version, &body));
    Answer {
        status,
        content_type: CONTENT_TYPE,
        body,
    }
}

/// The last envelope of a `GetStreamingEvents` answer that is cut because the device is no longer
/// allowed: an error that clients take as final, and the end of the connection. To be sent behind
/// a complete envelope.
pub fn stream_end(version: &ServerVersion, text: &str) -> String {
    let body = format!(
        r#"<m:GetStreamingEventsResponse xmlns:m="{MESSAGES}"><m:ResponseMessages><m:GetStreamingEventsResponseMessage ResponseClass="Error">{}<m:ConnectionStatus>Closed</m:ConnectionStatus></m:GetStreamingEventsResponseMessage></m:ResponseMessages></m:GetStreamingEventsResponse>"#,
        result(&legible(text)),
    );
    envelope(version, &body)
}

/// The last envelope of a `GetStreamingEvents` answer that ends because the gateway goes: nothing
/// is wrong, and the client may come back at once.
pub fn stream_close(version: &ServerVersion) -> String {
    let body = format!(
        r#"<m:GetStreamingEventsResponse xmlns:m="{MESSAGES}"><m:ResponseMessages><m:GetStreamingEventsResponseMessage ResponseClass="Success"><m:ResponseCode>NoError</m:ResponseCode><m:ConnectionStatus>Closed</m:ConnectionStatus></m:GetStreamingEventsResponseMessage></m:ResponseMessages></m:GetStreamingEventsResponse>"#,
    );
    envelope(version, &body)
}

fn envelope(version: &ServerVersion, body: &str) -> String {
    format!(
        r#"<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Header>{}</Header><Body>{body}</Body></Envelope>"#,
        version.header(),
    )
}

/// `report` is what the response element says for itself; it then needs a class of its own.
fn response(operation: Operation, report: &str, message: &str, batch: usize, text: &str) -> String {
    let name = operation.response_element();
    let class = if report.is_empty() {
        ""
    } else {
        r#" ResponseClass="Error""#
    };
    let one = format!(
        r#"<m:{message} ResponseClass="Error">{}</m:{message}>"#,
        result(text)
    );
    let all = one.repeat(batch.clamp(1, MAX_MESSAGES));
    format!(
        r#"<m:{name} xmlns:m="{MESSAGES}"{class}>{report}<m:ResponseMessages>{all}</m:ResponseMessages></m:{name}>"#
    )
}

/// The content of a ResponseMessageType, in the order of the schema.
fn result(text: &str) -> String {
    format!(
        "<m:MessageText>{text}</m:MessageText><m:ResponseCode>{CODE}</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>"
    )
}

/// The parts of a SOAP 1.1 fault have no namespace.
fn fault(text: &str) -> String {
    format!(
        r#"<Fault><faultcode xmlns="" xmlns:a="{TYPES}">a:{CODE}</faultcode><faultstring xmlns="" xml:lang="en-US">{text}</faultstring><detail xmlns=""><e:ResponseCode xmlns:e="{ERRORS}">{CODE}</e:ResponseCode><e:Message xmlns:e="{ERRORS}">{text}</e:Message></detail></Fault>"#
    )
}

/// Text that may stand in an XML document: escaped, and without what XML forbids.
fn legible(text: &str) -> String {
    let allowed: String = text
        .chars()
        .filter(|&character| is_allowed(character))
        .collect();
    escape(allowed).into_owned()
}

#[cfg(test)]
mod tests;
