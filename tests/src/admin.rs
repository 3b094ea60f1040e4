//! The admin API of a gateway under test.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::message::Message;
use crate::wait::in_time;

/// Where it is, and the token that it wants.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its address.
    pub address: SocketAddr,
    /// The bearer token.
    pub token: String,
}

impl Admin {
    /// One request: status and body; `Null` where the body is no JSON.
    ///
    /// # Panics
    /// When nothing answers.
    pub async fn request(&self, method: &str, target: &str, body: &str) -> (u16, Value) {
        let answer = self.exchange(method, target, body).await;
        let answer = answer.expect("the admin API answers");
        let json = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        (answer.status(), json)
    }

    /// The JSON of a GET.
    ///
    /// # Panics
    /// When the answer is not 200.
    pub async fn read(&self, target: &str) -> Value {
        let (status, body) = self.request("GET", target, "").await;
        assert_eq!(status, 200, "GET {target}: {body}");
        body
    }

    /// The text of a GET.
    ///
    /// # Panics
    /// When nothing answers.
    pub async fn text(&self, target: &str) -> String {
        let answer = self.exchange("GET", target, "").await;
        answer.expect("the admin API answers").text()
    }

    /// Sends `body` and expects success.
    ///
    /// # Panics
    /// When the answer is another.
    pub async fn write(&self, method: &str, target: &str, body: &str) -> Value {
        let (status, answer) = self.request(method, target, body).await;
        assert!(
            (200..300).contains(&status),
            "{method} {target}: {status} {answer}"
        );
        answer
    }

    /// Blocks a device.
    ///
    /// # Panics
    /// When the gateway does not.
    pub async fn block(&self, device: &str) {
        let target = format!("/v1/devices/{device}/override");
        self.write("PUT", &target, r#"{"verdict":"block","reason":"test"}"#)
            .await;
    }

    /// Takes a device's override back.
    ///
    /// # Panics
    /// When the gateway does not.
    pub async fn unblock(&self, device: &str) {
        self.write("DELETE", &format!("/v1/devices/{device}/override"), "")
            .await;
    }

    /// Whether the gateway says that it is ready.
    pub async fn is_ready(&self) -> bool {
        let answer = self.exchange("GET", "/readyz", "").await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    /// The sum of all series of a metric whose labels hold all of `labels` (`name="value"`).
    ///
    /// # Panics
    /// When there are no metrics.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let answer = self.exchange("GET", "/metrics", "").await;
        let text = answer.expect("the admin API answers").text();
        let series = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            let meant = found == name && labels.iter().all(|label| rest.contains(label));
            meant.then(|| value.parse::<f64>().ok())?
        });
        series.sum()
    }

    async fn exchange(&self, method: &str, target: &str, body: &str) -> std::io::Result<Message> {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = BytesMut::new();
        in_time("an admin answer", async {
            while stream.read_buf(&mut bytes).await? > 0 {}
            Ok::<_, std::io::Error>(())
        })
        .await?;
        Message::answer(&Bytes::from(bytes), false, true)
            .map_err(|why| std::io::Error::other(format!("{why:?}")))
    }
}
