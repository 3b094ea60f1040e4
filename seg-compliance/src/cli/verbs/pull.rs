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
    if !asked.daemon {
        let mut outcome = Outcome::Done;
        for definition in &definitions {
            if once(definition, &file, asked, client, output)? == Outcome::Findings {
                outcome = Outcome::Findings;
            }
        }
        return Ok(outcome);
    }
    let mut due: Vec<(Timestamp, &Definition)> = definitions
        .iter()
        .map(|source| (Timestamp::now(), source))
        .collect();
    loop {
        due.sort_by_key(|(at, _)| *at);
        let Some((at, source)) = due.first_mut() else {
            return Ok(Outcome::Done);
        };
        let wait = at.duration_since(Timestamp::now());
        if let Ok(wait) = Duration::try_from(wait) {
            std::thread::sleep(wait);
        }
        // A source that fails is asked again in its time; what it reported ages meanwhile.
        if let Err(failure) = once(source, &file, asked, client, output) {
            if failure.is_closed_pipe() {
                return Err(failure);
            }
            output.complain(&failure.to_string());
        }
        output.flush()?;
        let interval = asked.every.unwrap_or(source.interval);
        *at = Timestamp::now() + jittered(interval);
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

/// Where a source's place in its changes is kept: beside its definition.
fn state_path(sources: &Path, name: &str) -> PathBuf {
    let clean: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect();
    sources.with_file_name(format!("{clean}.state"))
}
