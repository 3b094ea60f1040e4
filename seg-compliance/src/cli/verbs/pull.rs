//! `pull`: reads sources and hands each to the gateway as one import, once or again and again.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use ahash::RandomState;
use indicatif::ProgressBar;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::Outcome;
use crate::cli::client::{Client, Patience};
use crate::cli::failure::Failure;
use crate::cli::job::Pull;
use crate::cli::output::Output;
use crate::sources::{self, Definition, Definitions, Form, Pulled, Reading, SourceError};

/// After a reading that has failed, the next one.
const RETRY: Duration = Duration::from_secs(60);

/// Most devices that `--dry-run` tells one by one.
const PLANNED: &str = "10000";

/// Reads the sources that were asked for.
pub(super) fn pull(
    asked: &Pull,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let mut definitions = Vec::new();
    let file = asked
        .sources
        .clone()
        .unwrap_or_else(|| client.gateway().sources.clone());
    let all = Definitions::load(&file)?;
    match &asked.source {
        Some(name) => definitions.push(all.find(name)?.clone()),
        None => definitions.extend(all.iter().cloned()),
    }
    if definitions.is_empty() {
        let message = format!("{}: there is no source", file.display());
        return Err(Failure::Usage(message));
    }
    for definition in &mut definitions {
        definition.default_proxy(client.gateway().proxy.as_deref());
    }
    if asked.daemon {
        return for_ever(&definitions, &file, asked, client, output);
    }
    let all = definitions.len();
    let (mut outcome, mut failed) = (Outcome::Done, 0);
    for definition in &definitions {
        match once(definition, &file, asked, client, output) {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Findings) => outcome = Outcome::Findings,
            // One that fails must not make the others old.
            Err(failure) if all > 1 && !failure.is_closed_pipe() => {
                failed += 1;
                output.complain(&format!("{}: {failure}", definition.name));
            }
            Err(failure) => return Err(failure),
        }
    }
    if failed > 0 {
        return Err(Failure::Sources { failed, all });
    }
    Ok(outcome)
}

/// Reads each source in its interval, until somebody ends the process. What is in the middle of being
/// sent then is not applied, or in whole batches, as with any import that breaks off.
///
/// Each source is read in a thread of its own, so that one that is slow, or wants to be left alone for
/// minutes, makes none of the others old; what they have read is handed over one after the other.
fn for_ever(
    definitions: &[Definition],
    file: &Path,
    asked: &Pull,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let (tell, told) = mpsc::channel();
    for source in definitions {
        let reader = Reader {
            source: source.clone(),
            file: file.to_owned(),
            every: asked.every.unwrap_or(source.interval),
            client: client.clone(),
            tell: tell.clone(),
        };
        // It ends with the process, or with whoever listens to it.
        std::thread::spawn(move || reader.read_for_ever());
    }
    drop(tell);
    for turn in told {
        let handed = turn
            .result
            .and_then(|read| hand_over(&turn.source, read, asked, client, output));
        let failed = match handed {
            Ok(_) => false,
            Err(failure) if failure.is_closed_pipe() => return Err(failure),
            // It is asked again soon; what it reported ages meanwhile.
            Err(failure) => {
                output.complain(&format!("{}: {failure}", turn.source.name));
                true
            }
        };
        output.flush()?;
        // Where its thread has ended, nobody waits for this.
        let _ended = turn.failed.send(failed);
    }
    Ok(Outcome::Done)
}

/// One source of a daemon.
struct Reader {
    source: Definition,
    file: PathBuf,
    every: Duration,
    client: Client,
    tell: mpsc::Sender<Turn>,
}

/// What a reading has come to; it is answered with whether all in all it has failed.
struct Turn {
    source: Definition,
    result: Result<Read, Failure>,
    failed: mpsc::Sender<bool>,
}

impl Reader {
    fn read_for_ever(self) {
        let mut in_a_row = 0_u32;
        loop {
            let (failed, answer) = mpsc::channel();
            let turn = Turn {
                source: self.source.clone(),
                result: read(
                    &self.source,
                    &self.file,
                    &self.client,
                    &ProgressBar::hidden(),
                ),
                failed,
            };
            if self.tell.send(turn).is_err() {
                return;
            }
            in_a_row = match answer.recv() {
                Ok(false) => 0,
                Ok(true) => in_a_row.saturating_add(1),
                Err(_) => return,
            };
            std::thread::sleep(jittered(rest(self.every, in_a_row)));
        }
    }
}

/// From one reading to the next. After one that has failed it is a minute, then twice as long each time,
/// and never longer than the interval.
fn rest(interval: Duration, failed: u32) -> Duration {
    match failed {
        0 => interval,
        failed => interval.min(RETRY * 2_u32.saturating_pow((failed - 1).min(16))),
    }
}

/// A tenth more or less, so that several daemons drift apart.
fn jittered(interval: Duration) -> Duration {
    let random = RandomState::new().hash_one(interval) % 1_000;
    interval.mul_f64(0.9 + random as f64 / 5_000.0)
}

