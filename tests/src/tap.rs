//! A tap on a TLS leg: what passes is written down byte for byte and passed on untouched.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::authority::Authority;
use crate::message::{Incomplete, Message};
use crate::wire::client_config;

/// A listener that passes every connection on to one server.
pub struct Tap {
    /// Where it listens.
    pub address: SocketAddr,
    /// The authority of its certificate, in PEM.
    pub ca_pem: String,
    record: Arc<Mutex<Record>>,
    task: JoinHandle<()>,
}

/// A request and its answer as they passed.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The request.
    pub request: Message,
    /// The answer.
    pub answer: Message,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    Up,
    Down,
}

/// Everything that has passed, in order of passing.
#[derive(Debug, Default)]
struct Record {
    connections: usize,
    pieces: Vec<(usize, Direction, Bytes)>,
}

impl Tap {
    /// Starts a tap before the server at `address`, known as `localhost` to `ca_pem`.
    ///
    /// # Panics
    /// When it can't listen.
    pub async fn before(address: SocketAddr, ca_pem: &str) -> Self {
        let authority = Authority::new();
        let acceptor = TlsAcceptor::from(
            authority
                .server(&["localhost", "127.0.0.1"])
                .server_config(),
        );
        let connector = TlsConnector::from(client_config(ca_pem, None));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let own_address = listener.local_addr().expect("its address");
        let record = Arc::new(Mutex::new(Record::default()));
        let task = tokio::spawn(accept(
            listener,
            acceptor,
            connector,
            address,
            Arc::clone(&record),
        ));
        Self {
            address: own_address,
            ca_pem: authority.pem(),
            record,
            task,
        }
    }

    /// All whole exchanges that have passed, in the order of their requests.
    ///
    /// # Panics
    /// When something else than HTTP/1.1 has passed.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        let record = self.record.lock().expect("no writer has panicked");
        let mut found = Vec::new();
        for connection in 0..record.connections {
            found.extend(record.exchanges(connection));
        }
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, exchange)| exchange).collect()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Record {
    /// The exchanges of one connection, each with the place of its request among all pieces. No
    /// client of the tests pipelines, so a request begins with the first piece behind an answer.
    fn exchanges(&self, connection: usize) -> Vec<(usize, Exchange)> {
        let mut rounds: Vec<(usize, Vec<u8>, Vec<u8>)> = Vec::new();
        let mut last = Direction::Down;
        let own = self.pieces.iter().enumerate();
        for (at, (_, direction, piece)) in own.filter(|(_, piece)| piece.0 == connection) {
            let interim = rounds.last().is_some_and(|(_, up, _)| is_unfinished(up));
            if *direction == Direction::Up && last == Direction::Down && !interim {
                rounds.push((at, Vec::new(), Vec::new()));
            }
            last = *direction;
            let Some((_, up, down)) = rounds.last_mut() else {
                continue;
            };
            match direction {
                Direction::Up => up.extend_from_slice(piece),
                Direction::Down => down.extend_from_slice(piece),
            }
        }
        rounds
            .into_iter()
            .filter_map(|(at, up, down)| Some((at, exchange(up, down)?)))
            .collect()
    }
}

fn is_unfinished(up: &[u8]) -> bool {
    Message::request(&Bytes::copy_from_slice(up)) == Err(Incomplete::More)
}

fn exchange(up: Vec<u8>, down: Vec<u8>) -> Option<Exchange> {
    let request = match Message::request(&up.into()) {
        Ok(request) => request,
        Err(Incomplete::More) => return None,
        Err(Incomplete::Malformed(why)) => panic!("a malformed request has passed: {why}"),
    };
    let to_head = request.start.starts_with("HEAD ");
    match Message::answer(&down.into(), to_head, true) {
        Ok(answer) => Some(Exchange { request, answer }),
        Err(Incomplete::More) => None,
        Err(Incomplete::Malformed(why)) => panic!("a malformed answer has passed: {why}"),
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    server: SocketAddr,
    record: Arc<Mutex<Record>>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let (acceptor, connector, record) =
            (acceptor.clone(), connector.clone(), Arc::clone(&record));
        tokio::spawn(async move {
            // A connection that fails is seen by its two ends; the tap only passes on.
            let _ = pass(client, &acceptor, &connector, server, &record).await;
        });
    }
}

async fn pass(
    client: TcpStream,
    acceptor: &TlsAcceptor,
    connector: &TlsConnector,
    server: SocketAddr,
    record: &Mutex<Record>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let client = acceptor.accept(client).await?;
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").expect("a name");
    let server = connector.connect(name, server).await?;
    let connection = {
        let mut record = record.lock().expect("no writer has panicked");
        record.connections += 1;
        record.connections - 1
    };
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let note = |direction, piece: &[u8]| {
        let mut record = record.lock().expect("no writer has panicked");
        record
            .pieces
            .push((connection, direction, Bytes::copy_from_slice(piece)));
    };
    let up = copy(from_client, to_server, |piece| note(Direction::Up, piece));
    let down = copy(from_server, to_client, |piece| note(Direction::Down, piece));
    // Whichever side ends, the other one is told.
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    note: impl Fn(&[u8]),
) -> std::io::Result<()> {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else {
            return to.shutdown().await;
        };
        note(piece);
        to.write_all(piece).await?;
        to.flush().await?;
    }
}
