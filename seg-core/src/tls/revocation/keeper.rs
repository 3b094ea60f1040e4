//! Keeps the lists: read from the folder, fetched from their addresses, kept on disk.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;
use tokio::task::JoinSet;

use super::list::MAX_BYTES;
use super::{Authorities, List, Lists, Revocations, read_lists};
use crate::config::{self, Config, WebAddress};
use crate::outbound::{Ask, Outbound};
use crate::runtime::{Shared, Snapshot};

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After a failed fetch, at the latest.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// How long a list may take to arrive.
const FETCH_WITHIN: Duration = Duration::from_secs(30);
/// Files that are read in the folder.
const MAX_FILES: usize = 1000;

/// A list that a start was told to wait for.
#[derive(Debug, Error)]
#[error("fail.hard.on.crl.download.failure.during.server.startup: {0}")]
pub(crate) struct FetchFailed(String);

/// Time and length of a file when it was read, and what it held.
type FileSeen = (Option<SystemTime>, u64, Vec<Arc<List>>);

/// What is known of the outside.
#[derive(Debug, Default)]
struct Known {
    /// By file.
    files: BTreeMap<PathBuf, FileSeen>,
    /// Address to what it gave last.
    fetched: HashMap<WebAddress, Fetched>,
}

#[derive(Debug, Default)]
struct Fetched {
    lists: Vec<Arc<List>>,
    due: Option<Instant>,
}

/// Reads what is on disk, and where the configuration wants it, fetches every list, before the
/// gateway serves.
pub(crate) async fn load_first(
    revocations: &Revocations,
    outbound: &Outbound,
    snapshot: &Snapshot,
) -> Result<(), FetchFailed> {
    let rules = &snapshot.config.server.tls.revocation;
    if !rules.enabled {
        return Ok(());
    }
    let mut known = Known::default();
    known.look(&snapshot.config, &snapshot.authorities);
    known.read_kept(&snapshot.config, &snapshot.authorities);
    if rules.required_at_start {
        for uri in &rules.uris {
            fetch(outbound, &snapshot.config, &snapshot.authorities, uri)
                .await
                .map(|lists| known.fetched.insert(uri.clone(), lists))
                .map_err(FetchFailed)?;
        }
    }
    revocations.replace(known.all());
    Ok(())
}

/// Reads and fetches every list, once.
///
/// # Errors
/// Which could not be fetched, and why; the others are there.
pub(crate) async fn fetch_all(
    revocations: &Revocations,
    outbound: &Outbound,
    config: &Config,
    authorities: &Authorities,
) -> Result<(), String> {
    let mut known = Known::default();
    known.look(config, authorities);
    let mut failed = Vec::new();
    for uri in &config.server.tls.revocation.uris {
        match fetch(outbound, config, authorities, uri).await {
            Ok(fetched) => {
                known.fetched.insert(uri.clone(), fetched);
            }
            Err(why) => failed.push(why),
        }
    }
    revocations.replace(known.all());
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("; "))
    }
}

