//! Each part, well and broken, against real sockets and files.

use std::net::SocketAddr;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls;

/// A folder with a properties file.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("folder"))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("write");
        path
    }

    /// Free ports, and whatever else is given.
    fn config(&self, lines: &str) -> Config {
        let text = format!("server.listen=127.0.0.1:0\nadmin.listen=127.0.0.1:0\n{lines}");
        let file = self.write("application.properties", &text);
        config::load(Some(&file), std::iter::empty())
            .expect("configuration")
            .config
    }

    async fn check(&self, lines: &str) -> Report {
        let mut report = Report::default();
        everything(&mut report, &self.config(lines)).await;
        report
    }
}

/// The findings of a state on parts that start with a text.
fn found<'a>(report: &'a Report, state: State, part: &str) -> Vec<&'a str> {
    let fits = |finding: &&Finding| finding.state == state && finding.part.starts_with(part);
    report
        .findings
        .iter()
        .filter(fits)
        .map(|finding| finding.message.as_str())
        .collect()
}

#[track_caller]
fn assert_found(report: &Report, state: State, part: &str, message: &str) {
    let messages = found(report, state, part);
    assert!(
        messages.iter().any(|found| found.contains(message)),
        "{message:?} not in {report:#?}"
    );
}

/// A mail server of few words: an answer per path's start, 404 for anything else.
#[derive(Clone, Copy)]
struct Script(&'static [(&'static str, &'static str)]);

const HEALTHY: (&str, &str) = ("GET /Microsoft-Server-ActiveSync/health", "200 OK\r\n");

impl Script {
    async fn serve(self, tls: Option<Arc<rustls::ServerConfig>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                match &tls {
                    None => self.answer(stream).await,
                    Some(tls) => {
                        // A client that doesn't like the certificate goes away.
                        if let Ok(stream) = TlsAcceptor::from(Arc::clone(tls)).accept(stream).await
                        {
                            self.answer(stream).await;
                        }
                    }
                }
            }
        });
        address
    }

    async fn answer(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut request = vec![0; 4096];
        let count = stream.read(&mut request).await.unwrap_or_default();
        let request = String::from_utf8_lossy(&request[..count]).into_owned();
        let answer = self.0.iter().find(|(start, _)| request.starts_with(start));
        let answer = answer.map_or("404 Not Found\r\n", |(_, answer)| answer);
        let answer = format!("HTTP/1.1 {answer}Content-Length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

#[tokio::test]
async fn all_is_well() {
    let site = Site::new();
    let server = Script(&[
        HEALTHY,
        (
            "OPTIONS /Microsoft-Server-ActiveSync ",
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n",
        ),
    ]);
    let address = server.serve(None).await;
    let report = site
        .check(&format!("email.server.host.and.port=http://{address}\n"))
        .await;
    assert!(!report.failed(), "{report:#?}");
    assert_found(&report, State::Ok, "data.dir", "will be made at start");
    assert_found(&report, State::Ok, "server.listen", "is free");
    assert_found(&report, State::Ok, "admin.token.path", "first start");
    assert_found(
        &report,
        State::Ok,
        "compliance.policies.path",
        "no policies",
    );
    assert_found(
        &report,
        State::Ok,
        "email.server.host.and.port http://127.0.0.1",
        "answers 200 at /Microsoft",
    );
    assert_found(
        &report,
        State::Ok,
        "email.server.host.and.port",
        "offers Basic for ActiveSync",
    );
    assert_found(
        &report,
        State::Warning,
        "server.tls.certificate.path",
        "self-signed",
    );
    assert!(
        !site.0.path().join("data").exists(),
        "a check changes nothing"
    );
}

#[tokio::test]
async fn a_server_that_fails_its_health_check() {
    let server = Script(&[
        ("GET /Microsoft-Server-ActiveSync/health", "503 No\r\n"),
        ("OPTIONS /Microsoft", "200 OK\r\n"),
    ]);
    let address = server.serve(None).await;
    let report = Site::new()
        .check(&format!("email.server.host.and.port=http://{address}\n"))
        .await;
    assert_found(
        &report,
        State::Failed,
        "email.server",
        "answers 503 at /Microsoft",
    );
    assert_found(
        &report,
        State::Warning,
        "email.server",
        "where 401 was expected",
    );
}

#[tokio::test]
async fn ways_to_log_in() {
    let server = Script(&[
        HEALTHY,
        ("GET /EWS/healthcheck.htm", "200 OK\r\n"),
        (
            "OPTIONS /Microsoft",
            "401 U\r\nWWW-Authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: Negotiate\r\n",
        ),
        (
            "GET /EWS/Exchange.asmx",
            "401 U\r\nWWW-Authenticate: Negotiate, NTLM\r\nWWW-Authenticate: Bearer\r\n",
        ),
    ]);
    let address = server.serve(None).await;
    let lines =
        format!("email.server.host.and.port=http://{address}\nenable.boxer.ens.ews.proxy=true\n");
    let report = Site::new().check(&lines).await;
    assert!(!report.failed(), "{report:#?}");
    assert_found(
        &report,
        State::Warning,
        "ways to log in",
        "ActiveSync offers Basic, EWS offers Bearer",
    );
}

#[tokio::test]
async fn no_way_to_log_in_is_left() {
    let server = Script(&[
        HEALTHY,
        (
            "OPTIONS /Microsoft",
            "401 U\r\nWWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n",
        ),
    ]);
    let address = server.serve(None).await;
    let lines = format!("email.server.host.and.port=http://{address}\n");
    let report = Site::new().check(&lines).await;
    assert_found(
        &report,
        State::Failed,
        "email.server",
        "offers no way to log in",
    );
    let report = Site::new()
        .check(&format!("{lines}remove.unsupported.auth=false\n"))
        .await;
    assert!(!report.failed(), "{report:#?}");
}

#[tokio::test]
async fn the_reasons_why_a_server_can_not_be_reached() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|one| one.local_addr())
        .expect("address");
    let site = Site::new();
    let made = tls::server_config(&site.config("")).expect("TLS").config;
    let secure = Script(&[HEALTHY]).serve(Some(made)).await;
    let plain = Script(&[("", "200 OK\r\n")]).serve(None).await;
    for (address, reason) in [
        ("https://seg-check.invalid".to_owned(), "can't be resolved"),
        (
            format!("https://{closed}"),
            "can't be connected to at 127.0.0.1",
        ),
        (format!("https://{secure}"), "CA that isn't trusted"),
        (format!("https://{plain}"), "no TLS"),
        (format!("http://{secure}"), "HTTP/1.1"),
    ] {
        let report = site
            .check(&format!("email.server.host.and.port={address}\n"))
            .await;
        assert_found(&report, State::Failed, "email.server.host.and.port", reason);
    }
    let lines = format!(
        "email.server.host.and.port=https://{secure}\nignore.ssl.errors.with.exchange=true\n"
    );
    assert_found(
        &site.check(&lines).await,
        State::Ok,
        "email.server.host.and.port",
        "shows the certificate",
    );
    assert_found(
        &site.check("").await,
        State::Failed,
        "email.server.host.and.port",
        "there is no mail server",
    );
}

