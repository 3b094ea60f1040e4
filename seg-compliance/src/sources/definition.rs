//! sources.toml: which systems there are, how they are asked, and what their words mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SourceError;
use super::json_path::JsonPath;
use super::mapping::Mapping;
use super::presets::{PRESETS, Preset};
use super::secret::{Held, Place};
use crate::policy::read::{self, Problem, Table, Value, place};
use crate::policy::span;

/// Most sources of one file.
const SOURCES_MAX: usize = 100;
/// Longest name, in bytes: that of an import's source.
const NAME_MAX: usize = 64;

/// All sources of a file.
#[derive(Clone, Debug, Default)]
pub struct Definitions(Vec<Definition>);

/// One source.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its name, which its records carry.
    pub name: String,
    /// How often a daemon reads it.
    pub interval: Duration,
    /// How long it may be silent, in minutes, instead of `compliance.stale.max.minutes`.
    pub stale_max_minutes: Option<u32>,
    /// A device unknown to the gateway is asked of this source once.
    pub on_miss: bool,
    /// Where its webhook's secret is, if it has one.
    pub(super) webhook: Option<Place>,
    pub(super) from: From,
}

/// Where it is read.
#[derive(Clone, Debug)]
pub(super) enum From {
    Web(Box<Web>),
    /// People and their groups.
    Directory(Box<Directory>),
    /// A file of records, or an export.
    File {
        path: PathBuf,
        form: FileForm,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileForm {
    Ndjson,
    Csv,
    Exchange,
    SegV2,
}

/// A directory that speaks LDAP.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    /// Its servers, `ldaps://` or `ldap://` with StartTLS; the first that answers is asked.
    pub(super) urls: Vec<String>,
    pub(super) user: String,
    pub(super) password: Place,
    /// Where people and groups are searched.
    pub(super) base: String,
    /// The groups that are told.
    pub(super) groups: Vec<String>,
    /// Members of members count: Active Directory's own rule.
    pub(super) nested: bool,
    pub(super) ca: Option<PathBuf>,
    pub(super) timeout: Duration,
}

/// A system that speaks JSON over HTTP.
#[derive(Clone, Debug)]
pub(super) struct Web {
    pub(super) url: String,
    pub(super) path: String,
    pub(super) delta_path: Option<String>,
    pub(super) lookup: Option<String>,
    pub(super) accept: String,
    pub(super) items: JsonPath,
    pub(super) next: Option<JsonPath>,
    pub(super) delta: Option<JsonPath>,
    pub(super) pages: Option<Pages>,
    pub(super) total: Option<JsonPath>,
    pub(super) map: Mapping,
    pub(super) login: Login,
    pub(super) tenant_code: Option<Place>,
    pub(super) headers: Vec<(String, Held)>,
    pub(super) ca: Option<PathBuf>,
    pub(super) proxy: Option<Held>,
    /// Least time between two requests.
    pub(super) pause: Duration,
    /// Tries of one request.
    pub(super) tries: u32,
    /// How long one request may take.
    pub(super) timeout: Duration,
    /// From one reading of everything to the next, where changes are read in between.
    pub(super) full_every: Duration,
}

/// Pages by number.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    pub(super) parameter: String,
    pub(super) size_parameter: String,
    pub(super) size: u32,
    pub(super) first: u32,
}

impl Web {
    /// Everything that a login, or a place in its changes, depends on.
    pub(super) fn identity(&self) -> String {
        let login = match &self.login {
            Login::None => String::new(),
            Login::Basic { user, password } => format!("{user} {password:?}"),
            Login::Bearer { token } => format!("{token:?}"),
            Login::Client {
                token_url,
                id,
                secret,
                scope,
            } => format!("{token_url} {id} {secret:?} {scope:?}"),
        };
        format!("{} {} {login}", self.url, self.path)
    }
}

