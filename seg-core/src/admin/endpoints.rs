//! The table of endpoints. The router and `/openapi.json` are both made from it.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use jiff::Timestamp;
use seg_compliance::record::Patch;
use seg_compliance::{DeviceKey, UserKey};
use tokio::sync::watch;

use super::error::ApiError;
use super::listener::Peer;
use super::questions;
use super::tokens::{self, Role};
use super::{
    Gateway, Token, audit, devices, events, explain, health, import, openapi, orders, overrides,
    upstreams,
};

/// Largest policies file of a plan.
const POLICIES_MAX: usize = 16 * 1024 * 1024;
/// Largest JSON body. Imports have none of this: they are read line by line.
pub(super) const BODY_MAX: usize = 64 * 1024;

/// What every call needs.
#[derive(Clone)]
pub(super) struct Api(Arc<Shared>);

struct Shared {
    gateway: Arc<dyn Gateway>,
    token: Token,
    stopped: watch::Receiver<bool>,
    snapshots: import::Snapshots,
}

impl Api {
    pub(super) fn new(
        gateway: Arc<dyn Gateway>,
        token: Token,
        stopped: watch::Receiver<bool>,
    ) -> Self {
        Self(Arc::new(Shared {
            gateway,
            token,
            stopped,
            snapshots: import::Snapshots::default(),
        }))
    }

    pub(super) fn gateway(&self) -> &Arc<dyn Gateway> {
        &self.0.gateway
    }

    /// Runs what may take long on a thread that may block.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Gateway) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let gateway = Arc::clone(self.gateway());
        tokio::task::spawn_blocking(move || work(&*gateway))
            .await
            .map_err(|error| ApiError::internal(error.to_string()))
    }

    /// The device of a name in a path or query.
    pub(super) fn device(&self, text: &str) -> Result<DeviceKey, ApiError> {
        let device = self.gateway().device(text);
        device.map_err(|why| ApiError::bad_request(why).about("device"))
    }

    /// The user of a name in a path or query.
    pub(super) fn user(&self, text: &str) -> Result<UserKey, ApiError> {
        let user = self.gateway().user(text);
        user.map_err(|why| ApiError::bad_request(why).about("user"))
    }

    /// Gives the user in a record the name that requests of his will have. A name that means
    /// nobody yet is kept as it is.
    pub(super) fn canonical(&self, patch: &mut Patch) {
        if let Some(Some(user)) = &mut patch.user
            && let Ok(canonical) = self.gateway().user(user.as_str())
        {
            *user = canonical;
        }
    }

    /// The sources with a snapshot under way.
    pub(super) fn snapshots(&self) -> &import::Snapshots {
        &self.0.snapshots
    }

    /// Ends when the gateway stops.
    pub(super) fn stopped(&self) -> watch::Receiver<bool> {
        self.0.stopped.clone()
    }
}

/// One endpoint: what the router and the description need to know.
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    /// Names of query parameters.
    pub(super) query: &'static [&'static str],
    /// Media type and schema of the body.
    pub(super) body: Option<(&'static str, &'static str)>,
    /// Media type and schema of the answer.
    pub(super) answer: (&'static str, &'static str),
    /// Statuses of refusals.
    pub(super) errors: &'static [u16],
    pub(super) access: Access,
    /// The path as the router knows it, where it can't say the whole.
    route: Option<&'static str>,
    handler: MethodRouter<Api>,
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody.
    Open,
    /// Who has a token that may do this.
    Token(Role),
}

const JSON: &str = "application/json";

