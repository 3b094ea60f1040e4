//! Where a request goes. Default deny: what is not in the table is answered 404 and never reaches
//! a server.
//!
//! This room comes first because it needs nothing but the request line and `Host`; everything
//! behind it may rely on a canonical path.

mod pass;
mod path;

pub use pass::{Pass, Passes};
pub use path::{CanonicalPath, PathError};

use std::borrow::Cow;

use http::{HeaderMap, Uri, header};

use crate::autodiscover::Form;
use crate::callback::CALLBACK_PATH;
use crate::config::{AutodiscoverMode, Config};

/// The path of ActiveSync as Exchange spells it (MS-ASHTTP 2.2.1.1.1).
pub const EAS_PATH: &str = "/Microsoft-Server-ActiveSync";
/// The SOAP endpoint of EWS as Exchange spells it.
pub const EWS_PATH: &str = "/EWS/Exchange.asmx";

/// Where people fetch their mail profile.
pub const ENROL_PATH: &str = "/eas";

/// The room a request is led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /lb-health`, answered here.
    LbHealth,
    /// ActiveSync.
    Eas,
    /// EWS.
    Ews(EwsRoute),
    /// `/ews-callback`: what Exchange sends to a push subscriber.
    Callback,
    /// Autodiscover.
    Autodiscover(Form),
    /// `/eas`: a mail profile, or one by its name.
    Enrol(Option<String>),
    /// Another service: the place of its route.
    Pass(usize),
}

/// The parts of EWS that have a path of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EwsRoute {
    /// `/EWS/Exchange.asmx`: SOAP by POST; clients also ask it by GET, to see a challenge.
    Soap,
    /// `/EWS/Exchange.asmx/s/GetUserPhoto`: an operation by GET.
    UserPhoto,
    /// The service's description: its canonical path.
    Static(&'static str),
}

impl Route {
    /// The path that is forwarded: Exchange's spelling, whatever the client's was.
    pub fn upstream_path(&self) -> &'static str {
        match self {
            Self::LbHealth => "/lb-health",
            Self::Callback => CALLBACK_PATH,
            Self::Autodiscover(form) => form.path(),
            // Its requests keep their own.
            Self::Pass(_) => "/",
            Self::Enrol(_) => ENROL_PATH,
            Self::Eas => EAS_PATH,
            Self::Ews(EwsRoute::Soap) => EWS_PATH,
            Self::Ews(EwsRoute::UserPhoto) => "/EWS/Exchange.asmx/s/GetUserPhoto",
            Self::Ews(EwsRoute::Static(path)) => path,
        }
    }
}

/// Why a request is led nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No `Host`, or two, or one that names nothing or another than the target: 400.
    Host,
    /// The target is not a path that has one meaning: 400.
    Path(PathError),
    /// A host that is not in `server.allowed.hosts`: 421.
    Misdirected,
    /// Not a path of ours: 404.
    NotFound,
    /// A path of ours that is never published (federation, mailbox moves, health checks): 404.
    Closed,
    /// Autodiscover that is not served, or a path below it: 404.
    Autodiscover,
}

