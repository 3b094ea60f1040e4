//! Follows a SOAP envelope and collects an [`Envelope`].

use super::envelope::{Envelope, Impersonation, ImpersonationKind, PushUrl, SubscriptionKind};
use super::values::{self, Value};
use crate::limits::Limits;
use crate::operation::Operation;
use crate::reject::RejectKind;
use crate::xml::{Element, Namespace, Visitor, is_blank};
use std::collections::HashSet;
use std::fmt;

/// Depth of the parts of an envelope; the root is 1.
const ENVELOPE: usize = 1;
const HEADER_OR_BODY: usize = 2;
const OPERATION_OR_HEADER_BLOCK: usize = 3;
const CHILD_OF_OPERATION: usize = 4;
const GRANDCHILD_OF_OPERATION: usize = 5;

/// Which part of the envelope is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Start,
    Header,
    AfterHeader,
    Body,
    AfterBody,
}

/// A value whose text is being collected. It may be a secret.
struct Capture {
    what: Captured,
    depth: usize,
    text: String,
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Capture({:?} at depth {})", self.what, self.depth)
    }
}

#[derive(Clone, Copy, Debug)]
enum Captured {
    Impersonated(ImpersonationKind),
    Value(Value),
}

/// The state of following one envelope.
#[derive(Debug)]
pub(super) struct Reading {
    value_bytes: usize,
    /// What is left of [`Limits::values_bytes`] and [`Limits::values`].
    bytes_left: usize,
    values_left: usize,
    part: Part,
    operation: Option<Operation>,
    /// The operation's name, where nobody knows it.
    unknown: Option<String>,
    /// [`values::known`] names of the open elements below the operation.
    path: Vec<Option<&'static str>>,
    /// Whether the child of the operation that is being read is the one whose children count.
    in_batch: bool,
    in_impersonation: bool,
    capture: Option<Capture>,
    request_server_version: Option<String>,
    impersonation: Option<Impersonation>,
    serialized_security_context: bool,
    management_role: bool,
    mailboxes: Vec<String>,
    /// The same in lower case: a body may name them as often as it is long.
    named: HashSet<String>,
    subscription: Option<SubscriptionKind>,
    push_url: Option<PushUrl>,
    subscription_ids: Vec<String>,
    attachment_ids: Vec<String>,
    connection_timeout_minutes: Option<u32>,
    batch: usize,
}

