//! What a request turned out to be.

use crate::operation::Operation;
use std::fmt;

/// A well-formed SOAP request to EWS, with what a policy wants to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The operation: the one child of the body.
    pub operation: Operation,
    /// The local name of that child where the operation is [`Operation::UNKNOWN`], as the client
    /// wrote it: ASCII, at most [`Limits::name_bytes`](crate::Limits::name_bytes).
    pub unknown: Option<String>,
    /// `RequestServerVersion/@Version`, as the client wrote it.
    pub request_server_version: Option<String>,
    /// `ExchangeImpersonation`: the client wants to act as somebody else.
    pub impersonation: Option<Impersonation>,
    /// Whether there is a block by which servers hand an identity to each other, and which no client
    /// outside may send: `SerializedSecurityContext`, `ProxySecurityContext`, `ProxySuggesterSid`,
    /// `ProxyPartnerToken`, `OpenAsAdminOrSystemService`.
    pub serialized_security_context: bool,
    /// Whether there is a `ManagementRole`, which elevates the caller.
    pub management_role: bool,
    /// Mailboxes that the request addresses by name, in document order and without repetition:
    /// folders of others, delegates, rules, out-of-office settings, searches. The caller's own
    /// address may be among them. Recipients and free/busy lookups are not.
    pub mailboxes: Vec<String>,
    /// What kind of subscription a `Subscribe` asks for.
    pub subscription: Option<SubscriptionKind>,
    /// Where a push subscription wants its notifications.
    pub push_url: Option<PushUrl>,
    /// Subscription ids of `GetStreamingEvents`, `GetEvents` and `Unsubscribe`.
    pub subscription_ids: Vec<String>,
    /// Attachment ids of `GetAttachment` and `DeleteAttachment`.
    pub attachment_ids: Vec<String>,
    /// How long `GetStreamingEvents` wants to listen, in minutes, as asked (servers take 1 to 30).
    pub connection_timeout_minutes: Option<u32>,
    /// How many things are asked for at once, at least 1: as many response messages are due.
    pub batch: usize,
}

/// Whom an `ExchangeImpersonation` header names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impersonation {
    /// How the person is named.
    pub kind: ImpersonationKind,
    /// The name, trimmed; empty where [`kind`](Self::kind) is `Unreadable`.
    pub address: String,
}

/// The ways in which `ConnectingSID` names a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImpersonationKind {
    /// A user principal name.
    PrincipalName,
    /// A security identifier, `S-1-5-…`.
    Sid,
    /// The primary mail address.
    PrimarySmtpAddress,
    /// Any mail address.
    SmtpAddress,
    /// The header is there, but names nobody in a known way.
    Unreadable,
}

impl ImpersonationKind {
    /// The element of `ConnectingSID` of that kind.
    pub(super) fn from_element(element: &str) -> Option<Self> {
        match element {
            "PrincipalName" => Some(Self::PrincipalName),
            "SID" => Some(Self::Sid),
            "PrimarySmtpAddress" => Some(Self::PrimarySmtpAddress),
            "SmtpAddress" => Some(Self::SmtpAddress),
            _ => None,
        }
    }

    /// The name used in logs and the JSON of `seg ews classify`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PrincipalName => "principal_name",
            Self::Sid => "sid",
            Self::PrimarySmtpAddress => "primary_smtp_address",
            Self::SmtpAddress => "smtp_address",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The three kinds of subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscriptionKind {
    /// The client asks with `GetEvents`.
    Pull,
    /// The server calls a URL.
    Push,
    /// The client listens with `GetStreamingEvents`.
    Streaming,
}

impl SubscriptionKind {
    pub(super) fn from_element(element: &str) -> Option<Self> {
        match element {
            "PullSubscriptionRequest" => Some(Self::Pull),
            "PushSubscriptionRequest" => Some(Self::Push),
            "StreamingSubscriptionRequest" => Some(Self::Streaming),
            _ => None,
        }
    }

    /// The name used in logs and the JSON of `seg ews classify`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Streaming => "streaming",
        }
    }
}

/// The URL of a push subscription. It may carry credentials, so it never shows in `Debug`; only
/// its host is for the log.
#[derive(Clone, PartialEq, Eq)]
pub struct PushUrl(String);

impl PushUrl {
    pub(super) const fn new(url: String) -> Self {
        Self(url)
    }

    /// The whole URL, a secret.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `http` or `https`, where the URL is one that every reader understands alike.
    pub fn scheme(&self) -> Option<&'static str> {
        self.parts().map(|(scheme, _)| scheme)
    }

    /// The host in lower case and without a trailing dot, brackets kept around an IPv6 address.
    ///
    /// None for anything that different readers could understand differently: user names, back
    /// slashes, spaces, characters that are not ASCII, other schemes. Such a URL is on no
    /// allow-list.
    pub fn host(&self) -> Option<String> {
        let (_, host) = self.parts()?;
        let host = host.strip_suffix('.').unwrap_or(host);
        (!host.is_empty()).then(|| host.to_ascii_lowercase())
    }

    fn parts(&self) -> Option<(&'static str, &str)> {
        let url = self.0.as_str();
        if !url
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        {
            return None;
        }
        let (scheme, rest) = url.split_once("://")?;
        let scheme = ["http", "https"]
            .into_iter()
            .find(|s| scheme.eq_ignore_ascii_case(s))?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        let is_name = |host: &str| {
            host.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        };
        let is_ipv6 = |host: &str| {
            host.strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
        };
        (is_name(host) || is_ipv6(host)).then_some((scheme, host))
    }
}

impl fmt::Debug for PushUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host();
        write!(
            f,
            "PushUrl(host {}, rest hidden)",
            host.as_deref().unwrap_or("unreadable")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_only_where_there_is_one_way_to_read_it() {
        for (url, host) in [
            ("https://ens.example/notify?creds=QUJD", Some("ens.example")),
            ("HTTPS://ENS.Example.:8443", Some("ens.example")),
            ("http://[::1]:80/x", Some("[::1]")),
            ("https://ens.example#@attacker.example", Some("ens.example")),
            ("https://ens.example?@attacker.example", Some("ens.example")),
            ("https://ens.example@attacker.example/", None),
            ("https://ens.example:443@attacker.example/", None),
            ("https://ens.example\\@attacker.example/", None),
            ("https:\\\\attacker.example/", None),
            ("https:///attacker.example/", None),
            ("https:attacker.example", None),
            ("//ens.example/", None),
            ("ftp://ens.example/", None),
            ("https://ens.exa mple/", None),
            ("https://ens.example\t/", None),
            ("https://ėns.example/", None),
            ("https://[::1/", None),
            ("https://ens%2eexample/", None),
            ("https://:443/", None),
            ("https://./", None),
            ("", None),
        ] {
            assert_eq!(
                PushUrl::new(url.to_owned()).host().as_deref(),
                host,
                "{url}"
            );
        }
    }

    #[test]
    fn debug_shows_the_host_and_no_more() {
        let url = PushUrl::new("https://ens.example/notify?creds=QUJD".to_owned());
        let shown = format!("{url:?}");
        assert!(
            shown.contains("ens.example") && !shown.contains("creds"),
            "{shown}"
        );
    }
}
