//! The thread's buffers: one for what comes, one for what goes, one for what is put together.

use std::cell::Cell;
use std::io::IoSlice;
use std::thread::LocalKey;

/// Room for the largest handshake message, 64 KiB, in the records that carry it.
const INCOMING: usize = 68 * 1024;
/// Room for [`super::MOST_AT_ONCE`] in records, and for what rustls has to say beside it.
const OUTGOING: usize = 64 * 1024;
/// The plaintext of one record (RFC 8446 section 5.1).
const GATHERED: usize = 16 * 1024;

type Slot = Cell<Option<Box<[u8]>>>;

thread_local! {
    static FOR_INCOMING: Slot = const { Cell::new(None) };
    static FOR_OUTGOING: Slot = const { Cell::new(None) };
    static FOR_GATHERED: Slot = const { Cell::new(None) };
}

/// A buffer of the thread's, until it is dropped.
pub(super) struct Scratch {
    bytes: Box<[u8]>,
    home: &'static LocalKey<Slot>,
}

impl Scratch {
    pub(super) fn incoming() -> Self {
        Self::take(&FOR_INCOMING, INCOMING)
    }

    pub(super) fn outgoing() -> Self {
        Self::take(&FOR_OUTGOING, OUTGOING)
    }

    pub(super) fn gathered() -> Self {
        Self::take(&FOR_GATHERED, GATHERED)
    }

    fn take(home: &'static LocalKey<Slot>, size: usize) -> Self {
        // At thread exit the slot is gone already.
        let kept = home.try_with(Cell::take).ok().flatten();
        Self {
            bytes: kept.unwrap_or_else(|| vec![0; size].into_boxed_slice()),
            home,
        }
    }

    pub(super) fn all(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// From `start` to `end`, as far as the buffer goes.
    pub(super) fn between(&mut self, start: usize, end: usize) -> &mut [u8] {
        let end = end.min(self.bytes.len());
        self.bytes.get_mut(start..end).unwrap_or_default()
    }

    /// What there is room for of `slices`, one behind the other.
    pub(super) fn gather(&mut self, slices: &[IoSlice<'_>]) -> &[u8] {
        let mut filled = 0;
        for slice in slices {
            let room = self.between(filled, usize::MAX);
            let length = slice.len().min(room.len());
            if let (Some(room), Some(slice)) = (room.get_mut(..length), slice.get(..length)) {
                room.copy_from_slice(slice);
            }
            filled = filled.saturating_add(length);
        }
        self.between(0, filled)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let _ = self.home.try_with(|slot| slot.set(Some(bytes)));
    }
}
