//! `directory.*`: people's accounts, passwords and groups in Active Directory.

use std::path::PathBuf;
use std::time::Duration;

use super::Config;
use super::device_lookup::{DeviceFilter, DeviceLookup};
use super::reader::Reader;
use super::value::{self, Secret};
use crate::tls::DeviceSource;

/// The directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// `directory.url`; empty: there is none.
    pub urls: Vec<String>,
    /// `directory.ca.path`.
    pub ca: Option<PathBuf>,
    /// `directory.base`.
    pub base: String,
    /// `directory.bind.user`: our own account, for people who come without a password.
    pub bind_user: String,
    /// `directory.bind.password`.
    pub bind_password: Secret,
    /// `directory.groups.permitted`; empty: everybody.
    pub permitted: Vec<GroupRule>,
    /// `directory.groups.denied`.
    pub denied: Vec<String>,
    /// `directory.cache.seconds`.
    pub cache: Duration,
    /// `directory.lockout.failures`.
    pub lockout_failures: usize,
    /// `directory.lockout.seconds`.
    pub lockout: Duration,
    /// `directory.lockout.network.failures`.
    pub network_failures: usize,
    /// `directory.timeout.seconds`.
    pub timeout: Duration,
    /// `directory.device.*`: to which device a certificate belongs, where that is asked.
    pub device: Option<DeviceLookup>,
}

/// A group whose members are let in, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRule {
    /// Its name (sAMAccountName).
    pub group: String,
    /// Only under this host.
    pub host: Option<String>,
    /// Only at paths that begin so, without case.
    pub path: Option<String>,
}

impl Directory {
    /// Every group that is asked about.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        let permitted = self.permitted.iter().map(|rule| rule.group.as_str());
        permitted.chain(self.denied.iter().map(String::as_str))
    }
}

/// Reads the keys; `None` where no directory is named.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Directory> {
    let whole = |reader: &mut Reader<'_>, key: &str| {
        usize::try_from(reader.whole(key)).unwrap_or(usize::MAX)
    };
    let directory = Directory {
        urls: reader.list("directory.url", url),
        ca: reader.path("directory.ca.path"),
        base: reader.raw("directory.base").text.trim().to_owned(),
        bind_user: reader.raw("directory.bind.user").text.trim().to_owned(),
        bind_password: Secret::new(reader.raw("directory.bind.password").text.clone()),
        permitted: reader.list("directory.groups.permitted", group_rule),
        denied: reader.list("directory.groups.denied", |text| Ok(text.to_owned())),
        cache: reader.seconds("directory.cache.seconds"),
        lockout_failures: whole(reader, "directory.lockout.failures"),
        lockout: reader.seconds("directory.lockout.seconds"),
        network_failures: whole(reader, "directory.lockout.network.failures"),
        timeout: reader.seconds("directory.timeout.seconds"),
        device: device(reader),
    };
    if directory.urls.is_empty() {
        if directory.groups().next().is_some() {
            reader.refuse("directory.url", "is empty, but groups are to be checked");
        }
        return None;
    }
    if directory.base.is_empty() {
        reader.refuse(
            "directory.base",
            "is empty; expected such as DC=corp,DC=example",
        );
    }
    if directory.bind_user.is_empty() != directory.bind_password.is_empty() {
        reader.refuse(
            "directory.bind.user",
            "and directory.bind.password need each other",
        );
    }
    Some(directory)
}

/// What the parts say together.
pub(super) fn check(config: &Config, reader: &mut Reader<'_>) {
    const DEVICE: &str = "identity.certificate.device";
    if config.identity.certificate.device != Some(DeviceSource::Directory) {
        return;
    }
    let directory = config.directory.as_ref();
    if directory.is_none_or(|directory| directory.bind_user.is_empty()) {
        reader.refuse(DEVICE, "needs directory.url and directory.bind.user");
    } else if directory.is_none_or(|directory| directory.device.is_none()) {
        reader.refuse(
            DEVICE,
            "needs directory.device.attribute, which holds the DeviceId",
        );
    }
}

/// `directory.device.filter` and `.attribute`, which has no default: it depends on who writes it.
fn device(reader: &mut Reader<'_>) -> Option<DeviceLookup> {
    let attribute = reader.optional("directory.device.attribute", attribute)?;
    let filter = reader.read("directory.device.filter", DeviceFilter::parse);
    Some(DeviceLookup { filter, attribute })
}

/// The name of an attribute (RFC 4512 1.4).
fn attribute(text: &str) -> Result<String, String> {
    let is_name = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if is_name {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no attribute's name"))
    }
}

/// `ldaps://host[:port]` or `ldap://host[:port]`, which is spoken with StartTLS.
fn url(text: &str) -> Result<String, String> {
    let wrong = || {
        format!("`{text}` is not possible, expected an address such as ldaps://dc1.corp.example")
    };
    let (scheme, place) = text.split_once("://").ok_or_else(wrong)?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "ldaps" && scheme != "ldap" {
        return Err(wrong());
    }
    let place = place.strip_suffix('/').unwrap_or(place);
    let (host, port) = value::split_port(place).ok_or_else(wrong)?;
    let host = value::host_name(host)?;
    let port = match port {
        Some(port) => port
            .parse()
            .ok()
            .filter(|port: &u16| *port > 0)
            .ok_or_else(wrong)?,
        None if scheme == "ldaps" => 636,
        None => 389,
    };
    Ok(format!("{scheme}://{host}:{port}"))
}

/// `Group`, `Group=/path` or `Group=host/path`.
fn group_rule(text: &str) -> Result<GroupRule, String> {
    let (group, place) = text.split_once('=').unwrap_or((text, ""));
    let (host, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
    let group = group.trim();
    if group.is_empty() {
        return Err("a group has no name".to_owned());
    }
    Ok(GroupRule {
        group: group.to_owned(),
        host: (!host.is_empty())
            .then(|| value::host_name(host))
            .transpose()?,
        path: (!path.is_empty())
            .then(|| value::request_path(path))
            .transpose()?,
    })
}