/// How the source knows us.
#[derive(Clone, Debug)]
pub(super) enum Login {
    None,
    Basic {
        user: String,
        password: Place,
    },
    Bearer {
        token: Place,
    },
    /// OAuth 2.0 client credentials (RFC 6749 section 4.4).
    Client {
        token_url: String,
        id: String,
        secret: Place,
        scope: Option<String>,
    },
}

impl Definitions {
    /// Reads a file; paths in it are relative to it. A missing file is an empty one.
    ///
    /// # Errors
    /// It can't be read, or a source in it is not right: with line and column.
    pub fn load(file: &Path) -> Result<Self, SourceError> {
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(SourceError::file(file, &error)),
        }
    }

    /// Reads the text of `file`.
    ///
    /// # Errors
    /// As [`Definitions::load`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, SourceError> {
        let base = file.parent().unwrap_or_else(|| Path::new("."));
        read_all(text, base).map_err(|problem| {
            let (line, column) = place(text, problem.at);
            SourceError::Definition {
                file: file.display().to_string(),
                line,
                column,
                message: problem.message,
            }
        })
    }

    /// The sources, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Definition> {
        self.0.iter()
    }

    /// The source of that name.
    ///
    /// # Errors
    /// There is none; the error names those that there are.
    pub fn find(&self, name: &str) -> Result<&Definition, SourceError> {
        self.0
            .iter()
            .find(|source| source.name == name)
            .ok_or_else(|| {
                let names: Vec<&str> = self.0.iter().map(|source| source.name.as_str()).collect();
                let names = if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                };
                SourceError::Unknown(name.to_owned(), names)
            })
    }
}

impl Definition {
    /// The secret that signs this source's webhook calls; `None`: it has no webhook.
    ///
    /// # Errors
    /// It can't be read.
    pub fn webhook_secret(&self) -> Option<Result<Vec<u8>, SourceError>> {
        let place = self.webhook.as_ref()?;
        Some(
            place
                .read()
                .map(|secret| secret.reveal().as_bytes().to_vec()),
        )
    }

    /// Sets the proxy of sources that name none.
    pub fn default_proxy(&mut self, proxy: Option<&str>) {
        if let From::Web(web) = &mut self.from
            && web.proxy.is_none()
        {
            web.proxy = proxy.map(|url| Held::Here(url.to_owned()));
        }
    }
}

fn read_all(text: &str, base: &Path) -> Result<Definitions, Problem> {
    let mut whole = read::parse(text)?;
    let mut sources: Vec<Definition> = Vec::new();
    if let Some(value) = whole.take("source") {
        for table in value.tables()? {
            let at = table.at;
            let source = definition(table, base)?;
            if sources.len() >= SOURCES_MAX {
                let message = format!("more than {SOURCES_MAX} sources");
                return Err(Problem { at, message });
            }
            if sources.iter().any(|other| other.name == source.name) {
                let message = format!("another source is called {:?}", source.name);
                return Err(Problem { at, message });
            }
            sources.push(source);
        }
    }
    whole.end(&["source"])?;
    Ok(Definitions(sources))
}

const KINDS: &str = "workspace-one, intune, jamf, json, ldap, ndjson, csv, exchange, seg-v2";
/// Most groups of a directory: those of a record.
const DIRECTORY_GROUPS_MAX: usize = crate::record::GROUPS_MAX;

