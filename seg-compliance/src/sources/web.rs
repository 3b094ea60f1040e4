//! Asking a system over HTTP: logged in, at its pace, again where it may be worth it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use serde_json::Value;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use super::SourceError;
use super::definition::{Login, Web};
use super::pace::{Session, Time, backoff, retry_after};

/// Longest body of a page, and of an answer about one device.
const PAGE_MAX: u64 = 64 * 1024 * 1024;
const ANSWER_MAX: u64 = 1024 * 1024;
/// Longest body of a token, and of an answer that is no success.
const TOKEN_MAX: u64 = 64 * 1024;
/// Longest word by which a system says why it refuses.
const CODE_MAX: usize = 64;

/// How much trouble a question is worth.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    tries: u32,
    timeout: Duration,
    body_max: u64,
    /// How long it may wait for its turn; `None`: as long as that takes.
    patience: Option<Duration>,
}

impl Terms {
    /// For reading everything.
    pub(super) fn of(web: &Web) -> Self {
        Self {
            tries: web.tries,
            timeout: web.timeout,
            body_max: PAGE_MAX,
            patience: None,
        }
    }

    /// For one look, by somebody who waits.
    pub(super) fn once(self) -> Self {
        Self { tries: 1, ..self }
    }

    /// For one device that somebody waits for.
    pub(super) fn within(limit: Duration) -> Self {
        Self {
            tries: 1,
            timeout: limit,
            body_max: ANSWER_MAX,
            patience: Some(limit),
        }
    }
}

/// A conversation with one system.
pub(super) struct Asker<'w> {
    web: &'w Web,
    terms: Terms,
    agent: Agent,
    session: Arc<Mutex<Session>>,
    time: &'w dyn Time,
}

/// What became of one try.
enum Tried {
    Got(Value),
    /// Not now; after so long, if the system said.
    Again(String, Option<Duration>),
    /// The token is no longer taken.
    LoginAgain,
    Never(StatusCode, Option<String>),
}

