//! Domain controllers: who of them answers, how far their clocks are from ours, and the
//! configuration that the Kerberos library reads.
//!
//! The library asks one after the other and waits ten seconds for each that is silent, every time
//! anew. So they are probed here, and it is told only of those that answer.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::Kdc;
use crate::der::{self, Reader};

/// How long a domain controller may take to answer a probe.
const PROBE_WITHIN: Duration = Duration::from_millis(800);
/// The largest answer to a probe that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alive {
    /// How far the controller's clock is ahead of ours, in seconds, where it said.
    pub ahead: Option<i64>,
}

/// Asks a domain controller for a ticket that nobody may have: any answer shows that it lives,
/// and its error carries its time (RFC 4120 5.9.1).
///
/// # Errors
/// Why there was none.
pub async fn probe(kdc: &Kdc) -> Result<Alive, String> {
    let asked = tokio::time::timeout(PROBE_WITHIN, ask(kdc)).await;
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("no answer".to_owned()),
    };
    let ahead = server_time(&answer).map(|time| time - Timestamp::now().as_second());
    Ok(Alive { ahead })
}

async fn ask(kdc: &Kdc) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect((kdc.host.as_str(), kdc.port)).await?;
    let request = request(&kdc.realm);
    let length = u32::try_from(request.len()).unwrap_or_default();
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&request).await?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let mut answer = vec![0; length.min(MAX_ANSWER)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// An AS-REQ (RFC 4120 5.4.1) for a principal that does not exist.
fn request(realm: &str) -> Vec<u8> {
    const GENERAL_STRING: u8 = 0x1b;
    let tagged = |tag: u8, value: &[u8]| der::write(tag, &[value]);
    let text = |text: &str| der::write(GENERAL_STRING, &[text.as_bytes()]);
    let integer = |value: u8| der::write(der::INTEGER, &[&[value]]);
    let name = |kind: u8, parts: &[&str]| {
        let parts: Vec<u8> = parts.iter().flat_map(|part| text(part)).collect();
        der::write(
            der::SEQUENCE,
            &[
                &tagged(0xa0, &integer(kind)),
                &tagged(0xa1, &der::write(der::SEQUENCE, &[&parts])),
            ],
        )
    };
    let body = der::write(
        der::SEQUENCE,
        &[
            &tagged(0xa0, &der::write(der::BIT_STRING, &[&[0, 0, 0, 0, 0]])),
            &tagged(0xa1, &name(1, &["seg-probe"])),
            &tagged(0xa2, &text(realm)),
            &tagged(0xa3, &name(2, &["krbtgt", realm])),
            &tagged(
                0xa5,
                &der::write(der::GENERALIZED_TIME, &[b"20370101000000Z"]),
            ),
            &tagged(0xa7, &integer(1)),
            // AES-256 and AES-128 with SHA-1.
            &tagged(
                0xa8,
                &der::write(der::SEQUENCE, &[&integer(18), &integer(17)]),
            ),
        ],
    );
    let request = der::write(
        der::SEQUENCE,
        &[
            &tagged(0xa1, &integer(5)),
            &tagged(0xa2, &integer(10)),
            &tagged(0xa4, &body),
        ],
    );
    der::write(0x6a, &[&request])
}

/// `stime` of a KRB-ERROR, in seconds.
pub(super) fn server_time(answer: &[u8]) -> Option<i64> {
    let mut fields = Reader(answer)
        .take(0x7e)?
        .inside()
        .take(der::SEQUENCE)?
        .inside();
    loop {
        let field = fields.any()?;
        if field.tag == 0xa4 {
            let time = field.inside().take(der::GENERALIZED_TIME)?;
            let text = std::str::from_utf8(time.content).ok()?.strip_suffix('Z')?;
            let at = DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
            let at = at.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
            return Some(at.timestamp().as_second());
        }
    }
}

/// The library's configuration with these domain controllers.
pub fn library_configuration(realms: &[String], kdcs: &[&Kdc], folder: &Path) -> String {
    let first = realms.first().map(String::as_str).unwrap_or_default();
    let mut text = format!(
        "# Written by the gateway at every change; edits are lost. See kerberos.* in its properties.\n\
         [libdefaults]\n  default_realm = {first}\n  dns_lookup_realm = false\n  dns_lookup_kdc = {}\n  \
         dns_canonicalize_hostname = false\n  rdns = false\n  forwardable = true\n  \
         udp_preference_limit = 1\n  default_rcache_name = file2:{}\n[realms]\n",
        kdcs.is_empty(),
        folder.join("replay").display()
    );
    for realm in realms {
        let _ = writeln!(text, "  {realm} = {{");
        for kdc in kdcs.iter().filter(|kdc| kdc.realm == *realm) {
            let host = if kdc.host.contains(':') {
                format!("[{}]", kdc.host)
            } else {
                kdc.host.clone()
            };
            let _ = writeln!(text, "    kdc = {host}:{}", kdc.port);
        }
        let _ = writeln!(text, "  }}");
    }
    text.push_str("[domain_realm]\n");
    for realm in realms {
        let domain = realm.to_lowercase();
        let _ = writeln!(text, "  .{domain} = {realm}\n  {domain} = {realm}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controllers_time_is_read_from_its_error() {
        let time = der::write(
            0xa4,
            &[&der::write(der::GENERALIZED_TIME, &[b"20260102030405Z"])],
        );
        let version = der::write(0xa0, &[&der::write(der::INTEGER, &[&[5]])]);
        let error = der::write(0x7e, &[&der::write(der::SEQUENCE, &[&version, &time])]);
        assert_eq!(server_time(&error), Some(1_767_323_045));
        assert_eq!(server_time(&request("CORP.EXAMPLE")), None);
        assert_eq!(server_time(&error[..error.len() - 1]), None);
    }

    #[test]
    fn only_those_that_answer_are_named() {
        let kdc = Kdc {
            realm: "CORP.EXAMPLE".to_owned(),
            host: "dc2.corp.example".to_owned(),
            port: 88,
        };
        let realms = ["CORP.EXAMPLE".to_owned(), "PARTNER.EXAMPLE".to_owned()];
        let text = library_configuration(&realms, &[&kdc], Path::new("/data"));
        assert!(text.contains("default_realm = CORP.EXAMPLE"), "{text}");
        assert_eq!(text.matches("    kdc = ").count(), 1, "{text}");
        assert!(text.contains("dns_lookup_kdc = false") && text.contains("forwardable = true"));
        assert!(
            text.contains(".partner.example = PARTNER.EXAMPLE"),
            "{text}"
        );
    }
}
