//! The calls of the admin API over HTTP.

use std::io::Read;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body, SendBody};

use super::failure::{Failure, Refusal};
use super::job::Gateway;

/// Longest wait for a connection; the gateway is near.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait for the answer to a call that is not a transfer.
const ANSWER: Duration = Duration::from_secs(60);
/// Longest body of an answer that is read whole.
const BODY_MAX: u64 = 256 * 1024 * 1024;

/// Talks to one gateway.
#[derive(Clone)]
pub(super) struct Client {
    agent: Agent,
    gateway: Gateway,
}

/// An answer that was read whole: its text, as it came, and as values.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) json: Value,
}

/// How long an answer may take to begin.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// A call: a minute.
    Call,
    /// A transfer or a feed: as long as it takes.
    Endless,
}

impl Client {
    pub(super) fn new(gateway: Gateway) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // The token goes to the gateway, never through somebody's proxy.
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .user_agent(concat!("sync-compliance/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            agent: Agent::new_with_config(config),
            gateway,
        }
    }

    /// GET, read whole.
    pub(super) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Answer, Failure> {
        self.read(self.open(path, query, Patience::Call)?)
    }

    /// GET of one JSON value a line.
    pub(super) fn lines(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<Value>, Failure> {
        let text = self
            .open(path, query, Patience::Call)?
            .into_body()
            .into_with_config()
            .limit(BODY_MAX)
            .read_to_string()
            .map_err(|error| self.unusable(error.to_string()))?;
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| {
                serde_json::from_str(line).map_err(|error| self.unusable(error.to_string()))
            })
            .collect()
    }

    /// GET, as a stream.
    pub(super) fn open(
        &self,
        path: &str,
        query: &[(&str, &str)],
        patience: Patience,
    ) -> Result<Response<Body>, Failure> {
        let request = self
            .agent
            .get(self.url(path))
            .query_pairs(query.iter().copied())
            .header("authorization", self.bearer())
            .config()
            .timeout_recv_response(patience.limit())
            .build();
        self.accept(request.call())
    }

    /// PUT of a JSON body.
    pub(super) fn put(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        let request = self
            .agent
            .put(self.url(path))
            .header("authorization", self.bearer())
            .content_type("application/json")
            .config()
            .timeout_recv_response(Patience::Call.limit())
            .build();
        self.read(self.accept(request.send(body.to_string()))?)
    }

    /// DELETE.
    pub(super) fn delete(&self, path: &str) -> Result<Answer, Failure> {
        let request = self
            .agent
            .delete(self.url(path))
            .header("authorization", self.bearer())
            .config()
            .timeout_recv_response(Patience::Call.limit())
            .build();
        self.read(self.accept(request.call())?)
    }

    /// POST of a JSON body.
    pub(super) fn post_json(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        let request = self
            .agent
            .post(self.url(path))
            .header("authorization", self.bearer())
            .content_type("application/json")
            .config()
            .timeout_recv_response(Patience::Call.limit())
            .build();
        self.read(self.accept(request.send(body.to_string()))?)
    }

    /// POST of a stream. The gateway is asked before the stream is sent, so that a refused token
    /// is an answer and not a broken connection.
    pub(super) fn post(
        &self,
        path: &str,
        query: &[(&str, &str)],
        content_type: &str,
        body: &mut dyn Read,
    ) -> Result<Answer, Failure> {
        let request = self
            .agent
            .post(self.url(path))
            .query_pairs(query.iter().copied())
            .header("authorization", self.bearer())
            .header("expect", "100-continue")
            .content_type(content_type)
            .config()
            .timeout_recv_response(Patience::Endless.limit())
            .build();
        self.read(self.accept(request.send(SendBody::from_reader(body)))?)
    }

    /// The gateway that is talked to.
    pub(super) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.gateway.url)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.gateway.token)
    }

    /// Sorts answers: done, or why not.
    fn accept(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Failure> {
        let response = answer.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        let body = response
            .into_body()
            .into_with_config()
            .limit(BODY_MAX)
            .read_to_vec()
            .unwrap_or_default();
        let Some(refusal) = refusal(status.as_u16(), &body) else {
            return Err(self.unusable(format!("HTTP status {status} without a reason")));
        };
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(Failure::TokenRefused {
                url: self.gateway.url.clone(),
                path: self.gateway.token_path.clone(),
                message: refusal.message,
            });
        }
        Err(Failure::Refused(refusal))
    }

    fn read(&self, response: Response<Body>) -> Result<Answer, Failure> {
        let text = response
            .into_body()
            .into_with_config()
            .limit(BODY_MAX)
            .read_to_string()
            .map_err(|error| self.unusable(error.to_string()))?;
        let json = serde_json::from_str(&text).map_err(|error| self.unusable(error.to_string()))?;
        Ok(Answer { text, json })
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let reason = match error {
            ureq::Error::Timeout(_) => "it takes too long".to_owned(),
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        Failure::Unreachable {
            url: self.gateway.url.clone(),
            reason,
        }
    }

    /// The failure for an answer that is none.
    pub(super) fn unusable(&self, reason: String) -> Failure {
        Failure::Answer {
            url: self.gateway.url.clone(),
            reason,
        }
    }
}

impl Patience {
    const fn limit(self) -> Option<Duration> {
        match self {
            Self::Call => Some(ANSWER),
            Self::Endless => None,
        }
    }
}

fn refusal(status: u16, body: &[u8]) -> Option<Refusal> {
    #[derive(serde::Deserialize)]
    struct Envelope {
        error: Refusal,
    }
    let envelope: Envelope = serde_json::from_slice(body).ok()?;
    Some(Refusal {
        status,
        ..envelope.error
    })
}
