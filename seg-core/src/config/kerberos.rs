//! `kerberos.*`: how users are logged in at the mail servers without their passwords.

use std::path::PathBuf;
use std::time::Duration;

use super::Config;
use super::reader::Reader;
use super::value::{self, KerberosName, UpstreamLogin};

/// Kerberos delegation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kerberos {
    /// `kerberos.principals`: our account in each realm, `name@REALM`; the first realm is the
    /// default.
    pub principals: Vec<String>,
    /// `kerberos.keytab.path`.
    pub keytab: Option<PathBuf>,
    /// `kerberos.kdc`; empty: found by DNS.
    pub kdcs: Vec<Kdc>,
    /// `kerberos.user.name`.
    pub user_name: KerberosName,
    /// `kerberos.accept`.
    pub accept: bool,
    /// `kerberos.channel.binding`.
    pub channel_binding: bool,
    /// `kerberos.cache.seconds`.
    pub cache: Duration,
    /// `kerberos.timeout.seconds`.
    pub timeout: Duration,
    /// `kerberos.threads`.
    pub threads: usize,
}

/// A domain controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kdc {
    /// Its realm, in upper case.
    pub realm: String,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Kerberos {
    /// The realms that the gateway has an account in.
    pub fn realms(&self) -> impl Iterator<Item = &str> {
        let realm = |principal: &'_ String| principal.rfind('@').map(|at| at + 1);
        self.principals
            .iter()
            .filter_map(move |principal| principal.get(realm(principal)?..))
    }

    /// The realm of that name, in any case.
    pub fn realm(&self, name: &str) -> Option<&str> {
        self.realms().find(|realm| realm.eq_ignore_ascii_case(name))
    }

    /// The first realm.
    pub fn default_realm(&self) -> &str {
        self.realms().next().unwrap_or_default()
    }
}

impl Config {
    /// Whether anything is to be done with Kerberos.
    pub fn needs_kerberos(&self) -> bool {
        let leg = |leg: &super::Leg| leg.login == UpstreamLogin::Kerberos;
        leg(&self.eas) || (self.ews_enabled && leg(&self.ews)) || self.kerberos.accept
    }
}

/// Reads the keys.
pub(super) fn read(reader: &mut Reader<'_>) -> Kerberos {
    let threads = reader.whole("kerberos.threads");
    Kerberos {
        principals: reader.list("kerberos.principals", principal),
        keytab: reader.path("kerberos.keytab.path"),
        kdcs: reader.list("kerberos.kdc", kdc),
        user_name: reader.read("kerberos.user.name", KerberosName::parse),
        accept: reader.switch("kerberos.accept"),
        channel_binding: reader.switch("kerberos.channel.binding"),
        cache: reader.seconds("kerberos.cache.seconds"),
        timeout: reader.seconds("kerberos.timeout.seconds"),
        threads: usize::try_from(threads).unwrap_or(1),
    }
}

/// What the parts say together.
pub(super) fn check(config: &Config, reader: &mut Reader<'_>) {
    check_in(config, reader, crate::delegate::BUILT_IN);
}

/// `built_in`: whether the build has Kerberos.
fn check_in(config: &Config, reader: &mut Reader<'_>, built_in: bool) {
    if !config.needs_kerberos() {
        return;
    }
    let wanted_by = if config.kerberos.accept {
        "kerberos.accept"
    } else {
        "email.server.login"
    };
    if !built_in {
        reader.refuse(
            wanted_by,
            "needs Kerberos, which this build has not: build it with the feature `kerberos`",
        );
        return;
    }
    if config.kerberos.principals.is_empty() {
        reader.refuse(
            wanted_by,
            "needs kerberos.principals, the gateway's own account",
        );
    }
    if config.kerberos.keytab.is_none() {
        reader.refuse(
            wanted_by,
            "needs kerberos.keytab.path, the keys of the gateway's account",
        );
    }
    let strange = config
        .kerberos
        .kdcs
        .iter()
        .find(|kdc| config.kerberos.realm(&kdc.realm).is_none());
    if let Some(kdc) = strange {
        let message = format!(
            "names {}, a realm without an account in kerberos.principals",
            kdc.realm
        );
        reader.refuse("kerberos.kdc", &message);
    }
    for realm in config.kerberos.realms() {
        let count = config
            .kerberos
            .kdcs
            .iter()
            .filter(|kdc| kdc.realm == realm)
            .count();
        if count == 1 {
            let message = format!(
                "names only one domain controller of {realm}: while it is down, nobody who needs Kerberos gets mail"
            );
            reader.warn("kerberos.kdc", &message);
        }
    }
    if config.eas.login != config.ews.login && config.ews_enabled {
        let message = "differs from email.server.login: Boxer and its notification service use one way to log in for both";
        reader.warn("ews.email.server.login", message);
    }
}

/// `name@REALM`; a realm is in upper case in Active Directory.
fn principal(text: &str) -> Result<String, String> {
    let wrong =
        || format!("`{text}` is not possible, expected an account such as svc-seg@CORP.EXAMPLE");
    let (name, realm) = text.rsplit_once('@').ok_or_else(wrong)?;
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'@')
    };
    if !plain(name) || !plain(realm) {
        return Err(wrong());
    }
    Ok(format!(
        "{name}@{}",
        value::host_name(realm)?.to_ascii_uppercase()
    ))
}

/// `REALM=host` or `REALM=host:port`.
fn kdc(text: &str) -> Result<Kdc, String> {
    let wrong = || {
        format!("`{text}` is not possible, expected a pair such as CORP.EXAMPLE=dc1.corp.example")
    };
    let (realm, place) = text.split_once('=').ok_or_else(wrong)?;
    let (host, port) = value::split_port(place.trim()).ok_or_else(wrong)?;
    let port = match port {
        None => 88,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(wrong)?,
    };
    Ok(Kdc {
        realm: value::host_name(realm.trim())?.to_ascii_uppercase(),
        host: value::host_name(host)?,
        port,
    })
}

/// A service name: `HTTP/{host}`, or a fixed one, with or without its realm.
pub(super) fn service_name(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    match text.split_once('/') {
        Some((service, host)) if plain && !service.is_empty() && !host.is_empty() => {
            Ok(text.to_owned())
        }
        _ => Err(format!(
            "`{text}` is not possible, expected a service name such as HTTP/{{host}}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::layers::Values;
    use super::*;
    use crate::config::from_text;

    #[test]
    fn a_build_without_kerberos_refuses_what_needs_it() {
        let own = "kerberos.principals=svc@CORP.EXAMPLE\nkerberos.keytab.path=svc.keytab\n";
        let asked = ["email.server.login=kerberos\n", "kerberos.accept=true\n"];
        for (asked, refused) in asked.into_iter().chain(["", ""]).zip([true, true, false]) {
            let text = format!("{own}{asked}");
            let none = std::iter::empty();
            let (loaded, _) = from_text(&text, None, Path::new("/etc/seg"), none);
            let told = |built_in| {
                let (mut problems, mut warnings) = (Vec::new(), Vec::new());
                let mut reader = Reader {
                    values: &Values::new(),
                    base: Path::new("/etc/seg"),
                    problems: &mut problems,
                    warnings: &mut warnings,
                };
                check_in(&loaded.config, &mut reader, built_in);
                let mut told = problems.iter();
                told.any(|problem| problem.message.contains("with the feature `kerberos`"))
            };
            assert_eq!((told(false), told(true)), (refused, false), "{asked}");
        }
    }
}
