//! The hidden subcommand `seg sandbox`: the mail server alone, for the benches and for trying out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Profile, Recording, Sandbox, SandboxOptions, Transport};

/// The flags of `seg sandbox`.
#[derive(Clone, Debug, clap::Args)]
pub struct SandboxArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9443")]
    listen: SocketAddr,
    /// HTTP without TLS
    #[arg(long)]
    plain: bool,
    /// Writes the authority that signed the certificate to this file (PEM)
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Fixed 2,048-byte Sync and 25 MiB ItemOperations answers; counts totals only
    #[arg(long)]
    bench: bool,
    /// Writes each request down in this file as it arrives
    #[arg(long, value_name = "FILE")]
    diary: Option<PathBuf>,
}

/// Runs a sandbox until the process is told to end (SIGINT or SIGTERM), then prints its counts to
/// standard error.
pub fn run(args: SandboxArgs) -> ExitCode {
    let mut options = SandboxOptions {
        listen: args.listen,
        ..SandboxOptions::default()
    };
    options.diary = args.diary;
    if args.plain {
        options.transport = Transport::Plain;
    }
    if args.bench {
        options.profile = Profile::Bench;
        options.recording = Recording::Totals;
    }
    match start(options, args.ca_out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seg sandbox: {error}");
            ExitCode::from(2)
        }
    }
}

fn start(
    options: SandboxOptions,
    ca_out: Option<PathBuf>,
) -> Result<(), Box<dyn std::error::Error>> {
    let sandbox = Sandbox::start(options)?;
    if let (Some(file), Some(pem)) = (ca_out, sandbox.ca_pem()) {
        std::fs::write(&file, pem).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    println!("{}", sandbox.url());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(told_to_end())?;
    for (seen, count) in sandbox.counts() {
        eprintln!(
            "{count} {:?} {} {} {}",
            seen.kind, seen.name, seen.device, seen.user
        );
    }
    Ok(())
}

async fn told_to_end() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