#[tokio::test]
async fn files_that_are_not_as_they_should_be() {
    let site = Site::new();
    site.write("a.pem", "nonsense");
    site.write("empty", "");
    site.write("policies.toml", "[nobodys]\n");
    site.write("short.key", "0123");
    site.write("aliases.csv", "a,b,c\n");
    let report = site
        .check(
            "data.dir=empty\nadmin.token.path=empty\nidentity.alias.path=aliases.csv\n\
             log.pseudonym.key.path=short.key\nserver.tls.certificate.path=a.pem\n\
             server.tls.private.key.path=a.key\nserver.client.auth=required\nserver.client.ca.path=a.pem\n",
        )
        .await;
    for (part, message) in [
        ("data.dir", "is no folder"),
        ("admin.token.path", "is empty"),
        ("identity.alias.path", "two columns"),
        ("log.pseudonym.key.path", "less than 16 bytes"),
        ("server.client.ca.path", "holds no certificate"),
        ("compliance.policies.path", "nobodys"),
    ] {
        assert_found(&report, State::Failed, part, message);
    }
    assert!(
        report
            .findings
            .iter()
            .filter(|one| one.state == State::Failed)
            .all(|one| one.mend.is_some())
    );
}

#[test]
fn policies_are_read_as_the_gateway_reads_them() {
    let site = Site::new();
    let check = |text: &str| {
        site.write("policies.toml", text);
        let mut report = Report::default();
        local::policies(&mut report, &site.config(""));
        report
    };
    let good = "[[policy]]\nid = \"ios-min\"\nwhen = { platform = \"ios\" }\naction = \"block\"\n";
    assert_found(
        &check(good),
        State::Ok,
        "compliance.policies.path",
        "policies: 1",
    );
    let report = check(&format!(
        "[eas]\nmax_pings = 1\n[ews]\nx = 1\n{good}[[policy]]\nid = \"b\"\naction = \"explode\"\n"
    ));
    assert_found(
        &report,
        State::Failed,
        "compliance.policies.path",
        "line 11, column 1: policy \"b\"",
    );
    assert_found(
        &report,
        State::Failed,
        "compliance.policies.path",
        "[ews]: unknown field `x`",
    );
    for table in ["[eas]", "[[content]]"] {
        assert_found(
            &check(&format!("{table}\nx = 1\n")),
            State::Failed,
            "compliance.policies.path",
            "line 2, column 1: unknown field `x`",
        );
    }
}