/// What was read of a source, whole, and not handed over yet.
struct Read {
    spool: File,
    pulled: Pulled,
    /// Where its place in the source's changes is kept.
    state: PathBuf,
}

fn once(
    source: &Definition,
    file: &Path,
    asked: &Pull,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let progress = super::transfer::progress(None);
    let read = read(source, file, client, &progress);
    progress.finish_and_clear();
    hand_over(source, read?, asked, client, output)
}

/// Reads a source to its end, before anything of it is sent.
fn read(
    source: &Definition,
    file: &Path,
    client: &Client,
    progress: &ProgressBar,
) -> Result<Read, Failure> {
    let failed = |error| Failure::file("write", Path::new("a temporary file"), error);
    let state = state_path(file, &source.name);
    let mut spool = tempfile::tempfile().map_err(failed)?;
    let mut out = progress.wrap_write(BufWriter::new(&mut spool));
    let mut devices = |each: &mut dyn FnMut(&Value) -> Result<(), SourceError>| known(client, each);
    let pulled = sources::pull(source, &state, Timestamp::now(), &mut devices, &mut out)?;
    out.flush().map_err(failed)?;
    drop(out);
    spool.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(Read {
        spool,
        pulled,
        state,
    })
}

/// Hands what was read to the gateway, as one import.
fn hand_over(
    source: &Definition,
    read: Read,
    asked: &Pull,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let Read {
        mut spool,
        pulled,
        state,
    } = read;
    let (mode, told) = match pulled.reading {
        Reading::Everything => ("snapshot", "snapshot"),
        Reading::Changes => ("delta", "delta"),
        Reading::Supplement => ("delta", "groups of users"),
    };
    let mut query = vec![("mode", mode), ("source", source.name.as_str())];
    if pulled.reading == Reading::Supplement {
        query.push(("supplement", "true"));
    }
    query.extend(asked.force.then_some(("force", "true")));
    if asked.dry_run {
        // Whoever is to look before --force sees each device.
        query.extend([("dry_run", "true"), ("plan", "true"), ("limit", PLANNED)]);
    }
    let content_type = match pulled.form {
        Form::Ndjson => "application/x-ndjson",
        Form::Csv => "text/csv",
    };
    let answer = client.post("/v1/devices:import", &query, content_type, &mut spool)?;
    if !asked.dry_run {
        pulled.keep(&state)?;
    }
    if !output.json() {
        let skipped = pulled.skipped;
        let without = if skipped == 0 {
            String::new()
        } else {
            format!(", {skipped} without a DeviceId")
        };
        output.line(format_args!("{}: {told}{without}", source.name))?;
        if let Some(plan) = answer.json.get("plan").filter(|plan| !plan.is_null()) {
            super::questions::print(plan, output)?;
        }
    }
    super::transfer::tell(&answer, asked.dry_run, output)
}

/// Tells of each device that the gateway knows, one after the other.
fn known(
    client: &Client,
    each: &mut dyn FnMut(&Value) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let unread = |reason: String| SourceError::Devices(reason);
    let response = client
        .open("/v1/devices:export", &[], Patience::Endless)
        .map_err(|failure| unread(failure.to_string()))?;
    let lines = BufReader::new(response.into_body().into_reader()).lines();
    for line in lines {
        let line = line.map_err(|error| unread(error.to_string()))?;
        let device = serde_json::from_str(&line).map_err(|error| unread(error.to_string()))?;
        each(&device)?;
    }
    Ok(())
}

/// Where a source's place in its changes is kept: beside its definition. No two names have one file.
fn state_path(sources: &Path, name: &str) -> PathBuf {
    let mut clean = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            clean.push(char::from(byte));
        } else {
            clean.push_str(&format!("_{byte:02x}"));
        }
    }
    sources.with_file_name(format!("{clean}.state"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_fails_is_asked_again_sooner_and_then_more_rarely() {
        let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
        let rests = [0, 1, 2, 3, 99].map(|failed| rest(day, failed));
        assert_eq!(rests, [day, minute, 2 * minute, 4 * minute, day]);
        assert_eq!(rest(minute / 2, 5), minute / 2, "never rarer than usual");
        let near = jittered(day);
        assert!(near >= day.mul_f64(0.9) && near <= day.mul_f64(1.1));
    }

    #[test]
    fn no_two_sources_have_one_state() {
        let file = Path::new("/etc/seg/sources.toml");
        let path = |name| state_path(file, name);
        assert_eq!(path("uem-1"), Path::new("/etc/seg/uem-1.state"));
        let names = ["a b", "a_b", "a.b", "a/b", "../b", "a_20b"];
        let paths: std::collections::HashSet<PathBuf> = names.into_iter().map(path).collect();
        assert_eq!(paths.len(), names.len());
        let beside = |path: &PathBuf| path.parent() == file.parent();
        assert!(paths.iter().all(beside), "{paths:?}");
    }
}
