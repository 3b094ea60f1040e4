//! How a system of the web is asked, as a table of sources.toml says it.

use std::path::Path;
use std::time::Duration;

use super::{Login, Pages, Web, length, secret};
use crate::policy::read::{Problem, Table, Value};
use crate::sources::json_path::JsonPath;
use crate::sources::mapping::Mapping;
use crate::sources::presets::Preset;
use crate::sources::secret::Held;

/// Reads the table of a system of the web.
pub(super) fn read(
    mut table: Table<'_>,
    preset: Option<&Preset>,
    base: &Path,
) -> Result<Web, Problem> {
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
