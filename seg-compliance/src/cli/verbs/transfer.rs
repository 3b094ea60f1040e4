//! `import` and `export`: whole fleets, streamed.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::cli::Outcome;
use crate::cli::args::Format;
use crate::cli::client::{Answer, Client, Patience};
use crate::cli::failure::Failure;
use crate::cli::job::Import;
use crate::cli::output::{Output, word};
use crate::sources::tables;

/// Bytes that are moved at once.
const CHUNK: usize = 128 * 1024;
/// How often a sign of life changes.
const TICK: Duration = Duration::from_millis(120);

/// Sends a file, or standard input, to the gateway.
pub(super) fn import(
    import: &Import,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let (input, length) = open(import.file.as_deref())?;
    let mode = if import.snapshot { "snapshot" } else { "delta" };
    let mut query = vec![("mode", mode)];
    if let Some(source) = &import.source {
        query.push(("source", source));
    }
    if import.strict {
        query.push(("strict", "true"));
    }
    if import.dry_run {
        query.push(("dry_run", "true"));
    }
    if import.force {
        query.push(("force", "true"));
    }
    let progress = progress(length);
    let mut records = records(import.format, progress.wrap_read(input))?;
    let kind = records.content_type;
    let answer = client.post("/v1/devices:import", &query, kind, &mut records.reader);
    progress.finish_and_clear();
    let answer = answer?;
    if records.skipped > 0 && !output.json() {
        let skipped = records.skipped;
        output.line(format_args!("{skipped} rows without a DeviceId left out"))?;
    }
    tell(&answer, import.dry_run, output)
}

/// A file as the gateway takes it.
pub(super) struct Records<'r> {
    pub(super) reader: Box<dyn Read + 'r>,
    pub(super) content_type: &'static str,
    /// Rows without a DeviceId: they are not sent.
    pub(super) skipped: u64,
}

/// Makes of a file what the gateway takes. An export is read to its end before anything of it is sent.
pub(super) fn records<'r>(
    format: Format,
    mut input: impl Read + 'r,
) -> Result<Records<'r>, Failure> {
    const NDJSON: &str = "application/x-ndjson";
    let as_it_is = |reader, content_type| Records {
        reader,
        content_type,
        skipped: 0,
    };
    let table = match format {
        Format::Ndjson => return Ok(as_it_is(Box::new(input), NDJSON)),
        Format::Csv => return Ok(as_it_is(Box::new(input), "text/csv")),
        Format::Exchange => tables::EXCHANGE,
        Format::SegV2 => tables::SEG_V2,
    };
    let failed = |error| Failure::file("write", Path::new("a temporary file"), error);
    let mut spool = tempfile::tempfile().map_err(failed)?;
    let mut out = BufWriter::new(&mut spool);
    let converted = tables::convert(table, &mut input, &mut out).map_err(Failure::Usage);
    let (_, skipped) = converted?;
    out.flush().map_err(failed)?;
    drop(out);
    spool.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(Records {
        reader: Box::new(spool),
        content_type: NDJSON,
        skipped,
    })
}

/// Prints what came of an import; bad lines are findings.
pub(super) fn tell(
    answer: &Answer,
    dry_run: bool,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let errors: Vec<&Value> = answer
        .json
        .get("errors")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .collect();
    if output.json() {
        output.line(answer.text.trim_end())?;
    } else {
        summary(&answer.json, dry_run, output)?;
    }
    for error in &errors {
        let line = error.get("line").and_then(Value::as_u64).unwrap_or(0);
        let message = word(error, "message").unwrap_or("can't be read");
        output.complain(&format!("line {line}: {message}"));
    }
    Ok(if errors.is_empty() {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

/// The input, and its length where it is known.
pub(super) fn open(file: Option<&Path>) -> Result<(Box<dyn Read>, Option<u64>), Failure> {
    let Some(path) = file else {
        return Ok((Box::new(io::stdin().lock()), None));
    };
    let opened = File::open(path).and_then(|file| {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let length = metadata.is_file().then_some(metadata.len());
        Ok((file, length))
    });
    match opened {
        Ok((file, length)) => Ok((Box::new(BufReader::with_capacity(CHUNK, file)), length)),
        Err(error) => Err(Failure::file("read", path, error)),
    }
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn progress(length: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = if length.is_some() {
        "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
    } else {
        "{spinner} {bytes}, {bytes_per_sec}"
    };
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A sign of life on a terminal, nothing elsewhere, while the gateway works.
pub(super) fn waiting(what: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(TICK);
    match ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn summary(result: &Value, dry_run: bool, output: &mut Output<'_>) -> Result<(), Failure> {
    let count = |name: &str| result.get(name).and_then(Value::as_u64).unwrap_or(0);
    let would = if dry_run { "would be " } else { "" };
    let bad = result
        .get("errors")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    output.line(format_args!(
        "{} read: {} {would}applied, {} unchanged, {} {would}removed, {bad} bad; {} requests {would}cut; \
         revision {}",
        count("read"),
        count("applied"),
        count("unchanged"),
        count("removed"),
        count("cut"),
        count("revision"),
    ))
}

/// Writes every record to a file, or to standard output.
pub(super) fn export(
    file: Option<&Path>,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let response = client.open("/v1/devices:export", &[], Patience::Endless)?;
    let body = response.into_body().into_reader();
    // Where the records themselves run over the terminal they are sign enough.
    let progress = file.map_or_else(ProgressBar::hidden, |_| progress(None));
    let mut body = progress.wrap_read(body);
    match file {
        None => copy(&mut body, output.raw(), client, Failure::Output)?,
        Some(path) => {
            let failed = |error| Failure::file("write", path, error);
            // The old file stays until the new one is whole.
            let mut partial = path.as_os_str().to_owned();
            partial.push(".part");
            let partial = Path::new(&partial);
            let mut out = File::create(partial).map_err(failed)?;
            copy(&mut body, &mut out, client, failed)?;
            out.sync_all().map_err(failed)?;
            std::fs::rename(partial, path).map_err(failed)?;
        }
    }
    progress.finish_and_clear();
    Ok(Outcome::Done)
}

/// Copies to the end; a feed that breaks off and a file that takes no more are different failures.
pub(super) fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    client: &Client,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = from
            .read(&mut chunk)
            .map_err(|error| client.unusable(error.to_string()))?;
        if length == 0 {
            return to.flush().map_err(failed);
        }
        to.write_all(chunk.get(..length).unwrap_or_default())
            .map_err(&failed)?;
    }
}