#[tokio::test]
async fn an_address_in_use_is_fine_only_beside_a_running_gateway() {
    let site = Site::new();
    let busy = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let lines = format!(
        "server.http.listen={}\n",
        busy.local_addr().expect("address")
    );
    let report = site.check(&lines).await;
    assert_found(
        &report,
        State::Failed,
        "server.http.listen",
        "can't be listened on",
    );
    std::fs::create_dir(site.0.path().join("data")).expect("folder");
    let db = site.write("data/db", "");
    let lock = std::fs::File::open(db).expect("file");
    lock.lock().expect("lock");
    let report = site.check(&lines).await;
    assert_found(
        &report,
        State::Ok,
        "data.dir",
        "in use by a running gateway",
    );
    assert_found(
        &report,
        State::Ok,
        "server.http.listen",
        "a gateway is running",
    );
}

#[test]
fn one_persons_way() {
    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, OtherNameValue, SanType};

    let site = Site::new();
    let issuer = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("CA")
    };
    let (ours, theirs) = (issuer("ours"), issuer("theirs"));
    site.write("ca.pem", &ours.pem());
    let sign = |issuer: &CertifiedIssuer<'_, KeyPair>, name: &str| {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        let upn = OtherNameValue::Utf8String("alice@corp.example".to_owned());
        params.subject_alt_names = vec![SanType::OtherName((
            vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3],
            upn,
        ))];
        let signed = params
            .signed_by(&KeyPair::generate().expect("key"), issuer)
            .expect("sign");
        site.write(name, &signed.pem())
    };
    let (good, bad) = (sign(&ours, "good.pem"), sign(&theirs, "bad.pem"));
    let asked = site.config("server.client.auth=required\nserver.client.ca.path=ca.pem\n");
    let walk = |config: &Config, file: &Path, user: &str| {
        let mut report = Report::default();
        person::check(&mut report, config, file, Some(user));
        report
    };
    let report = walk(&asked, &good, "Alice@corp.example");
    assert!(!report.failed(), "{report:#?}");
    assert_found(
        &report,
        State::Ok,
        "user",
        "alice@corp.example by its user principal name",
    );
    assert_found(
        &walk(&asked, &good, "bob"),
        State::Failed,
        "--user",
        "not for bob",
    );
    // One person under several names, as the configuration says.
    site.write("aliases.csv", "asmith@corp.example,alice@corp.example\n");
    let mapped = site.config(
        "server.client.auth=required\nserver.client.ca.path=ca.pem\n\
         identity.domain.map=CORP=corp.example\nidentity.default.domain=corp.example\n\
         identity.alias.path=aliases.csv\n",
    );
    for name in ["CORP\\Alice", "alice", "ASmith@corp.example"] {
        let report = walk(&mapped, &good, name);
        assert!(!report.failed(), "{name}: {report:#?}");
        assert_found(&report, State::Ok, "--user", "alice@corp.example");
    }
    assert_found(
        &walk(&mapped, &good, "OTHER\\alice"),
        State::Failed,
        "--user",
        "not for other\\alice",
    );
    assert_found(
        &walk(&asked, &bad, "alice"),
        State::Failed,
        "server.client.ca.path",
        "CA that isn't trusted",
    );
    assert_found(
        &walk(&site.config(""), &good, "alice"),
        State::Failed,
        "server.client.ca.path",
        "aren't asked for",
    );
    assert_found(
        &walk(&asked, Path::new("/nonexistent"), "alice"),
        State::Failed,
        "--client-cert",
        "can't be read",
    );
}