/// The paths that need no token.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Every endpoint.
pub(super) fn endpoints() -> Vec<Endpoint> {
    let base = |method: Method, path, summary, schema, handler| Endpoint {
        access: Access::Token(if method == Method::GET {
            Role::Read
        } else {
            Role::Operate
        }),
        errors: &[400, 401, 403],
        query: &[],
        body: None,
        answer: (JSON, schema),
        method,
        path,
        summary,
        route: None,
        handler,
    };
    let open = |endpoint: Endpoint| Endpoint {
        access: Access::Open,
        errors: &[],
        ..endpoint
    };
    vec![
        open(base(
            Method::GET,
            "/healthz",
            "The process answers",
            "Status",
            get(health::healthz),
        )),
        Endpoint {
            errors: &[503],
            ..open(base(
                Method::GET,
                "/readyz",
                "Configuration and journal are loaded, listeners are open",
                "Status",
                get(health::readyz),
            ))
        },
        Endpoint {
            answer: ("text/plain", "Text"),
            ..open(base(
                Method::GET,
                "/metrics",
                "Metrics",
                "Text",
                get(health::metrics),
            ))
        },
        base(
            Method::GET,
            "/openapi.json",
            "This description",
            "Object",
            get(openapi::answer),
        ),
        Endpoint {
            query: &["user", "verdict", "known", "after", "limit"],
            ..base(
                Method::GET,
                "/v1/devices",
                "Devices, page by page",
                "Devices",
                get(devices::list),
            )
        },
        Endpoint {
            query: &["user"],
            errors: &[400, 401, 403, 404],
            ..base(
                Method::GET,
                "/v1/devices/{id}",
                "A device and its verdict",
                "Device",
                get(devices::show),
            )
        },
        Endpoint {
            body: Some((JSON, "Record")),
            errors: &[400, 401, 403, 503],
            ..base(
                Method::PUT,
                "/v1/devices/{id}",
                "Merge the fields given into a device's record",
                "Applied",
                put(devices::merge),
            )
        },
        Endpoint {
            errors: &[400, 401, 403, 404, 503],
            ..base(
                Method::DELETE,
                "/v1/devices/{id}",
                "Forget a device",
                "Applied",
                delete(devices::forget),
            )
        },
        Endpoint {
            body: Some((JSON, "OrderGiven")),
            errors: &[400, 401, 403, 404, 503],
            route: Some("/v1/devices/{id}"),
            ..base(
                Method::POST,
                "/v1/devices/{id}:{action}",
                "Order a device to wipe, resync or reprovision",
                "Applied",
                post(orders::give),
            )
        },
        Endpoint {
            errors: &[400, 401, 403, 404],
            ..base(
                Method::DELETE,
                "/v1/devices/{id}/binding",
                "Forget whose a device is by its use; its next use binds it anew",
                "Device",
                delete(devices::unbind),
            )
        },
        Endpoint {
            errors: &[400, 401, 403, 404, 503],
            ..base(
                Method::DELETE,
                "/v1/devices/{id}/order",
                "Take an order back that a device has not carried out",
                "Applied",
                delete(orders::cancel),
            )
        },
        Endpoint {
            body: Some((JSON, "Override")),
            errors: &[400, 401, 403, 503],
            ..base(
                Method::PUT,
                "/v1/devices/{id}/override",
                "Override the verdict of a device",
                "Applied",
                put(overrides::put_device),
            )
        },
        Endpoint {
            errors: &[400, 401, 403, 503],
            ..base(
                Method::DELETE,
                "/v1/devices/{id}/override",
                "Delete a device's override; answers the verdict that now holds",
                "Applied",
                delete(overrides::delete_device),
            )
        },
        Endpoint {
            body: Some((JSON, "Override")),
            errors: &[400, 401, 403, 503],
            ..base(
                Method::PUT,
                "/v1/users/{user}/override",
                "Override the verdict of a user's devices and device-less requests",
                "Applied",
                put(overrides::put_user),
            )
        },
        Endpoint {
            errors: &[400, 401, 403, 503],
            ..base(
                Method::DELETE,
                "/v1/users/{user}/override",
                "Delete a user's override; answers the verdict that now holds",
                "Applied",
                delete(overrides::delete_user),
            )
        },
        Endpoint {
            query: &[
                "mode",
                "source",
                "strict",
                "dry_run",
                "plan",
                "limit",
                "force",
                "supplement",
            ],
            access: Access::Token(Role::Import),
            body: Some(("application/x-ndjson", "Record")),
            errors: &[400, 401, 403, 409, 422, 503],
            ..base(
                Method::POST,
                "/v1/devices:import",
                "Import records, NDJSON or CSV (text/csv)",
                "ImportResult",
                post(import::import),
            )
        },
        Endpoint {
            answer: ("application/x-ndjson", "Record"),
            ..base(
                Method::GET,
                "/v1/devices:export",
                "Every record",
                "Record",
                get(devices::export),
            )
        },
        Endpoint {
            query: &[
                "user", "device", "agent", "type", "command", "address", "host", "path", "method",
                "version",
            ],
            ..base(
                Method::GET,
                "/v1/explain",
                "Every step to a verdict, with what it saw",
                "Explanation",
                get(explain::explain),
            )
        },
        base(
            Method::GET,
            "/v1/sessions",
            "Requests in flight",
            "Sessions",
            get(devices::sessions),
        ),
        base(
            Method::GET,
            "/v1/upstreams",
            "The servers behind the gateway: health, ejection, load",
            "Upstreams",
            get(upstreams::list),
        ),
        base(
            Method::GET,
            "/v1/redirects",
            "Users whose mailbox has moved to another server",
            "Redirects",
            get(upstreams::redirects),
        ),
        Endpoint {
            query: &["user"],
            ..base(
                Method::DELETE,
                "/v1/redirects",
                "Forget where a user, or everybody, has moved",
                "Removed",
                delete(upstreams::forget),
            )
        },
        Endpoint {
            query: &["from"],
            answer: ("text/event-stream", "Event"),
            errors: &[400, 401, 403, 410],
            ..base(
                Method::GET,
                "/v1/events",
                "Decisions, changes, cuts, reloads",
                "Event",
                get(events::events),
            )
        },
        base(
            Method::GET,
            "/v1/policies",
            "The policies in force",
            "PolicyList",
            get(questions::in_force),
        ),
        Endpoint {
            query: &["limit"],
            access: Access::Token(Role::Import),
            body: Some(("application/toml", "Text")),
            errors: &[400, 401, 403, 422],
            ..base(
                Method::POST,
                "/v1/policies:plan",
                "Which verdicts the policies of the body would change",
                "Plan",
                post(questions::plan).layer(DefaultBodyLimit::max(POLICIES_MAX)),
            )
        },
        Endpoint {
            query: &["format"],
            ..base(
                Method::GET,
                "/v1/report",
                "The fleet in numbers, JSON or CSV (format=csv)",
                "Report",
                get(questions::report),
            )
        },
        Endpoint {
            query: &["from", "to", "after", "limit"],
            access: Access::Token(Role::Admin),
            answer: ("application/x-ndjson", "AuditEntry"),
            ..base(
                Method::GET,
                "/v1/audit",
                "Who changed what, when, from where",
                "AuditEntry",
                get(audit::trail),
            )
        },
        Endpoint {
            access: Access::Token(Role::Admin),
            errors: &[401, 403, 422],
            ..base(
                Method::POST,
                "/v1/reload",
                "Read the configuration again",
                "ReloadResult",
                post(health::reload),
            )
        },
    ]
}

