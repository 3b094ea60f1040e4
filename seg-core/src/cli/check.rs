//! `seg check`: reads the configuration, then looks at every outside part that it names, and says
//! of each whether it is well, and otherwise what is wrong and how to mend it.
//!
//! It changes nothing, and it may run beside a gateway that serves.

mod delegation;
mod local;
mod person;
mod report;
mod sources;
mod routes;
mod upstream;
mod way;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::config::{self, Config, Loaded};
use crate::delegate;

pub use report::{Finding, Report, State};

/// Done, with findings.
const FINDINGS: u8 = 1;
/// Not done: the configuration can't be read.
const NOT_DONE: u8 = 2;

/// `seg check`'s arguments.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckArgs {
    /// The properties file [default: application.properties, where there is one]
    #[arg(long, value_name = "F")]
    pub config: Option<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Walk the way of the person with this client certificate (PEM)
    #[arg(long, value_name = "F")]
    pub client_cert: Option<PathBuf>,
    /// The user that the certificate should name
    #[arg(long, value_name = "U", requires = "client_cert")]
    pub user: Option<String>,
    /// Print this SEG V2 properties file carried over
    #[arg(long, value_name = "F", conflicts_with_all = ["config", "client_cert", "example"])]
    pub migrate: Option<PathBuf>,
    /// Print the example: every key with its default and meaning
    #[arg(long, conflicts_with_all = ["config", "client_cert"])]
    pub example: bool,
}

/// Does what the arguments say. 0: all is well; 1: something failed; 2: not done, because the
/// configuration can't be read.
pub async fn run(args: &CheckArgs) -> ExitCode {
    if args.example {
        print!("{}", config::example());
        return ExitCode::SUCCESS;
    }
    if let Some(file) = &args.migrate {
        return migrate(file);
    }
    let file = config::found_file(args.config.as_deref());
    let loaded = match config::load(file.as_deref(), config::environment()) {
        Ok(loaded) => loaded,
        Err(error) => {
            if args.json {
                report::print_refusals(&error);
            } else {
                eprintln!("{error}");
            }
            return ExitCode::from(NOT_DONE);
        }
    };
    let mut report = Report::default();
    configuration(&mut report, file.as_deref(), &loaded);
    match &args.client_cert {
        Some(certificate) => {
            let user = args.user.as_deref();
            Box::pin(walk(&mut report, &loaded.config, certificate, user)).await;
        }
        None => everything(&mut report, &loaded.config).await,
    }
    report.print(args.json);
    if report.failed() {
        ExitCode::from(FINDINGS)
    } else {
        ExitCode::SUCCESS
    }
}

/// One person's way: his certificate, his account, his tickets.
async fn walk(report: &mut Report, config: &Config, certificate: &Path, user: Option<&str>) {
    let found = person::check(report, config, certificate, user);
    way::advice(report, config);
    let Some((chain, name)) = found else {
        return;
    };
    let Some(leaf) = chain.first() else {
        return;
    };
    // The library gets a configuration of its own: a running gateway's must not be touched.
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => {
            return report.fail(
                "kerberos",
                error.to_string(),
                "let us write temporary files",
            );
        }
    };
    let mut own = config.clone();
    own.data_dir = folder.path().to_path_buf();
    // While this is the only thread.
    delegate::prepare_process(&own);
    way::revoked(report, &own, &chain).await;
    way::account(report, &own, leaf, name.as_deref()).await;
}

/// Looks at every part that the configuration names.
pub async fn everything(report: &mut Report, config: &Config) {
    let running = local::data_dir(report, config);
    local::listeners(report, config, running);
    local::certificates(report, config);
    local::admin_token(report, config);
    local::policies(report, config);
    local::aliases(report, config);
    sources::tokens(report, config);
    sources::check(report, config).await;
    local::pseudonym_key(report, config);
    upstream::check(report, config).await;
    routes::check(report, config).await;
}

fn configuration(report: &mut Report, file: Option<&Path>, loaded: &Loaded) {
    let part = match file {
        Some(file) => file.display().to_string(),
        None => "configuration".to_owned(),
    };
    let message = match file {
        Some(_) => "can be read",
        None => "there is no file: the built-in defaults hold",
    };
    report.ok(&part, message);
    for warning in &loaded.warnings {
        report.warning(&part, warning.to_string());
    }
    report.ok(
        "build",
        if delegate::BUILT_IN {
            "with Kerberos"
        } else {
            "without Kerberos: email.server.login=kerberos and kerberos.accept need one with the \
             feature `kerberos`"
        },
    );
}

fn migrate(file: &Path) -> ExitCode {
    match std::fs::read(file) {
        Ok(bytes) => {
            let migrated = config::migrate(&config::java_text(bytes));
            print!("{}", migrated.text);
            eprintln!(
                "{} keys kept, {} commented out",
                migrated.kept, migrated.dropped
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: can't be read: {error}", file.display());
            ExitCode::from(NOT_DONE)
        }
    }
}

#[cfg(test)]
mod tests;