impl Reading {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            value_bytes: limits.value_bytes,
            bytes_left: limits.values_bytes,
            values_left: limits.values,
            part: Part::Start,
            operation: None,
            unknown: None,
            path: Vec::with_capacity(8),
            in_batch: false,
            in_impersonation: false,
            capture: None,
            request_server_version: None,
            impersonation: None,
            serialized_security_context: false,
            management_role: false,
            mailboxes: Vec::new(),
            named: HashSet::new(),
            subscription: None,
            push_url: None,
            subscription_ids: Vec::new(),
            attachment_ids: Vec::new(),
            connection_timeout_minutes: None,
            batch: 0,
        }
    }

    pub(super) const fn operation(&self) -> Option<Operation> {
        self.operation
    }

    pub(super) fn mailboxes(&self) -> &[String] {
        &self.mailboxes
    }

    /// What is known so far; None before the operation.
    pub(super) fn so_far(&self) -> Option<Envelope> {
        Some(Envelope {
            operation: self.operation?,
            unknown: self.unknown.clone(),
            request_server_version: self.request_server_version.clone(),
            impersonation: self.impersonation.clone(),
            serialized_security_context: self.serialized_security_context,
            management_role: self.management_role,
            mailboxes: self.mailboxes.clone(),
            subscription: self.subscription,
            push_url: self.push_url.clone(),
            subscription_ids: self.subscription_ids.clone(),
            attachment_ids: self.attachment_ids.clone(),
            connection_timeout_minutes: self.connection_timeout_minutes,
            batch: self.batch.max(1),
        })
    }

    /// The result; None without an operation.
    pub(super) fn into_envelope(self) -> Option<Envelope> {
        Some(Envelope {
            operation: self.operation?,
            unknown: self.unknown,
            request_server_version: self.request_server_version,
            impersonation: self.impersonation,
            serialized_security_context: self.serialized_security_context,
            management_role: self.management_role,
            mailboxes: self.mailboxes,
            subscription: self.subscription,
            push_url: self.push_url,
            subscription_ids: self.subscription_ids,
            attachment_ids: self.attachment_ids,
            connection_timeout_minutes: self.connection_timeout_minutes,
            batch: self.batch.max(1),
        })
    }

    fn header_or_body(&mut self, element: &Element<'_>) -> Result<(), RejectKind> {
        let name = match element.namespace {
            Namespace::Soap11 => element.local,
            Namespace::HttpsTypo => return Err(RejectKind::NamespaceTypo),
            _ => return Err(RejectKind::UnexpectedElement),
        };
        self.part = match (name, self.part) {
            ("Header", Part::Start) => Part::Header,
            ("Header", Part::AfterBody) => return Err(RejectKind::HeaderAfterBody),
            ("Header", _) => return Err(RejectKind::SecondHeader),
            ("Body", Part::AfterBody) => return Err(RejectKind::SecondBody),
            ("Body", _) => Part::Body,
            _ => return Err(RejectKind::UnexpectedElement),
        };
        Ok(())
    }

    /// Header blocks are recognised by their local name, whatever their namespace: no client has a
    /// reason to send a block of such a name that means something else, and not every server looks
    /// at the namespace.
    fn header_block(&mut self, element: &Element<'_>) -> Result<(), RejectKind> {
        match element.local {
            "RequestServerVersion" => {
                let version = element
                    .attribute("Version")
                    .unwrap_or_default()
                    .into_owned();
                self.take_from_allowance(version.len())?;
                set_once(
                    &mut self.request_server_version,
                    version,
                    "RequestServerVersion",
                )
            }
            "ExchangeImpersonation" => {
                self.in_impersonation = true;
                let unread = Impersonation {
                    kind: ImpersonationKind::Unreadable,
                    address: String::new(),
                };
                set_once(&mut self.impersonation, unread, "ExchangeImpersonation")
            }
            "SerializedSecurityContext"
            | "ProxySecurityContext"
            | "ProxySuggesterSid"
            | "ProxyPartnerToken"
            | "OpenAsAdminOrSystemService" => flag_once(
                &mut self.serialized_security_context,
                "SerializedSecurityContext",
            ),
            "ManagementRole" => flag_once(&mut self.management_role, "ManagementRole"),
            _ => Ok(()),
        }
    }

    /// Anything within `ExchangeImpersonation`: `ConnectingSID` and its one child.
    fn impersonation(&mut self, element: &Element<'_>) {
        if let Some(kind) = ImpersonationKind::from_element(element.local) {
            self.capture(Captured::Impersonated(kind), element.depth);
        }
    }

    fn begin_operation(&mut self, element: &Element<'_>) -> Result<(), RejectKind> {
        if self.operation.is_some() {
            return Err(RejectKind::SecondOperation);
        }
        match element.namespace {
            Namespace::Messages => {}
            Namespace::HttpsTypo => return Err(RejectKind::NamespaceTypo),
            _ => return Err(RejectKind::ForeignOperation(element.local.to_owned())),
        }
        let operation = Operation::from_request_element(element.local);
        if operation.is_none() {
            self.unknown = Some(element.local.to_owned());
        }
        self.operation = Some(operation.unwrap_or(Operation::UNKNOWN));
        Ok(())
    }

    fn within_operation(
        &mut self,
        operation: Operation,
        element: &Element<'_>,
    ) -> Result<(), RejectKind> {
        if element.depth == CHILD_OF_OPERATION {
            self.in_batch = operation.batch_element() == Some(element.local);
            if operation.name() == "Subscribe"
                && let Some(kind) = SubscriptionKind::from_element(element.local)
            {
                set_once(&mut self.subscription, kind, "SubscriptionRequest")?;
            }
        } else if element.depth == GRANDCHILD_OF_OPERATION && self.in_batch {
            self.batch += 1;
        }
        if element.local == "AttachmentId"
            && matches!(operation.name(), "GetAttachment" | "DeleteAttachment")
            && let Some(id) = element.attribute("Id")
        {
            self.take_from_allowance(id.len())?;
            self.attachment_ids.push(id.into_owned());
        }
        self.path.push(values::known(element.local));
        if let Some(value) = values::find(operation, &self.path) {
            self.capture(Captured::Value(value), element.depth);
        }
        Ok(())
    }

    fn capture(&mut self, what: Captured, depth: usize) {
        self.capture = Some(Capture {
            what,
            depth,
            text: String::new(),
        });
    }

    fn end_capture(&mut self, capture: &Capture) -> Result<(), RejectKind> {
        let text = capture.text.trim();
        match capture.what {
            Captured::Value(value) => self.value(value, text),
            Captured::Impersonated(kind) => {
                self.take_from_allowance(text.len())?;
                match &mut self.impersonation {
                    Some(header) if header.kind == ImpersonationKind::Unreadable => {
                        *header = Impersonation {
                            kind,
                            address: text.to_owned(),
                        };
                        Ok(())
                    }
                    _ => Err(RejectKind::Repeated("ConnectingSID")),
                }
            }
        }
    }

    fn value(&mut self, value: Value, text: &str) -> Result<(), RejectKind> {
        match value {
            Value::Mailbox if text.is_empty() => Ok(()),
            Value::Mailbox => {
                if !self.named.insert(text.to_ascii_lowercase()) {
                    return Ok(());
                }
                self.take_from_allowance(text.len())?;
                self.mailboxes.push(text.to_owned());
                Ok(())
            }
            Value::PushUrl => {
                self.take_from_allowance(text.len())?;
                set_once(&mut self.push_url, PushUrl::new(text.to_owned()), "URL")
            }
            Value::SubscriptionId => {
                self.take_from_allowance(text.len())?;
                self.subscription_ids.push(text.to_owned());
                Ok(())
            }
            Value::ConnectionTimeout => {
                // What is no number is left to the server, which refuses it.
                let Ok(minutes) = text.parse() else {
                    return Ok(());
                };
                set_once(
                    &mut self.connection_timeout_minutes,
                    minutes,
                    "ConnectionTimeout",
                )
            }
        }
    }

    fn take_from_allowance(&mut self, bytes: usize) -> Result<(), RejectKind> {
        self.bytes_left = self
            .bytes_left
            .checked_sub(bytes)
            .ok_or(RejectKind::ValueTooLong)?;
        self.values_left = self
            .values_left
            .checked_sub(1)
            .ok_or(RejectKind::ValueTooLong)?;
        Ok(())
    }
}

