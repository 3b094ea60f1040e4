//! The configuration: `application.properties` under `SEG_*` environment variables over built-in
//! defaults, read into one immutable [`Config`].
//!
//! A configuration is taken whole or not at all. What is wrong is collected to the end, so that
//! one look at the errors mends the file; what is accepted but odd is a [`Warning`].

pub mod aliases;
mod binding;
pub mod binding_table;
mod build;
pub mod certificate_map;
mod certificates;
mod changes;
mod device_lookup;
mod directory;
mod enrolment;
mod example;
mod keys;
mod kerberos;
mod layers;
mod migrate;
mod oauth;
pub mod policies;
mod problem;
mod properties;
mod reader;
mod redirects;
mod settings;
mod table_file;
mod value;
pub mod watch;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use config::File;

pub use binding::Binding;
pub use changes::{Changes, changed_keys};
pub use device_lookup::{DeviceFilter, DeviceLookup, Field as DeviceField};
pub use directory::{Directory, GroupRule};
pub use enrolment::Enrolment;
pub use example::example;
pub use kerberos::{Kdc, Kerberos};
pub use keys::{Group, Key, Kind};
pub use migrate::{Migrated, java_text, migrate};
pub use oauth::OAuth;
pub use problem::{At, ConfigError, Problem, Warning};
pub use properties::{Entry, Parsed, Properties, parse};
pub use redirects::AllowedHost;
pub use settings::{
    Admin, Beside, Callback, CertificateRules, CertificateSource, Challenges, Compliance, Config,
    DecisionAnswers, DecisionService, Health, Heartbeat, Identity, Leg, Log, PemPair, Redirect,
    Responder, Revocation, Route, Server, ServerTls, UpstreamTls,
};
pub use table_file::TableError;
pub use value::{
    Affinity, AutodiscoverMode, BearerChallenge, BindingMode, BindingPart, CalloutFailure,
    CertificateHeader, ClientAuth, ComplianceMode, DefaultVerdict, EmptyChallenge, EwsRefusal,
    HealthExpect, HostHeader, KerberosName, LogFormat, LogLevel, Origin, Pattern, ProxyAddress,
    RedirectMode, Secret, StaleAnswer, SuspectAction, TlsVersion, Toggle, UnknownStanding,
    UpstreamLogin, UserMismatch, UserMode, WebAddress,
};

use layers::Layer;

/// The largest properties file, the same as a Kubernetes ConfigMap's limit.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A configuration that was accepted, and what should be said about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is accepted, but odd or without effect.
    pub warnings: Vec<Warning>,
}

/// The properties file that a program uses: the one it was given, else `application.properties`
/// of the current folder if there is one, else none, and the built-in defaults hold.
pub fn found_file(given: Option<&Path>) -> Option<PathBuf> {
    let usual = Path::new("application.properties");
    given
        .or_else(|| usual.is_file().then_some(usual))
        .map(Path::to_path_buf)
}

/// The environment of this process; what isn't UTF-8 in it can't be a value and is left out.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Reads the configuration: the properties file if one is named, with the environment over it.
/// Reads no other file.
///
/// # Errors
/// Everything that is wrong, with keys and lines.
pub fn load(
    path: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let whole = |message: String| {
        ConfigError::new(
            path.map(Path::to_path_buf),
            vec![Problem::new(None, At::Whole, message)],
        )
    };
    let file = path
        .map(std::path::absolute)
        .transpose()
        .map_err(|error| whole(format!("can't tell where the file lies: {error}")))?;
    let base = match &file {
        Some(file) => file.parent().map(Path::to_path_buf).unwrap_or_default(),
        None => {
            std::env::current_dir().map_err(|error| whole(format!("no current folder: {error}")))?
        }
    };
    let text = match &file {
        Some(file) => read(file).map_err(whole)?,
        None => String::new(),
    };
    let (loaded, problems) = from_text(&text, file.clone(), &base, env);
    if problems.is_empty() {
        Ok(loaded)
    } else {
        Err(ConfigError::new(file, problems))
    }
}

/// The configuration that a text makes, and everything that is wrong with it.
pub(crate) fn from_text(
    text: &str,
    file: Option<PathBuf>,
    base: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> (Loaded, Vec<Problem>) {
    let parsed = parse(text);
    let mut warnings = parsed.notes;
    let mut problems = parsed.problems;
    let routes: Vec<String> = parsed
        .entries
        .iter()
        .filter_map(|entry| keys::find_route(&entry.key))
        .map(|(name, _)| name.to_owned())
        .collect();
    problems.extend(doubled_by_alias(&parsed.entries));
    let layered = config::Config::builder()
        .add_source(Layer::defaults())
        .add_source(File::from_str(text, Properties))
        .add_source(Layer::environment(env, &routes, &mut warnings))
        .build();
    let values = match layered {
        Ok(layered) => layers::values(&layered),
        Err(error) => {
            problems.push(Problem::new(None, At::Whole, error.to_string()));
            layers::Values::new()
        }
    };
    let config = build::build(&values, file, base, &mut problems, &mut warnings);
    (Loaded { config, warnings }, problems)
}

/// A key that is given under two of its names is given twice.
fn doubled_by_alias(entries: &[Entry]) -> Vec<Problem> {
    let written = |name: &str| entries.iter().find(|entry| entry.key == name);
    let mut problems = Vec::new();
    for key in keys::all() {
        let names = std::iter::once(&key.name).chain(key.aliases);
        let mut given = names.filter_map(|name| written(name));
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            let message = format!(
                "means the same as {} on line {}; remove one of the two",
                first.key, first.line
            );
            problems.push(Problem::new(
                Some(&second.key),
                At::Line(second.line),
                message,
            ));
        }
    }
    problems
}

/// The text of a properties file.
fn read(file: &Path) -> Result<String, String> {
    let length = std::fs::metadata(file)
        .map_err(|error| unreadable(&error))?
        .len();
    if length > MAX_FILE_BYTES {
        return Err(format!(
            "has {length} bytes, more than {MAX_FILE_BYTES}: this is no properties file"
        ));
    }
    let bytes = std::fs::read(file).map_err(|error| unreadable(&error))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!(
            "line {line} is not UTF-8; save the file as UTF-8, or write the character as \\uXXXX"
        )
    })
}

fn unreadable(error: &std::io::Error) -> String {
    let mend = match error.kind() {
        std::io::ErrorKind::NotFound => "check the path given with --config",
        std::io::ErrorKind::PermissionDenied => "let the user that runs the gateway read it",
        _ => "it must be a readable file",
    };
    format!("can't be read: {error}; {mend}")
}
