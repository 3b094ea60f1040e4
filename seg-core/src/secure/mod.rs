//! TLS on the path of every request, over rustls' unbuffered connections.
//!
//! A buffered connection of rustls' keeps several KiB for what may come and for what is on its way
//! out, for as long as it lives. Here those buffers are the thread's: taken inside of a poll and
//! given back before it ends, so that a connection which waits holds none, and a busy thread works
//! in memory that is still in its cache. A connection keeps only what is in between: a record of
//! which a part has come, plaintext that its reader had no room for, bytes that the socket has not
//! taken. Keys, records, alerts and tickets are rustls' business; nothing of them is done here.

mod handshake;
mod records;
mod scratch;
#[cfg(test)]
mod tests;

pub use handshake::{Begun, accept, connect, read_hello};
pub use records::Session;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::records::{Records, Walked};
use self::scratch::Scratch;
use crate::socket::Socket;

/// The stream of a client of ours.
pub type ServerStream = SecureStream<UnbufferedServerConnection>;
/// The stream to a server.
pub type ClientStream = SecureStream<UnbufferedClientConnection>;

/// What a TLS 1.2 record may take at most, header included, in bytes (RFC 5246 section 6.2.3).
const LARGEST_RECORD: usize = 5 + 16 * 1024 + 2048;
/// What the records of a full read buffer take beside its plaintext, in bytes.
const RECORD_OVERHEAD: usize = 1024;
/// The most plaintext that is encrypted at once, in bytes: three whole records.
const MOST_AT_ONCE: usize = 48 * 1024;

/// A socket with TLS on it, its handshake done.
pub struct SecureStream<C> {
    socket: Socket,
    records: Records<C>,
    /// Ciphertext that rustls has not taken: a part of a record, if anything.
    incoming: Vec<u8>,
    /// Rustls has not seen all of `incoming` yet.
    unread: bool,
    /// What was decrypted beyond the room of its reader.
    plaintext: BytesMut,
}

impl<C: Session> SecureStream<C> {
    /// A stream whose handshake begins with what has come already.
    fn new(socket: Socket, session: C, incoming: Vec<u8>) -> Self {
        Self {
            socket,
            records: Records::new(session),
            incoming,
            unread: true,
            plaintext: BytesMut::new(),
        }
    }

    /// The socket below.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// What was agreed upon, and whom the other side showed itself to be.
    pub fn session(&self) -> &C {
        self.records.session()
    }