fn definition(mut table: Table<'_>, base: &Path) -> Result<Definition, Problem> {
    let at = table.at;
    let missing = |name: &str| Problem {
        at,
        message: format!("missing field `{name}`"),
    };
    let name = table.take("name").ok_or_else(|| missing("name"))?;
    let word = name.text()?;
    if word.text.is_empty() || word.text.len() > NAME_MAX || word.text.chars().any(char::is_control)
    {
        return Err(word.problem(format!("a name has 1 to {NAME_MAX} bytes")));
    }
    let own_name = word.text.to_owned();
    let kind = table.take("type").ok_or_else(|| missing("type"))?;
    let kind_text = kind.text()?.text.to_owned();
    let interval = length(&mut table, "interval", Duration::from_secs(900))?;
    if kind_text == "ldap" {
        return Ok(Definition {
            name: own_name,
            interval,
            stale_max_minutes: None,
            on_miss: false,
            webhook: None,
            from: From::Directory(Box::new(directory(table, base)?)),
        });
    }
    let stale_max_minutes = match table.take("stale_max_minutes") {
        None => None,
        Some(value) => u32::try_from(value.whole(0..5_256_001)?).ok(),
    };
    let on_miss = table
        .take("on_miss")
        .map_or(Ok(false), |value| value.flag())?;
    let webhook = secret(&mut table, "webhook_secret", base)?;
    let form = match kind_text.as_str() {
        "ndjson" => Some(FileForm::Ndjson),
        "csv" => Some(FileForm::Csv),
        "exchange" => Some(FileForm::Exchange),
        "seg-v2" => Some(FileForm::SegV2),
        _ => None,
    };
    let preset = PRESETS.iter().find(|preset| preset.kind == kind_text);
    let from = match form {
        Some(form) => {
            let path = table.take("path").ok_or_else(|| missing("path"))?;
            let path = base.join(path.text()?.text);
            table.end(&[
                "name",
                "type",
                "path",
                "interval",
                "stale_max_minutes",
                "webhook_secret",
            ])?;
            From::File { path, form }
        }
        None if preset.is_some() || kind_text == "json" => {
            From::Web(Box::new(web(table, preset, base)?))
        }
        None => {
            return Err(kind.problem(format!("unknown type {kind_text:?}; known are {KINDS}")));
        }
    };
    if on_miss && !matches!(&from, From::Web(web) if web.lookup.is_some()) {
        let message =
            "on_miss needs a source that can be asked for one device: set lookup".to_owned();
        return Err(Problem { at, message });
    }
    Ok(Definition {
        name: own_name,
        interval,
        stale_max_minutes,
        on_miss,
        webhook,
        from,
    })
}

fn directory(mut table: Table<'_>, folder: &Path) -> Result<Directory, Problem> {
    let at = table.at;
    let mut needed = |name: &str| {
        table.take(name).ok_or_else(|| Problem {
            at,
            message: format!("missing field `{name}`"),
        })
    };
    let url = needed("url")?;
    let mut urls = Vec::new();
    for word in url.texts()? {
        if !(word.text.starts_with("ldaps://") || word.text.starts_with("ldap://")) {
            return Err(word.problem("url must begin with ldaps:// or ldap:// (with StartTLS)"));
        }
        urls.push(word.text.to_owned());
    }
    let user = needed("user")?.text()?.text.to_owned();
    let base = needed("base")?.text()?.text.to_owned();
    let listed = needed("groups")?;
    let groups: Vec<String> = listed
        .texts()?
        .iter()
        .map(|word| word.text.to_owned())
        .collect();
    if groups.is_empty() || groups.len() > DIRECTORY_GROUPS_MAX {
        let message = format!("groups names 1 to {DIRECTORY_GROUPS_MAX} groups");
        return Err(listed.problem(message));
    }
    let password = secret(&mut table, "password", folder)?.ok_or_else(|| Problem {
        at,
        message: "missing field `password`".to_owned(),
    })?;
    let nested = table
        .take("nested")
        .map_or(Ok(true), |value| value.flag())?;
    let ca = match table.take("ca_path") {
        None => None,
        Some(value) => Some(folder.join(value.text()?.text)),
    };
    let timeout = length(&mut table, "timeout", Duration::from_secs(60))?;
    table.end(&[
        "name", "type", "url", "user", "password", "base", "groups", "nested", "ca_path",
        "timeout", "interval",
    ])?;
    Ok(Directory {
        urls,
        user,
        password,
        base,
        groups,
        nested,
        ca,
        timeout,
    })
}