/// A path of the table, in lower case, and where it leads.
type Row = (&'static str, Lead);

#[derive(Clone, Copy)]
enum Lead {
    LbHealth,
    Eas,
    EwsSoap,
    EwsPhoto,
    EwsStatic(&'static str),
    Callback,
    Closed,
    Autodiscover(Form),
}

/// Every path that is known, in lower case. IIS matches without case; DavMail always posts to the
/// lower-case spelling.
const PATHS: &[Row] = &[
    ("/microsoft-server-activesync", Lead::Eas),
    ("/ews/exchange.asmx", Lead::EwsSoap),
    ("/ews/exchange.asmx/s/getuserphoto", Lead::EwsPhoto),
    ("/ews/services.wsdl", Lead::EwsStatic("/EWS/Services.wsdl")),
    ("/ews/messages.xsd", Lead::EwsStatic("/EWS/messages.xsd")),
    ("/ews/types.xsd", Lead::EwsStatic("/EWS/types.xsd")),
    ("/ews/exchange.asmx/wssecurity", Lead::Closed),
    (CALLBACK_PATH, Lead::Callback),
    ("/ews/mrsproxy.svc", Lead::Closed),
    (
        "/autodiscover/autodiscover.xml",
        Lead::Autodiscover(Form::Pox),
    ),
    (
        "/autodiscover/autodiscover.svc",
        Lead::Autodiscover(Form::Soap),
    ),
    (
        "/autodiscover/autodiscover.json",
        Lead::Autodiscover(Form::Json),
    ),
    ("/lb-health", Lead::LbHealth),
];

/// Finds the way of a request.
pub fn route(
    config: &Config,
    passes: &Passes,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Route, NoRoute> {
    let host = host(uri, headers)?;
    // What nearly every request asks for, in the one spelling that is forwarded: nothing to undo.
    if uri.path() == EAS_PATH {
        return check_host(config, host).map(|()| Route::Eas);
    }
    let path = CanonicalPath::parse(uri.path()).map_err(NoRoute::Path)?;
    let lower = without_device(path.lower());
    let lead = PATHS
        .iter()
        .find(|(known, _)| *known == &*lower)
        .map(|(_, lead)| *lead);
    // A load balancer asks by address; the list of allowed hosts is for clients.
    if let Some(Lead::LbHealth) = lead {
        return Ok(Route::LbHealth);
    }
    if config.enrolment.is_some() && is_below(&lower, ENROL_PATH) {
        check_host(config, host)?;
        let below = path.as_str().get(ENROL_PATH.len()..).unwrap_or_default();
        let name = below.trim_start_matches('/');
        return Ok(Route::Enrol((!name.is_empty()).then(|| name.to_owned())));
    }
    let allowed = check_host(config, host);
    if lead.is_some() || !passes.name(host) {
        allowed?;
    }
    let ews = |route| {
        if config.ews_enabled {
            Ok(Route::Ews(route))
        } else {
            Err(NoRoute::NotFound)
        }
    };
    match lead {
        Some(Lead::LbHealth) => Ok(Route::LbHealth),
        Some(Lead::Eas) => Ok(Route::Eas),
        Some(Lead::Callback) => Ok(Route::Callback),
        Some(Lead::EwsSoap) => ews(EwsRoute::Soap),
        Some(Lead::EwsPhoto) => ews(EwsRoute::UserPhoto),
        Some(Lead::EwsStatic(path)) => ews(EwsRoute::Static(path)),
        Some(Lead::Closed) => Err(NoRoute::Closed),
        Some(Lead::Autodiscover(form)) => {
            let served =
                config.autodiscover != AutodiscoverMode::Deny && config.server.public_url.is_some();
            if served {
                Ok(Route::Autodiscover(form))
            } else {
                Err(NoRoute::Autodiscover)
            }
        }
        None if is_below(&lower, "/autodiscover") => Err(NoRoute::Autodiscover),
        // What is not published of a mail server no route publishes either.
        None if MAIL.iter().any(|mail| is_below(&lower, mail)) => Err(NoRoute::NotFound),
        None => passes
            .find(host, &lower, allowed.is_ok())
            .map(Route::Pass)
            .ok_or(NoRoute::NotFound),
    }
}

/// `/ews/d/<device>/…` is `/ews/…` with a device in it, which the ladder of the client's class may
/// look for there (and otherwise refuses).
fn without_device(lower: Cow<'_, str>) -> Cow<'_, str> {
    let rest = lower
        .strip_prefix("/ews/d/")
        .and_then(|rest| rest.split_once('/'));
    match rest {
        Some((device, rest)) if !device.is_empty() => Cow::Owned(format!("/ews/{rest}")),
        _ => lower,
    }
}

fn check_host(config: &Config, host: &str) -> Result<(), NoRoute> {
    let allowed = &config.server.allowed_hosts;
    if allowed.is_empty() || allowed.iter().any(|name| name.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    Err(NoRoute::Misdirected)
}

/// Where mail servers have their services, in lower case.
const MAIL: [&str; 8] = [
    "/microsoft-server-activesync",
    "/ews",
    "/mapi",
    "/oab",
    "/owa",
    "/ecp",
    "/powershell",
    "/rpc",
];

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The host that the client means, without its port. RFC 9112 section 3.2: exactly one `Host`; an
/// authority in the target takes its place.
pub(crate) fn host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Result<&'r str, NoRoute> {
    let mut lines = headers.get_all(header::HOST).iter();
    let (Some(only), None) = (lines.next(), lines.next()) else {
        return Err(NoRoute::Host);
    };
    let line = only.to_str().map_err(|_| NoRoute::Host)?;
    // A bare name needs no grammar.
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    if uri.authority().is_none() && !line.is_empty() && line.bytes().all(bare) {
        return Ok(line);
    }
    if let Some(authority) = uri.authority() {
        // RFC 9112 section 3.2.2 lets the target win; whoever reads `Host` would be misled.
        let both = (without_port(authority.as_str()), without_port(line));
        return match both {
            (Some(named), Some(told)) if named.eq_ignore_ascii_case(told) => Ok(named),
            _ => Err(NoRoute::Host),
        };
    }
    let authority: http::uri::Authority = line.parse().map_err(|_| NoRoute::Host)?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(NoRoute::Host);
    }
    without_port(line).ok_or(NoRoute::Host)
}

fn without_port(authority: &str) -> Option<&str> {
    if authority.contains('@') {
        return None;
    }
    if authority.starts_with('[') {
        return authority.split_inclusive(']').next();
    }
    authority.split(':').next().filter(|host| !host.is_empty())
}
