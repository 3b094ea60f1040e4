//! The two text formats. prometheus-client writes OpenMetrics 1.0; the older text format 0.0.4,
//! which every scraper reads and `curl` gets, differs in three things: a counter's descriptor
//! carries the suffix `_total`, UNIT lines and the end mark do not exist.

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// A text format of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// The format that an `Accept` header asks for; 0.0.4 where it does not name OpenMetrics.
    pub fn for_accept(accept: Option<&str>) -> Self {
        match accept {
            Some(value) if value.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// The format's media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes the registry out.
pub(super) fn encode(registry: &Registry, format: Exposition) -> String {
    let mut open = String::with_capacity(16 * 1024);
    // Formatting into a String fails only where an encoder of ours does, and none of them does.
    let written = text::encode(&mut open, registry);
    debug_assert!(written.is_ok());
    match format {
        Exposition::OpenMetrics => open,
        Exposition::Prometheus => prometheus(&open),
    }
}

/// OpenMetrics text as text format 0.0.4.
fn prometheus(open: &str) -> String {
    let mut out = String::with_capacity(open.len() + 256);
    // HELP comes before TYPE, and its name depends on the type: it waits for one line.
    let mut help: Option<(&str, &str)> = None;
    for line in open.lines() {
        if let Some(descriptor) = line.strip_prefix("# HELP ") {
            help = descriptor.split_once(' ');
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|descriptor| descriptor.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take() {
                out.extend(["# HELP ", name, suffix, " ", text, "\n"]);
            }
            out.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            out.extend([line, "\n"]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_counters_get_their_suffix() {
        let open = "# HELP a Counts.\n# TYPE a counter\na_total 1\n# HELP b Shows.\n\
                    # TYPE b gauge\n# UNIT b seconds\nb 2\n# EOF\n";
        assert_eq!(
            prometheus(open),
            "# HELP a_total Counts.\n# TYPE a_total counter\na_total 1\n\
             # HELP b Shows.\n# TYPE b gauge\nb 2\n"
        );
    }

    #[test]
    fn the_scraper_chooses() {
        let scraper = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1";
        assert_eq!(
            Exposition::for_accept(Some(scraper)),
            Exposition::OpenMetrics
        );
        assert_eq!(Exposition::for_accept(Some("*/*")), Exposition::Prometheus);
        assert_eq!(Exposition::for_accept(None), Exposition::Prometheus);
    }
}
