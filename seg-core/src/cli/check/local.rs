//! The parts on this machine: folders, files, certificates, addresses.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use jiff::Timestamp;
use seg_compliance::Policies;

use super::Report;
use crate::config::{CertificateSource, Config, aliases, policies};
use crate::tls::{self, Certificate};

/// How deep below `data.dir` the store's lock is looked for.
const LOCK_DEPTH: usize = 3;

/// The folder of the store: there or possible, writable, and whether a gateway works in it.
pub(super) fn data_dir(report: &mut Report, config: &Config) -> bool {
    let folder = &config.data_dir;
    let part = format!("data.dir {}", folder.display());
    let message = match fs::metadata(folder) {
        Ok(about) if !about.is_dir() => {
            report.fail(
                &part,
                "is no folder",
                "name a folder, or move the file away",
            );
            return false;
        }
        Ok(_) => "is writable",
        Err(error) if error.kind() == ErrorKind::NotFound => "will be made at start",
        Err(error) => {
            report.fail(
                &part,
                error.to_string(),
                "let the user that runs the gateway use it",
            );
            return false;
        }
    };
    let existing = folder
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(folder);
    if let Err(error) = try_writing(existing) {
        let mend = format!(
            "let the user that runs the gateway write in {}",
            existing.display()
        );
        report.fail(&part, format!("can't be written: {error}"), mend);
        return false;
    }
    let running = is_locked(folder, LOCK_DEPTH);
    report.ok(
        &part,
        if running {
            "is in use by a running gateway"
        } else {
            message
        },
    );
    running
}

fn try_writing(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".seg-check-{}", std::process::id()));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe)?;
    fs::remove_file(probe)
}

/// Whether a process holds the lock of a store in this folder: sled locks its file `db`.
fn is_locked(folder: &Path, depth: usize) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return depth > 0 && is_locked(&path, depth - 1);
        }
        let file = if entry.file_name() == "db" {
            File::open(&path)
        } else {
            return false;
        };
        file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    })
}

/// Whether every address can be listened on. One that a running gateway holds is fine.
pub(super) fn listeners(report: &mut Report, config: &Config, running: bool) {
    let public = config
        .server
        .listen
        .iter()
        .map(|address| ("server.listen", *address));
    let plain = config
        .server
        .http_listen
        .iter()
        .map(|address| ("server.http.listen", *address));
    let admin = std::iter::once(("admin.listen", config.admin.listen));
    for (key, address) in public.chain(plain).chain(admin) {
        listener(report, key, address, running);
    }
    if !config.admin.listen.ip().is_loopback() {
        let message = "the admin API speaks plain HTTP and is open to the network; \
                       let it listen on 127.0.0.1, or keep everybody else away by a firewall";
        report.warning(&format!("admin.listen {}", config.admin.listen), message);
    }
}

fn listener(report: &mut Report, key: &str, address: SocketAddr, running: bool) {
    let part = format!("{key} {address}");
    match TcpListener::bind(address) {
        Ok(_) => report.ok(&part, "is free"),
        Err(error) if error.kind() == ErrorKind::AddrInUse && running => {
            report.ok(&part, "is in use, and a gateway is running");
        }
        Err(error) => {
            let mend = match error.kind() {
                ErrorKind::AddrInUse => {
                    "end the program that listens there, or choose another port"
                }
                ErrorKind::PermissionDenied => {
                    "give the gateway CAP_NET_BIND_SERVICE, or choose a port from 1024 up"
                }
                ErrorKind::AddrNotAvailable => {
                    "this machine hasn't that address; 0.0.0.0 means all it has"
                }
                _ => "choose another address",
            };
            report.fail(&part, format!("can't be listened on: {error}"), mend);
        }
    }
}

/// Our certificates and the CAs of clients.
pub(super) fn certificates(report: &mut Report, config: &Config) {
    let part = match &config.server.tls.certificate {
        CertificateSource::SelfSigned => "server.tls.certificate.path".to_owned(),
        CertificateSource::Pem(pairs) => {
            for pair in pairs {
                readable_by_others(report, "server.tls.private.key.path", &pair.key);
            }
            let files = pairs
                .iter()
                .map(|pair| pair.certificate.display().to_string());
            let files: Vec<String> = files.collect();
            format!("server.tls.certificate.path {}", files.join(", "))
        }
        CertificateSource::Pkcs12 { path, .. } => {
            readable_by_others(report, "server.tls.pkcs12.path", path);
            format!("server.tls.pkcs12.path {}", path.display())
        }
    };
    match tls::server_config(config) {
        Ok(built) => {
            for certificate in &built.certificates {
                report.ok(&part, certificate.to_string());
            }
            hosts_of_certificates(report, config, &part, &built.certificates);
            for warning in built.warnings {
                report.warning(&part, warning);
            }
        }
        // A bundle of CAs that can't be used has a line of its own.
        Err(error) if error.file.is_some() && error.file == config.server.tls.client_ca => {}
        Err(error) => report.fail(&part, place_and_reason(&error), error.mend),
    }
    if let Some(bundle) = &config.server.tls.client_ca {
        authorities(report, "server.client.ca.path", bundle);
    }
}

