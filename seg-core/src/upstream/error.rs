//! What can go wrong on the way to a mail server.
//!
//! The texts are for the log: they name the thing and the reason, never a credential or a piece
//! of a message. What a client gets to see is decided by the caller from [`SendError::side`] and
//! [`SendError::label`].

use std::{fmt, io};

use rustls::{AlertDescription, CertificateError};

use super::source::SourceError;

/// A request that brought no response head.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct SendError {
    /// What happened.
    #[source]
    pub kind: SendErrorKind,
    /// The last connection tried had served a request before.
    pub reused: bool,
    /// The whole request was held, so that it could have been sent once more.
    pub held: bool,
    /// The request had been replayed before it failed for good.
    pub replayed: bool,
}

/// The reasons of a [`SendError`].
#[derive(Debug, thiserror::Error)]
pub enum SendErrorKind {
    /// The name of the server has no address.
    #[error("no address for {host}: {source}")]
    Unresolved {
        /// The name asked for.
        host: Box<str>,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address of the server accepted a connection; the last refusal.
    #[error("connecting failed: {0}")]
    ConnectFailed(io::Error),
    /// TCP works, TLS does not.
    #[error("TLS failed: {0}")]
    TlsFailed(TlsFailure),
    /// A deadline passed.
    #[error("timed out {0}")]
    Timeout(Phase),
    /// The connection ended before it gave one byte of a response.
    #[error("connection closed before the first byte of a response{}", Cause(.source))]
    ClosedBeforeByte {
        /// The error of the socket; none where it was closed in order.
        source: Option<io::Error>,
    },
    /// The server answered something that is no acceptable HTTP/1.1 response head.
    #[error("bad response: {0}")]
    BadResponse(#[from] BadResponse),
    /// The request body ended or failed on the client's side.
    #[error("request body: {0}")]
    BodySource(SourceError),
}

/// On whose side an error arose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The mail server or the way to it.
    Upstream,
    /// The client whose request this is.
    Downstream,
}

impl SendError {
    /// On whose side the error arose.
    #[must_use]
    pub fn side(&self) -> Side {
        match self.kind {
            SendErrorKind::BodySource(_) => Side::Downstream,
            _ => Side::Upstream,
        }
    }

    /// Whether sending the same request once more over a fresh connection could have helped: it
    /// was held, and a reused connection gave no byte. [`super::send`] does so by itself where
    /// the policy allows it, so a caller sees `true` only where the policy forbade it.
    #[must_use]
    pub fn retryable(&self) -> bool {
        self.reused
            && self.held
            && !self.replayed
            && matches!(self.kind, SendErrorKind::ClosedBeforeByte { .. })
    }

    /// A short constant name of the kind, for counters and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match &self.kind {
            SendErrorKind::Unresolved { .. } => "unresolved",
            SendErrorKind::ConnectFailed(_) => "connect_failed",
            SendErrorKind::TlsFailed(_) => "tls_failed",
            SendErrorKind::Timeout(Phase::Connect) => "connect_timeout",
            SendErrorKind::Timeout(Phase::RequestBody) => "request_body_timeout",
            SendErrorKind::Timeout(Phase::ResponseHead) => "response_timeout",
            SendErrorKind::ClosedBeforeByte { .. } => "closed_before_byte",
            SendErrorKind::BadResponse(_) => "bad_response",
            SendErrorKind::BodySource(_) => "request_body",
        }
    }
}

/// What was being waited for when a deadline passed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Name lookup, TCP connection and TLS handshake.
    Connect,
    /// The server takes no more of the request.
    RequestBody,
    /// The request is out, no response head came.
    ResponseHead,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::RequestBody => "sending the request",
            Self::ResponseHead => "waiting for the response head",
        })
    }
}

/// Why a TLS handshake with a mail server failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    /// The certificate is for another name.
    #[error("certificate name mismatch: {0}")]
    NameMismatch(CertificateError),
    /// The certificate, or one of its issuers, has expired.
    #[error("certificate expired: {0}")]
    Expired(CertificateError),
    /// The certificate is not valid yet.
    #[error("certificate not valid yet: {0}")]
    NotYetValid(CertificateError),
    /// No known authority issued the certificate.
    #[error("certificate of an unknown issuer; name its CA in email.server.ca.path")]
    UnknownIssuer,
    /// The certificate was revoked.
    #[error("certificate revoked")]
    Revoked,
    /// Another fault of the certificate.
    #[error("certificate refused: {0}")]
    BadCertificate(CertificateError),
    /// The server refused us, for example for want of a client certificate.
    #[error("refused by the server: {0:?}")]
    Alert(AlertDescription),
    /// The server does not speak TLS on this port.
    #[error("the server does not speak TLS on this port")]
    NotTls,
    /// The server insists on a protocol that we did not offer.
    #[error("the server chose a protocol other than HTTP/1.1")]
    WrongProtocol,
    /// The connection failed inside the handshake.
    #[error("{0}")]
    Io(io::Error),
    /// Anything else that rustls names.
    #[error("{0}")]
    Other(rustls::Error),
}

