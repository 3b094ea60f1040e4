//! What a sandbox is started with.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::answer::DEFAULT_CHALLENGE;

/// How a sandbox is started. `SandboxOptions::default()` is TLS on a free port of 127.0.0.1 with
/// the three users, Basic only, everything recorded.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// TLS or plain.
    pub transport: Transport,
    /// Who may log in.
    pub users: Vec<User>,
    /// Access tokens that are good as `Authorization: Bearer`, each with its user's address.
    pub bearer_tokens: Vec<(String, String)>,
    /// The WWW-Authenticate lines of a 401, one header line each.
    pub challenges: Vec<String>,
    /// What the answers are.
    pub profile: Profile,
    /// How much is written down.
    pub recording: Recording,
    /// Where each request is written down as it arrives, for whoever kills the sandbox: a line of
    /// its name and device, and for a message that is sent one of `Sent` and its ClientId.
    pub diary: Option<PathBuf>,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            transport: Transport::Tls {
                names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
                client_ca_pem: None,
            },
            users: ["alice", "bob", "carol"].map(User::named).to_vec(),
            bearer_tokens: Vec::new(),
            challenges: vec![DEFAULT_CHALLENGE.to_owned()],
            profile: Profile::Mailbox,
            recording: Recording::Everything,
            diary: None,
        }
    }
}

impl SandboxOptions {
    /// The default, without TLS.
    pub fn plain() -> Self {
        Self {
            transport: Transport::Plain,
            ..Self::default()
        }
    }
}

/// What stands between TCP and HTTP.
#[derive(Clone, Debug)]
pub enum Transport {
    /// Nothing.
    Plain,
    /// TLS 1.2 and 1.3, with a certificate signed by an authority made at start
    /// ([`Sandbox::ca_pem`](super::Sandbox::ca_pem)).
    Tls {
        /// The names and addresses that the certificate holds; a wrong one shows what a client
        /// does with a certificate that does not match.
        names: Vec<String>,
        /// Client certificates are asked for, and must be signed by this authority (PEM).
        client_ca_pem: Option<String>,
    },
}

/// Somebody with a mailbox.
#[derive(Clone)]
pub struct User {
    /// The address, lower case; it is also the name under which everything is counted.
    pub address: String,
    /// The password.
    pub password: String,
}

impl User {
    /// `name@sandbox.example` with the password `Secret-name-1`.
    pub fn named(name: &str) -> Self {
        Self {
            address: format!("{name}@sandbox.example"),
            password: format!("Secret-{name}-1"),
        }
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What the sandbox answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Profile {
    /// A small mailbox.
    Mailbox,
    /// Fixed sizes for measuring: every Sync without Wait gets the same 2,048 bytes, every
    /// ItemOperations 25 MiB; everything else is as in the mailbox.
    Bench,
}

/// How much the sandbox writes down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recording {
    /// Counts, exchanges with their bytes, events.
    Everything,
    /// Counts only, and without device and user: nothing grows with the number of clients.
    Totals,
}
