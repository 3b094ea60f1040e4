//! The audit trail: who changed what, when, from where. Kept in the store beside the log of changes,
//! so that it outlives compactions, and for as long as a retention says.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::Engine;
use crate::api::{AuditEntry, AuditEvent};
use crate::journal::StoreError;

/// Longest detail of an entry, in bytes of JSON.
const DETAIL_MAX: usize = 16 * 1024;

/// A part of the audit trail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// From this time on.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
    /// After the entry of this number.
    pub after: u64,
    /// At most so many.
    pub limit: Option<usize>,
}

impl Engine {
    /// Writes an entry; it is durable when the future ends. Answers its number.
    ///
    /// # Errors
    /// The store failed: the entry is not there.
    pub async fn audit(&self, event: AuditEvent) -> Result<u64, StoreError> {
        let number = self.shared.entries.fetch_add(1, Ordering::SeqCst) + 1;
        let mut entry = AuditEntry {
            number,
            at: self.shared.clock.now(),
            event,
        };
        if entry.event.detail.to_string().len() > DETAIL_MAX {
            entry.event.detail = serde_json::json!({ "too_long": true });
        }
        let written = serde_json::to_vec(&entry);
        let written = written.map_err(|error| StoreError::Failed(error.to_string()))?;
        self.aside(move |store| store.enter(&[(number, written)]))
            .await?;
        Ok(number)
    }

    /// The number of the newest entry.
    #[must_use]
    pub fn audit_entries(&self) -> u64 {
        self.shared.entries.load(Ordering::SeqCst)
    }

    /// The entries of a period, in order. Blocks while it reads.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn audit_trail(&self, period: &Period) -> Result<Vec<AuditEntry>, StoreError> {
        let mut found = Vec::new();
        let limit = period.limit.unwrap_or(usize::MAX);
        // Held while it is read: another process can't open a store that is still looked into.
        let hold = self.hold.lock();
        let store = hold.as_ref().map(|hold| &hold.store);
        store.ok_or(StoreError::Closed)?.entries(
            period.after.saturating_add(1),
            &mut |_, bytes| {
                // An entry of a later version, or a damaged one: the others are worth reading.
                let Ok(entry) = serde_json::from_slice::<AuditEntry>(bytes) else {
                    return ControlFlow::Continue(());
                };
                if period.to.is_some_and(|to| entry.at >= to) || found.len() >= limit {
                    return ControlFlow::Break(());
                }
                if period.from.is_none_or(|from| entry.at >= from) {
                    found.push(entry);
                }
                ControlFlow::Continue(())
            },
        )?;
        Ok(found)
    }

    /// Deletes the entries from before `before`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn trim_audit_trail(&self, before: Timestamp) -> Result<(), StoreError> {
        self.aside(move |store| {
            let mut first_kept = None;
            store.entries(0, &mut |number, bytes| {
                let entry = serde_json::from_slice::<AuditEntry>(bytes);
                if entry.is_ok_and(|entry| entry.at >= before) {
                    first_kept = Some(number);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            match first_kept {
                Some(number) => store.strike(number),
                None => store.strike(u64::MAX),
            }
        })
        .await
    }
}
