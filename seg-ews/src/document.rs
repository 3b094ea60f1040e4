//! What a SOAP document is: request, response, fault or push callback.
//!
//! [`classify`](crate::classify) judges requests to EWS and refuses everything else. This module
//! only says what something is, also for what comes back from a server, what a server sends to a
//! push subscriber, and for the two neighbours that share the wire: Autodiscover over SOAP and the
//! old unified messaging service. Documents must be well-formed here as well.

use crate::limits::Limits;
use crate::operation::Operation;
use crate::reject::{Reject, RejectKind};
use crate::scanner::envelope;
use crate::xml::{Element, Namespace, Tokeniser, Visitor};

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A client asks.
    Request,
    /// A server answers.
    Response,
    /// A server answers with a SOAP fault.
    Fault,
    /// A server calls a push subscriber: `SendNotification`.
    CallbackRequest,
    /// The subscriber's answer: `SendNotificationResult`.
    CallbackResponse,
}

impl Kind {
    /// The name used in logs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Fault => "fault",
            Self::CallbackRequest => "push-callback-request",
            Self::CallbackResponse => "push-callback-response",
        }
    }
}

/// Whose language the operation is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Exchange Web Services, unified messaging included: they share a namespace.
    Ews,
    /// Autodiscover over SOAP.
    Autodiscover,
    /// The name is in no namespace. Documentation has such; servers and the strict
    /// [`classify`](crate::classify) refuse them.
    Unqualified,
}

impl Service {
    /// The name used in logs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ews => "ews",
            Self::Autodiscover => "autodiscover",
            Self::Unqualified => "unqualified",
        }
    }
}

/// A document, told by the first child of its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What it is.
    pub kind: Kind,
    /// Whose operation.
    pub service: Service,
    /// Name of the operation without the endings of requests and responses; `Fault` for a fault.
    pub operation: String,
    /// The operation, where it is one of EWS that this crate knows.
    pub known: Option<Operation>,
}

/// Says what a whole document is.
///
/// # Errors
/// It is not well-formed, no SOAP 1.1 envelope, or its body has no element, or one of a foreign
/// namespace.
pub fn classify(document: &[u8], limits: &Limits) -> Result<Document, Reject> {
    let mut tokeniser = Tokeniser::new(limits.clone());
    let mut first = FirstInBody::default();
    tokeniser.feed(document, &mut first)?;
    tokeniser.finish()?;
    first.found.ok_or(Reject::new(RejectKind::NoOperation, 0))
}

#[derive(Default)]
struct FirstInBody {
    in_body: bool,
    found: Option<Document>,
}

impl Visitor for FirstInBody {
    fn start(&mut self, element: &Element<'_>) -> Result<(), RejectKind> {
        match element.depth {
            1 => envelope(element)?,
            2 => {
                self.in_body = element.namespace == Namespace::Soap11 && element.local == "Body";
            }
            3 if self.in_body && self.found.is_none() => self.found = Some(describe(element)?),
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, _depth: usize, _text: &str) -> Result<(), RejectKind> {
        Ok(())
    }

    fn end(&mut self, _depth: usize) -> Result<(), RejectKind> {
        Ok(())
    }
}

/// Endings that make a response of an operation's name, longest first.
const RESPONSE_ENDINGS: [&str; 2] = ["ResponseMessage", "Response"];

/// Endings that requests may have.
const REQUEST_ENDINGS: [&str; 2] = ["RequestMessage", "Request"];

fn describe(element: &Element<'_>) -> Result<Document, RejectKind> {
    let local = element.local;
    let service = match element.namespace {
        Namespace::Soap11 if local == "Fault" => {
            let operation = local.to_owned();
            return Ok(Document {
                kind: Kind::Fault,
                service: Service::Ews,
                operation,
                known: None,
            });
        }
        Namespace::Messages => Service::Ews,
        Namespace::Autodiscover => Service::Autodiscover,
        Namespace::None => Service::Unqualified,
        Namespace::HttpsTypo => return Err(RejectKind::NamespaceTypo),
        _ => return Err(RejectKind::ForeignOperation(local.to_owned())),
    };
    let without = |endings: [&str; 2]| endings.into_iter().find_map(|end| local.strip_suffix(end));
    let (kind, name) = match (local, without(RESPONSE_ENDINGS)) {
        ("SendNotificationResult", _) => (Kind::CallbackResponse, local),
        // A server's call to a subscriber carries its events as a response does.
        ("SendNotification", _) => (Kind::CallbackRequest, local),
        (_, Some(name)) => (Kind::Response, name),
        (_, None) => (Kind::Request, without(REQUEST_ENDINGS).unwrap_or(local)),
    };
    let known = Operation::from_name(name).filter(|_| service != Service::Autodiscover);
    Ok(Document {
        kind,
        service,
        operation: name.to_owned(),
        known,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(namespace: &str, local: &str) -> Result<Document, Reject> {
        let soap = "http://schemas.xmlsoap.org/soap/envelope/";
        let text = format!(
            "<s:Envelope xmlns:s='{soap}'><s:Header><x/></s:Header><s:Body><{local} xmlns='{namespace}'/></s:Body></s:Envelope>"
        );
        classify(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn kinds_are_told_by_name_and_namespace() {
        let messages = "http://schemas.microsoft.com/exchange/services/2006/messages";
        let autodiscover = "http://schemas.microsoft.com/exchange/2010/Autodiscover";
        let soap = "http://schemas.xmlsoap.org/soap/envelope/";
        for (namespace, local, kind, service, operation) in [
            (messages, "GetItem", Kind::Request, Service::Ews, "GetItem"),
            (
                messages,
                "GetUserOofSettingsRequest",
                Kind::Request,
                Service::Ews,
                "GetUserOofSettings",
            ),
            (
                messages,
                "GetItemResponse",
                Kind::Response,
                Service::Ews,
                "GetItem",
            ),
            (
                messages,
                "GetPersonaResponseMessage",
                Kind::Response,
                Service::Ews,
                "GetPersona",
            ),
            (
                messages,
                "ResetPIN",
                Kind::Request,
                Service::Ews,
                "ResetPIN",
            ),
            (
                messages,
                "SendNotification",
                Kind::CallbackRequest,
                Service::Ews,
                "SendNotification",
            ),
            (
                messages,
                "SendNotificationResult",
                Kind::CallbackResponse,
                Service::Ews,
                "SendNotificationResult",
            ),
            (
                autodiscover,
                "GetUserSettingsRequestMessage",
                Kind::Request,
                Service::Autodiscover,
                "GetUserSettings",
            ),
            (
                autodiscover,
                "GetUserSettingsResponseMessage",
                Kind::Response,
                Service::Autodiscover,
                "GetUserSettings",
            ),
            (soap, "Fault", Kind::Fault, Service::Ews, "Fault"),
        ] {
            let found = document(namespace, local).expect("known");
            assert_eq!((found.kind, found.service), (kind, service), "{local}");
            assert_eq!(found.operation, operation);
        }
        assert_eq!(
            document(messages, "GetItem").expect("known").known,
            Operation::from_name("GetItem")
        );
        assert!(document("urn:x", "GetItem").is_err());
    }
}