#[test]
fn arguments() {
    use clap::{CommandFactory, FromArgMatches, Parser};

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        check: CheckArgs,
    }
    Program::command().debug_assert();
    let parse = |args: &[&str]| {
        let args = std::iter::once(&"check").chain(args);
        let matches = Program::command().try_get_matches_from(args)?;
        Program::from_arg_matches(&matches).map(|program| program.check)
    };
    let args = parse(&[
        "--config",
        "a",
        "--json",
        "--client-cert",
        "c",
        "--user",
        "u",
    ])
    .expect("arguments");
    assert_eq!(
        (args.config, args.json, args.user.as_deref()),
        (Some(PathBuf::from("a")), true, Some("u"))
    );
    assert!(parse(&["--user", "u"]).is_err());
    assert!(parse(&["--migrate", "a", "--config", "b"]).is_err());
}

#[tokio::test]
async fn routes_and_the_way_out_are_looked_at() {
    let site = Site::new();
    let mail = Script(&[
        HEALTHY,
        (
            "OPTIONS /Microsoft-Server-ActiveSync ",
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n",
        ),
    ]);
    let bearer = Script(&[
        HEALTHY,
        (
            "OPTIONS /Microsoft-Server-ActiveSync ",
            "401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n",
        ),
    ]);
    let portal = Script(&[("GET /zdm ", "302 Found\r\n")]);
    let (mail, bearer) = (mail.serve(None).await, bearer.serve(None).await);
    let portal = portal.serve(None).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let gone = nobody.local_addr().expect("address");
    drop(nobody);
    let report = site
        .check(&format!(
            "email.server.host.and.port=http://localhost:{},http://{bearer}\n\
             route.mdm.path=/zdm\nroute.mdm.upstream=http://{portal}\n\
             route.gone.path=/gone\nroute.gone.upstream=http://{gone}\n\
             outbound.proxy.url=http://{portal}\n",
            mail.port()
        ))
        .await;
    let found = |state, part: &str, message: &str| assert_found(&report, state, part, message);
    found(
        State::Ok,
        "email.server.host.and.port http://localhost",
        "resolves to",
    );
    found(
        State::Warning,
        "email.server.host.and.port http://127",
        "offers Bearer for ActiveSync, another server of this leg Basic",
    );
    found(State::Ok, "route.mdm.upstream", "answers 302 at /zdm");
    found(
        State::Failed,
        "route.gone.upstream",
        "can't be connected to",
    );
    found(State::Ok, "outbound.proxy.url", "takes connections");
}
