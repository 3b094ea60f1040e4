//! Exchange calls its push subscribers, as literally as it is called itself: a small HTTP client
//! that shares nothing with the gateway's.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::certificate;
use super::subscriptions::{STATUS_EVENT, Subscription, new_mail_event, notification};

/// What a subscriber is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Push {
    /// A mail has come.
    NewMail,
    /// Nothing has happened: the heartbeat that comes every StatusFrequency minutes.
    Status,
}

/// What a subscriber answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Pushed {
    /// To go on.
    Ok,
    /// To drop the subscription.
    Unsubscribe,
    /// Nothing that means either, or nothing at all: Exchange tries again later, and drops the
    /// subscription when StatusFrequency has passed.
    Failed(String),
}

/// Longest answer of a subscriber that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// How long a subscriber is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Calls one subscriber; `https` ones are trusted where `ca_pem` signed their certificate.
pub(in crate::sandbox) async fn call(
    subscription: &Subscription,
    what: Push,
    ca_pem: &str,
) -> Pushed {
    let events = match what {
        Push::NewMail => new_mail_event(),
        Push::Status => STATUS_EVENT.to_owned(),
    };
    let body = send_notification(&notification(&subscription.id, &events));
    let asked = exchange(&subscription.url, &body, ca_pem);
    let Ok(asked) = tokio::time::timeout(PATIENCE, asked).await else {
        return Pushed::Failed("no answer in time".to_owned());
    };
    match asked {
        Err(error) => Pushed::Failed(error.to_string()),
        Ok(answer) if !answer.starts_with("HTTP/1.1 200") => {
            let line = answer.lines().next().unwrap_or_default();
            Pushed::Failed(line.to_owned())
        }
        Ok(answer) if answer.contains("SubscriptionStatus>OK<") => Pushed::Ok,
        Ok(answer) if answer.contains("SubscriptionStatus>Unsubscribe<") => Pushed::Unsubscribe,
        Ok(answer) => Pushed::Failed(answer),
    }
}

/// The envelope as Exchange writes it: with a header of a request, and the events in what looks
/// like a response.
fn send_notification(notification: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <soap11:Envelope xmlns:soap11=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap11:Header>\
         <t:RequestServerVersion Version=\"Exchange2016\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"/></soap11:Header>\
         <soap11:Body><m:SendNotification \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"><m:ResponseMessages>\
         <m:SendNotificationResponseMessage ResponseClass=\"Success\">\
         <m:ResponseCode>NoError</m:ResponseCode>{notification}\
         </m:SendNotificationResponseMessage></m:ResponseMessages></m:SendNotification>\
         </soap11:Body></soap11:Envelope>"
    )
}

async fn exchange(url: &str, body: &str, ca_pem: &str) -> io::Result<String> {
    let no_url = || io::Error::other(format!("{url} is no URL that can be called"));
    let (scheme, rest) = url.split_once("://").ok_or_else(no_url)?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(at);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| no_url())?),
        None if scheme == "https" => (authority, 443),
        None => (authority, 80),
    };
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: text/xml; charset=utf-8\r\n\
         SOAPAction: \"http://schemas.microsoft.com/exchange/services/2006/messages/SendNotification\"\r\n\
         User-Agent: ExchangeServicesClient/15.02.1544.004\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let stream = TcpStream::connect((host, port)).await?;
    if scheme != "https" {
        return ask(stream, &request).await;
    }
    let connector = TlsConnector::from(Arc::new(client_config(ca_pem)?));
    let name = ServerName::try_from(host.to_owned()).map_err(|_| no_url())?;
    ask(connector.connect(name, stream).await?, &request).await
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    request: &str,
) -> io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    match stream.take(LARGEST).read_to_end(&mut answer).await {
        // Not every server says goodbye in TLS.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

fn client_config(ca_pem: &str) -> io::Result<rustls::ClientConfig> {
    let roots = certificate::roots(ca_pem).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
