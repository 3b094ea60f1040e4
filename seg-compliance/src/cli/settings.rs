//! Where the gateway listens and where its token lies, read from its own configuration: the
//! environment, `application.properties`, the built-in defaults, in this order. Only a few keys
//! matter here, and a file that the gateway would refuse may still name them; `seg check` is the
//! place that judges the file.

use std::path::{Path, PathBuf};

use super::failure::Failure;

/// The file that is read where `--config` names none.
const DEFAULT_FILE: &str = "application.properties";

/// Those keys, as the gateway would take them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// `admin.listen`.
    pub(super) listen: String,
    /// `admin.token.path`, relative to the current folder or absolute.
    pub(super) token_path: PathBuf,
    /// `compliance.sources.path`, likewise.
    pub(super) sources: PathBuf,
    /// `outbound.proxy.url`.
    pub(super) proxy: Option<String>,
}

/// Reads `file`, or the default file where there is one.
///
/// # Errors
/// A file that was named can't be read.
pub(super) fn read(
    file: Option<&Path>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Settings, Failure> {
    let path = file.unwrap_or_else(|| Path::new(DEFAULT_FILE));
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            String::new()
        }
        Err(error) => return Err(Failure::file("read the configuration", path, error)),
    };
    let value = |key: &str| {
        let name = format!("SEG_{}", key.to_uppercase().replace('.', "_"));
        variable(&name).or_else(|| property(&text, key))
    };
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let data = value("data.dir").filter(|dir| !dir.is_empty());
    let token = value("admin.token.path").filter(|path| !path.is_empty());
    let token_path = token.map_or_else(
        || Path::new(data.as_deref().unwrap_or("data")).join("admin.token"),
        PathBuf::from,
    );
    let sources = value("compliance.sources.path").filter(|path| !path.is_empty());
    Ok(Settings {
        sources: folder.join(sources.as_deref().unwrap_or("sources.toml")),
        proxy: value("outbound.proxy.url").filter(|url| !url.is_empty()),
        listen: value("admin.listen")
            .filter(|listen| !listen.is_empty())
            .unwrap_or_else(|| "127.0.0.1:44444".to_owned()),
        token_path: folder.join(token_path),
    })
}

/// The value of a key: the syntax of `.properties` files as far as these keys need it.
fn property(text: &str, wanted: &str) -> Option<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        if line.starts_with(['#', '!']) {
            continue;
        }
        let mut joined = line.to_owned();
        while ends_open(&joined) {
            joined.pop();
            joined.push_str(lines.next().unwrap_or_default().trim_start());
        }
        let Some(rest) = joined.strip_prefix(wanted) else {
            continue;
        };
        let value = rest.trim_start();
        let separated = value.len() < rest.len() || value.starts_with(['=', ':']);
        if separated {
            let value = value.strip_prefix(['=', ':']).unwrap_or(value);
            return Some(unescaped(value.trim()));
        }
    }
    None
}

/// An odd number of backslashes at the end continues the line.
fn ends_open(line: &str) -> bool {
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

fn unescaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.extend(characters.next()),
            other => out.push(other),
        }
    }
    out
}

/// The URL under which a listen address is reached from this machine.
pub(super) fn url_of(listen: &str) -> String {
    let reachable = match listen.rsplit_once(':') {
        Some(("0.0.0.0" | "", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    };
    format!("http://{reachable}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(file: &str, variables: &[(&str, &str)]) -> Settings {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.properties");
        std::fs::write(&path, file).unwrap();
        let variable = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut read = read(Some(&path), variable).unwrap();
        if let Ok(inside) = read.token_path.strip_prefix(folder.path()) {
            read.token_path = inside.to_owned();
        }
        if let Ok(inside) = read.sources.strip_prefix(folder.path()) {
            read.sources = inside.to_owned();
        }
        read
    }

    fn expected(listen: &str, token: &str) -> Settings {
        Settings {
            listen: listen.to_owned(),
            token_path: PathBuf::from(token),
            sources: PathBuf::from("sources.toml"),
            proxy: None,
        }
    }

    #[test]
    fn defaults_hold_where_nothing_is_said() {
        let defaults = expected("127.0.0.1:44444", "data/admin.token");
        assert_eq!(settings("", &[]), defaults);
        assert_eq!(
            settings("#admin.listen=x:1\nadmin.listener=x:2\n", &[]),
            defaults
        );
    }

    #[test]
    fn the_file_is_read_as_the_gateway_reads_it() {
        let file =
            "\u{feff}! comment\r\n  admin.listen : 127.0.0.1\\:9000\r\ndata.dir=/var/\\\n   seg\n";
        assert_eq!(
            settings(file, &[]),
            expected("127.0.0.1:9000", "/var/seg/admin.token")
        );
        assert_eq!(
            settings("admin.token.path run/token\ndata.dir=d", &[]),
            expected("127.0.0.1:44444", "run/token")
        );
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let variables = [
            ("SEG_ADMIN_LISTEN", "[::]:7"),
            ("SEG_DATA_DIR", "elsewhere"),
        ];
        assert_eq!(
            settings("admin.listen=127.0.0.1:1\n", &variables),
            expected("[::]:7", "elsewhere/admin.token")
        );
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let failure = read(Some(Path::new("/nowhere/a.properties")), |_| None).unwrap_err();
        assert!(
            failure.to_string().contains("/nowhere/a.properties"),
            "{failure}"
        );
    }

    #[test]
    fn wildcard_addresses_are_reached_on_this_machine() {
        assert_eq!(url_of("0.0.0.0:44444"), "http://127.0.0.1:44444");
        assert_eq!(url_of("[::]:44444"), "http://[::1]:44444");
        assert_eq!(url_of(":44444"), "http://127.0.0.1:44444");
        assert_eq!(url_of("10.0.0.1:44444"), "http://10.0.0.1:44444");
    }
}
