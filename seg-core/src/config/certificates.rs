//! The keys that say whose a client certificate is, and who may have been revoked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::reader::Reader;
use super::settings::{CertificateRules, Responder, Revocation};
use super::value::{self, ClientAuth, Pattern, UnknownStanding, UserMismatch, WebAddress};
use crate::tls::{DeviceSource, NameSource};

/// `server.client.auth.hosts`.
pub(super) fn by_host(reader: &mut Reader<'_>) -> BTreeMap<String, ClientAuth> {
    const KEY: &str = "server.client.auth.hosts";
    let mut map = BTreeMap::new();
    for (host, rule) in reader.list(KEY, |text| pair(text, value::host_name)) {
        if map.insert(host.clone(), rule).is_some() {
            reader.refuse(KEY, &format!("names {host} twice"));
        }
    }
    map
}

/// `server.client.auth.listeners`: each is one of `server.listen`.
pub(super) fn by_listener(
    reader: &mut Reader<'_>,
    listen: &[SocketAddr],
) -> Vec<(SocketAddr, ClientAuth)> {
    const KEY: &str = "server.client.auth.listeners";
    let rules = reader.list(KEY, |text| pair(text, value::listen_address));
    for (address, _) in &rules {
        if !listen.contains(address) {
            reader.refuse(
                KEY,
                &format!("names {address}, which server.listen doesn't"),
            );
        }
    }
    rules
}

fn pair<T>(
    text: &str,
    left: impl Fn(&str) -> Result<T, String>,
) -> Result<(T, ClientAuth), String> {
    let (name, rule) = text
        .rsplit_once('=')
        .ok_or_else(|| format!("`{text}` is not possible, expected a pair such as …=required"))?;
    Ok((left(name.trim())?, ClientAuth::parse(rule.trim())?))
}

/// `identity.certificate.*`.
pub(super) fn rules(reader: &mut Reader<'_>) -> CertificateRules {
    const USER_AS: &str = "identity.certificate.user.as";
    const DEVICE: &str = "identity.certificate.device";
    let mut user = reader.list("identity.certificate.user", NameSource::parse);
    if reader.switch("enable.upn.lookup.from.subject.cn") && !user.contains(&NameSource::SubjectCn)
    {
        user.push(NameSource::SubjectCn);
    }
    let others = user
        .iter()
        .rposition(|source| *source != NameSource::Directory);
    let directory = user
        .iter()
        .position(|source| *source == NameSource::Directory);
    if directory.is_some() && directory < others {
        reader.refuse(
            "identity.certificate.user",
            "names directory before another place; it is asked last",
        );
    }
    let user_pattern = reader.optional("identity.certificate.user.pattern", Pattern::parse);
    let user_as = reader.optional(USER_AS, |text| Ok(text.to_owned()));
    if user_as.is_some() && user_pattern.is_none() {
        reader.refuse(USER_AS, "needs identity.certificate.user.pattern");
    }
    let device = reader.read(DEVICE, |text| match text {
        "none" => Ok(None),
        text => DeviceSource::parse(text).map(Some),
    });
    let device_pattern = reader.optional("identity.certificate.device.pattern", Pattern::parse);
    if device_pattern.as_ref().is_some_and(|p| p.groups() == 0) {
        reader.refuse(
            "identity.certificate.device.pattern",
            "has no group; put the part that is the DeviceId in parentheses",
        );
    }
    CertificateRules {
        user,
        user_pattern,
        user_as,
        device,
        device_pattern,
        map_path: reader.path("identity.certificate.map.path"),
        mismatch: reader.read("identity.certificate.mismatch", UserMismatch::parse),
    }
}

/// The keys of revocation.
pub(super) fn revocation(reader: &mut Reader<'_>) -> Revocation {
    const URIS: &str = "remote.crl.distribution.http.uris";
    let minutes = reader.whole("remote.crl.fetch.interval.in.minutes");
    let enabled = reader.switch("enable.cert.revocation.validation");
    let responders = reader.list("revocation.ocsp", responder);
    if !enabled && !responders.is_empty() {
        reader.warn(
            "revocation.ocsp",
            "has no effect while enable.cert.revocation.validation is false",
        );
    }
    Revocation {
        enabled,
        directory: reader
            .path("cert.based.auth.crl.files.parent.dir.path")
            .unwrap_or_else(|| reader.base.to_path_buf()),
        uris: reader.list(URIS, WebAddress::parse),
        fetch_interval: Duration::from_secs(minutes * 60),
        required_at_start: reader.switch("fail.hard.on.crl.download.failure.during.server.startup"),
        unknown: reader.read("revocation.unknown", UnknownStanding::parse),
        responders,
        responder_max_age: reader.seconds("revocation.ocsp.max.age.seconds"),
        responder_timeout: reader.seconds("revocation.ocsp.timeout.seconds"),
    }
}

/// `aia`, `http://…`, or one of them with `CA name=` before it.
fn responder(text: &str) -> Result<Responder, String> {
    let (authority, place) = match text.split_once('=') {
        // A query may hold a `=` too.
        Some((name, place)) if !name.contains("://") => (Some(name.trim().to_owned()), place),
        _ => (None, text),
    };
    let url = match place.trim() {
        "aia" => None,
        place => Some(WebAddress::parse(place)?),
    };
    Ok(Responder { authority, url })
}
