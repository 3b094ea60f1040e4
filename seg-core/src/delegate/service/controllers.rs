//! Which domain controllers live, and how their clocks go; the library is told by a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Delegation;
use crate::config::{self, Config, Kdc};
use crate::delegate::kdc::{self, Alive};
use crate::delegate::refusal::Refusal;
use crate::delegate::tickets;
use crate::runtime::Shared;

/// How often domain controllers are probed.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// From a difference of this many seconds on, Kerberos refuses (RFC 4120 8.2).
const MAX_SKEW: u64 = 300;

/// Keeps an eye on the domain controllers, for ever.
pub(crate) async fn tend(shared: Arc<Shared>) {
    let mut known: Option<Arc<Delegation>> = None;
    loop {
        let delegation = shared.snapshot().delegation.clone();
        if let Some(delegation) = &delegation {
            let same = known
                .as_ref()
                .is_some_and(|known| Arc::ptr_eq(known, delegation));
            if !same {
                let kdcs: Vec<&Kdc> = delegation.config.kdcs.iter().collect();
                write_configuration(&delegation.folder, &delegation.config, &kdcs);
            }
            delegation.probe_all().await;
        }
        known = delegation;
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Tells the Kerberos library where its configuration is. Call it while the process has one
/// thread. Always: a reload may switch Kerberos on.
pub fn prepare_process(config: &Config) {
    let folder = folder(config);
    let kdcs: Vec<&Kdc> = config.kerberos.kdcs.iter().collect();
    if config.needs_kerberos() {
        write_configuration(&folder, &config.kerberos, &kdcs);
    }
    tickets::use_configuration(&folder.join("krb5.conf"));
}

impl Delegation {
    /// What a refused ticket comes from where the clocks differ: the library makes up for the domain
    /// controller's, and the mail server sees ours.
    pub fn skew(&self) -> Option<Refusal> {
        let ahead = self.ahead.load(Ordering::Relaxed);
        (ahead.unsigned_abs() > MAX_SKEW).then(|| Refusal::skewed(ahead))
    }

    /// Probes every domain controller and tells the library who lives.
    pub(super) async fn probe_all(&self) {
        if self.config.kdcs.is_empty() {
            return;
        }
        let probes = self.config.kdcs.iter().map(kdc::probe);
        let found = futures_util::future::join_all(probes).await;
        let pairs = self.config.kdcs.iter().zip(&found);
        let furthest = found.iter().filter_map(|found| found.as_ref().ok()?.ahead);
        let furthest = furthest.max_by_key(|ahead| ahead.unsigned_abs());
        self.ahead.store(furthest.unwrap_or(0), Ordering::Relaxed);
        for (kdc, found) in pairs.clone() {
            if let Ok(Alive { ahead: Some(ahead) }) = found
                && ahead.unsigned_abs() > MAX_SKEW
            {
                tracing::error!(
                    kdc = kdc.host,
                    seconds = ahead,
                    "the domain controller's clock is {ahead} seconds ahead: Kerberos allows {MAX_SKEW}"
                );
            }
        }
        let live: Vec<Kdc> = pairs
            .filter(|(_, found)| found.is_ok())
            .map(|(kdc, _)| kdc.clone())
            .collect();
        let mut known = self.live.lock();
        let before = known.as_ref().unwrap_or(&self.config.kdcs);
        if *before == live {
            return;
        }
        for (kdc, found) in self.config.kdcs.iter().zip(&found) {
            let lived = before.contains(kdc);
            match found {
                Ok(_) if !lived => tracing::info!(kdc = kdc.host, "the domain controller answers"),
                Err(why) if lived => {
                    tracing::warn!(
                        kdc = kdc.host,
                        "the domain controller does not answer: {why}"
                    );
                }
                _ => {}
            }
        }
        // Where nobody lives, all are named: one of them may come back first.
        let named: Vec<&Kdc> = if live.is_empty() {
            self.config.kdcs.iter().collect()
        } else {
            live.iter().collect()
        };
        write_configuration(&self.folder, &self.config, &named);
        *known = Some(live);
    }
}

pub(super) fn folder(config: &Config) -> PathBuf {
    config.data_dir.join("kerberos")
}

fn write_configuration(folder: &Path, config: &config::Kerberos, kdcs: &[&Kdc]) {
    let realms: Vec<String> = config.realms().map(str::to_owned).collect();
    let text = kdc::library_configuration(&realms, kdcs, folder);
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut temporary, text.as_bytes())?;
        let file = folder.join("krb5.conf");
        temporary.persist(file).map_err(|error| error.error)
    });
    if let Err(error) = written {
        tracing::error!(folder = %folder.display(), error = %error, "the Kerberos library can't be configured");
    }
}
