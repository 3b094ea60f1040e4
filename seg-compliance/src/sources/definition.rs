//! sources.toml: which systems there are, how they are asked, and what their words mean.

mod web;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::SourceError;
use super::json_path::JsonPath;
use super::mapping::Mapping;
use super::presets::PRESETS;
use super::secret::{Held, Place};
use crate::policy::read::{self, Problem, Table, place};
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
            From::Web(Box::new(web::read(table, preset, base)?))
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
