//! May this device have mail now?
//!
//! This room comes after identification and before the first byte goes to the server. It hands out
//! the lease that a later block takes back; the verdict and the lease come from the engine under
//! one lock, so no block can fall between them.

pub mod callout;
mod folders;
mod generations;
pub mod misses;
mod proof;
mod rates;
mod restarts;
mod via;
mod withheld;

pub use folders::{FolderKey, FolderKinds, Folders, kind as folder_kind};
pub use generations::Generations;
pub use proof::{Lesson, ProbeOutcome, Proofs};
pub use rates::{OpenPing, Rates, TooBusy};
pub use restarts::Restarts;
pub use via::{via, without_port};
pub(crate) use withheld::Key;
pub use withheld::Withheld;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use jiff::Timestamp;
use seg_compliance::{Admission, Ask, Decision, Engine, Lease};

use crate::runtime::{Signal, Slots, Ticket};

/// An admitted request: its place among the core's requests, and its lease.
#[derive(Debug)]
pub struct Admitted {
    /// Released before the ticket: the engine must not signal a place that is somebody else's.
    pub lease: Lease,
    /// The lease of the mailbox that the caller acts as.
    pub also: Option<Box<Lease>>,
    /// Where a cut arrives.
    pub ticket: Ticket,
    /// The verdict; in observe mode it may be a `block` that is not enforced.
    pub decision: Decision,
}

impl Admitted {
    /// The outcome of `work`, or the signal that came before it.
    ///
    /// # Errors
    /// The signal.
    pub async fn unless_signalled<W: Future>(
        admitted: Option<&Self>,
        work: W,
    ) -> Result<W::Output, Signal> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            match admitted {
                Some(admitted) => admitted.ticket.poll_signal(cx).map(Err),
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// Asks the engine and registers the request, in one step.
///
/// # Errors
/// The verdict that refuses the request.
pub fn admit(
    engine: &Arc<Engine>,
    slots: &Arc<Slots>,
    core: u16,
    ask: &Ask<'_>,
) -> Result<Admitted, Decision> {
    let ticket = slots.enter();
    match engine.admit(ask, core, ticket.token(), Timestamp::now(), None) {
        Admission::Granted(lease, decision) => Ok(Admitted {
            lease,
            also: None,
            ticket,
            decision,
        }),
        Admission::Denied(decision) => Err(decision),
    }
}

/// Asks the engine about another user on whose behalf an admitted request acts. A later block of
/// his ends the request as well.
///
/// # Errors
/// The verdict that refuses the request.
pub fn admit_also(
    admitted: &mut Admitted,
    engine: &Arc<Engine>,
    core: u16,
    ask: &Ask<'_>,
) -> Result<(), Decision> {
    let token = admitted.ticket.token();
    match engine.admit(ask, core, token, Timestamp::now(), None) {
        Admission::Granted(lease, _) => {
            admitted.also = Some(Box::new(lease));
            Ok(())
        }
        Admission::Denied(decision) => Err(decision),
    }
}
