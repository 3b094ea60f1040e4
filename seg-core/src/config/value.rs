//! The types that values are parsed into. Each parser's error says what was expected.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use zeroize::Zeroizing;

/// An enumeration of words, of which a key takes one. The words are the contract; the match is
/// without case.
macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $word:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$item_doc])* $item,)+ }

        impl $name {
            /// The words that the key takes.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for this value.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$item => $word,)+ }
            }

            /// Reads one of the words.
            ///
            /// # Errors
            /// What was expected, for a person.
            pub fn parse(text: &str) -> Result<Self, String> {
                [$(Self::$item),+]
                    .into_iter()
                    .find(|item| item.word().eq_ignore_ascii_case(text))
                    .ok_or_else(|| expected(text, &format!("one of {}", Self::WORDS.join(", "))))
            }
        }
    )+};
}

choices! {
    /// Whether clients must show a certificate.
    ClientAuth {
        /// No certificate is asked for.
        None = "none",
        /// Asked for; a client without one is served, one with a bad one is not.
        Optional = "optional",
        /// No connection without a certificate that one of the CAs signed.
        Required = "required",
    }
    /// The header in which a mail server finds the client's certificate.
    CertificateHeader {
        /// It isn't told.
        None = "none",
        /// `Client-Cert`, a byte sequence (RFC 9440 section 2.2).
        ClientCert = "client-cert",
        /// `X-SSL-Client-Cert`, PEM with percent signs, as nginx' `$ssl_client_escaped_cert`.
        XSslClientCert = "x-ssl-client-cert",
        /// `NSClientCert`, base64 in one line, as NetScaler writes it.
        NsClientCert = "nsclientcert",
    }
    /// What becomes of a certificate whose standing nobody knows.
    UnknownStanding {
        /// It is let in: soft fail.
        Allow = "allow",
        /// It is refused: hard fail.
        Refuse = "refuse",
    }
    /// How a mail server is told who asks.
    UpstreamLogin {
        /// The client's credentials go through.
        Pass = "pass",
        /// By Kerberos delegation, for those who came without a password.
        Kerberos = "kerberos",
    }
    /// By which name a domain controller is asked for a user.
    KerberosName {
        /// `account@REALM`, where the user's domain is a realm of ours.
        Principal = "principal",
        /// The user principal name, which it looks up.
        Enterprise = "enterprise",
    }
    /// The lowest TLS version towards clients.
    TlsVersion {
        /// TLS 1.2 and 1.3.
        V12 = "1.2",
        /// TLS 1.3 only.
        V13 = "1.3",
    }
    /// `on` or `off`.
    Toggle {
        /// Yes.
        On = "on",
        /// No.
        Off = "off",
    }
    /// The Host header that an upstream sees.
    HostHeader {
        /// The upstream's own name.
        Upstream = "upstream",
        /// The one the client sent.
        Preserve = "preserve",
    }
    /// How one of several upstreams is chosen.
    Affinity {
        /// A device stays with its upstream while that one is up.
        Device = "device",
        /// In turn.
        None = "none",
    }
    /// What becomes of a 401 whose challenges were all removed.
    EmptyChallenge {
        /// It turns into 403.
        Forbidden = "403",
        /// A Basic challenge is put in.
        Basic = "basic",
        /// A Bearer challenge is put in.
        Bearer = "bearer",
    }
    /// How a refusal on EWS looks.
    EwsRefusal {
        /// The operation's own response with ErrorAccessDenied.
        Response = "response",
        /// A bare 403.
        Forbidden = "403",
    }
    /// What becomes of Autodiscover.
    AutodiscoverMode {
        /// The mail server's answer, with our address in it.
        Rewrite = "rewrite",
        /// An answer of our own.
        Answer = "answer",
        /// It is not served.
        Deny = "deny",
    }
    /// What is done with a redirect that an upstream answers.
    RedirectMode {
        /// The gateway follows it.
        Follow = "follow",
        /// It is rewritten to the gateway's own address.
        Rewrite = "rewrite",
        /// It is refused.
        Deny = "deny",
    }
    /// What is done when the `User` parameter differs from the authenticated user.
    UserMismatch {
        /// Logged.
        Log = "log",
        /// Refused.
        Refuse = "refuse",
    }
    /// Whether verdicts are enforced.
    ComplianceMode {
        /// Yes.
        Enforce = "enforce",
        /// Decided, logged and counted; nobody is refused.
        Observe = "observe",
    }
    /// A verdict as a setting: what holds where nothing else decides.
    DefaultVerdict {
        /// Let in.
        Allow = "allow",
        /// Refuse.
        Block = "block",
        /// Hold.
        Quarantine = "quarantine",
    }
    /// Who says whose a device is.
    BindingMode {
        /// Nobody.
        Off = "off",
        /// Its first use, where the table does not say it.
        FirstUse = "first-use",
        /// The table alone.
        Configured = "configured",
    }
    /// A part of a request that must agree with what the device is bound to.
    BindingPart {
        /// The user.
        User = "user",
        /// The client certificate.
        Certificate = "certificate",
        /// The mail client.
        Agent = "agent",
        /// What the client offers in its TLS handshake.
        Tls = "tls",
        /// The network, which can't be two at once.
        Places = "places",
    }
    /// What is done with a device that may be a copy.
    SuspectAction {
        /// It is told in the log, in `get` and `explain`, and to policies.
        Report = "report",
        /// It is quarantined.
        Quarantine = "quarantine",
        /// It is blocked.
        Block = "block",
    }
    /// How a request that carries no device is judged, over the verdicts of its user's devices.
    UserMode {
        /// One allowed device is enough.
        AnyCompliant = "any-compliant",
        /// Every device must be allowed.
        AllCompliant = "all-compliant",
        /// Refused as soon as one device is blocked.
        BlockIfAnyBlocked = "block-if-any-blocked",
    }
    /// What holds for a device whose facts are too old.
    StaleAnswer {
        /// What was known last.
        LastKnown = "last-known",
        /// It is blocked.
        Block = "block",
        /// It is let in.
        Allow = "allow",
    }
    /// What holds while the service that `callout.url` names does not answer.
    CalloutFailure {
        /// Nobody passes.
        Block = "block",
        /// Everybody passes.
        Allow = "allow",
    }
    /// The form of the log.
    LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// For people.
        Text = "text",
    }
    /// How much is logged.
    LogLevel {
        /// Only what failed.
        Error = "error",
        /// And what is odd.
        Warn = "warn",
        /// And one event a request.
        Info = "info",
        /// And what the gateway thinks.
        Debug = "debug",
        /// And everything.
        Trace = "trace",
    }
}