impl<'w> Asker<'w> {
    pub(super) fn new(
        web: &'w Web,
        terms: Terms,
        session: Arc<Mutex<Session>>,
        time: &'w dyn Time,
    ) -> Result<Self, SourceError> {
        let proxy = match &web.proxy {
            None => None,
            Some(held) => {
                let proxy = Proxy::new(held.read()?.reveal());
                Some(proxy.map_err(|_| SourceError::Unreachable {
                    url: "the outbound proxy".to_owned(),
                    reason:
                        "its address is not of the form http://user:password@host:port".to_owned(),
                })?)
            }
        };
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(
                rustls::crypto::aws_lc_rs::default_provider(),
            ))
            .root_certs(roots(web)?)
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would carry the token to whom it names.
            .max_redirects(0)
            .proxy(proxy)
            .timeout_global(Some(terms.timeout))
            .tls_config(tls)
            .user_agent(concat!("sync-compliance/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            web,
            terms,
            agent: Agent::new_with_config(config),
            session,
            time,
        })
    }

    /// GET, as JSON.
    pub(super) fn get(&mut self, url: &str) -> Result<Value, SourceError> {
        let shown = without_query(url);
        let mut logged_in_again = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let authorization = match self.authorization() {
                Some(authorization) => Some(authorization),
                None => self.log_in()?,
            };
            let (reason, wait) = match self.try_get(url, authorization.as_deref())? {
                Tried::Got(value) => return Ok(value),
                Tried::LoginAgain if !logged_in_again => {
                    logged_in_again = true;
                    // The token has run out: that is no failure.
                    tries -= 1;
                    self.session.lock().authorization = None;
                    continue;
                }
                Tried::LoginAgain => {
                    return Err(SourceError::Unreachable {
                        url: shown,
                        reason: "refuses the login (401)".to_owned(),
                    });
                }
                Tried::Never(status, code) => {
                    return Err(SourceError::Refused {
                        url: shown,
                        status: status.as_u16(),
                        code: code.map_or_else(String::new, |code| format!(" ({code})")),
                    });
                }
                Tried::Again(reason, wait) => (reason, wait),
            };
            if tries >= self.terms.tries {
                return Err(given_up(shown, &reason, tries));
            }
            self.time.sleep(wait.unwrap_or_else(|| backoff(tries)));
        }
    }

    fn authorization(&self) -> Option<String> {
        self.session.lock().authorization.clone()
    }

    fn try_get(&self, url: &str, authorization: Option<&str>) -> Result<Tried, SourceError> {
        self.take_turn(url)?;
        let mut request = self.agent.get(url).header("accept", &self.web.accept);
        for (name, value) in &self.web.headers {
            request = request.header(name, value.read()?.reveal());
        }
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        if let Some(code) = &self.web.tenant_code {
            request = request.header("aw-tenant-code", code.read()?.reveal());
        }
        let mut response = match request.call() {
            Ok(response) => response,
            Err(error) => return failed(url, &error),
        };
        let status = response.status();
        let wait = asked_to_wait(&response);
        Ok(match status {
            StatusCode::UNAUTHORIZED => Tried::LoginAgain,
            // Workspace ONE says so where there is nothing.
            StatusCode::NO_CONTENT => Tried::Got(Value::Null),
            status if status.is_success() => return self.body(url, &mut response),
            status if may_help_later(status) => Tried::Again(format!("answers {status}"), wait),
            status => Tried::Never(status, code(&mut response)),
        })
    }

    fn body(
        &self,
        url: &str,
        response: &mut ureq::http::Response<ureq::Body>,
    ) -> Result<Tried, SourceError> {
        let answer = |reason: String| SourceError::Answer {
            url: without_query(url),
            reason,
        };
        let limit = self.terms.body_max;
        let body = response.body_mut().with_config().limit(limit).read_to_vec();
        match body {
            Ok(body) => match serde_json::from_slice(&body) {
                Ok(value) => Ok(Tried::Got(value)),
                Err(error) => {
                    let form = response.body().mime_type().unwrap_or("unnamed").to_owned();
                    Err(answer(format!("it is no JSON but {form}: {error}")))
                }
            },
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                Err(answer(format!("it is longer than {limit} bytes")))
            }
            Err(error) => Ok(Tried::Again(format!("breaks off: {error}"), None)),
        }
    }

    /// Logs in: the `Authorization` to send.
    fn log_in(&self) -> Result<Option<String>, SourceError> {
        let authorization = match &self.web.login {
            Login::None => return Ok(None),
            Login::Basic { user, password } => {
                let pair = format!("{user}:{}", password.read()?.reveal());
                format!("Basic {}", BASE64_STANDARD.encode(pair))
            }
            Login::Bearer { token } => format!("Bearer {}", token.read()?.reveal()),
            Login::Client {
                token_url,
                id,
                secret,
                scope,
            } => {
                let secret = secret.read()?;
                let mut form = vec![
                    ("grant_type", "client_credentials"),
                    ("client_id", id.as_str()),
                    ("client_secret", secret.reveal()),
                ];
                form.extend(scope.as_deref().map(|scope| ("scope", scope)));
                let token = self.token(token_url, &form)?;
                format!("Bearer {token}")
            }
        };
        self.session.lock().authorization = Some(authorization.clone());
        Ok(Some(authorization))
    }

    fn token(&self, url: &str, form: &[(&str, &str)]) -> Result<String, SourceError> {
        let mut tries = 0;
        loop {
            tries += 1;
            self.take_turn(url)?;
            let sent = self.agent.post(url).send_form(form.iter().copied());
            let (reason, wait) = match sent {
                Ok(mut response) if response.status().is_success() => {
                    let value = small_body(&mut response);
                    let token = value
                        .as_ref()
                        .and_then(|value| value.get("access_token")?.as_str());
                    return token.map(str::to_owned).ok_or_else(|| SourceError::Answer {
                        url: without_query(url),
                        reason: "it has no access_token".to_owned(),
                    });
                }
                Ok(mut response) if !may_help_later(response.status()) => {
                    let status = response.status();
                    let code = code(&mut response).map_or_else(String::new, |c| format!(" ({c})"));
                    return Err(SourceError::Unreachable {
                        url: without_query(url),
                        reason: format!("gives no token: {status}{code}"),
                    });
                }
                Ok(response) => (
                    format!("answers {}", response.status()),
                    asked_to_wait(&response),
                ),
                Err(error) => match failed(url, &error)? {
                    Tried::Again(reason, wait) => (reason, wait),
                    _ => (error.to_string(), None),
                },
            };
            if tries >= self.terms.tries {
                return Err(given_up(without_query(url), &reason, tries));
            }
            self.time.sleep(wait.unwrap_or_else(|| backoff(tries)));
        }
    }

    fn take_turn(&self, url: &str) -> Result<(), SourceError> {
        let turn = self
            .session
            .lock()
            .turn(self.time.now(), self.web.pause, self.terms.patience);
        let wait = turn.ok_or_else(|| SourceError::Unreachable {
            url: without_query(url),
            reason: "is asked as often as requests_per_second allows".to_owned(),
        })?;
        if !wait.is_zero() {
            self.time.sleep(wait);
        }
        Ok(())
    }
}

