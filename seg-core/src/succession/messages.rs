//! What the two processes say to each other. Both ends are this program, and the socket is open to
//! its own user alone; what is read is bounded all the same, because the two can be of different
//! versions.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Why a handover did not come about.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// Nobody waits there.
    #[error("no gateway runs with this data.dir that could hand over ({0})")]
    Nobody(io::Error),
    /// The other process ended, or the system refused something.
    #[error("the handover broke off: {0}")]
    Io(#[from] io::Error),
    /// It speaks otherwise.
    #[error("the other gateway says something else than expected: its version does not fit")]
    Unexpected,
}

/// The first word, with the version of all that follows.
const HELLO: [u8; 8] = *b"SEG-HO-2";
/// A listening socket comes with this byte.
const SOCKET: u8 = b's';
/// No further socket comes.
const NO_MORE: u8 = b'.';
const RELEASE: u8 = b'r';
const RELEASED: u8 = b'd';
const SERVING: u8 = b'v';

/// Most sockets: far more than a machine has cores and a gateway has addresses.
const SOCKETS_MAX: usize = 4096;
/// The longest batch of changes, in bytes.
const CHANGES_MAX: usize = 64 * 1024 * 1024;

pub(super) fn say_hello(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(&HELLO)
}

pub(super) fn hear_hello(stream: &mut UnixStream) -> Result<(), HandoverError> {
    let mut hello = [0; HELLO.len()];
    stream.read_exact(&mut hello)?;
    if hello == HELLO {
        Ok(())
    } else {
        Err(HandoverError::Unexpected)
    }
}

/// Sends descriptors, each with a byte of its own: what is read later can't tear them apart.
pub(super) fn send_sockets(stream: &UnixStream, sockets: &[TcpListener]) -> io::Result<()> {
    for socket in sockets {
        let descriptors = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let word = [SOCKET];
        sendmsg(
            stream,
            &[IoSlice::new(&word)],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
    }
    (&mut &*stream).write_all(&[NO_MORE])
}

pub(super) fn receive_sockets(stream: &UnixStream) -> Result<Vec<TcpListener>, HandoverError> {
    let mut sockets = Vec::new();
    while sockets.len() <= SOCKETS_MAX {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut word = [0];
        let read = recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut word)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .map_err(io::Error::from)?;
        let mut descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        match (read.bytes, word) {
            (1, [SOCKET]) => {
                let descriptor = descriptors.next().and_then(|mut some| some.next());
                let descriptor = descriptor.ok_or(HandoverError::Unexpected)?;
                sockets.push(TcpListener::from(descriptor));
            }
            (1, [NO_MORE]) => return Ok(sockets),
            (0, _) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => break,
        }
    }
    Err(HandoverError::Unexpected)
}

pub(super) fn ask_release(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(&[RELEASE])
}

pub(super) fn await_release(stream: &mut UnixStream) -> Result<(), HandoverError> {
    word(stream, RELEASE)
}

/// The journal is free; `revision` is its last.
pub(super) fn say_released(stream: &mut UnixStream, revision: u64) -> io::Result<()> {
    let mut message = vec![RELEASED];
    message.extend_from_slice(&revision.to_be_bytes());
    stream.write_all(&message)
}

pub(super) fn await_released(stream: &mut UnixStream) -> Result<u64, HandoverError> {
    word(stream, RELEASED)?;
    let mut revision = [0; 8];
    stream.read_exact(&mut revision)?;
    Ok(u64::from_be_bytes(revision))
}

pub(super) fn say_serving(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(&[SERVING])
}

pub(super) fn await_serving(stream: &mut UnixStream) -> Result<(), HandoverError> {
    word(stream, SERVING)
}

/// A batch of changes as it goes over the wire: its length, then itself.
pub(super) fn framed(changes: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(changes.len()).ok()?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(changes);
    Some(message)
}

pub(super) fn read_changes(stream: &mut UnixStream) -> Result<Vec<u8>, HandoverError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > CHANGES_MAX {
        return Err(HandoverError::Unexpected);
    }
    let mut changes = vec![0; length];
    stream.read_exact(&mut changes)?;
    Ok(changes)
}

/// Changes up to `revision` are in force.
pub(super) fn say_obeyed(stream: &mut UnixStream, revision: u64) -> io::Result<()> {
    stream.write_all(&revision.to_be_bytes())
}

/// What [`say_obeyed`] says.
pub(super) async fn hear_obeyed(stream: &mut tokio::net::UnixStream) -> io::Result<u64> {
    use tokio::io::AsyncReadExt as _;
    stream.read_u64().await
}

fn word(stream: &mut UnixStream, expected: u8) -> Result<(), HandoverError> {
    let mut word = [0];
    stream.read_exact(&mut word)?;
    if word == [expected] {
        Ok(())
    } else {
        Err(HandoverError::Unexpected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_as_they_were_sent_and_what_follows_too() {
        let (mut here, mut there) = UnixStream::pair().expect("a pair");
        let sockets: Vec<TcpListener> = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a listener"))
            .collect();
        send_sockets(&here, &sockets).expect("sent");
        say_released(&mut here, 7).expect("sent");
        let received = receive_sockets(&there).expect("received");
        let addresses = |sockets: &[TcpListener]| -> Vec<_> {
            sockets
                .iter()
                .map(|socket| socket.local_addr().ok())
                .collect()
        };
        assert_eq!(addresses(&received), addresses(&sockets));
        assert_eq!(await_released(&mut there).ok(), Some(7));
    }

    #[test]
    fn a_connection_that_waits_in_the_queue_is_not_lost_with_the_sender() {
        let (here, there) = UnixStream::pair().expect("a pair");
        let socket = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = socket.local_addr().expect("an address");
        let mut client = std::net::TcpStream::connect(address).expect("queued");
        send_sockets(&here, &[socket]).expect("sent");
        drop(here);
        let received = receive_sockets(&there).expect("received");
        let (mut accepted, _) = received[0].accept().expect("the queued one");
        accepted.write_all(b"!").expect("written");
        let mut word = [0];
        client.read_exact(&mut word).expect("read");
        assert_eq!(word, *b"!");
    }

    #[test]
    fn nonsense_is_refused() {
        for (bytes, fits) in [
            (&b"SEG-HO-2"[..], true),
            (b"SEG-HO-1", false),
            (b"SEG", false),
        ] {
            let (mut here, mut there) = UnixStream::pair().expect("a pair");
            here.write_all(bytes).expect("written");
            drop(here);
            assert_eq!(hear_hello(&mut there).is_ok(), fits);
        }
        for bytes in [&b"x"[..], b"s", b""] {
            let (mut here, there) = UnixStream::pair().expect("a pair");
            here.write_all(bytes).expect("written");
            drop(here);
            assert!(receive_sockets(&there).is_err());
        }
        let (mut here, mut there) = UnixStream::pair().expect("a pair");
        here.write_all(&[0xff; 4]).expect("written");
        assert!(matches!(
            read_changes(&mut there),
            Err(HandoverError::Unexpected)
        ));
    }
}
