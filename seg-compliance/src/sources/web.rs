//! Asking a system over HTTP: logged in, at its pace, again where it may be worth it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use ureq::http::StatusCode;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use super::SourceError;
use super::definition::{Login, Web};

/// Longest body of one answer.
const BODY_MAX: u64 = 64 * 1024 * 1024;
/// Longest pause before another try, and the longest that a system may ask for.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// A conversation with one system.
pub(super) struct Asker<'w> {
    web: &'w Web,
    agent: Agent,
    authorization: Option<String>,
    asked: Option<Instant>,
}

/// What became of one try.
enum Tried {
    Got(Value),
    /// Not now; after so long, if the system said.
    Again(String, Option<Duration>),
    /// The token is no longer taken.
    LoginAgain,
    Never(StatusCode),
}

impl<'w> Asker<'w> {
    pub(super) fn new(web: &'w Web) -> Result<Self, SourceError> {
        let proxy = web.proxy.as_deref().map(Proxy::new).transpose();
        let proxy = proxy.map_err(|error| SourceError::Unreachable {
            url: "the outbound proxy".to_owned(),
            reason: error.to_string(),
        })?;
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
            .timeout_global(Some(web.timeout))
            .tls_config(tls)
            .user_agent(concat!("sync-compliance/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            web,
            agent: Agent::new_with_config(config),
            authorization: None,
            asked: None,
        })
    }

    /// GET, as JSON.
    pub(super) fn get(&mut self, url: &str) -> Result<Value, SourceError> {
        let shown = without_query(url);
        let mut logged_in_again = false;
        let mut tries = 0;
        loop {
            tries += 1;
            if self.authorization.is_none() {
                self.authorization = self.log_in()?;
            }
            let (reason, wait) = match self.try_get(url)? {
                Tried::Got(value) => return Ok(value),
                Tried::LoginAgain if !logged_in_again => {
                    logged_in_again = true;
                    self.authorization = None;
                    continue;
                }
                Tried::LoginAgain => {
                    return Err(SourceError::Unreachable {
                        url: shown,
                        reason: "refuses the login (401)".to_owned(),
                    });
                }
                Tried::Never(status) => {
                    let status = status.as_u16();
                    return Err(SourceError::Refused { url: shown, status });
                }
                Tried::Again(reason, wait) => (reason, wait),
            };
            if tries >= self.web.tries {
                let reason = format!("{reason}, after {tries} tries");
                return Err(SourceError::Unreachable { url: shown, reason });
            }
            std::thread::sleep(wait.unwrap_or_else(|| backoff(tries)));
        }
    }

    fn try_get(&mut self, url: &str) -> Result<Tried, SourceError> {
        self.keep_pace();
        let mut request = self.agent.get(url).header("accept", &self.web.accept);
        for (name, value) in &self.web.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        if let Some(code) = &self.web.tenant_code {
            request = request.header("aw-tenant-code", code.read()?.reveal());
        }
        let mut response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(Tried::Again(error.to_string(), None)),
        };
        let status = response.status();
        let wait = asked_to_wait(&response);
        Ok(match status {
            StatusCode::UNAUTHORIZED => Tried::LoginAgain,
            StatusCode::NOT_IMPLEMENTED => Tried::Never(status),
            status if may_help_later(status) => Tried::Again(format!("answers {status}"), wait),
            // Workspace ONE says so where there is nothing.
            StatusCode::NO_CONTENT => Tried::Got(Value::Null),
            status if !status.is_success() => Tried::Never(status),
            _ => {
                let body = response
                    .body_mut()
                    .with_config()
                    .limit(BODY_MAX)
                    .read_to_vec();
                match body {
                    Err(error) => Tried::Again(format!("breaks off: {error}"), None),
                    Ok(body) => match serde_json::from_slice(&body) {
                        Ok(value) => Tried::Got(value),
                        Err(error) => {
                            return Err(SourceError::Answer {
                                url: without_query(url),
                                reason: error.to_string(),
                            });
                        }
                    },
                }
            }
        })
    }

    /// The `Authorization` to send.
    fn log_in(&mut self) -> Result<Option<String>, SourceError> {
        Ok(Some(match &self.web.login {
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
        }))
    }

    fn token(&mut self, url: &str, form: &[(&str, &str)]) -> Result<String, SourceError> {
        let shown = || without_query(url);
        let mut tries = 0;
        loop {
            tries += 1;
            self.keep_pace();
            let sent = self.agent.post(url).send_form(form.iter().copied());
            let (reason, wait) = match sent {
                Ok(mut response) if response.status().is_success() => {
                    let value: Option<Value> = response
                        .body_mut()
                        .with_config()
                        .limit(BODY_MAX)
                        .read_to_vec()
                        .ok()
                        .and_then(|body| serde_json::from_slice(&body).ok());
                    let token = value
                        .as_ref()
                        .and_then(|value| value.get("access_token")?.as_str());
                    return token.map(str::to_owned).ok_or_else(|| SourceError::Answer {
                        url: shown(),
                        reason: "it has no access_token".to_owned(),
                    });
                }
                Ok(response) if !may_help_later(response.status()) => {
                    let reason = format!("gives no token: {}", response.status());
                    return Err(SourceError::Unreachable {
                        url: shown(),
                        reason,
                    });
                }
                Ok(response) => (
                    format!("answers {}", response.status()),
                    asked_to_wait(&response),
                ),
                Err(error) => (error.to_string(), None),
            };
            if tries >= self.web.tries {
                return Err(SourceError::Unreachable {
                    url: shown(),
                    reason,
                });
            }
            std::thread::sleep(wait.unwrap_or_else(|| backoff(tries)));
        }
    }

    fn keep_pace(&mut self) {
        let since = self.asked.map(|asked| asked.elapsed());
        if let Some(rest) = since.and_then(|since| self.web.pause.checked_sub(since)) {
            std::thread::sleep(rest);
        }
        self.asked = Some(Instant::now());
    }
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

/// Twice as long with each try, and never quite the same: a fleet of gateways must not come back
/// all at once.
fn backoff(tries: u32) -> Duration {
    let base = Duration::from_millis(500) * 2_u32.saturating_pow(tries.min(10) - 1);
    let base = base.min(BACKOFF_MAX);
    let random = RandomState::new().hash_one(tries) % 1_000;
    base.mul_f64(0.5 + random as f64 / 1_000.0)
}

/// Whether the same question may have another answer later.
fn may_help_later(status: StatusCode) -> bool {
    status.is_server_error()
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

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
            let wait = at.duration_since(jiff::Timestamp::now());
            Duration::try_from(wait).ok()?
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// A URL for people: its query may tell of somebody.
pub(super) fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or(url).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_bounded_and_grows() {
        assert_eq!(retry_after("7"), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("99999"), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_after("soon"), None);
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:49:37 GMT"),
            None,
            "it is over"
        );
        for tries in [1, 4, 40] {
            let wait = backoff(tries);
            assert!(wait >= Duration::from_millis(250) && wait <= BACKOFF_MAX * 3 / 2);
        }
        assert!(backoff(6) > backoff(1));
    }
}
