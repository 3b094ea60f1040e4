//! Defaults, file and environment laid over each other by the `config` crate; every value keeps
//! the place it came from.

use std::collections::BTreeMap;

use config::{ConfigError as Layering, Map, Source, Value, ValueKind};

use super::keys::{self, Key, ROUTE_KEYS};
use super::problem::{At, Problem, Warning};
use super::properties::ROOT;

/// A value as it was written, and where.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) text: String,
    pub(super) at: At,
}

/// The winning value of every key by its name in the table, or as written for routes and for
/// keys that nobody knows.
pub(super) type Values = BTreeMap<String, Raw>;

/// One layer.
#[derive(Clone, Debug)]
pub(super) struct Layer(Vec<(String, String, At)>);

impl Layer {
    /// The defaults of the table.
    pub(super) fn defaults() -> Self {
        let row = |key: &Key| (key.name.to_owned(), key.default.to_owned(), At::Default);
        Self(keys::all().map(row).collect())
    }

    /// The variables that start with `SEG_`. The names are looked up in the table, because an
    /// underscore alone can't be turned back into the dot or dash it was. A variable that fits no
    /// key is only warned about: the environment isn't ours alone, and Kubernetes adds variables
    /// for every service (`SEG_SERVICE_HOST`, `SEG_PORT_…`).
    pub(super) fn environment(
        variables: impl Iterator<Item = (String, String)>,
        routes: &[String],
        warnings: &mut Vec<Warning>,
    ) -> Self {
        let mut layer = Vec::new();
        for (name, value) in variables.filter(|(name, _)| name.starts_with("SEG_")) {
            let known = keys::all().find(|key| {
                let names = std::iter::once(&key.name).chain(key.aliases);
                names
                    .into_iter()
                    .any(|written| keys::variable(written) == name)
            });
            let key = known
                .map(|key| key.name.to_owned())
                .or_else(|| route_key(&name, routes));
            match key {
                Some(key) => layer.push((key, value, At::Variable(name))),
                None if of_kubernetes(&name) => {}
                None => {
                    let written = name
                        .trim_start_matches("SEG_")
                        .replace('_', ".")
                        .to_lowercase();
                    let message = format!(
                        "no key has this name; the nearest is {}",
                        keys::variable(keys::nearest(&written))
                    );
                    warnings.push(Problem::new(None, At::Variable(name), message));
                }
            }
        }
        Self(layer)
    }
}

/// `SEG_ROUTE_OWA_PATH` is `route.owa.path`; where the file has a route whose name gives the same
/// variable, such as `my-owa`, that one is meant.
fn route_key(variable: &str, routes: &[String]) -> Option<String> {
    let rest = variable.strip_prefix("SEG_ROUTE_")?;
    ROUTE_KEYS.iter().find_map(|key| {
        let field = key.name.strip_prefix("route.<name>.")?;
        let suffix = keys::variable(field);
        let name = rest.strip_suffix(suffix.strip_prefix("SEG")?)?;
        let known = routes
            .iter()
            .find(|route| keys::variable(route) == format!("SEG_{name}"));
        let name = known
            .cloned()
            .unwrap_or_else(|| name.to_lowercase().replace('_', "-"));
        Some(format!("route.{name}.{field}"))
    })
}

/// The variables that Kubernetes sets in every pod for a service that is called `seg`.
fn of_kubernetes(variable: &str) -> bool {
    variable == "SEG_PORT"
        || ["SEG_SERVICE_", "SEG_PORT_"]
            .iter()
            .any(|start| variable.starts_with(start))
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, Layering> {
        Ok(table(self.0.iter().cloned()))
    }
}

/// The flat table that every layer consists of.
pub(super) fn table(values: impl Iterator<Item = (String, String, At)>) -> Map<String, Value> {
    let flat: Map<String, Value> = values
        .map(|(key, text, at)| {
            // An alias takes the place of the name it stands for.
            let key = keys::find(&key).map_or(key, |row| row.name.to_owned());
            (
                key,
                Value::new(Some(&at.to_string()), ValueKind::String(text)),
            )
        })
        .collect();
    Map::from_iter([(ROOT.to_owned(), Value::new(None, ValueKind::Table(flat)))])
}

/// Reads the layers' result back.
pub(super) fn values(layered: &config::Config) -> Values {
    let flat = layered.get_table(ROOT).unwrap_or_default();
    flat.into_iter()
        .map(|(key, value)| {
            let at = value
                .origin()
                .and_then(|origin| origin.parse().ok())
                .unwrap_or(At::Whole);
            let text = value.into_string().unwrap_or_default();
            (key, Raw { text, at })
        })
        .collect()
}