/// Whether a request that failed may do better another time.
fn failed(url: &str, error: &ureq::Error) -> Result<Tried, SourceError> {
    match error {
        // The request itself is wrong, such as a header that can't be sent. What it holds is not
        // repeated: it may be a secret.
        ureq::Error::Http(_) | ureq::Error::BadUri(_) => Err(SourceError::Unreachable {
            url: without_query(url),
            reason: "can't be asked: a header or the address holds what must not be sent"
                .to_owned(),
        }),
        error => Ok(Tried::Again(error.to_string(), None)),
    }
}

fn given_up(url: String, reason: &str, tries: u32) -> SourceError {
    let reason = if tries > 1 {
        format!("{reason}, after {tries} tries")
    } else {
        reason.to_owned()
    };
    SourceError::Unreachable { url, reason }
}

fn small_body(response: &mut ureq::http::Response<ureq::Body>) -> Option<Value> {
    let body = response
        .body_mut()
        .with_config()
        .limit(TOKEN_MAX)
        .read_to_vec();
    serde_json::from_slice(&body.ok()?).ok()
}

/// The word by which a system says why it refuses: `error` of OAuth (RFC 6749 section 5.2), or
/// `error.code` as Microsoft Graph writes it. A word, never a text: that may repeat what was sent.
fn code(response: &mut ureq::http::Response<ureq::Body>) -> Option<String> {
    let value = small_body(response)?;
    let error = value.get("error")?;
    let code = error.get("code").unwrap_or(error).as_str()?;
    let is_word = code
        .bytes()
        .all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    (is_word && (1..=CODE_MAX).contains(&code.len())).then(|| code.to_owned())
}

/// The system's CAs, and the source's own.
fn roots(web: &Web) -> Result<RootCerts, SourceError> {
    let mut trusted: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    if let Some(path) = &web.ca {
        let pem = std::fs::read(path).map_err(|error| SourceError::file(path, &error))?;
        let before = trusted.len();
        for item in parse_pem(&pem) {
            if let Ok(PemItem::Certificate(certificate)) = item {
                trusted.push(certificate);
            }
        }
        if trusted.len() == before {
            return Err(SourceError::File {
                path: path.display().to_string(),
                reason: "holds no certificate in PEM form".to_owned(),
            });
        }
    }
    Ok(RootCerts::new_with_certs(&trusted))
}

/// Whether the same question may have another answer later.
fn may_help_later(status: StatusCode) -> bool {
    (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        )
}

/// How long the server wants to be left alone (`Retry-After`).
fn asked_to_wait(response: &ureq::http::Response<ureq::Body>) -> Option<Duration> {
    let value = response.headers().get("retry-after")?;
    retry_after(value.to_str().ok()?)
}

/// A URL for people: its query may tell of somebody.
pub(super) fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or(url).to_owned()
}
