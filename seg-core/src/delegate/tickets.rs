//! Tickets: blocking calls of the Kerberos library, in safe terms. Each runs on a thread of the
//! blocking pool, but for [`Granted::begin`], which touches no network once a ticket is there.

use std::path::Path;
use std::time::Duration;

use libgssapi::context::{ClientCtx, CtxFlags, SecurityContext, ServerCtx};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::error::Error;
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_KRB5, GSS_NT_KRB5_ENTERPRISE_NAME, GSS_NT_KRB5_PRINCIPAL, OidSet};

use super::gss::{self, Purpose};
use super::refusal::{EXPIRED, Refusal, Stage};
use super::spnego;

/// Where the gateway's own keys are.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// `name@REALM`.
    pub(super) principal: String,
    /// The keytab.
    pub(super) keytab: String,
    /// The ticket cache, in memory.
    pub(super) ccache: String,
}

/// A user, as the domain controller is asked for him.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum UserName {
    /// `account@REALM`.
    Principal(Box<str>),
    /// A user principal name, which the domain controller looks up.
    Enterprise(Box<str>),
}

/// A ticket to a service in a user's name.
#[derive(Debug)]
pub(super) struct Granted {
    cred: Cred,
    spn: Box<str>,
    /// How long the library says that it lasts.
    pub(super) lifetime: Duration,
}

/// A context with the mail server that waits for its answer.
#[derive(Debug)]
pub(super) struct Begun {
    context: ClientCtx,
}

/// A client's ticket to us.
#[derive(Debug)]
pub(super) struct Accepted {
    /// `account@REALM`.
    pub(super) principal: String,
    /// What proves to the client that it is us.
    pub(super) answer: Option<Vec<u8>>,
    pub(super) evidence: Evidence,
}

/// What lets us go on in a client's name.
#[derive(Debug, Default)]
pub(super) struct Evidence(Option<Cred>);

/// Why a call failed, with the library's own code.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) minor: u32,
    pub(super) said: String,
    pub(super) stage: Stage,
}

impl Failed {
    pub(super) fn refusal(&self) -> Refusal {
        Refusal::of(self.stage, self.minor, &self.said)
    }
}

fn failed(stage: Stage) -> impl Fn(Error) -> Failed {
    move |error| Failed {
        minor: error.minor,
        said: error.to_string().trim().to_owned(),
        stage,
    }
}

fn kerberos() -> Result<OidSet, Error> {
    OidSet::singleton(GSS_MECH_KRB5)
}

/// Our own ticket: taken out of the cache, or fetched with the keytab where it is at its half.
fn own(own: &Own, purpose: Purpose) -> Result<Cred, Failed> {
    let get = || gss::acquire(&own.principal, &own.keytab, &own.ccache, purpose);
    get().map_err(failed(Stage::Own))
}

/// A ticket to `spn` in a user's name, by protocol transition and constrained delegation
/// (MS-SFU 3.1.5). Two exchanges with a domain controller.
pub(super) fn grant(ours: &Own, user: &UserName, spn: &str) -> Result<Granted, Failed> {
    match grant_once(ours, user, spn) {
        // A domain controller takes no ticket of ours that is at its end; the next one is fresh.
        Err(failed) if failed.minor.cast_signed() == EXPIRED => grant_once(ours, user, spn),
        other => other,
    }
}

fn grant_once(ours: &Own, user: &UserName, spn: &str) -> Result<Granted, Failed> {
    let cred = own(ours, Purpose::Initiate)?;
    let (name, kind) = match user {
        UserName::Principal(name) => (name, GSS_NT_KRB5_PRINCIPAL),
        UserName::Enterprise(name) => (name, GSS_NT_KRB5_ENTERPRISE_NAME),
    };
    let impersonated = Name::new(name.as_bytes(), Some(kind))
        .and_then(|name| cred.impersonate(&name, None, CredUsage::Initiate, Some(&kerberos()?)))
        .map_err(failed(Stage::Impersonate))?;
    Granted::fetch(impersonated, spn)
}

/// A ticket to `spn` with a client's own ticket to us as the evidence.
pub(super) fn pass_on(evidence: Evidence, spn: &str) -> Result<Granted, Failed> {
    let Some(evidence) = evidence.0 else {
        return Err(Failed {
            minor: super::refusal::BAD_OPTION.cast_unsigned(),
            said: "the client's ticket may not be passed on".to_owned(),
            stage: Stage::Delegate,
        });
    };
    Granted::fetch(evidence, spn)
}

/// Verifies a client's message with our keytab.
pub(super) fn accept(ours: &Own, message: &[u8]) -> Result<Accepted, Failed> {
    let no_token = || Failed {
        minor: 0,
        said: "it holds no Kerberos ticket".to_owned(),
        stage: Stage::Accept,
    };
    let (token, wrapped) = spnego::mechanism_token(message).ok_or_else(no_token)?;
    let cred = own(ours, Purpose::Both)?;
    let mut context = ServerCtx::new(Some(cred));
    let answer = context.step(token, None).map_err(failed(Stage::Accept))?;
    let principal = context
        .source_name()
        .and_then(|name| name.display_name())
        .map_err(failed(Stage::Accept))?;
    let answer = answer.map(|token| {
        if wrapped {
            spnego::accepted(&token)
        } else {
            token.to_vec()
        }
    });
    Ok(Accepted {
        principal: String::from_utf8_lossy(&principal).into_owned(),
        answer,
        evidence: Evidence(context.take_delegated_cred()),
    })
}

impl Granted {
    /// Fetches the service's ticket: the first step of a context does it, and what it makes is
    /// thrown away.
    fn fetch(cred: Cred, spn: &str) -> Result<Self, Failed> {
        let lifetime = cred.lifetime().unwrap_or(Duration::from_secs(300));
        let granted = Self {
            cred,
            spn: spn.into(),
            lifetime,
        };
        granted.begin(None).map(|_| ())?;
        Ok(granted)
    }

    /// A fresh message to the service: one for each request, because the server takes no message
    /// twice. Local arithmetic; `binding` ties it to the TLS connection (RFC 5929 section 4).
    pub(super) fn begin(&self, binding: Option<&[u8]>) -> Result<(Begun, Vec<u8>), Failed> {
        let target = Name::new(self.spn.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL))
            .map_err(failed(Stage::Delegate))?;
        let mut context = ClientCtx::new(
            Some(self.cred.clone()),
            target,
            CtxFlags::GSS_C_MUTUAL_FLAG,
            Some(GSS_MECH_KRB5),
        );
        let token = context
            .step(None, binding)
            .map_err(failed(Stage::Delegate))?;
        let token = token
            .map(|token| spnego::initial(&token))
            .unwrap_or_default();
        Ok((Begun { context }, token))
    }
}

impl Begun {
    /// Checks what the server says to our message: only he who holds the service's key can.
    pub(super) fn finish(mut self, message: &[u8]) -> Result<(), Failed> {
        // A server that accepts without a token of its own proves nothing, and claims nothing.
        let Some(token) = spnego::answer_token(message) else {
            return Ok(());
        };
        self.context
            .step(Some(token), None)
            .map(|_| ())
            .map_err(failed(Stage::Answer))
    }
}

/// Where the library reads its configuration from. Call it before any thread is started.
pub(super) fn use_configuration(file: &Path) {
    gss::use_configuration(file);
}