/// A text that is never shown: not by Debug, not in a log. Its memory is wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one call that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Nothing was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() {
            "(empty)"
        } else {
            "(secret)"
        })
    }
}

/// An address that requests are sent to: scheme, host and port, no path. Read from
/// `https://host:443`, or `host:443` and `host`, which mean https. A host is a name in lower
/// case or an IP address; IPv6 stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// https rather than http.
    pub tls: bool,
    /// Name or IP address, without brackets.
    pub host: String,
    /// The port, given or the scheme's own.
    pub port: u16,
}

impl Origin {
    /// Reads one address.
    ///
    /// # Errors
    /// What was expected, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || expected(text, "an address such as https://mail.example.com:443");
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some(_) => return Err(wrong()),
            None => (true, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return Err(format!(
                "`{}` has a path; give scheme, host and port only",
                shown(text)
            ));
        }
        if rest.contains('@') {
            return Err(
                "an address with a user name in it; give scheme, host and port only".to_owned(),
            );
        }
        let (host, port) = split_port(rest).ok_or_else(wrong)?;
        let port = match port {
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(wrong)?,
            None if tls => 443,
            None => 80,
        };
        Ok(Self {
            tls,
            host: host_name(host)?,
            port,
        })
    }

    /// The host and, where it isn't the scheme's own, the port: what stands in a Host header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == (if self.tls { 443 } else { 80 }) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// `https://host` or `https://host:8443`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}",
            if self.tls { "https" } else { "http" },
            self.authority()
        )
    }
}

/// The address of one thing on the web: origin, path and query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebAddress {
    /// Scheme, host and port.
    pub origin: Origin,
    /// Path and query, at least `/`.
    pub path: String,
}

impl WebAddress {
    /// Reads `http://host/path?query`, http or https.
    ///
    /// # Errors
    /// What was expected, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || expected(text, "an address such as http://pki.example.com/ca.crl");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (host, path) = rest
            .find(['/', '?'])
            .map_or((rest, "/"), |at| rest.split_at(at));
        let path = if path.starts_with('?') {
            format!("/{path}")
        } else {
            path.to_owned()
        };
        Ok(Self {
            origin: Origin::parse(&format!("{scheme}://{host}")).map_err(|_| wrong())?,
            path: request_path(&path).map_err(|_| wrong())?,
        })
    }
}

impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

/// A regular expression that a whole text must match. Its time is linear in the text's length.
#[derive(Clone, Debug)]
pub struct Pattern(regex_lite::Regex);

impl Pattern {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        regex_lite::Regex::new(&format!("^(?:{text})$"))
            .map(Self)
            .map_err(|error| format!("is no regular expression: {error}"))
    }

    /// How many groups it has.
    pub fn groups(&self) -> usize {
        self.0.captures_len().saturating_sub(1)
    }

    /// The first group, or the whole where there is none; `None` where the text doesn't match.
    pub fn first<'t>(&self, text: &'t str) -> Option<&'t str> {
        let found = self.0.captures(text)?;
        found
            .get(1)
            .or_else(|| found.get(0))
            .map(|part| part.as_str())
    }

    /// `template` with `$1` and the like filled in; `None` where the text doesn't match.
    pub fn fill(&self, text: &str, template: &str) -> Option<String> {
        let found = self.0.captures(text)?;
        let mut filled = String::new();
        found.expand(template, &mut filled);
        Some(filled)
    }
}