fn web(mut table: Table<'_>, preset: Option<&Preset>, base: &Path) -> Result<Web, Problem> {
    let at = table.at;
    let missing = |name: &str| Problem {
        at,
        message: format!("missing field `{name}`"),
    };
    let mut text = |name: &'static str| -> Result<Option<String>, Problem> {
        let Some(value) = table.take(name) else {
            return Ok(None);
        };
        Ok(Some(value.text()?.text.to_owned()))
    };
    let url = text("url")?
        .or_else(|| preset?.url.map(str::to_owned))
        .ok_or_else(|| missing("url"))?;
    let given_path = text("path")?;
    let path = given_path
        .or_else(|| Some(preset?.path.to_owned()))
        .unwrap_or_default();
    let lookup = text("lookup")?.or_else(|| preset?.lookup.map(str::to_owned));
    let accept = text("accept")?;
    let tenant = text("tenant")?;
    let token_url = text("token_url")?;
    let client_id = text("client_id")?;
    let scope = text("scope")?.or_else(|| preset?.scope.map(str::to_owned));
    let user = text("user")?;
    let ca = text("ca_path")?.map(|path| base.join(path));
    for (name, url) in [("url", Some(&url)), ("token_url", token_url.as_ref())] {
        let refused = url.map_or(Ok(()), |url| check_url(name, url));
        refused.map_err(|message| Problem { at, message })?;
    }
    let use_delta = table
        .take("delta")
        .map_or(Ok(false), |value| value.flag())?;
    let json_path = |table: &mut Table<'_>, name: &str, usual: Option<&str>| {
        let given = table.take(name);
        let text = match &given {
            Some(value) => Some(value.text()?.text),
            None => usual,
        };
        text.map(JsonPath::parse)
            .transpose()
            .map_err(|message| Problem {
                at: given.as_ref().map_or(at, |value| value.at),
                message,
            })
    };
    let items = json_path(&mut table, "items", preset.map(|preset| preset.items))?;
    let next = json_path(&mut table, "next", preset.and_then(|preset| preset.next))?;
    let total = json_path(&mut table, "total", preset.and_then(|preset| preset.total))?;
    let delta = json_path(
        &mut table,
        "delta_link",
        preset.and_then(|preset| preset.delta),
    )?;
    let pages = pages(&mut table, preset)?;
    let map = mapping(&mut table, preset, at)?;
    let headers = headers(&mut table, base)?;
    let proxy = proxy(&mut table, base)?;
    let tenant_code = secret(&mut table, "tenant_code", base)?;
    let password = secret(&mut table, "password", base)?;
    let token = secret(&mut table, "token", base)?;
    let client_secret = secret(&mut table, "client_secret", base)?;
    let token_url = token_url.or_else(|| {
        let path = preset?.token_path?;
        let path = path.replace("{tenant}", tenant.as_deref().unwrap_or("common"));
        Some(if path.starts_with('/') {
            format!("{url}{path}")
        } else {
            path
        })
    });
    let login = match (user, password, token, client_id, client_secret) {
        (Some(user), Some(password), None, None, None) => Login::Basic { user, password },
        (None, None, Some(token), None, None) => Login::Bearer { token },
        (None, None, None, Some(id), Some(secret)) => Login::Client {
            token_url: token_url.ok_or_else(|| missing("token_url"))?,
            id,
            secret,
            scope,
        },
        (None, None, None, None, None) => Login::None,
        _ => {
            let message = "log in with user and password, with token, or with client_id and \
                           client_secret, one of them"
                .to_owned();
            return Err(Problem { at, message });
        }
    };
    let rate = match table.take("requests_per_second") {
        None => 10,
        Some(value) => value.whole(1..1_001)?,
    };
    let tries = match table.take("tries") {
        None => 5,
        Some(value) => u32::try_from(value.whole(1..21)?).unwrap_or(5),
    };
    let timeout = length(&mut table, "timeout", Duration::from_secs(60))?;
    let full_every = length(&mut table, "full_every", Duration::from_secs(86_400))?;
    table.end(&[
        "name",
        "type",
        "url",
        "path",
        "items",
        "next",
        "total",
        "pages",
        "map",
        "lookup",
        "on_miss",
        "delta",
        "delta_link",
        "accept",
        "headers",
        "user",
        "password",
        "token",
        "client_id",
        "client_secret",
        "token_url",
        "scope",
        "tenant",
        "tenant_code",
        "ca_path",
        "proxy",
        "requests_per_second",
        "tries",
        "timeout",
        "interval",
        "full_every",
        "stale_max_minutes",
        "webhook_secret",
    ])?;
    let delta_path = preset
        .and_then(|preset| preset.delta_path)
        .filter(|_| use_delta)
        .map(str::to_owned);
    Ok(Web {
        url: url.trim_end_matches('/').to_owned(),
        path,
        delta_path,
        lookup,
        accept: accept
            .or_else(|| Some(preset?.accept.to_owned()))
            .unwrap_or_else(|| "application/json".to_owned()),
        items: items.ok_or_else(|| missing("items"))?,
        next,
        delta: delta.filter(|_| use_delta),
        pages,
        total,
        map,
        login,
        tenant_code,
        headers,
        ca,
        proxy,
        pause: Duration::from_secs(1) / u32::try_from(rate).unwrap_or(1).max(1),
        tries,
        timeout,
        full_every,
    })
}

