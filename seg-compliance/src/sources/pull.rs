//! Reading a source to its end: pages, links, deltas.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::definition::{Definition, Directory, From, Pages, Web};
use super::json_path::JsonPath;
use super::pace::{RealTime, Session, Sessions, Time};
use super::web::{Asker, Terms, without_query};
use super::{SourceError, directory, files};

/// Most pages of one reading.
const PAGES_MAX: u32 = 100_000;
/// Most devices of one reading.
const DEVICES_MAX: u64 = 10_000_000;
/// A device that no system has: whether one can be asked for.
const NOBODYS: &str = "SEGCHECK0";

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
    /// Of which definition it is: another one begins anew.
    of: String,
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
        From::Web(web) => pull_web(web, state, now, &RealTime, out),
        From::Directory(directory) => pull_directory(directory, devices, out),
        From::File { path, form } => files::pull(path, *form, out),
    }
}

/// Asks a source for one device, once. Whoever waits for the answer waits no longer than `within`;
/// what comes later is lost.
///
/// # Errors
/// The source can't be asked, or does not answer.
pub fn lookup(
    source: &Definition,
    device: &str,
    within: Duration,
    sessions: &Sessions,
) -> Result<Vec<Value>, SourceError> {
    let From::Web(web) = &source.from else {
        return Ok(Vec::new());
    };
    let session = sessions.with(&web.identity());
    look_up(web, device, Terms::within(within), session)
}

fn look_up(
    web: &Web,
    device: &str,
    terms: Terms,
    session: Arc<Mutex<Session>>,
) -> Result<Vec<Value>, SourceError> {
    let Some(path) = &web.lookup else {
        return Ok(Vec::new());
    };
    // Only what a DeviceId is made of: nothing of it can end the URL's or the filter's quotes.
    if !device.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(Vec::new());
    }
    let url = format!("{}{}", web.url, path.replace("{device}", device));
    let value = match Asker::new(web, terms, session, &RealTime)?.get(&url) {
        // It has no such device.
        Err(SourceError::Refused { status: 404, .. }) => return Ok(Vec::new()),
        got => got?,
    };
    // A list of devices, or the device itself.
    let found = match web.items.first(&value) {
        Some(Value::Array(items)) => items.as_slice(),
        _ if value.is_object() => std::slice::from_ref(&value),
        _ => &[],
    };
    Ok(found
        .iter()
        .flat_map(|item| web.map.records(item))
        .filter(|record| {
            let id = record.get("device_id").and_then(Value::as_str);
            id.is_some_and(|id| id.eq_ignore_ascii_case(device))
        })
        .map(Value::Object)
        .collect())
}