impl Visitor for Reading {
    fn start(&mut self, element: &Element<'_>) -> Result<(), RejectKind> {
        if self.capture.is_some() {
            return Err(RejectKind::ElementInValue);
        }
        match (element.depth, self.part) {
            (ENVELOPE, _) => envelope(element),
            (HEADER_OR_BODY, _) => self.header_or_body(element),
            (OPERATION_OR_HEADER_BLOCK, Part::Header) => self.header_block(element),
            (_, Part::Header) if self.in_impersonation => {
                self.impersonation(element);
                Ok(())
            }
            (OPERATION_OR_HEADER_BLOCK, Part::Body) => self.begin_operation(element),
            (_, Part::Body) => match self.operation {
                Some(operation) => self.within_operation(operation, element),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn text(&mut self, depth: usize, text: &str) -> Result<(), RejectKind> {
        if let Some(capture) = &mut self.capture {
            if capture.text.len() + text.len() > self.value_bytes {
                return Err(RejectKind::ValueTooLong);
            }
            capture.text.push_str(text);
            return Ok(());
        }
        // Between the parts of the envelope text means nothing to anybody.
        if depth == HEADER_OR_BODY && self.part == Part::Body && !is_blank(text) {
            return Err(RejectKind::TextInBody);
        }
        Ok(())
    }

    fn end(&mut self, depth: usize) -> Result<(), RejectKind> {
        if self
            .capture
            .as_ref()
            .is_some_and(|capture| capture.depth == depth)
            && let Some(capture) = self.capture.take()
        {
            self.end_capture(&capture)?;
        }
        if depth > OPERATION_OR_HEADER_BLOCK {
            self.path.pop();
            return Ok(());
        }
        match (depth, self.part) {
            (OPERATION_OR_HEADER_BLOCK, Part::Header) => self.in_impersonation = false,
            (HEADER_OR_BODY, Part::Header) => self.part = Part::AfterHeader,
            (HEADER_OR_BODY, Part::Body) if self.operation.is_none() => {
                return Err(RejectKind::NoOperation);
            }
            (HEADER_OR_BODY, _) => self.part = Part::AfterBody,
            (ENVELOPE, part) if part != Part::AfterBody => return Err(RejectKind::NoOperation),
            _ => {}
        }
        Ok(())
    }
}

/// The root of every SOAP 1.1 message.
pub(crate) fn envelope(element: &Element<'_>) -> Result<(), RejectKind> {
    match (element.namespace, element.local) {
        (Namespace::Soap11, "Envelope") => Ok(()),
        (Namespace::Soap12, "Envelope") => Err(RejectKind::Soap12),
        (Namespace::HttpsTypo, _) => Err(RejectKind::NamespaceTypo),
        _ => Err(RejectKind::NotSoap),
    }
}

fn set_once<T>(place: &mut Option<T>, value: T, name: &'static str) -> Result<(), RejectKind> {
    if place.is_some() {
        return Err(RejectKind::Repeated(name));
    }
    *place = Some(value);
    Ok(())
}

fn flag_once(flag: &mut bool, name: &'static str) -> Result<(), RejectKind> {
    if *flag {
        return Err(RejectKind::Repeated(name));
    }
    *flag = true;
    Ok(())
}
