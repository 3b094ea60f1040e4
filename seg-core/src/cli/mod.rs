//! The program `seg`: what is typed, and what it starts.

pub mod check;
pub mod dev;
mod run;
mod wire;

pub(crate) use run::{levels, log_format};

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Done, nothing wrong.
pub const DONE: u8 = 0;
/// Done, with findings.
pub const FINDINGS: u8 = 1;
/// Not done.
pub const NOT_DONE: u8 = 2;

/// Secure Email Gateway: ActiveSync and EWS through one proxy, each device allowed or blocked in
/// real time.
#[derive(Debug, Parser)]
#[command(name = "seg", version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway.
    Run {
        /// The properties file. Without it: ./application.properties where it exists, else
        /// built-in defaults.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Takes sockets and journal over from the gateway that runs with the same data.dir, so that
        /// no connection is refused; that one then ends.
        #[arg(long)]
        take_over: bool,
    },
    /// Runs the gateway with a sandbox mail server behind it, and prints commands to try.
    Dev(dev::DevArgs),
    /// Checks the configuration and every outside part that it names.
    Check(check::CheckArgs),
    /// WBXML to readable XML, and back.
    #[command(subcommand)]
    Wbxml(wire::WbxmlCommand),
    /// Looks into EWS requests.
    #[command(subcommand)]
    Ews(wire::EwsCommand),
    /// Talks to a running gateway, as `sync-compliance` does.
    #[command(disable_help_flag = true)]
    Compliance {
        /// The verb and its arguments; see `seg compliance --help`.
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "VERB"
        )]
        rest: Vec<OsString>,
    },
    /// Runs the sandbox mail server alone.
    #[command(hide = true)]
    Sandbox(crate::sandbox::cli::SandboxArgs),
}

/// Runs `seg` with the process's arguments.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            // Asking for help is no mistake.
            return ExitCode::from(if error.use_stderr() { NOT_DONE } else { DONE });
        }
    };
    match args.command {
        Command::Run { config, take_over } => run::run(config, take_over),
        Command::Dev(args) => dev::run(args),
        Command::Check(args) => block_on(check::run(&args)),
        Command::Wbxml(command) => wire::wbxml(&command),
        Command::Ews(command) => wire::ews(&command),
        Command::Compliance { rest } => {
            let name = OsString::from("seg compliance");
            seg_compliance::cli::main(std::iter::once(name).chain(rest))
        }
        Command::Sandbox(args) => crate::sandbox::cli::run(args),
    }
}

/// Runs a verb that is not the gateway itself.
fn block_on(verb: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(verb),
        Err(error) => {
            eprintln!("seg: {error}");
            ExitCode::from(NOT_DONE)
        }
    }
}
