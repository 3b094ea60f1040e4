//! Reading a source to its end: pages, links, deltas.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::definition::{Definition, Directory, FileForm, From, Pages, Web};
use super::web::{Asker, without_query};
use super::{SourceError, directory, tables};

/// Most pages of one reading.
const PAGES_MAX: u32 = 100_000;

/// What a reading gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// How the records are written.
    pub form: Form,
    /// Whether they are everything there is.
    pub reading: Reading,
    /// Devices that the source gave.
    pub items: u64,
    /// Devices without a DeviceId: they never had mail, or the source does not know it yet.
    pub skipped: u64,
    /// What to keep for the next reading.
    pub(super) state: Option<State>,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    Ndjson,
    /// CSV with the record's columns.
    Csv,
}

/// What a reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Everything there is.
    Everything,
    /// What has changed since the last one.
    Changes,
    /// More of devices that others report.
    Supplement,
}

/// Tells of every device that the gateway knows, as it exports it, to whom it is given.
pub type Devices<'d> =
    dyn FnMut(&mut dyn FnMut(&Value) -> Result<(), SourceError>) -> Result<(), SourceError> + 'd;

/// What a source told to come back with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    link: String,
    full: Timestamp,
}

impl Pulled {
    /// Keeps what the next reading needs, now that this one was imported.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn keep(&self, state: &Path) -> Result<(), SourceError> {
        let Some(kept) = &self.state else {
            return Ok(());
        };
        let text = serde_json::to_string(kept).unwrap_or_default();
        let mut partial = state.as_os_str().to_owned();
        partial.push(".new");
        let partial = Path::new(&partial);
        std::fs::write(partial, text)
            .and_then(|()| std::fs::rename(partial, state))
            .map_err(|error| SourceError::file(state, &error))
    }
}

/// Reads a source and writes its records to `out`. `state`: the file that [`Pulled::keep`] wrote;
/// `devices`: those of the gateway, for a source that knows people only.
///
/// # Errors
/// The source was not read to its end: nothing of `out` is to be used.
pub fn pull(
    source: &Definition,
    state: &Path,
    now: Timestamp,
    devices: &mut Devices<'_>,
    out: &mut dyn Write,
) -> Result<Pulled, SourceError> {
    match &source.from {
        From::Web(web) => pull_web(web, state, now, out),
        From::Directory(directory) => pull_directory(directory, devices, out),
        From::File { path, form } => pull_file(path, *form, out),
    }
}

/// Asks a source for one device, once.
///
/// # Errors
/// The source can't be asked, or does not answer.
pub fn lookup(source: &Definition, device: &str) -> Result<Vec<Value>, SourceError> {
    let From::Web(web) = &source.from else {
        return Ok(Vec::new());
    };
    let Some(path) = &web.lookup else {
        return Ok(Vec::new());
    };
    // Only what a DeviceId is made of: nothing of it can end the URL's or the filter's quotes.
    if !device.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(Vec::new());
    }
    let url = format!("{}{}", web.url, path.replace("{device}", device));
    let value = Asker::new(web)?.get(&url)?;
    let found = web.items.first(&value).and_then(Value::as_array);
    Ok(found
        .into_iter()
        .flatten()
        .flat_map(|item| web.map.records(item))
        .filter(|record| {
            let id = record.get("device_id").and_then(Value::as_str);
            id.is_some_and(|id| id.eq_ignore_ascii_case(device))
        })
        .map(Value::Object)
        .collect())
}

/// Asks a source for its first page, or opens its file: `seg check`.
///
/// # Errors
/// What is wrong.
pub fn check(source: &Definition) -> Result<String, SourceError> {
    if let Some(Err(error)) = source.webhook_secret() {
        return Err(error);
    }
    match &source.from {
        From::Directory(of) => {
            let people = directory::people(of)?;
            Ok(format!(
                "answers; {} names of people in its groups",
                people.len()
            ))
        }
        From::File { path, .. } => match std::fs::metadata(path) {
            Ok(about) => Ok(format!("a file of {} bytes", about.len())),
            Err(error) => Err(SourceError::file(path, &error)),
        },
        From::Web(web) => {
            let mut web = web.clone();
            web.tries = 1;
            let value = Asker::new(&web)?.get(&first_url(&web, None))?;
            let items = items(&web, &value, &web.url)?;
            let known = items
                .iter()
                .filter(|item| !web.map.records(item).is_empty());
            Ok(format!(
                "answers; {} devices on the first page, {} of them with a DeviceId",
                items.len(),
                known.count()
            ))
        }
    }
}

