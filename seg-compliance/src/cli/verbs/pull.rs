//! `pull`: reads sources and hands each to the gateway as one import, once or again and again.

use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ahash::RandomState;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::Outcome;
use crate::cli::client::{Client, Patience};
use crate::cli::failure::Failure;
use crate::cli::job::Pull;
use crate::cli::output::Output;
use crate::sources::{self, Definition, Definitions, Form, Reading, SourceError};

/// After a reading that has failed, the next one.
const RETRY: Duration = Duration::from_secs(60);

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

/// A source, when it is to be read next, and how often in a row that has failed.
struct Due<'d> {
    source: &'d Definition,
    at: Timestamp,
    failed: u32,
}

/// Reads each source in its interval, until somebody ends the process. What is in the middle of being
/// sent then is not applied, or in whole batches, as with any import that breaks off.
fn for_ever(
    definitions: &[Definition],
    file: &Path,
    asked: &Pull,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let due = |source| Due {
        source,
        at: Timestamp::now(),
        failed: 0,
    };
    let mut all: Vec<Due<'_>> = definitions.iter().map(due).collect();
    loop {
        all.sort_by_key(|due| due.at);
        let Some(due) = all.first_mut() else {
            return Ok(Outcome::Done);
        };
        if let Ok(wait) = Duration::try_from(due.at.duration_since(Timestamp::now())) {
            std::thread::sleep(wait);
        }
        match once(due.source, file, asked, client, output) {
            Ok(_) => due.failed = 0,
            Err(failure) if failure.is_closed_pipe() => return Err(failure),
            // It is asked again soon; what it reported ages meanwhile.
            Err(failure) => {
                due.failed = due.failed.saturating_add(1);
                output.complain(&format!("{}: {failure}", due.source.name));
            }
        }
        output.flush()?;
        let interval = asked.every.unwrap_or(due.source.interval);
        due.at = Timestamp::now() + jittered(rest(interval, due.failed));
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

fn once(
    source: &Definition,
    file: &Path,
    asked: &Pull,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let state = state_path(file, &source.name);
    let mut spool = tempfile::tempfile()
        .map_err(|error| Failure::file("write", Path::new("a temporary file"), error))?;
    // Read to its end before anything of it is sent.
    let pulled = {
        let progress = super::transfer::progress(None);
        let mut out = progress.wrap_write(std::io::BufWriter::new(&mut spool));
        let mut devices =
            |each: &mut dyn FnMut(&Value) -> Result<(), SourceError>| known(client, each);
        let pulled = sources::pull(source, &state, Timestamp::now(), &mut devices, &mut out);
        progress.finish_and_clear();
        std::io::Write::flush(&mut out)
            .map_err(|error| Failure::file("write", Path::new("a temporary file"), error))?;
        pulled?
    };
    spool
        .seek(SeekFrom::Start(0))
        .map_err(|error| Failure::file("read", Path::new("a temporary file"), error))?;
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
    query.extend(asked.dry_run.then_some(("dry_run", "true")));
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
