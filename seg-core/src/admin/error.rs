//! The error body, and the two messages of an error: one for the caller, one for the log. What a
//! caller reads never comes from an error's own text unless that text was written for him.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use seg_compliance::api::{ErrorBody, ErrorDetail};

use super::tokens::{Caller, Role};

/// A call that was refused or failed.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    key: Option<String>,
    line: Option<u64>,
    /// For the log only.
    internal: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            key: None,
            line: None,
            internal: None,
        }
    }

    /// 400: the request can't be understood.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 401: no token, or another one.
    pub(super) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "send the token of admin.token.path as `Authorization: Bearer …`",
        )
    }

    /// 403: the token may not do this.
    pub(super) fn forbidden(caller: &Caller, needed: Role) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!(
                "the token {:?} has the role {}; this needs {}",
                caller.name,
                caller.role.name(),
                needed.name()
            ),
        )
    }

    /// 404: no such thing.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 409: something else is in the way.
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 410: it was there, and is no longer.
    pub(super) fn gone(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "gone", message)
    }

    /// 422: understood, and refused.
    pub(super) fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
    }

    /// 503: not now.
    pub(super) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
    }

    /// 503 for a change that the journal did not take.
    pub(super) fn store(error: &seg_compliance::StoreError) -> Self {
        Self {
            internal: Some(error.to_string()),
            ..Self::unavailable(
                "store_failed",
                "the change could not be made durable; what it makes stricter is in force until a \
                 restart, what it makes milder is not. The gateway's log says what is wrong with \
                 data.dir",
            )
        }
    }

    /// 503 for a defect of ours.
    pub(super) fn internal(what: impl Into<String>) -> Self {
        Self {
            internal: Some(what.into()),
            ..Self::unavailable(
                "internal",
                "the gateway could not do this; its log says why",
            )
        }
    }

    /// Names the parameter or property that it is about.
    pub(super) fn about(self, key: impl Into<String>) -> Self {
        Self {
            key: Some(key.into()),
            ..self
        }
    }

    /// Names the property and the line that it is about.
    pub(super) fn at(self, key: Option<String>, line: Option<u64>) -> Self {
        Self { key, line, ..self }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(internal) = &self.internal {
            tracing::error!(target: "admin", code = self.code, error = %internal, "call failed");
        }
        let body = ErrorBody {
            error: ErrorDetail {
                code: self.code.to_owned(),
                message: self.message,
                key: self.key,
                line: self.line,
            },
        };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 11.6.1: a 401 names the scheme.
            let challenge = HeaderValue::from_static("Bearer realm=\"seg\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
