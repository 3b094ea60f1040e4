//! What has reached the sandbox: counts, exchanges with their bytes, messages sent, events.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::answer::Answer;
use super::options::Recording;
use super::wire::Head;

/// How many exchanges are kept.
const MAX_EXCHANGES: usize = 1024;
/// How many bytes of bodies are kept in all exchanges together.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How many events are kept.
const MAX_EVENTS: usize = 65_536;

/// Which part of the server was asked.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Kind {
    /// `/Microsoft-Server-ActiveSync`
    Eas,
    /// `/EWS/…`
    Ews,
    /// `/autodiscover/…`
    Autodiscover,
    /// A health page.
    Health,
    /// Anything else.
    #[default]
    Other,
}

/// What a request was, as the sandbox understood it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Seen {
    /// Which part of the server.
    pub kind: Kind,
    /// The EAS command, the EWS operation, or the method where there is neither.
    pub name: String,
    /// The DeviceId of an EAS request, raw bytes as upper-case hex; else empty.
    pub device: String,
    /// The address of who has logged in; empty without valid credentials.
    pub user: String,
}

/// Which requests are meant; an empty filter means all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    kind: Option<Kind>,
    name: Option<String>,
    device: Option<String>,
    user: Option<String>,
}

impl Filter {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// An EAS command, an EWS operation or a method, without regard to case.
    pub fn name(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..Self::default()
        }
    }

    /// One part of the server.
    pub fn kind(kind: Kind) -> Self {
        Self {
            kind: Some(kind),
            ..Self::default()
        }
    }

    /// Only of this device, without regard to case.
    #[must_use]
    pub fn device(mut self, device: &str) -> Self {
        self.device = Some(device.to_owned());
        self
    }

    /// Only of this user's address; empty: only without valid credentials.
    #[must_use]
    pub fn user(mut self, address: &str) -> Self {
        self.user = Some(address.to_owned());
        self
    }

    /// Only in this part of the server.
    #[must_use]
    pub fn of(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    pub(super) fn matches(&self, seen: &Seen) -> bool {
        let same = |wanted: &Option<String>, have: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(have))
        };
        self.kind.is_none_or(|kind| kind == seen.kind)
            && same(&self.name, &seen.name)
            && same(&self.device, &seen.device)
            && same(&self.user, &seen.user)
    }
}

/// A request and what it was answered.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Counts up from 0 over all exchanges.
    pub id: u64,
    /// Which connection it came on, from 0.
    pub connection: u64,
    /// What it was.
    pub seen: Seen,
    /// Its head, with the bytes as they came.
    pub head: Head,
    /// Its body, without chunk framing.
    pub body: Bytes,
    /// The answer, noted right before its first byte leaves; none yet, or never, for a poll that
    /// is open, or bytes that were no answer.
    pub answer: Option<Answer>,
}

/// A message that a client has sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sent {
    /// What carried it, by whom.
    pub seen: Seen,
    /// The client's own id of the message (EAS ClientId), if it gave one.
    pub client_id: Option<String>,
    /// The whole request body.
    pub body: Bytes,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// Since the sandbox was started.
    pub at: Duration,
    /// On which connection, counted from 0.
    pub connection: u64,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// A connection was accepted.
    Connected,
    /// TLS failed, and why.
    TlsFailed(String),
    /// A message was not one well-formed request, and why.
    Malformed(String),
    /// A whole request has arrived.
    Request(Seen),
    /// An answer is being written, with its status.
    Answered(Seen, u16),
    /// The last byte of an answer has been handed to the system.
    Written(Seen),
    /// A script did something else than to answer.
    Played(Seen),
    /// A poll was opened.
    PollOpened(Seen),
    /// A poll's time was up, or it was released.
    PollEnded(Seen),
    /// The client has left while its poll was open.
    PollAbandoned(Seen),
    /// The connection is closed.
    Closed,
}

#[derive(Debug, Default)]
struct Books {
    counts: HashMap<Seen, u64>,
    exchanges: VecDeque<Exchange>,
    exchange_bytes: usize,
    next_exchange: u64,
    sent: Vec<Sent>,
    events: VecDeque<Event>,
    connections: u64,
    malformed: u64,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Ledger {
    recording: Recording,
    started: Instant,
    books: Mutex<Books>,
    diary: Option<File>,
}

impl Ledger {
    pub(super) fn new(recording: Recording, diary: Option<File>) -> Self {
        Self {
            recording,
            started: Instant::now(),
            books: Mutex::default(),
            diary,
        }
    }

