//! Where a streamed request body comes from.

use std::error::Error;
use std::task::{Context, Poll};

use bytes::Bytes;

/// Why a request body could not be read: the client's side, named by whoever reads it.
pub type SourceError = Box<dyn Error + Send + Sync>;

/// A request body that arrives piece by piece.
///
/// It is polled only when everything that it gave before has been taken by the upstream's
/// socket, so a slow mail server slows the client and nothing piles up in between.
pub trait BodySource: Send + Unpin {
    /// The next piece, `None` at the end of the body. Always asked up to its `None`, also where
    /// the length is known; not called again after `None` or an error.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>>;
}

/// The source of requests whose body is absent or held in full.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBody;

impl BodySource for NoBody {
    fn poll_next(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        Poll::Ready(None)
    }
}

impl<S: BodySource + ?Sized> BodySource for &mut S {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        (**self).poll_next(cx)
    }
}

impl<S: BodySource + ?Sized> BodySource for Box<S> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        (**self).poll_next(cx)
    }
}