/// Goes on for ever. Each list is fetched by a task of its own: a server that is slow delays neither
/// the folder nor the others.
pub(crate) async fn keep(shared: Arc<Shared>, outbound: Outbound) {
    let mut known = Known::default();
    let mut fetching = JoinSet::new();
    let mut generation = 0;
    loop {
        let snapshot = shared.snapshot();
        let config = &snapshot.config;
        let rules = &config.server.tls.revocation;
        if rules.enabled {
            let anew = generation != snapshot.generation;
            if anew {
                // Other CAs may have come: what they sign counts now.
                known.look_again();
                known.fetched.retain(|uri, _| rules.uris.contains(uri));
                known.read_kept(config, &snapshot.authorities);
            }
            let mut changed = known.look(config, &snapshot.authorities) || anew;
            for uri in &rules.uris {
                if !known.is_due(uri) {
                    continue;
                }
                // While it is on its way, it is not asked for again.
                known.next(uri, FETCH_WITHIN * 2);
                let (snapshot, outbound, uri) =
                    (Arc::clone(&snapshot), outbound.clone(), uri.clone());
                fetching.spawn(async move {
                    let config = &snapshot.config;
                    let fetched = fetch(&outbound, config, &snapshot.authorities, &uri).await;
                    (uri, fetched)
                });
            }
            while let Some(done) = fetching.try_join_next() {
                changed |= done.is_ok_and(|(uri, fetched)| known.learn(uri, fetched, rules));
            }
            if changed {
                shared.revocations.replace(known.all());
            }
        } else if generation != snapshot.generation {
            known = Known::default();
            shared.revocations.replace(Lists::default());
        }
        generation = snapshot.generation;
        drop(snapshot);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn fetch(
    outbound: &Outbound,
    config: &Config,
    authorities: &Authorities,
    uri: &WebAddress,
) -> Result<Fetched, String> {
    let bytes = outbound
        .fetch(Ask::get(uri.clone(), FETCH_WITHIN, MAX_BYTES))
        .await
        .map_err(|error| error.to_string())?;
    let source: Arc<str> = uri.to_string().into();
    let lists = read_lists(&bytes, &source, authorities)
        .map_err(|error| format!("what {uri} gives {error}"))?;
    let file = kept_file(config, uri);
    if let Err(error) = write_whole(&file, &bytes) {
        tracing::warn!(file = %file.display(), error = %error, "a revocation list can't be kept on disk");
    }
    let lists: Vec<_> = lists.into_iter().map(Arc::new).collect();
    tracing::info!(
        source = &*source,
        revoked = lists.iter().map(|list| list.len()).sum::<usize>(),
        "revocation list fetched"
    );
    let rules = &config.server.tls.revocation;
    Ok(Fetched {
        lists,
        due: Some(Instant::now() + rules.fetch_interval),
    })
}

impl Known {
    fn is_due(&self, uri: &WebAddress) -> bool {
        let due = self.fetched.get(uri).and_then(|fetched| fetched.due);
        due.is_none_or(|due| due <= Instant::now())
    }

    /// When an address is asked next.
    fn next(&mut self, uri: &WebAddress, after: Duration) {
        self.fetched.entry(uri.clone()).or_default().due = Some(Instant::now() + after);
    }

    /// What came of a fetch; whether there is a new list.
    fn learn(
        &mut self,
        uri: WebAddress,
        fetched: Result<Fetched, String>,
        rules: &config::Revocation,
    ) -> bool {
        match fetched {
            // The configuration may have another opinion by now.
            _ if !rules.uris.contains(&uri) => false,
            Ok(fetched) => {
                self.fetched.insert(uri, fetched);
                true
            }
            Err(why) => {
                tracing::warn!("a revocation list can't be fetched: {why}; the last one holds");
                self.next(&uri, rules.fetch_interval.min(RETRY_AFTER));
                false
            }
        }
    }

    /// Every file counts as changed, and holds what it held until it has been read again.
    fn look_again(&mut self) {
        for (modified, length, _) in self.files.values_mut() {
            (*modified, *length) = (None, u64::MAX);
        }
    }

    fn all(&self) -> Lists {
        let files = self.files.values().flat_map(|(_, _, lists)| lists);
        let fetched = self.fetched.values().flat_map(|fetched| &fetched.lists);
        Lists::new(files.chain(fetched).map(Arc::clone))
    }

    /// Looks through the folder; whether anything changed.
    fn look(&mut self, config: &Config, authorities: &Authorities) -> bool {
        let folder = &config.server.tls.revocation.directory;
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut seen = Vec::new();
        let mut changed = false;
        for entry in entries.take(MAX_FILES) {
            let path = entry.path();
            // Follows links: a mounted secret is nothing but links.
            let Ok(about) = std::fs::metadata(&path) else {
                continue;
            };
            if !about.is_file() {
                continue;
            }
            let stamp = (about.modified().ok(), about.len());
            seen.push(path.clone());
            let same = |known: &FileSeen| (known.0, known.1) == stamp;
            if self.files.get(&path).is_some_and(same) {
                continue;
            }
            changed = true;
            let lists = match read_file(&path, authorities) {
                Ok(lists) => lists,
                Err(why) => {
                    tracing::warn!(file = %path.display(), "a revocation list can't be used: it {why}");
                    // A half-written file must not take back what the whole one said.
                    self.files
                        .get(&path)
                        .map(|old| old.2.clone())
                        .unwrap_or_default()
                }
            };
            self.files.insert(path, (stamp.0, stamp.1, lists));
        }
        let before = self.files.len();
        self.files.retain(|path, _| seen.contains(path));
        changed || before != self.files.len()
    }

    /// What was fetched before the last restart.
    fn read_kept(&mut self, config: &Config, authorities: &Authorities) {
        for uri in &config.server.tls.revocation.uris {
            let kept = std::fs::read(kept_file(config, uri)).ok();
            let source: Arc<str> = uri.to_string().into();
            let lists = kept.and_then(|bytes| read_lists(&bytes, &source, authorities).ok());
            if let Some(lists) = lists {
                let entry = self.fetched.entry(uri.clone()).or_default();
                entry.lists = lists.into_iter().map(Arc::new).collect();
            }
        }
    }
}

fn read_file(path: &Path, authorities: &Authorities) -> Result<Vec<Arc<List>>, String> {
    let length = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if length > MAX_BYTES as u64 {
        return Err(super::ListError::TooLarge.to_string());
    }
    let bytes = std::fs::read(path).map_err(|error| format!("can't be read: {error}"))?;
    let source: Arc<str> = path.display().to_string().into();
    let lists = read_lists(&bytes, &source, authorities).map_err(|error| error.to_string())?;
    Ok(lists.into_iter().map(Arc::new).collect())
}

/// Where the last good list of an address lies.
fn kept_file(config: &Config, uri: &WebAddress) -> PathBuf {
    use aws_lc_rs::digest::{SHA256, digest};
    let name = digest(&SHA256, uri.to_string().as_bytes());
    let name = super::super::identity::hex(name.as_ref().get(..16).unwrap_or_default());
    config.data_dir.join("crl").join(format!("{name}.crl"))
}

/// Writes a file whole or not at all.
fn write_whole(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut temporary, bytes)?;
    temporary
        .persist(file)
        .map(drop)
        .map_err(|error| error.error)
}