/// The groups of each device's user.
fn pull_directory(
    directory: &Directory,
    devices: &mut Devices<'_>,
    out: &mut dyn Write,
) -> Result<Pulled, SourceError> {
    let people = directory::people(directory)?;
    let mut pulled = Pulled {
        form: Form::Ndjson,
        reading: Reading::Supplement,
        items: 0,
        skipped: 0,
        state: None,
    };
    devices(&mut |device| {
        let text = |name: &str| device.get(name).and_then(Value::as_str);
        let (Some(id), Some(user)) = (text("device_id"), text("user")) else {
            return Ok(());
        };
        let held = device.get("groups").and_then(Value::as_array);
        let held: Vec<String> = held
            .into_iter()
            .flatten()
            .filter_map(|group| group.as_str().map(str::to_owned))
            .collect();
        pulled.items += 1;
        let groups = people.groups(user, &held);
        let line = serde_json::json!({ "device_id": id, "groups": groups });
        writeln!(out, "{line}").map_err(|error| unwritten(&error))
    })?;
    Ok(pulled)
}

fn unwritten(error: &std::io::Error) -> SourceError {
    SourceError::File {
        path: "the records".to_owned(),
        reason: error.to_string(),
    }
}

fn pull_file(path: &Path, form: FileForm, out: &mut dyn Write) -> Result<Pulled, SourceError> {
    let failed = |error: std::io::Error| SourceError::file(path, &error);
    let pulled = |form, items, skipped| Pulled {
        form,
        reading: Reading::Everything,
        items,
        skipped,
        state: None,
    };
    match form {
        FileForm::Ndjson | FileForm::Csv => {
            let mut file = std::fs::File::open(path).map_err(failed)?;
            std::io::copy(&mut file, out).map_err(failed)?;
            let form = if form == FileForm::Csv {
                Form::Csv
            } else {
                Form::Ndjson
            };
            Ok(pulled(form, 0, 0))
        }
        FileForm::Exchange | FileForm::SegV2 => {
            let file = std::fs::File::open(path).map_err(failed)?;
            let table = if form == FileForm::Exchange {
                tables::EXCHANGE
            } else {
                tables::SEG_V2
            };
            let converted = tables::convert(table, file, out);
            let (items, skipped) = converted.map_err(|reason| SourceError::File {
                path: path.display().to_string(),
                reason,
            })?;
            Ok(pulled(Form::Ndjson, items, skipped))
        }
    }
}

fn pull_web(
    web: &Web,
    state: &Path,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<Pulled, SourceError> {
    let kept: Option<State> = std::fs::read(state)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .filter(|_| web.delta.is_some());
    if let Some(kept) = kept {
        let age = Duration::try_from(now.duration_since(kept.full)).unwrap_or(Duration::MAX);
        if age < web.full_every
            && same_origin(&web.url, &kept.link)
            && let Some(pulled) = changes(web, kept, out)?
        {
            return Ok(pulled);
        }
    }
    let read = pages(
        web,
        first_url(web, web.delta_path.as_deref()),
        Reading::Everything,
        out,
    );
    let (mut pulled, link) = match read {
        // It tells of no changes: its list is read every time.
        Err(SourceError::Refused { status, .. })
            if web.delta_path.is_some() && knows_no(status) =>
        {
            pages(web, first_url(web, None), Reading::Everything, out)?
        }
        read => read?,
    };
    pulled.state = link.map(|link| State { link, full: now });
    Ok(pulled)
}

/// What has changed since; `None`: that can't be told, and everything is to be read. Held until its
/// end, for nothing of it may be left behind then.
fn changes(web: &Web, kept: State, out: &mut dyn Write) -> Result<Option<Pulled>, SourceError> {
    let mut lines = Vec::new();
    let (mut pulled, link) = match pages(web, kept.link.clone(), Reading::Changes, &mut lines) {
        Err(SourceError::Refused { status, .. }) if knows_no(status) => return Ok(None),
        read => read?,
    };
    // A change may name its device by the system's own number alone, and so may a device that has
    // gone: whose phone that is stands in the list only.
    if pulled.skipped > 0 {
        return Ok(None);
    }
    out.write_all(&lines).map_err(|error| unwritten(&error))?;
    pulled.state = Some(State {
        link: link.unwrap_or(kept.link),
        full: kept.full,
    });
    Ok(Some(pulled))
}

/// Whether a status says that there is no such thing (any more), and not that it failed.
fn knows_no(status: u16) -> bool {
    [400, 404, 405, 410, 501].contains(&status)
}

fn first_url(web: &Web, path: Option<&str>) -> String {
    let url = format!("{}{}", web.url, path.unwrap_or(&web.path));
    match &web.pages {
        Some(pages) => page_url(&url, pages, pages.first),
        None => url,
    }
}

fn page_url(url: &str, pages: &Pages, page: u32) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!(
        "{url}{sign}{}={page}&{}={}",
        pages.parameter, pages.size_parameter, pages.size
    )
}

