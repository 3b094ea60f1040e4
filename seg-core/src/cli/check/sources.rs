//! sources.toml and the systems it names; the named tokens of the admin API.

use seg_compliance::sources::{self, Definitions};

use super::report::Report;
use crate::admin::NamedTokens;
use crate::config::{Config, ProxyAddress};

/// Asks each source for its first page, or reads its file.
pub(super) async fn check(report: &mut Report, config: &Config) {
    let file = &config.compliance.sources_path;
    let part = format!("compliance.sources.path {}", file.display());
    let definitions = match Definitions::load(file) {
        Ok(_) if !file.exists() => return,
        Ok(definitions) => definitions,
        Err(error) => {
            let mend = "mend the file; the gateway does not start with it";
            return report.fail(&part, error.to_string(), mend);
        }
    };
    report.ok(&part, format!("sources: {}", definitions.iter().count()));
    let proxy = config.outbound_proxy.as_ref().map(ProxyAddress::url);
    for mut source in definitions.iter().cloned() {
        source.default_proxy(proxy.as_deref());
        let part = format!("source {}", source.name);
        // Asking waits for the network.
        let asked = tokio::task::spawn_blocking(move || sources::check(&source)).await;
        match asked {
            Ok(Ok(found)) => report.ok(&part, found),
            Ok(Err(error)) => {
                report.fail(&part, error.to_string(), error.mend());
            }
            Err(error) => report.fail(&part, error.to_string(), "report this"),
        }
    }
}

/// The named tokens, if there are any.
pub(super) fn tokens(report: &mut Report, config: &Config) {
    let Some(file) = &config.admin.tokens_path else {
        return;
    };
    let part = format!("admin.tokens.path {}", file.display());
    match NamedTokens::load(file) {
        Ok(_) => report.ok(&part, "can be used"),
        Err(error) => report.fail(&part, error.to_string(), "mend the file"),
    }
}