/// Why a response head is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadResponse {
    /// It does not begin with `HTTP/1.`.
    #[error("not an HTTP/1 response")]
    NotHttp,
    /// The server speaks HTTP/2 only.
    #[error("HTTP/2 spoken where HTTP/1.1 was asked for")]
    Http2,
    /// A TLS record came on a plain connection.
    #[error("TLS spoken on a plain connection; use https:// for this server")]
    Tls,
    /// The status line or a header line is malformed.
    #[error("malformed response head")]
    Malformed,
    /// A line ends in LF without CR, or holds a lone CR.
    #[error("bare CR or LF in the response head")]
    BareLineEnd,
    /// A header line is folded (RFC 9112 section 5.2).
    #[error("folded header line in the response head")]
    Folded,
    /// The head is larger than 64 KiB.
    #[error("response head too large")]
    TooLarge,
    /// The head has more than 128 header lines.
    #[error("too many header lines in the response head")]
    TooManyHeaders,
    /// The status is outside of 100 to 599.
    #[error("impossible status")]
    Status,
    /// 101: nobody asked for another protocol.
    #[error("unasked change of protocol (101)")]
    SwitchingProtocols,
    /// More interim responses than anybody needs.
    #[error("too many interim responses")]
    TooManyInterim,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// Several `Content-Length` that differ.
    #[error("differing Content-Length")]
    DifferingLengths,
    /// A `Content-Length` that is no number, signed, or too large.
    #[error("invalid Content-Length")]
    InvalidLength,
    /// A `Transfer-Encoding` other than `chunked`, or in an HTTP/1.0 response.
    #[error("unsupported Transfer-Encoding")]
    UnsupportedEncoding,
    /// The connection ended inside the head.
    #[error("connection closed inside the response head")]
    Truncated,
}

/// A response body that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection ended before the body did.
    #[error("response body ended early{}", Cause(.0))]
    Truncated(Option<io::Error>),
    /// The chunked framing is broken.
    #[error("response body: {0}")]
    Malformed(#[from] ChunkError),
    /// No byte came for longer than the limit between two pieces.
    #[error("timed out inside the response body")]
    Timeout,
    /// [`super::UpstreamBody::collect`] met more than its limit.
    #[error("response body larger than {0} bytes")]
    TooLarge(usize),
}

/// Why chunked framing is refused (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChunkError {
    /// A chunk size is missing, no hexadecimal number, or too large.
    #[error("invalid chunk size")]
    Size,
    /// Chunk extensions are longer than anybody needs, or hold control characters.
    #[error("unacceptable chunk extension")]
    Extension,
    /// The data of a chunk does not end in CR LF, or a line ends in a bare LF.
    #[error("chunk line does not end in CR LF")]
    LineEnd,
    /// The trailer section is longer than anybody needs, or holds control characters.
    #[error("unacceptable trailer section")]
    Trailer,
}

/// Appends the text of an optional cause.
struct Cause<'a>(&'a Option<io::Error>);

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

impl TlsFailure {
    /// Names the failure that an I/O error of the stream carries.
    pub(super) fn from_io(error: io::Error) -> Self {
        let Some(cause) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        else {
            return Self::Io(error);
        };
        match cause.clone() {
            rustls::Error::InvalidCertificate(fault) => Self::from_certificate(fault),
            rustls::Error::AlertReceived(alert) => Self::Alert(alert),
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
                Self::NotTls
            }
            other => Self::Other(other),
        }
    }

    fn from_certificate(fault: CertificateError) -> Self {
        use CertificateError as C;
        match fault {
            C::NotValidForName | C::NotValidForNameContext { .. } => Self::NameMismatch(fault),
            C::Expired | C::ExpiredContext { .. } => Self::Expired(fault),
            C::NotValidYet | C::NotValidYetContext { .. } => Self::NotYetValid(fault),
            C::UnknownIssuer => Self::UnknownIssuer,
            C::Revoked => Self::Revoked,
            _ => Self::BadCertificate(fault),
        }
    }
}