/// Reads page after page. Answers the link to come back with, too.
fn pages(
    web: &Web,
    first: String,
    reading: Reading,
    out: &mut dyn Write,
) -> Result<(Pulled, Option<String>), SourceError> {
    let mut asker = Asker::new(web)?;
    let mut pulled = Pulled {
        form: Form::Ndjson,
        reading,
        items: 0,
        skipped: 0,
        state: None,
    };
    let base = format!("{}{}", web.url, web.path);
    let (mut url, mut said, mut delta) = (first, None, None);
    for page in 0..PAGES_MAX {
        let value = asker.get(&url)?;
        let found = items(web, &value, &url)?;
        for item in found {
            pulled.items += 1;
            let records = web.map.records(item);
            pulled.skipped += u64::from(records.is_empty());
            for record in records {
                let line = serde_json::to_string(&record).unwrap_or_default();
                writeln!(out, "{line}").map_err(|error| unwritten(&error))?;
            }
        }
        let total = web
            .total
            .as_ref()
            .and_then(|path| path.first(&value)?.as_u64());
        said = total.or(said);
        let link = |path: &Option<super::json_path::JsonPath>| {
            let text = path.as_ref().and_then(|path| path.first(&value)?.as_str());
            text.map(str::to_owned)
        };
        delta = link(&web.delta).or(delta);
        let next = if web.next.is_some() {
            link(&web.next)
        } else {
            let pages = web.pages.as_ref();
            let more = pages.filter(|pages| {
                let full = found.len() >= pages.size as usize;
                !found.is_empty() && said.map_or(full, |said| pulled.items < said)
            });
            more.map(|pages| page_url(&base, pages, pages.first + page + 1))
        };
        match next {
            None => {
                return match said {
                    Some(said) if reading == Reading::Everything && pulled.items < said => {
                        Err(SourceError::Partial {
                            said,
                            given: pulled.items,
                        })
                    }
                    _ => Ok((pulled, delta)),
                };
            }
            Some(next) if next == url || !same_origin(&web.url, &next) => {
                return Err(SourceError::Answer {
                    url: without_query(&url),
                    reason: format!(
                        "its next page is at {}, which is not followed",
                        without_query(&next)
                    ),
                });
            }
            Some(next) => url = next,
        }
    }
    Err(SourceError::Answer {
        url: without_query(&url),
        reason: format!("it has more than {PAGES_MAX} pages"),
    })
}

fn items<'v>(web: &Web, value: &'v Value, url: &str) -> Result<&'v [Value], SourceError> {
    if value.is_null() {
        return Ok(&[]);
    }
    match web.items.first(value) {
        Some(Value::Array(items)) => Ok(items),
        _ => Err(SourceError::Answer {
            url: without_query(url),
            reason: "the list of devices is not where `items` says".to_owned(),
        }),
    }
}

/// Tokens go where the definition says, and nowhere else.
fn same_origin(url: &str, other: &str) -> bool {
    let origin = |url: &str| {
        let (scheme, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        Some((scheme.to_ascii_lowercase(), host.to_ascii_lowercase()))
    };
    origin(url).is_some() && origin(url) == origin(other)
}