/// What becomes of the mail server's own Bearer challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BearerChallenge {
    /// Clients see it as it is.
    Pass,
    /// They don't.
    Remove,
    /// They see this one.
    Replace(HeaderValue),
}

impl BearerChallenge {
    /// Reads `pass`, `remove`, or a challenge.
    ///
    /// # Errors
    /// What was expected, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "pass" => return Ok(Self::Pass),
            "remove" => return Ok(Self::Remove),
            _ => {}
        }
        let scheme = text.get(.."Bearer ".len());
        let value = HeaderValue::from_str(text).ok();
        match value.filter(|_| scheme.is_some_and(|word| word.eq_ignore_ascii_case("Bearer "))) {
            Some(challenge) => Ok(Self::Replace(challenge)),
            None => Err(format!(
                "`{text}` is not possible, expected pass, remove, or a challenge such as Bearer authorization_uri=\"https://login.example/authorize\""
            )),
        }
    }
}

/// A proxy for the gateway's own outgoing requests: an http address, with credentials if needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAddress {
    /// Where the proxy listens.
    pub origin: Origin,
    /// `user:password` as it stood in the URL; empty for none.
    pub credentials: Secret,
}

impl ProxyAddress {
    /// Reads `http://[user:password@]host:port`.
    ///
    /// # Errors
    /// What was expected, for a person; never the credentials.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected an address such as http://proxy.example.com:3128".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let (credentials, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let origin = Origin::parse(&format!("{scheme}://{host}")).map_err(|_| wrong())?;
        Ok(Self {
            origin,
            credentials: Secret::new(credentials),
        })
    }

    /// The URL, credentials included: for whoever connects to it, not for people.
    pub fn url(&self) -> String {
        let credentials = self.credentials.reveal();
        if credentials.is_empty() {
            return self.origin.to_string();
        }
        let origin = self.origin.to_string();
        match origin.split_once("://") {
            Some((scheme, host)) => format!("{scheme}://{credentials}@{host}"),
            None => origin,
        }
    }
}

/// What counts as a healthy answer of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthExpect {
    /// Any complete answer below 500.
    Any,
    /// This status and no other.
    Status(u16),
}

impl HealthExpect {
    /// Reads `any` or a status.
    ///
    /// # Errors
    /// What was expected, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("any") {
            return Ok(Self::Any);
        }
        match text.parse() {
            Ok(status @ 100..=599) => Ok(Self::Status(status)),
            _ => Err(expected(text, "`any` or an HTTP status such as 200")),
        }
    }

    /// Whether an answer with this status counts.
    pub fn accepts(self, status: u16) -> bool {
        match self {
            Self::Any => status < 500,
            Self::Status(wanted) => status == wanted,
        }
    }
}

pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(expected(text, "true or false")),
    }
}

pub(super) fn whole(text: &str, min: u64, max: u64) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ if max == u64::MAX => Err(expected(text, &format!("a whole number from {min} up"))),
        _ => Err(expected(
            text,
            &format!("a whole number from {min} to {max}"),
        )),
    }
}

pub(super) fn seconds(text: &str, min: u64, max: u64) -> Result<Duration, String> {
    whole(text, min, max).map(Duration::from_secs)
}

/// The parts of a comma list; empty parts are left out.
pub(super) fn list<T>(
    text: &str,
    one: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(one)
        .collect()
}

pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| expected(text, "an IP address with a port, such as 0.0.0.0:8443"))
}

pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| expected(text, "an IP address such as 192.0.2.10"))
}

/// A network; a bare address is a network of one.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map(|net| net.trunc())
        .map_err(|_| expected(text, "a network such as 10.0.0.0/8"))
}

/// A host: a DNS name in lower case, or an IP address, of at most 253 characters (RFC 1035 2.3.4).
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let named = name.len() <= 253 && name.split('.').all(label);
    if named || name.parse::<IpAddr>().is_ok() {
        Ok(name)
    } else {
        Err(expected(text, "a host name such as mail.example.com"))
    }
}

/// A path as it stands in a request: starts with `/`, visible ASCII only.
pub(super) fn request_path(text: &str) -> Result<String, String> {
    let visible = text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains('#');
    if text.starts_with('/') && visible {
        Ok(text.to_owned())
    } else {
        Err(expected(text, "a path that starts with /"))
    }
}

/// `CORP=corp.example`: NetBIOS name in upper case, domain in lower case.
pub(super) fn domain_pair(text: &str) -> Result<(String, String), String> {
    let (short, domain) = text
        .split_once('=')
        .map(|(short, domain)| (short.trim(), domain.trim()))
        .filter(|(short, domain)| !short.is_empty() && !domain.is_empty() && !short.contains('\\'))
        .ok_or_else(|| expected(text, "pairs such as CORP=corp.example"))?;
    Ok((short.to_ascii_uppercase(), host_name(domain)?))
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(super) fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match after.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => after.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

fn expected(found: &str, what: &str) -> String {
    if found.is_empty() {
        format!("is empty, expected {what}")
    } else {
        format!("`{}` is not possible, expected {what}", shown(found))
    }
}

fn shown(text: &str) -> String {
    super::problem::shortened(text)
}