/// Whether secrets may be sent there. What stands in the URL is shown to people.
fn check_url(name: &str, url: &str) -> Result<(), String> {
    let uri: ureq::http::Uri = url
        .parse()
        .map_err(|error| format!("{name} {url:?} is no URL: {error}"))?;
    if uri
        .authority()
        .is_none_or(|host| host.as_str().contains('@'))
    {
        return Err(format!(
            "{name} must be of the form https://host/path; a login stands in user and password"
        ));
    }
    if url.starts_with("https://") || is_local(url) {
        return Ok(());
    }
    Err(format!(
        "{name} {url:?} must begin with https://: it gets secrets"
    ))
}

/// Plain HTTP is for this machine.
fn is_local(url: &str) -> bool {
    ["http://127.0.0.1", "http://localhost", "http://[::1]"]
        .iter()
        .filter_map(|local| url.strip_prefix(local))
        .any(|rest| !rest.contains('@') && (rest.is_empty() || rest.starts_with([':', '/', '?'])))
}

fn length(table: &mut Table<'_>, name: &str, usual: Duration) -> Result<Duration, Problem> {
    let Some(value) = table.take(name) else {
        return Ok(usual);
    };
    let word = value.text()?;
    let length = span::milliseconds(word.text).map_err(|why| word.problem(why))?;
    let length = u64::try_from(length).unwrap_or(0);
    if length == 0 {
        return Err(word.problem(format!("{name} must be longer than nothing")));
    }
    Ok(Duration::from_millis(length))
}

fn secret(table: &mut Table<'_>, name: &str, base: &Path) -> Result<Option<Place>, Problem> {
    let Some(value) = table.take(name) else {
        return Ok(None);
    };
    let word = value.text()?;
    Place::parse(word.text, base)
        .map(Some)
        .map_err(|why| word.problem(format!("{name}: {why}")))
}