/// The router of the table, behind the token.
pub(super) fn router(api: Api) -> Router {
    let mut router = Router::new();
    for endpoint in endpoints() {
        let needed = match endpoint.access {
            Access::Open => None,
            Access::Token(role) => Some(role),
        };
        let handler = endpoint
            .handler
            .layer(middleware::from_fn_with_state(needed, allowed));
        let path = endpoint.route.unwrap_or(endpoint.path);
        router = router.route(path, handler);
    }
    router
        .route_layer(middleware::from_fn_with_state(api.clone(), audit::witness))
        .route_layer(middleware::from_fn(note))
        .fallback(nothing)
        .method_not_allowed_fallback(nothing)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(api.clone(), guard))
        .with_state(api)
}

/// Lets through who has the token, and everybody to what is open. Everything else, known path or
/// not, asks for the token first.
async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let open = OPEN.contains(&request.uri().path());
    let authorization = request.headers().get(header::AUTHORIZATION);
    if open {
        return next.run(request).await;
    }
    let named = api.gateway().tokens();
    let line = authorization.map(|value| value.as_bytes());
    match tokens::caller(&api.0.token, &named, line, Timestamp::now()) {
        Some(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        None => ApiError::unauthorized().into_response(),
    }
}

/// Lets through whose token may do this.
async fn allowed(State(needed): State<Option<Role>>, request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<tokens::Caller>();
    match (needed, caller) {
        (None, _) => next.run(request).await,
        (Some(needed), Some(caller)) if caller.role.may(needed) => next.run(request).await,
        (Some(needed), Some(caller)) => ApiError::forbidden(caller, needed).into_response(),
        (Some(_), None) => ApiError::unauthorized().into_response(),
    }
}

/// One event a call. The path is the table's, without names of devices and people.
async fn note(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let peer = peer.map(tracing::field::display);
    if method == Method::GET {
        tracing::debug!(target: "admin", %method, path, peer, status, took_us, "call");
    } else {
        tracing::info!(target: "admin", %method, path, peer, status, took_us, "call");
    }
    response
}

async fn nothing(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found(format!(
        "there is no {method} {}; /openapi.json lists what there is",
        uri.path()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_in_the_table_is_open_at_the_door() {
        for endpoint in endpoints() {
            let open = OPEN.contains(&endpoint.path);
            assert_eq!(endpoint.access == Access::Open, open, "{}", endpoint.path);
        }
    }
}
