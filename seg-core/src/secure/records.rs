//! rustls' side of a stream: records in, records out, and what it says of its own accord.

use std::ops::{Deref, DerefMut};

use bytes::BytesMut;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon, UnbufferedStatus,
    WriteTraffic,
};

/// A connection of rustls', on either side.
pub trait Session:
    Deref<Target = UnbufferedConnectionCommon<Self::Data>> + DerefMut + Send + Unpin + 'static
{
    /// What rustls keeps for that side.
    type Data: Unpin;

    /// [`UnbufferedConnectionCommon::process_tls_records`], which is written for each side alone.
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Session for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(incoming)
    }
}

impl Session for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(incoming)
    }
}

/// rustls between two records, with keys to send by.
pub(super) type AtRest<'c, D> = WriteTraffic<'c, D>;

/// A connection of rustls' and what it has written.
pub(super) struct Records<C> {
    session: C,
    /// Encrypted, and not taken by the socket yet.
    pub(super) outgoing: BytesMut,
    /// The other side's close_notify has come.
    ended: bool,
    /// Ours has been written.
    goodbye: bool,
    /// Why nothing more is read. rustls must not be shown anything behind it.
    fault: Option<Box<rustls::Error>>,
}

/// How far rustls came.
pub(super) struct Walked<R> {
    /// Bytes that are done with, from the front.
    pub(super) done: usize,
    /// There was no room for more; whole records may follow.
    pub(super) stopped: bool,
    /// What was done once everything had been read. `None`: the handshake goes on, or it is over.
    pub(super) at_rest: Option<R>,
    /// Why nothing more is read, now or ever.
    pub(super) fault: Option<rustls::Error>,
}

impl<C: Session> Records<C> {
    pub(super) fn new(session: C) -> Self {
        Self {
            session,
            outgoing: BytesMut::new(),
            ended: false,
            goodbye: false,
            fault: None,
        }
    }

    pub(super) fn session(&self) -> &C {
        &self.session
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn said_goodbye(&self) -> bool {
        self.goodbye
    }

    pub(super) fn say_goodbye(&mut self) {
        self.goodbye = true;
    }

    /// Lets rustls read `incoming` record by record. `taken` gets the plaintext of each, in place of
    /// which it says whether there is room for another; `act`, if any, is called once there is none
    /// left.
    pub(super) fn walk<R>(
        &mut self,
        incoming: &mut [u8],
        mut taken: impl FnMut(&[u8]) -> bool,
        act: Option<impl FnOnce(AtRest<'_, C::Data>) -> R>,
    ) -> Walked<R> {
        let mut walked = Walked {
            done: 0,
            stopped: false,
            at_rest: None,
            fault: self.fault.as_deref().cloned(),
        };
        if walked.fault.is_some() {
            return walked;
        }
        loop {
            let rest = incoming.get_mut(walked.done..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.session.process(rest);
            let mut goes_on = true;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard = discard.saturating_add(record.discard);
                                walked.stopped = !taken(record.payload);
                            }
                            Err(error) => {
                                walked.fault = Some(error);
                                break;
                            }
                        }
                    }
                    goes_on = !walked.stopped && walked.fault.is_none();
                    // Nearly always one record is all there is, and asking again would only say so.
                    if goes_on && act.is_none() {
                        let done = walked.done.saturating_add(discard);
                        goes_on = done < incoming.len() || self.session.wants_write();
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.outgoing),
                // It is as good as sent: nothing goes out before it.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.ended = true,
                Ok(ConnectionState::Closed) => {
                    self.ended = true;
                    goes_on = false;
                }
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    walked.at_rest = act.map(|act| act(traffic));
                    walked.done = walked.done.saturating_add(discard);
                    return walked;
                }
                // Early data is not offered (the default of a server's configuration).
                Ok(_) => goes_on = false,
                Err(error) => {
                    walked.fault = Some(error);
                    goes_on = false;
                }
            }
            walked.done = walked.done.saturating_add(discard);
            if !goes_on {
                break;
            }
        }
        if let Some(fault) = &walked.fault {
            self.fault = Some(Box::new(fault.clone()));
            let rest = incoming.get_mut(walked.done..).unwrap_or_default();
            self.collect_alert(rest);
        }
        walked
    }

    /// What rustls has to say of a fault. It hands that out before it looks at any record.
    fn collect_alert(&mut self, rest: &mut [u8]) {
        while self.session.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(data)) = self.session.process(rest).state else {
                return;
            };
            encode(data, &mut self.outgoing);
        }
    }
}

/// Appends what rustls wants to have sent.
fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut BytesMut) {
    // The size is told by refusing a slice that is too small.
    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
        return;
    };
    let before = outgoing.len();
    outgoing.resize(before.saturating_add(size.required_size), 0);
    let space = outgoing.get_mut(before..).unwrap_or_default();
    let written = data.encode(space).unwrap_or_default();
    outgoing.truncate(before.saturating_add(written));
}
