//! A management system that calls the gateway's webhook.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use seg_bench::Failure;
use tokio::net::TcpStream;

use crate::client::{Body, Client};
use crate::requests::{USER, device_id};

/// The source that calls.
pub(crate) const SOURCE: &str = "uem";
/// What it signs with.
pub(crate) const SECRET: &str = "a secret of the benchmark";

/// A connection to the webhook, opened before the clock runs.
pub(crate) struct Webhook {
    address: SocketAddr,
    client: Client<TcpStream>,
}

impl Webhook {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let client = Client::plain(address).await?;
        Ok(Self { address, client })
    }

    /// Tells of one device; answers when that is durable.
    pub(crate) async fn tell(&mut self, device: usize, compliant: bool) -> Result<(), Failure> {
        let device = device_id(device);
        let body =
            format!("{{\"device_id\":\"{device}\",\"user\":\"{USER}\",\"compliant\":{compliant}}}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let signed = hmac::sign(&key, format!("{now}.{body}").as_bytes());
        let signature: String = signed.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let (address, length) = (self.address, body.len());
        let request = format!(
            "POST /webhook/{SOURCE} HTTP/1.1\r\nHost: {address}\r\nX-Seg-Timestamp: {now}\r\n\
             X-Seg-Signature: sha256={signature}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let answer = self
            .client
            .ask(request.as_bytes(), Body::Keep, |_| ())
            .await?;
        if answer.status != 200 {
            let said = String::from_utf8_lossy(&answer.body);
            return Err(format!("the webhook answers {} {said}", answer.status).into());
        }
        Ok(())
    }
}
