//! The gateway's admin API, as far as a run needs it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use seg_bench::Failure;
use tokio::net::TcpStream;

use crate::client::{Body, Client};
use crate::requests::{USER, device_id};

/// Where the admin API is and what opens it.
#[derive(Clone)]
pub(crate) struct Admin {
    address: SocketAddr,
    token: String,
}

/// A connection to it, opened before the clock runs.
pub(crate) struct Session {
    admin: Admin,
    client: Client<TcpStream>,
}

impl Admin {
    pub(crate) fn new(address: SocketAddr, token: &Path) -> Result<Self, Failure> {
        let token = fs::read_to_string(token)
            .map_err(|error| format!("the admin token {}: {error}", token.display()))?;
        let token = token.trim().to_owned();
        Ok(Self { address, token })
    }

    pub(crate) async fn session(&self) -> Result<Session, Failure> {
        let client = Client::plain(self.address).await?;
        let admin = self.clone();
        Ok(Session { admin, client })
    }
}

impl Session {
    /// Gives every phone of the load a record, so that a verdict is one about a known device.
    pub(crate) async fn import(&mut self, devices: usize, compliant: bool) -> Result<(), Failure> {
        let lines: String = (0..devices)
            .map(|number| {
                let device = device_id(number);
                format!(
                    "{{\"device_id\":\"{device}\",\"user\":\"{USER}\",\"managed\":true,\"compliant\":{compliant},\
                     \"platform\":\"ios\",\"model\":\"iPhone15,2\",\"os_version\":\"18.1\"}}\n"
                )
            })
            .collect();
        let answer = self
            .send("POST", "/v1/devices:import?mode=delta&source=bench", &lines)
            .await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer)?;
        let errors = answer["errors"].as_array().map_or(0, Vec::len);
        if answer["read"] != devices || errors > 0 {
            return Err(format!("the import of {devices} records was answered {answer}").into());
        }
        Ok(())
    }

    pub(crate) async fn block(&mut self, device: usize) -> Result<(), Failure> {
        self.block_at(&format!("devices/{}", device_id(device)))
            .await
    }

    pub(crate) async fn unblock(&mut self, device: usize) -> Result<(), Failure> {
        self.unblock_at(&format!("devices/{}", device_id(device)))
            .await
    }

    pub(crate) async fn block_user(&mut self) -> Result<(), Failure> {
        self.block_at(&format!("users/{USER}")).await
    }

    pub(crate) async fn unblock_user(&mut self) -> Result<(), Failure> {
        self.unblock_at(&format!("users/{USER}")).await
    }

    async fn block_at(&mut self, whom: &str) -> Result<(), Failure> {
        let path = format!("/v1/{whom}/override");
        self.send("PUT", &path, "{\"verdict\":\"block\"}").await?;
        Ok(())
    }

    async fn unblock_at(&mut self, whom: &str) -> Result<(), Failure> {
        self.send("DELETE", &format!("/v1/{whom}/override"), "")
            .await?;
        Ok(())
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> Result<Vec<u8>, Failure> {
        let Admin { address, token } = &self.admin;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let answer = self
            .client
            .ask(request.as_bytes(), Body::Keep, |_| ())
            .await?;
        if !(200..300).contains(&answer.status) {
            let said = String::from_utf8_lossy(&answer.body);
            return Err(format!("{method} {path}: {} {said}", answer.status).into());
        }
        Ok(answer.body)
    }
}