fn pages(table: &mut Table<'_>, preset: Option<&Preset>) -> Result<Option<Pages>, Problem> {
    let usual = preset.and_then(|preset| preset.pages);
    let Some(value) = table.take("pages") else {
        return Ok(usual.map(|(parameter, size_parameter, size, first)| Pages {
            parameter: parameter.to_owned(),
            size_parameter: size_parameter.to_owned(),
            size,
            first,
        }));
    };
    let mut table = value.table()?;
    let (parameter, size_parameter, size, first) = usual.unwrap_or(("page", "size", 200, 1));
    let text = |table: &mut Table<'_>, name: &str, usual: &str| match table.take(name) {
        None => Ok(usual.to_owned()),
        Some(value) => value.text().map(|word| word.text.to_owned()),
    };
    let number = |value: Option<Value<'_>>, range: std::ops::Range<u64>, usual: u32| match value {
        None => Ok(usual),
        Some(value) => value
            .whole(range)
            .map(|number| u32::try_from(number).unwrap_or(usual)),
    };
    let pages = Pages {
        parameter: text(&mut table, "parameter", parameter)?,
        size_parameter: text(&mut table, "size_parameter", size_parameter)?,
        size: number(table.take("size"), 1..10_001, size)?,
        first: number(table.take("first"), 0..2, first)?,
    };
    table.end(&["parameter", "size_parameter", "size", "first"])?;
    Ok(Some(pages))
}

fn mapping(table: &mut Table<'_>, preset: Option<&Preset>, at: usize) -> Result<Mapping, Problem> {
    let mut mapping = Mapping::new();
    for (field, paths) in preset.iter().flat_map(|preset| preset.map) {
        let paths = paths.iter().map(|path| JsonPath::parse(path));
        let set = paths
            .collect::<Result<_, _>>()
            .and_then(|paths| mapping.set(field, paths));
        set.map_err(|message| Problem { at, message })?;
    }
    if let Some(value) = table.take("map") {
        for value in value.table()?.rest() {
            let words = value.texts()?;
            let paths = words
                .iter()
                .map(|word| JsonPath::parse(word.text).map_err(|why| word.problem(why)));
            let paths = paths.collect::<Result<_, _>>()?;
            let set = mapping.set(&value.key, paths);
            set.map_err(|why| value.problem(why))?;
        }
    }
    if mapping.has_device() {
        Ok(mapping)
    } else {
        Err(Problem {
            at,
            message: "map must say where device_id is".to_owned(),
        })
    }
}

/// Words in the name of a header whose value is a secret.
const SECRET_HEADERS: [&str; 6] = ["auth", "cookie", "key", "token", "secret", "password"];

fn headers(table: &mut Table<'_>, base: &Path) -> Result<Vec<(String, Held)>, Problem> {
    let Some(value) = table.take("headers") else {
        return Ok(Vec::new());
    };
    let mut headers = Vec::new();
    for value in value.table()?.rest() {
        let name = value.key.to_ascii_lowercase();
        if ureq::http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(value.problem(format!("{:?} is no name of a header", value.key)));
        }
        let word = value.text()?;
        let held = Held::parse(word.text, base);
        if let Held::Here(text) = &held {
            let message = if SECRET_HEADERS.iter().any(|part| name.contains(part)) {
                "secrets don't stand here: write file:PATH or env:NAME"
            } else if ureq::http::HeaderValue::from_str(text).is_err() {
                "a header line can't hold that"
            } else {
                headers.push((name, held));
                continue;
            };
            return Err(word.problem(format!("{name}: {message}")));
        }
        headers.push((name, held));
    }
    Ok(headers)
}

fn proxy(table: &mut Table<'_>, base: &Path) -> Result<Option<Held>, Problem> {
    let Some(value) = table.take("proxy") else {
        return Ok(None);
    };
    let word = value.text()?;
    let held = Held::parse(word.text, base);
    if let Held::Here(url) = &held {
        if url.contains('@') {
            return Err(word.problem(
                "proxy: with a password it is a secret, which doesn't stand here: write file:PATH or \
                 env:NAME",
            ));
        }
        if ureq::Proxy::new(url).is_err() {
            return Err(word.problem(format!(
                "proxy: {url:?} is not of the form http://host:port"
            )));
        }
    }
    Ok(Some(held))
}
