//! The mail servers: does each resolve, connect, prove who it is and answer, and which ways to log
//! in does it offer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use seg_ews::challenge::{self, RemovedKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Report, local};
use crate::config::{Config, HostHeader, Leg, Origin, UpstreamLogin};
use crate::tls::{self, Certificate};

/// A person waits for the answer; what a real request may take doesn't matter here.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest head of an answer that is read.
const MAX_HEAD: usize = 64 * 1024;
/// The most header lines that are read.
const MAX_HEADERS: usize = 128;

/// Looks at every mail server of both legs.
pub(super) async fn check(report: &mut Report, config: &Config) {
    let eas = Probe {
        prefix: "",
        service: "ActiveSync",
        leg: &config.eas,
        filter: config.challenges.filter_eas,
        request: EAS,
    };
    let eas = eas.check(report, config).await;
    if !config.ews_enabled {
        return;
    }
    let ews = Probe {
        prefix: "ews.",
        service: "EWS",
        leg: &config.ews,
        filter: config.challenges.filter_ews,
        request: EWS,
    };
    let ews = ews.check(report, config).await;
    if let (Some(eas), Some(ews)) = (eas, ews)
        && eas != ews
    {
        let message = format!(
            "ActiveSync offers {}, EWS offers {}: a client that is set up for one may fail at the \
             other; offer the same on both virtual directories",
            joined(&eas),
            joined(&ews)
        );
        report.warning("ways to log in", message);
    }
}

/// The ways to log in that a server offers on a leg; a word each.
pub(super) async fn offered(leg: &Leg, origin: &Origin, is_ews: bool) -> Result<Schemes, String> {
    let tls = tls::client_config(&leg.tls).map_err(|error| error.to_string())?;
    let addresses = resolve(origin).await.map_err(|failure| failure.reason)?;
    let line = Line {
        origin,
        addresses: &addresses,
        tls: &tls.config,
        connect: leg.connect_timeout.min(PATIENCE),
    };
    let (method, path) = if is_ews { EWS } else { EAS };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: seg-check\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n",
        origin.authority()
    );
    let answer = line.exchange(&request).await;
    let answer = answer.map_err(|failure| failure.reason)?;
    if answer.status != 401 {
        return Err(format!(
            "answers {} to {method} {path} without credentials, where 401 was expected",
            answer.status
        ));
    }
    let challenges = answer.challenges.iter();
    Ok(challenges.map(|line| scheme(line)).collect())
}

/// What draws a challenge of ActiveSync, and of EWS.
const EAS: (&str, &str) = ("OPTIONS", "/Microsoft-Server-ActiveSync");
const EWS: (&str, &str) = ("GET", "/EWS/Exchange.asmx");

/// One leg and how it is asked.
struct Probe<'a> {
    /// Of its keys.
    prefix: &'static str,
    service: &'static str,
    leg: &'a Leg,
    /// Whether the gateway takes out what can't pass through it.
    filter: bool,
    /// Method and path that draw a challenge.
    request: (&'static str, &'static str),
}

/// The ways to log in that are left for clients.
pub(super) type Schemes = BTreeSet<String>;