/// Asks a source for its first page, and for one device where it is asked for such; or reads its file:
/// `seg check`.
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
        From::File { path, form } => files::check(path, *form),
        From::Web(web) => {
            let terms = Terms::of(web).once();
            let session = Arc::default();
            let url = first_url(web, None);
            let mut asker = Asker::new(web, terms, Arc::clone(&session), &RealTime)?;
            let value = asker.get(&url)?;
            let items = items(web, &value, &url)?;
            let known = items
                .iter()
                .filter(|item| !web.map.records(item).is_empty());
            let one = if source.on_miss {
                look_up(web, NOBODYS, terms, session)?;
                ", and can be asked for one"
            } else {
                ""
            };
            Ok(format!(
                "answers; {} devices on the first page, {} of them with a DeviceId{one}",
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

pub(super) fn unwritten(error: &std::io::Error) -> SourceError {
    SourceError::File {
        path: "the records".to_owned(),
        reason: error.to_string(),
    }
}

pub(super) fn pull_web(
    web: &Web,
    state: &Path,
    now: Timestamp,
    time: &dyn Time,
    out: &mut dyn Write,
) -> Result<Pulled, SourceError> {
    let session = Arc::default();
    let mut asker = Asker::new(web, Terms::of(web), session, time)?;
    let of = web.identity();
    let kept: Option<State> = std::fs::read(state)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .filter(|kept: &State| web.delta.is_some() && kept.of == of);
    if let Some(kept) = kept {
        let age = Duration::try_from(now.duration_since(kept.full)).unwrap_or(Duration::MAX);
        if age < web.full_every
            && same_origin(&web.url, &kept.link)
            && let Some(pulled) = changes(web, &mut asker, kept, out)?
        {
            return Ok(pulled);
        }
    }
    let read = pages(
        web,
        &mut asker,
        first_url(web, web.delta_path.as_deref()),
        Reading::Everything,
        out,
    );
    let (mut pulled, link) = match read {
        // It tells of no changes: its list is read every time.
        Err(SourceError::Refused { status, .. })
            if web.delta_path.is_some() && knows_no(status) =>
        {
            let first = first_url(web, None);
            pages(web, &mut asker, first, Reading::Everything, out)?
        }
        read => read?,
    };
    pulled.state = link.map(|link| State {
        link,
        full: now,
        of,
    });
    Ok(pulled)
}

/// What has changed since; `None`: that can't be told, and everything is to be read. Held until its
/// end, for nothing of it may be left behind then.
fn changes(
    web: &Web,
    asker: &mut Asker<'_>,
    kept: State,
    out: &mut dyn Write,
) -> Result<Option<Pulled>, SourceError> {
    let mut lines = Vec::new();
    let link = kept.link.clone();
    let (mut pulled, link) = match pages(web, asker, link, Reading::Changes, &mut lines) {
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
        ..kept
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
    asker: &mut Asker<'_>,
    first: String,
    reading: Reading,
    out: &mut dyn Write,
) -> Result<(Pulled, Option<String>), SourceError> {
    let mut pulled = Pulled {
        form: Form::Ndjson,
        reading,
        items: 0,
        skipped: 0,
        state: None,
    };
    let base = format!("{}{}", web.url, web.path);
    let mut before = Before::default();
    let (mut url, mut said, mut delta) = (first, None, None);
    for page in 0..PAGES_MAX {
        let useless = |reason: String| SourceError::Answer {
            url: without_query(&url),
            reason,
        };
        before.link(&url).map_err(useless)?;
        let value = asker.get(&url)?;
        let found = items(web, &value, &url)?;
        before.page(web, found).map_err(useless)?;
        for item in found {
            pulled.items += 1;
            let records = web.map.records(item);
            pulled.skipped += u64::from(records.is_empty());
            for record in records {
                let line = serde_json::to_string(&record).unwrap_or_default();
                writeln!(out, "{line}").map_err(|error| unwritten(&error))?;
            }
        }
        if pulled.items > DEVICES_MAX {
            return Err(useless(format!("it has more than {DEVICES_MAX} devices")));
        }
        let total = web
            .total
            .as_ref()
            .and_then(|path| path.first(&value)?.as_u64());
        said = total.or(said);
        let link = |path: &Option<JsonPath>| {
            let text = path.as_ref().and_then(|path| path.first(&value)?.as_str());
            text.map(str::to_owned)
        };
        delta = link(&web.delta).or(delta);
        let next = if web.next.is_some() {
            link(&web.next).map(|next| absolute(&web.url, next))
        } else {
            let pages = web.pages.as_ref();
            // A short page may be one that the system has cut: only an empty one is the last, where it
            // does not say how many there are.
            let more =
                pages.filter(|_| !found.is_empty() && said.is_none_or(|said| pulled.items < said));
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
            Some(next) if !same_origin(&web.url, &next) => {
                return Err(useless(format!(
                    "its next page is at {}, which is not followed",
                    without_query(&next)
                )));
            }
            Some(next) => url = next,
        }
    }
    Err(SourceError::Answer {
        url: without_query(&url),
        reason: format!("it has more than {PAGES_MAX} pages"),
    })
}

/// What was read before: a system that gives it again would be read for ever, or for less than it has.
#[derive(Default)]
struct Before {
    random: RandomState,
    links: HashSet<u64, RandomState>,
    /// The last page.
    page: Option<u64>,
}

impl Before {
    fn link(&mut self, url: &str) -> Result<(), String> {
        if self.links.insert(self.random.hash_one(url)) {
            return Ok(());
        }
        Err("it is given as a next page again".to_owned())
    }

    fn page(&mut self, web: &Web, found: &[Value]) -> Result<(), String> {
        let page = (!found.is_empty()).then(|| self.random.hash_one(found));
        if let Some(pages) = &web.pages
            && web.next.is_none()
            && page.is_some()
            && page == self.page
        {
            return Err(format!(
                "it gives the same page again, as if it did not know the parameter {:?}",
                pages.parameter
            ));
        }
        self.page = page;
        Ok(())
    }
}

/// A link that names no host is on the one that has given it.
fn absolute(url: &str, link: String) -> String {
    if !link.starts_with('/') || link.starts_with("//") {
        return link;
    }
    let host = url.split_once("://").map_or(0, |(scheme, rest)| {
        scheme.len() + 3 + rest.find('/').unwrap_or(rest.len())
    });
    format!("{}{link}", url.get(..host).unwrap_or(url))
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
