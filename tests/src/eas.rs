//! ActiveSync and EWS requests as bytes, for [`Wire`](crate::wire::Wire).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The password that the sandbox gives to a user.
#[must_use]
pub fn password(user: &str) -> String {
    format!("Secret-{user}-1")
}

/// `Basic …` for a user of the sandbox.
#[must_use]
pub fn basic(user: &str) -> String {
    let pair = format!("{user}@sandbox.example:{}", password(user));
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

/// An HTTP request, written out line by line.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A request with Host, and nothing else.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: vec![("Host".to_owned(), "localhost".to_owned())],
            body: Vec::new(),
        }
    }

    /// A 14.1 command of a user's device with a WBXML body and Basic credentials.
    #[must_use]
    pub fn eas(command: &str, user: &str, device: &str, body: impl AsRef<[u8]>) -> Self {
        let target = format!(
            "/Microsoft-Server-ActiveSync?Cmd={command}&User={user}&DeviceId={device}&DeviceType=test"
        );
        Self::new("POST", &target)
            .header("Authorization", &basic(user))
            .header("MS-ASProtocolVersion", "14.1")
            .header("User-Agent", "e2e/1")
            .header("Content-Type", "application/vnd.ms-sync.wbxml")
            .body(body)
    }

    /// A SOAP request of a user with Basic credentials.
    #[must_use]
    pub fn ews(user: &str, soap: &str) -> Self {
        Self::new("POST", "/EWS/Exchange.asmx")
            .header("Authorization", &basic(user))
            .header("User-Agent", "e2e/1")
            .header("Content-Type", "text/xml; charset=utf-8")
            .body(soap)
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Takes every header line with this name away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(line, _)| !line.eq_ignore_ascii_case(name));
        self
    }

    /// Sets the body, with Content-Length.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        let length = self.body.len().to_string();
        self.without("Content-Length")
            .header("Content-Length", &length)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// The bytes up to the empty line, that included.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// A whole EWS request around `operation`, the content of its SOAP body.
#[must_use]
pub fn soap(operation: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><s:Header><t:RequestServerVersion Version="Exchange2013_SP1"/></s:Header><s:Body>{operation}</s:Body></s:Envelope>"#
    )
}