impl Probe<'_> {
    /// Looks at the servers of the leg; gives the ways to log in, where one was found out.
    async fn check(&self, report: &mut Report, config: &Config) -> Option<Schemes> {
        let key = format!("{}email.server.host.and.port", self.prefix);
        if self.leg.upstreams.is_empty() {
            report.fail(
                &key,
                "is empty: there is no mail server",
                "name it, such as https://mail.example.com:443",
            );
            return None;
        }
        if let Some(bundle) = &self.leg.tls.ca {
            local::authorities(
                report,
                &format!("{}email.server.ca.path", self.prefix),
                bundle,
            );
        }
        let tls = match tls::client_config(&self.leg.tls) {
            Ok(built) => built,
            // The bundle has its own line already.
            Err(error) if error.file.is_some() && error.file == self.leg.tls.ca => return None,
            Err(error) => {
                let key = format!("{}email.server.client.certificate.path", self.prefix);
                report.fail(&key, local::place_and_reason(&error), error.mend);
                return None;
            }
        };
        for warning in tls.warnings {
            report.warning(&key, warning);
        }
        let mut offered: Option<Schemes> = None;
        for origin in &self.leg.upstreams {
            let part = format!("{key} {origin}");
            match self
                .server(report, config, &part, origin, &tls.config)
                .await
            {
                Ok(Some(schemes)) => {
                    if let Some(before) = offered.as_ref().filter(|before| **before != schemes) {
                        let message = format!(
                            "offers {} for {}, another server of this leg {}: what a client may do \
                             depends on which it comes to",
                            joined(&schemes),
                            self.service,
                            joined(before)
                        );
                        report.warning(&part, message);
                    }
                    offered = offered.or(Some(schemes));
                }
                Ok(None) => {}
                Err(failure) => report.fail(&part, failure.reason, failure.mend),
            }
        }
        offered
    }

    async fn server(
        &self,
        report: &mut Report,
        config: &Config,
        part: &str,
        origin: &Origin,
        tls: &Arc<ClientConfig>,
    ) -> Result<Option<Schemes>, Failure> {
        let addresses = resolve(origin).await?;
        told_addresses(report, part, origin, &addresses);
        let authority = match (self.leg.host_header, &config.server.public_url) {
            (HostHeader::Preserve, Some(public)) => public.authority(),
            _ => origin.authority(),
        };
        let health = &self.leg.health;
        let ask = |method: &str, path: &str| {
            format!(
                "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: seg-check\r\n\
                 Accept: */*\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
        };
        let line = Line {
            origin,
            addresses: &addresses,
            tls,
            connect: self.leg.connect_timeout.min(PATIENCE),
        };
        let answer = line.exchange(&ask("GET", &health.path)).await?;
        if let Some(certificate) = &answer.certificate {
            report.ok(part, format!("shows the certificate {certificate}"));
            if let Some(dates) = certificate.dates_at(Timestamp::now()) {
                report.warning(part, format!("its certificate {dates}"));
            }
        }
        if health.expect.accepts(answer.status) {
            report.ok(
                part,
                format!("answers {} at {}", answer.status, health.path),
            );
        } else {
            let key = format!("{}email.server.health.path", self.prefix);
            let mend = format!(
                "look into the mail server, or change {key} or {}email.server.health.expect",
                self.prefix
            );
            report.fail(
                part,
                format!(
                    "answers {} at {}: it counts as down",
                    answer.status, health.path
                ),
                mend,
            );
        }
        let (method, path) = self.request;
        let answer = line.exchange(&ask(method, path)).await?;
        Ok(self.schemes(report, part, &answer))
    }

    /// The challenges that clients see, which nobody has named by a certificate or token yet.
    fn left_for_clients(&self, report: &mut Report, part: &str, lines: &[Vec<u8>]) -> Schemes {
        if !self.filter {
            let all = lines
                .iter()
                .flat_map(|line| line.split(|byte| *byte == b','));
            return all.map(scheme).collect();
        }
        let filtered = challenge::filter(lines.iter().map(Vec::as_slice), false);
        for removed in &filtered.removed {
            if removed.kind == RemovedKind::Unparseable {
                let line = removed.text.escape_ascii();
                report.warning(
                    part,
                    format!("sends a WWW-Authenticate that can't be parsed: {line}"),
                );
            }
        }
        filtered.kept.into_iter().map(scheme).collect()
    }

    /// What a client without credentials is offered, before and after the gateway's filter.
    fn schemes(&self, report: &mut Report, part: &str, answer: &Answer) -> Option<Schemes> {
        let (method, path) = self.request;
        if answer.status != 401 {
            let message = format!(
                "answers {} to {method} {path} without credentials, where 401 was expected; is \
                 {} switched on there?",
                answer.status, self.service
            );
            report.warning(part, message);
            return None;
        }
        let kept = self.left_for_clients(report, part, &answer.challenges);
        if self.leg.login == UpstreamLogin::Kerberos {
            let negotiates = |line: &Vec<u8>| scheme(line).eq_ignore_ascii_case("Negotiate");
            if answer.challenges.iter().any(negotiates) {
                report.ok(part, format!("takes Kerberos tickets for {}", self.service));
            } else {
                report.fail(part, NO_NEGOTIATE, WINDOWS_LOGIN);
            }
        } else if kept.is_empty() {
            let message = format!(
                "offers no way to log in to {} that passes a gateway",
                self.service
            );
            let mend = "switch on Basic or modern authentication for that virtual directory; NTLM and \
                        Negotiate can't pass";
            report.fail(part, message, mend);
        } else {
            report.ok(
                part,
                format!("offers {} for {}", joined(&kept), self.service),
            );
        }
        Some(kept)
    }
}

/// A server that is to be logged in at by Kerberos, and takes none.
pub(super) const NO_NEGOTIATE: &str = "answers 401 without Negotiate: it takes no Kerberos ticket";
pub(super) const WINDOWS_LOGIN: &str =
    "switch Windows authentication (Negotiate) on for that virtual directory";

/// The first word of a challenge.
fn scheme(challenge: &[u8]) -> String {
    let word = challenge
        .trim_ascii()
        .split(u8::is_ascii_whitespace)
        .next()
        .unwrap_or_default();
    word.escape_ascii().to_string()
}

fn joined(schemes: &Schemes) -> String {
    if schemes.is_empty() {
        return "nothing".to_owned();
    }
    schemes
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What went wrong on the way to an answer.
pub(super) struct Failure {
    pub(super) reason: String,
    pub(super) mend: String,
}

impl Failure {
    fn new(reason: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            mend: mend.into(),
        }
    }
}

