//! Read buffers that belong to the thread, not to the connection.
//!
//! A connection that waits holds no buffer: one is taken inside a poll and given back before the
//! poll returns `Pending`. A full one may travel on as the body data itself and comes back when
//! the last reader has dropped it.

use std::cell::RefCell;

use bytes::Bytes;

/// Size of one read buffer, bytes.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers kept per thread. Enough for the exchanges that move at one moment; with more, a storm
/// of connections would leave its peak behind.
const KEPT_PER_THREAD: usize = 8;

/// Below this many bytes, data is copied into memory of its exact size; from here on the buffer
/// itself is handed over, so that large bodies are not copied once more. Waste is at most 4x.
const HAND_OVER_FROM: usize = 16 * 1024;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A zero-initialised buffer of [`BUFFER_BYTES`], returned to its thread's free list on drop.
pub(super) struct Buffer(Box<[u8]>);

impl Buffer {
    pub(super) fn take() -> Self {
        let kept = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
        Self(kept.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice()))
    }

    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The first `len` bytes as body data.
    pub(super) fn freeze(self, len: usize) -> Bytes {
        let len = len.min(self.0.len());
        if len < HAND_OVER_FROM {
            return self
                .0
                .get(..len)
                .map_or_else(Bytes::new, Bytes::copy_from_slice);
        }
        Bytes::from_owner(Filled { buffer: self, len })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.0);
        // At thread exit the list is gone already; then the memory is simply freed.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < KEPT_PER_THREAD {
                free.push(memory);
            }
        });
    }
}

struct Filled {
    buffer: Buffer,
    len: usize,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        self.buffer.0.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> usize {
        FREE.with(|free| free.borrow().len())
    }

    #[test]
    fn the_free_list_is_bounded() {
        let many: Vec<Buffer> = (0..40).map(|_| Buffer::take()).collect();
        drop(many);
        assert_eq!(kept(), KEPT_PER_THREAD);
    }

    #[test]
    fn a_large_piece_is_handed_over_and_comes_back() {
        let mut buffer = Buffer::take();
        buffer.as_mut().fill(b'x');
        let before = kept();
        let bytes = buffer.freeze(HAND_OVER_FROM);
        assert_eq!(bytes.len(), HAND_OVER_FROM);
        assert!(bytes.iter().all(|&byte| byte == b'x'));
        assert_eq!(kept(), before, "still in use");
        drop(bytes);
        assert_eq!(kept(), before + 1);
    }

    #[test]
    fn a_small_piece_frees_the_buffer_at_once() {
        let mut buffer = Buffer::take();
        buffer.as_mut().fill(b'y');
        let before = kept();
        let bytes = buffer.freeze(5);
        assert_eq!(kept(), before + 1);
        assert_eq!(&bytes[..], b"yyyyy");
    }
}