    /// Writes a line that outlives the process.
    fn note(&self, what: &str, whose: &str) {
        let Some(mut diary) = self.diary.as_ref() else {
            return;
        };
        let line = format!("{what} {whose}\n");
        if let Err(error) = diary.write_all(line.as_bytes()) {
            tracing::error!(%error, "the diary can't be written");
        }
    }

    /// Counts a connection and gives its number.
    pub(super) fn connected(&self) -> u64 {
        let connection = {
            let mut books = self.books.lock();
            books.connections += 1;
            books.connections - 1
        };
        self.event(connection, What::Connected);
        connection
    }

    pub(super) fn malformed_message(&self, connection: u64, why: String) {
        self.books.lock().malformed += 1;
        self.event(connection, What::Malformed(why));
    }

    /// Counts and records a whole request; gives the number of its exchange.
    pub(super) fn arrived(&self, connection: u64, seen: &Seen, head: &Head, body: &Bytes) -> u64 {
        self.note(&seen.name, &seen.device);
        let mut books = self.books.lock();
        let id = books.next_exchange;
        books.next_exchange += 1;
        if self.recording == Recording::Totals {
            let key = Seen {
                device: String::new(),
                user: String::new(),
                ..seen.clone()
            };
            *books.counts.entry(key).or_default() += 1;
            return id;
        }
        *books.counts.entry(seen.clone()).or_default() += 1;
        books.exchange_bytes += body.len();
        books.exchanges.push_back(Exchange {
            id,
            connection,
            seen: seen.clone(),
            head: head.clone(),
            body: body.clone(),
            answer: None,
        });
        books.trim();
        drop(books);
        self.event(connection, What::Request(seen.clone()));
        id
    }

    /// Notes what an exchange was answered.
    pub(super) fn answered(&self, connection: u64, exchange: u64, seen: &Seen, answer: &Answer) {
        if self.recording == Recording::Totals {
            return;
        }
        let mut books = self.books.lock();
        let noted = books
            .exchanges
            .iter_mut()
            .rev()
            .find(|known| known.id == exchange);
        if let Some(known) = noted {
            known.answer = Some(answer.clone());
            books.exchange_bytes += answer.body.len();
        }
        books.trim();
        drop(books);
        self.event(connection, What::Answered(seen.clone(), answer.status));
    }

    /// Notes a message that a client has sent.
    pub(super) fn message(&self, sent: Sent) {
        self.note("Sent", sent.client_id.as_deref().unwrap_or_default());
        self.books.lock().sent.push(sent);
    }

    pub(super) fn event(&self, connection: u64, what: What) {
        if self.recording == Recording::Totals {
            return;
        }
        let at = self.started.elapsed();
        let mut books = self.books.lock();
        if books.events.len() == MAX_EVENTS {
            books.events.pop_front();
        }
        books.events.push_back(Event {
            at,
            connection,
            what,
        });
    }

    pub(super) fn count(&self, filter: &Filter) -> u64 {
        let books = self.books.lock();
        books
            .counts
            .iter()
            .filter(|(seen, _)| filter.matches(seen))
            .map(|(_, count)| count)
            .sum()
    }

    pub(super) fn counts(&self) -> Vec<(Seen, u64)> {
        self.books
            .lock()
            .counts
            .iter()
            .map(|(seen, count)| (seen.clone(), *count))
            .collect()
    }

    pub(super) fn connections(&self) -> u64 {
        self.books.lock().connections
    }

    pub(super) fn malformed(&self) -> u64 {
        self.books.lock().malformed
    }

    pub(super) fn exchanges(&self, filter: &Filter) -> Vec<Exchange> {
        let books = self.books.lock();
        books
            .exchanges
            .iter()
            .filter(|known| filter.matches(&known.seen))
            .cloned()
            .collect()
    }

    pub(super) fn sent(&self) -> Vec<Sent> {
        self.books.lock().sent.clone()
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.books.lock().events.iter().cloned().collect()
    }
}

impl Books {
    fn trim(&mut self) {
        while self.exchanges.len() > MAX_EXCHANGES
            || (self.exchange_bytes > MAX_BYTES && self.exchanges.len() > 1)
        {
            let Some(old) = self.exchanges.pop_front() else {
                return;
            };
            let answer = old.answer.map_or(0, |answer| answer.body.len());
            self.exchange_bytes = self.exchange_bytes.saturating_sub(old.body.len() + answer);
        }
    }
}