pub(super) async fn resolve(origin: &Origin) -> Result<Vec<SocketAddr>, Failure> {
    let mend = "check the name, and the name server of this machine";
    let found = timeout(
        PATIENCE,
        tokio::net::lookup_host((origin.host.as_str(), origin.port)),
    )
    .await
    .map_err(|_| Failure::new("the name server doesn't answer", mend))?
    .map_err(|error| Failure::new(format!("can't be resolved: {error}"), mend))?;
    let addresses: Vec<_> = found.collect();
    if addresses.is_empty() {
        Err(Failure::new("has no address", mend))
    } else {
        Ok(addresses)
    }
}

/// What a name stands for; an address stands for itself.
pub(super) fn told_addresses(
    report: &mut Report,
    part: &str,
    origin: &Origin,
    addresses: &[SocketAddr],
) {
    if origin.host.parse::<std::net::IpAddr>().is_err() {
        let list: Vec<String> = addresses
            .iter()
            .map(|address| address.ip().to_string())
            .collect();
        report.ok(part, format!("resolves to {}", list.join(", ")));
    }
}

/// The way to one server.
pub(super) struct Line<'a> {
    pub(super) origin: &'a Origin,
    pub(super) addresses: &'a [SocketAddr],
    pub(super) tls: &'a Arc<ClientConfig>,
    pub(super) connect: Duration,
}

/// The head of an answer.
pub(super) struct Answer {
    pub(super) status: u16,
    /// The values of `WWW-Authenticate`.
    challenges: Vec<Vec<u8>>,
    pub(super) certificate: Option<Certificate>,
}

impl Line<'_> {
    /// Sends one request over a connection of its own.
    pub(super) async fn exchange(&self, request: &str) -> Result<Answer, Failure> {
        let stream = self.connect().await?;
        if !self.origin.tls {
            return talk(stream, request).await;
        }
        let name = ServerName::try_from(self.origin.host.clone()).map_err(|_| {
            Failure::new(
                "has no name that a certificate can hold",
                "use its DNS name",
            )
        })?;
        let handshake = TlsConnector::from(Arc::clone(self.tls)).connect(name, stream);
        let stream = timeout(self.connect, handshake)
            .await
            .map_err(|_| {
                Failure::new(
                    "doesn't finish the TLS handshake",
                    "check the port; it must speak TLS",
                )
            })?
            .map_err(|error| tls_failure(&error))?;
        let shown = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let certificate = shown.and_then(Certificate::read);
        let answer = talk(stream, request).await?;
        Ok(Answer {
            certificate,
            ..answer
        })
    }

    async fn connect(&self) -> Result<TcpStream, Failure> {
        let mut failure = Failure::new("has no address", "check the name");
        for address in self.addresses {
            let reason = match timeout(self.connect, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            let mend = "check that the server runs, and that no firewall stands in between";
            failure = Failure::new(
                format!("can't be connected to at {address}: {reason}"),
                mend,
            );
        }
        Err(failure)
    }
}

fn tls_failure(error: &std::io::Error) -> Failure {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(error) => {
            let explained = tls::explain(error);
            Failure::new(explained.reason, explained.mend)
        }
        None => Failure::new(
            format!("breaks off the TLS handshake: {error}"),
            "check the port; it may speak plain HTTP, or a TLS that is too old",
        ),
    }
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> Result<Answer, Failure> {
    let mend = "look into the mail server's log";
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut head = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).await?;
            head.extend_from_slice(piece.get(..count).unwrap_or_default());
            if let Some(answer) = read_head(&head) {
                return Ok(answer);
            }
            if count == 0 || head.len() > MAX_HEAD {
                return Ok(Err(Failure::new("answers what isn't HTTP/1.1", mend)));
            }
        }
    };
    timeout(PATIENCE, exchange)
        .await
        .map_err(|_| Failure::new("doesn't answer", mend))?
        .map_err(|error: std::io::Error| Failure::new(format!("breaks off: {error}"), mend))?
}

/// The head, once it is complete; `None` while more is needed.
fn read_head(bytes: &[u8]) -> Option<Result<Answer, Failure>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(bytes) {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => {
            let challenges = response
                .headers
                .iter()
                .filter(|header| header.name.eq_ignore_ascii_case("www-authenticate"))
                .map(|header| header.value.to_vec())
                .collect();
            let status = response.code.unwrap_or_default();
            Some(Ok(Answer {
                status,
                challenges,
                certificate: None,
            }))
        }
        Err(error) => {
            let reason = format!("answers what isn't HTTP/1.1: {error}");
            Some(Err(Failure::new(
                reason,
                "check the port, and http:// against https://",
            )))
        }
    }
}