    /// Goes on with the handshake until both sides may send.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.records.session().is_handshaking() {
            ready!(self.poll_drain(cx))?;
            ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])))?;
        }
        self.poll_drain(cx)
    }

    /// Reads from the socket once, unless something is here already, and decrypts what is whole:
    /// into `into`, what has no room there into `plaintext`. What was not data leaves both as they
    /// were.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut scratch = Scratch::incoming();
        let kept = self.incoming.len();
        let mut filled = kept;
        if !self.unread {
            let wanted = LARGEST_RECORD.max(into.remaining().saturating_add(RECORD_OVERHEAD));
            let mut read = ReadBuf::new(scratch.between(kept, kept.saturating_add(wanted)));
            if read.capacity() == 0 {
                let text = "a handshake message larger than 64 KiB";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
            let length = read.filled().len();
            if length == 0 {
                // Without a close_notify nobody can tell an end from an attack (RFC 8446 6.1).
                let text = "the connection ended without a TLS close_notify";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
            }
            filled = kept.saturating_add(length);
        }
        scratch.between(0, kept).copy_from_slice(&self.incoming);
        let ciphertext = scratch.between(0, filled);
        let before = into.filled().len();
        let plaintext = &mut self.plaintext;
        let walked = self.records.walk(
            ciphertext,
            |record| {
                let fits = record.len().min(into.remaining());
                let (now, later) = record.split_at_checked(fits).unwrap_or((record, &[]));
                into.put_slice(now);
                plaintext.extend_from_slice(later);
                into.remaining() > 0
            },
            None::<fn(records::AtRest<'_, C::Data>)>,
        );
        self.keep(ciphertext, &walked);
        // An alert waits for no writer.
        if self.records.has_outgoing()
            && let Poll::Ready(Err(error)) = self.poll_drain(cx)
            && walked.fault.is_none()
        {
            return Poll::Ready(Err(error));
        }
        match walked.fault {
            // What came before the fault is handed on first.
            Some(_) if into.filled().len() > before => Poll::Ready(Ok(())),
            Some(fault) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault))),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Keeps of `ciphertext` what rustls is not done with.
    fn keep<R>(&mut self, ciphertext: &[u8], walked: &Walked<R>) {
        let rest = ciphertext.get(walked.done..).unwrap_or_default();
        // Behind a fault nothing is read any more, and it is told again.
        self.unread = walked.fault.is_some() || (walked.stopped && !rest.is_empty());
        self.incoming = rest.to_vec();
    }

    /// Lets rustls do something that it does between records.
    fn at_rest<R>(&mut self, act: impl FnOnce(records::AtRest<'_, C::Data>) -> R) -> io::Result<R> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let plaintext = &mut self.plaintext;
        let walked = self.records.walk(
            &mut incoming,
            |record| {
                plaintext.extend_from_slice(record);
                true
            },
            Some(act),
        );
        if !incoming.is_empty() {
            self.keep(&incoming, &walked);
        }
        match (walked.at_rest, walked.fault) {
            (Some(done), None) => Ok(done),
            (_, Some(fault)) => Err(io::Error::new(io::ErrorKind::InvalidData, fault)),
            (None, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Encrypts what there is of `slices`, up to a bound, and sends it; what the socket does not
    /// take at once is kept and goes out before anything else.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let mut gathered;
        let plain = match slices {
            [] => return Poll::Ready(Ok(0)),
            [only] => only.get(..MOST_AT_ONCE).unwrap_or(only),
            several => {
                // A head and its body leave as one record.
                gathered = Scratch::gathered();
                gathered.gather(several)
            }
        };
        if plain.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut scratch = Scratch::outgoing();
        let space = scratch.all();
        let length = self.at_rest(|mut traffic| traffic.encrypt(plain, space))?;
        let length = length.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let mut ciphertext = scratch.between(0, length) as &[u8];
        // Behind what rustls had to say meanwhile.
        while !ciphertext.is_empty() && !self.records.has_outgoing() {
            match Pin::new(&mut self.socket).poll_write(cx, ciphertext)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(sent) => ciphertext = ciphertext.get(sent..).unwrap_or_default(),
                Poll::Pending => break,
            }
        }
        if !ciphertext.is_empty() {
            self.records.outgoing.extend_from_slice(ciphertext);
            if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(plain.len()))
    }

    /// Sends what has been encrypted.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.records.has_outgoing() {
            return Poll::Ready(Ok(()));
        }
        let outgoing = &mut self.records.outgoing;
        while !outgoing.is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, outgoing))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outgoing.advance(sent);
        }
        // Its memory goes too.
        *outgoing = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl<C: Session> AsyncRead for SecureStream<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.plaintext.is_empty() {
            let now = this.plaintext.len().min(buffer.remaining());
            buffer.put_slice(&this.plaintext.split_to(now));
            if this.plaintext.is_empty() {
                this.plaintext = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        while buffer.remaining() > 0 && buffer.filled().len() == before {
            if !this.unread && this.records.has_ended() {
                break;
            }
            ready!(this.poll_receive(cx, buffer))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: Session> AsyncWrite for SecureStream<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.records.said_goodbye() {
            this.records.say_goodbye();
            let mut alert = [0; 256];
            if let Ok(Ok(length)) = this.at_rest(|mut at| at.queue_close_notify(&mut alert)) {
                let alert = alert.get(..length).unwrap_or_default();
                this.records.outgoing.extend_from_slice(alert);
            }
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}
