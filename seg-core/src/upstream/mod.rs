//! The way to the mail servers: an HTTP/1.1 client of our own, driven inside the task of the
//! request that it serves.
//!
//! It exists, rather than a library client, for three reasons: a request may be replayed only
//! under a rule that belongs to mail ([`ReplayPolicy`]), a connection that carried a
//! connection-bound login must stay with its identity ([`IdentityHash`]), and an idle long poll
//! should cost a socket, its TLS state and one small future, nothing else.
//!
//! The life of an exchange: [`send`] serialises the request and returns a [`Sending`] future. It
//! takes an idle connection from the [`Pool`] (or connects to the [`Target`]), writes the head
//! and a small body in one write, pumps a [`BodySource`] with back-pressure, and gives an
//! [`Exchange`] once the final response head is in. Its [`UpstreamBody`] hands the answer on
//! piece by piece and returns the connection to the pool at the clean end.
//!
//! Nothing here spawns a task per request. Every pool wants [`Pool::tend`] to run once on its
//! core: it closes idle connections and, a few per tick, abandoned ones.

mod body;
mod buffers;
mod chunked;
mod closer;
mod connect;
mod connection;
mod elsewhere;
mod error;
mod exchange;
#[doc(hidden)]
pub mod fuzz;
mod head;
mod names;
mod pool;
mod resolve;
mod response;
mod source;
mod sources;
mod standing;
mod switch;
mod target;
#[cfg(test)]
mod tests;
mod timer;
mod via;

pub use body::UpstreamBody;
pub(crate) use chunked::Decoder;
pub use elsewhere::{Alternatives, Servers};
pub use error::{
    BadResponse, BodyError, ChunkError, Phase, SendError, SendErrorKind, Side, TlsFailure,
};
pub use exchange::{Deadlines, Exchange, Sending, send};
pub use head::{BodyKind, ReplayPolicy, RequestHead};
pub use pool::{IdentityHash, Pool, PoolSettings, PoolStats};
pub use source::{BodySource, NoBody, SourceError};
pub use sources::Sources;
pub use standing::{Ejection, Fitness, Standing, StandingNow};
pub use switch::{Answered, Line, switch};
pub use target::{Allowed, Settings as TargetSettings, Target, TargetError};
pub use via::Via;
