//! A stand-in for VMware's Email Notification Service (ENS2), as far as it is documented: it
//! subscribes for a phone with the phone's credentials in the URL that Exchange shall call, fetches
//! subject and sender of a new mail when it is called, and pushes them to the user's phones.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::eas::{Request, basic, soap};
use crate::message::{Incomplete, Message};
use crate::wire::Wire;

/// The header that names the phone on the requests of ENS.
pub const DEVICE_HEADER: &str = "X-Device-Id";
/// Its `User-Agent`.
pub const AGENT: &str = "VMware-ENS/2";

/// A running service.
#[derive(Debug)]
pub struct Ens {
    inner: Arc<Inner>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    gateway: SocketAddr,
    ca_pem: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The phones that are registered, by the id in their URL.
    phones: HashMap<u32, String>,
    next: u32,
    heartbeats: u32,
    pushed: Vec<Pushed>,
}

/// What a phone was shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pushed {
    /// The phone.
    pub device: String,
    /// The mail's subject.
    pub subject: String,
    /// Whether its text came along.
    pub body: bool,
}

impl Ens {
    /// Starts it; it speaks to Exchange through this gateway.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(gateway: SocketAddr, ca_pem: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::new(Inner {
            gateway,
            ca_pem: ca_pem.to_owned(),
            state: Mutex::default(),
        });
        let serving = tokio::spawn(serve(Arc::clone(&inner), listener));
        Self {
            inner,
            address,
            serving,
        }
    }

    /// A phone registers: ENS subscribes for it, and says with what status it was answered. Doing
    /// it again makes a new subscription, as after a missed heartbeat.
    ///
    /// # Panics
    /// When the gateway does not answer.
    pub async fn register(&self, user: &str, device: &str) -> Message {
        let id = {
            let mut state = self.state();
            state.next += 1;
            let id = state.next;
            state.phones.insert(id, device.to_owned());
            id
        };
        let address = self.address_of(id);
        // What ENS encrypts with the key that it has given to the phone.
        let credentials = BASE64_URL_SAFE_NO_PAD.encode(format!("{user} {device}"));
        let subscribe = format!(
            "<m:Subscribe><m:PushSubscriptionRequest><t:FolderIds>\
             <t:DistinguishedFolderId Id=\"inbox\"/></t:FolderIds><t:EventTypes>\
             <t:EventType>NewMailEvent</t:EventType></t:EventTypes>\
             <t:StatusFrequency>15</t:StatusFrequency>\
             <t:URL>{address}&amp;creds={credentials}</t:URL>\
             </m:PushSubscriptionRequest></m:Subscribe>"
        );
        self.inner.ask(user, device, &subscribe).await
    }

    /// Where Exchange calls for the phone that was registered as the `id`th, credentials left out.
    #[must_use]
    pub fn address_of(&self, id: u32) -> String {
        format!("http://{}/notify?id={id}", self.address)
    }

    /// A phone unregisters: from now on its subscription is not wanted any more.
    ///
    /// # Panics
    /// When a test has panicked in between.
    pub fn unregister(&self, device: &str) {
        self.state().phones.retain(|_, known| known != device);
    }

    /// How often Exchange has said that it is alive.
    ///
    /// # Panics
    /// When a test has panicked in between.
    #[must_use]
    pub fn heartbeats(&self) -> u32 {
        self.state().heartbeats
    }

    /// What phones were shown so far.
    ///
    /// # Panics
    /// When a test has panicked in between.
    #[must_use]
    pub fn pushed(&self) -> Vec<Pushed> {
        self.state().pushed.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.inner.state.lock().expect("nobody has panicked")
    }
}

impl Drop for Ens {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Inner {
    /// One request to Exchange, for a phone.
    async fn ask(&self, user: &str, device: &str, operation: &str) -> Message {
        let request = Request::new("POST", "/EWS/Exchange.asmx")
            .header("Authorization", &basic(user))
            .header("User-Agent", AGENT)
            .header(DEVICE_HEADER, device)
            .header("Content-Type", "text/xml; charset=utf-8")
            .body(soap(operation));
        let mut wire = Wire::connect(self.gateway, &self.ca_pem).await;
        wire.send(request.bytes()).await;
        wire.answer().await
    }

    /// Exchange calls: `OK`, or `Unsubscribe` where nobody is registered any more.
    async fn notified(&self, call: &Message) -> &'static str {
        let query = call.start.split_once('?').map_or("", |(_, query)| query);
        let query = query.split(' ').next().unwrap_or_default();
        let parameter = |name: &str| {
            query
                .split('&')
                .find_map(|one| one.strip_prefix(name)?.strip_prefix('='))
        };
        let id: Option<u32> = parameter("id").and_then(|id| id.parse().ok());
        let known = id.and_then(|id| {
            let state = self.state.lock().expect("nobody has panicked");
            state.phones.get(&id).cloned()
        });
        let Some(device) = known else {
            return "Unsubscribe";
        };
        let text = call.text();
        let credentials = parameter("creds")
            .and_then(|blob| BASE64_URL_SAFE_NO_PAD.decode(blob).ok())
            .and_then(|blob| String::from_utf8(blob).ok())
            .unwrap_or_default();
        let user = credentials.split(' ').next().unwrap_or_default();
        let item = text
            .split_once("<t:NewMailEvent>")
            .and_then(|(_, event)| between(event, "<t:ItemId Id=\"", "\""));
        let Some(item) = item else {
            self.state.lock().expect("nobody has panicked").heartbeats += 1;
            return "OK";
        };
        let get = format!(
            "<m:GetItem><m:ItemShape><t:BaseShape>Default</t:BaseShape></m:ItemShape>\
             <m:ItemIds><t:ItemId Id=\"{item}\"/></m:ItemIds></m:GetItem>"
        );
        let mail = self.ask(user, &device, &get).await.text();
        let pushed = Pushed {
            device,
            subject: between(&mail, "<t:Subject>", "</t:Subject>")
                .unwrap_or_default()
                .to_owned(),
            body: mail.contains("<t:Body"),
        };
        self.state
            .lock()
            .expect("nobody has panicked")
            .pushed
            .push(pushed);
        "OK"
    }
}

async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(Arc::clone(&inner), stream));
    }
}

async fn connection(inner: Arc<Inner>, mut stream: TcpStream) {
    let mut received = Vec::new();
    loop {
        match Message::request(&Bytes::copy_from_slice(&received)) {
            Ok(call) => {
                received = call.rest.to_vec();
                let status = inner.notified(&call).await;
                let body = format!(
                    "<?xml version=\"1.0\"?><s:Envelope \
                     xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
                     <SendNotificationResult \
                     xmlns=\"http://schemas.microsoft.com/exchange/services/2006/messages\">\
                     <SubscriptionStatus>{status}</SubscriptionStatus></SendNotificationResult>\
                     </s:Body></s:Envelope>"
                );
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let last = call.header("Connection") == Some("close");
                if stream.write_all(answer.as_bytes()).await.is_err() || last {
                    return;
                }
            }
            Err(Incomplete::Malformed(_)) => return,
            Err(Incomplete::More) => match stream.read_buf(&mut received).await {
                Ok(read) if read > 0 => {}
                _ => return,
            },
        }
    }
}

fn between<'t>(text: &'t str, start: &str, end: &str) -> Option<&'t str> {
    let (_, behind) = text.split_once(start)?;
    behind.split_once(end).map(|(inner, _)| inner)
}
