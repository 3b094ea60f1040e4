//! The API on a real loopback connection, over a gateway that is played, and who asks it.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use seg_compliance::api::{self, ReloadResult};
use seg_compliance::{Ask, DeviceKey, Engine, Settings, UserKey};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::admin::{
    Asked, AskedEws, EwsSays, FolderSays, Gateway, NamedTokens, ReloadError, Token, serve,
};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::pseudonym::Pseudonym;

pub(super) const TOKEN: &str = "a-token-of-the-test-a-token-of-the-test";

/// A gateway that knows one domain.
pub(super) struct Fake {
    pub(super) engine: Arc<Engine>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tokens: Arc<NamedTokens>,
    pub(super) not_ready: Mutex<Vec<String>>,
    pub(super) reload: Mutex<Result<ReloadResult, ReloadError>>,
}

impl Gateway for Fake {
    fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    fn pseudonym(&self) -> Arc<Pseudonym> {
        Arc::new(Pseudonym::none())
    }

    fn tokens(&self) -> Arc<NamedTokens> {
        Arc::clone(&self.tokens)
    }

    fn import_guard(&self) -> u8 {
        50
    }

    fn not_ready(&self) -> Vec<String> {
        self.not_ready.lock().clone()
    }

    fn reload(&self) -> Result<ReloadResult, ReloadError> {
        self.reload.lock().clone()
    }

    fn device(&self, text: &str) -> Result<DeviceKey, String> {
        DeviceKey::new(text).map_err(|error| error.to_string())
    }

    fn user(&self, text: &str) -> Result<UserKey, String> {
        let mapped = match text.split_once('\\') {
            Some((domain, user)) => format!("{user}@{domain}.example"),
            None => text.to_owned(),
        };
        UserKey::new(&mapped).map_err(|error| error.to_string())
    }

    fn binding(&self, _device: &DeviceKey) -> Option<api::Binding> {
        None
    }

    fn unbind(&self, _device: &DeviceKey) -> bool {
        false
    }

    fn suspect(&self, _ask: &Ask<'_>) -> &'static str {
        ""
    }

    fn ews(&self, _asked: &AskedEws<'_>) -> Option<EwsSays> {
        None
    }

    fn redirects(&self) -> Vec<crate::redirect::Move> {
        Vec::new()
    }

    fn clear_redirects(&self, _user: Option<&UserKey>) -> usize {
        0
    }

    fn upstreams(&self) -> Vec<crate::servers::UpstreamState> {
        Vec::new()
    }

    fn content(&self, _: &DeviceKey, _: Option<&UserKey>) -> Vec<(String, String)> {
        Vec::new()
    }

    fn folders(&self, _: &DeviceKey, _: Option<&UserKey>) -> Vec<FolderSays> {
        Vec::new()
    }

    fn identity(&self, asked: &Asked<'_>) -> Map<String, Value> {
        let told = asked
            .user
            .map(|(given, user)| json!({"given": given, "user": user}));
        told.and_then(|told| told.as_object().cloned())
            .unwrap_or_default()
    }
}

/// A running admin API.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) gateway: Arc<Fake>,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) served: JoinHandle<()>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(super) fn error(&self) -> Value {
        self.json()["error"].clone()
    }
}

impl Running {
    pub(super) async fn start() -> Self {
        Self::start_with(NamedTokens::default()).await
    }

    pub(super) async fn start_with(tokens: NamedTokens) -> Self {
        let gateway = Arc::new(Fake {
            engine: Arc::new(Engine::in_memory(Settings::default())),
            metrics: Metrics::new(),
            tokens: Arc::new(tokens),
            not_ready: Mutex::default(),
            reload: Mutex::new(Ok(ReloadResult::default())),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(
            listener,
            Arc::clone(&gateway) as Arc<dyn Gateway>,
            Token::for_test(TOKEN),
            async move {
                let _ = stopped.await;
            },
        ));
        Self {
            address,
            gateway,
            stop,
            served,
        }
    }

    /// Sends `head` (request line and headers) and `body`, reads the answer to its end.
    pub(super) async fn send(&self, head: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{head}\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let head = head.to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if head.contains("transfer-encoding: chunked") {
            unchunked(body)
        } else {
            body.to_owned()
        };
        Answer { status, head, body }
    }

    /// The status alone, of an answer that need not end.
    pub(super) async fn status(&self, line: &str, token: &str) -> u16 {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = String::new();
        BufReader::new(stream).read_line(&mut first).await.unwrap();
        first.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(super) async fn call(&self, line: &str, body: &str) -> Answer {
        let head = format!("{line} HTTP/1.1\r\nauthorization: Bearer {TOKEN}");
        self.send(&head, body).await
    }

    pub(super) async fn ok(&self, line: &str, body: &str) -> Value {
        let answer = self.call(line, body).await;
        assert_eq!(answer.status, 200, "{line}: {}", answer.body);
        answer.json()
    }

    pub(super) async fn import(&self, query: &str, content_type: &str, body: &str) -> Answer {
        let head = format!(
            "POST /v1/devices:import{query} HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\n\
             content-type: {content_type}"
        );
        self.send(&head, body).await
    }
}

/// Runs `sync-compliance` against the API: exit code, standard output, standard error.
pub(super) async fn program(api: &Running, words: &[&str]) -> (u8, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let url = format!("http://{}", api.address);
    let connection = [
        "sync-compliance",
        "--admin",
        &url,
        "--token-file",
        token.to_str().unwrap(),
    ];
    let words: Vec<_> = connection
        .iter()
        .chain(words)
        .map(std::ffi::OsString::from)
        .collect();
    tokio::task::spawn_blocking(move || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = seg_compliance::cli::run(words, &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (code, text(out), text(err))
    })
    .await
    .unwrap()
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}
