//! A management system that is played: it answers as a test says, and tells what it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A server of plain HTTP, one request a connection.
#[derive(Debug)]
pub struct System {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl System {
    /// Starts it. `answer` makes a whole response of a request's head; `None`: it says nothing, and
    /// keeps the connection.
    ///
    /// # Panics
    /// Where there is no port for it.
    pub async fn start(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
        tokio::spawn(async move {
            let mut silent = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(head) = head(&mut stream).await else {
                    continue;
                };
                let said = answer(&head);
                noted.lock().expect("a list").push(head);
                match said {
                    Some(said) => drop(stream.write_all(said.as_bytes()).await),
                    None => silent.push(stream),
                }
            }
        });
        Self { address, asked }
    }

    /// The heads of the requests that it has got.
    ///
    /// # Panics
    /// Never, while no test has.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("a list").clone()
    }

    /// How many of them hold this text.
    #[must_use]
    pub fn count(&self, text: &str) -> usize {
        self.asked()
            .iter()
            .filter(|head| head.contains(text))
            .count()
    }
}

/// A response with a body of JSON.
#[must_use]
pub fn json(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