/// Every host under which clients come must stand in a certificate.
fn hosts_of_certificates(
    report: &mut Report,
    config: &Config,
    part: &str,
    certificates: &[Certificate],
) {
    let server = &config.server;
    let public = server.public_url.iter().map(|origin| &origin.host);
    let hosts = public.map(|host| ("server.public.url", host));
    let allowed = server.allowed_hosts.iter();
    let hosts = hosts.chain(allowed.map(|host| ("server.allowed.hosts", host)));
    for (key, host) in hosts {
        if !certificates.iter().any(|one| one.covers(host)) {
            let message = format!("is not for {host}, a host of {key}: clients will refuse it");
            report.warning(part, message);
        }
    }
}

/// A bundle of CAs: how many, and which of them are past their dates.
pub(super) fn authorities(report: &mut Report, key: &str, bundle: &Path) {
    let part = format!("{key} {}", bundle.display());
    let read = tls::authorities(bundle).and_then(|_| tls::certificates(bundle));
    match read {
        Ok(certificates) => {
            report.ok(&part, format!("CAs: {}", certificates.len()));
            let now = Timestamp::now();
            for certificate in certificates.iter().filter_map(Certificate::read) {
                if let Some(dates) = certificate.dates_at(now) {
                    report.warning(&part, format!("{} {dates}", certificate.subject));
                }
            }
        }
        Err(error) => report.fail(&part, error.reason, error.mend),
    }
}

/// A certificate and key have one line, which must say which of the two files is to blame.
pub(super) fn place_and_reason(error: &tls::TlsError) -> String {
    match &error.file {
        Some(file) => format!("{}: {}", file.display(), error.reason),
        None => error.reason.clone(),
    }
}

/// The token of the admin API: there and for us alone, or possible.
pub(super) fn admin_token(report: &mut Report, config: &Config) {
    let file = &config.admin.token_path;
    let part = format!("admin.token.path {}", file.display());
    match fs::read_to_string(file) {
        Ok(token) if token.trim().is_empty() => {
            report.fail(
                &part,
                "is empty",
                "remove it, and the gateway makes one at its next start",
            );
        }
        Ok(_) => {
            report.ok(&part, "holds a token");
            readable_by_others(report, "admin.token.path", file);
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let folder = file.ancestors().skip(1).find(|folder| folder.exists());
            match folder.map(try_writing) {
                Some(Err(error)) => {
                    let mend = "let the user that runs the gateway write in its folder";
                    report.fail(&part, format!("can't be made: {error}"), mend);
                }
                _ => report.ok(&part, "will be made at the first start"),
            }
        }
        Err(error) => {
            let mend = "let the user that runs the gateway read it";
            report.fail(&part, format!("can't be read: {error}"), mend);
        }
    }
}

#[cfg(unix)]
fn readable_by_others(report: &mut Report, key: &str, file: &Path) {
    use std::os::unix::fs::PermissionsExt;

    let Ok(about) = fs::metadata(file) else {
        return;
    };
    let mode = about.permissions().mode();
    if mode & 0o007 != 0 {
        let message = format!(
            "has mode {:04o}: everybody on this machine can read it; chmod o= it",
            mode & 0o7777
        );
        report.warning(&format!("{key} {}", file.display()), message);
    }
}

#[cfg(not(unix))]
fn readable_by_others(_report: &mut Report, _key: &str, _file: &Path) {}

/// policies.toml, as the gateway would read it.
pub(super) fn policies(report: &mut Report, config: &Config) {
    const MEND: &str = "mend the file; nothing of it is used until then";
    let file = &config.compliance.policies_path;
    let part = format!("compliance.policies.path {}", file.display());
    let policies = match policies::load(file) {
        Ok(_) if !file.exists() => return report.ok(&part, "is missing, which means no policies"),
        Ok(policies) => policies,
        Err(error) => return report.fail(&part, error.to_string(), MEND),
    };
    if let Err(error) = seg_ews::policy::Policy::compile(policies.ews.clone()) {
        report.fail(&part, error.to_string(), MEND);
    }
    match Policies::parse(&policies.text) {
        Ok(compiled) => report.ok(&part, format!("policies: {}", compiled.iter().count())),
        Err(error) => report.fail(&part, error.to_string(), MEND),
    }
}

/// The alias file, if there is one.
pub(super) fn aliases(report: &mut Report, config: &Config) {
    let Some(file) = &config.identity.alias_path else {
        return;
    };
    let part = format!("identity.alias.path {}", file.display());
    match aliases::load(file) {
        Ok(aliases) => report.ok(&part, format!("aliases: {}", aliases.len())),
        Err(error) => report.fail(
            &part,
            error.to_string(),
            "mend the file; nothing of it is used until then",
        ),
    }
}

/// The key of the log's pseudonyms, if there is one.
pub(super) fn pseudonym_key(report: &mut Report, config: &Config) {
    let Some(file) = &config.log.pseudonym_key_path else {
        return;
    };
    let part = format!("log.pseudonym.key.path {}", file.display());
    match fs::read(file) {
        Ok(key) if key.len() < 16 => {
            let mend = "write a new one: head -c 32 /dev/urandom > the file";
            report.fail(&part, "has less than 16 bytes, which can be guessed", mend);
        }
        Ok(_) => {
            report.ok(&part, "holds a key");
            readable_by_others(report, "log.pseudonym.key.path", file);
        }
        Err(error) => {
            let mend = "let the user that runs the gateway read it";
            report.fail(&part, format!("can't be read: {error}"), mend);
        }
    }
}
