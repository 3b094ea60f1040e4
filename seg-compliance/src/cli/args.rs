//! What stands on the command line, word for word: syntax only. [`super::job`] gives it meaning;
//! nothing here reads a file, the clock or the environment.

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

/// Who may have mail: blocks, unblocks, lists and imports devices on a running gateway.
#[derive(Debug, Parser)]
#[command(name = "sync-compliance", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done; 1 done, with findings; 2 not done.")]
pub(super) struct CommandLine {
    #[command(flatten)]
    pub(super) connection: Connection,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Where the gateway is. Before or after the verb.
#[derive(Debug, Args)]
pub(super) struct Connection {
    /// The gateway's admin API; default: admin.listen of the properties file, else
    /// http://127.0.0.1:44444
    #[arg(long, global = true, value_name = "URL")]
    pub(super) admin: Option<String>,
    /// File that holds the admin token; default: admin.token.path of the properties file
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) token_file: Option<std::path::PathBuf>,
    /// The gateway's properties file; default: application.properties in the current folder
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<std::path::PathBuf>,
    /// Print the admin API's answers; lists one object a line
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Refuse a device or a user, now: an open long poll is cut
    Block(Set),
    /// Delete an override and say which verdict holds now, and why
    Unblock(Target),
    /// Let a device or a user through, whatever record and policies say
    Allow(Set),
    /// Hold a device or a user apart
    Quarantine(Set),
    /// Have a device erase everything, or the account alone, when it comes next
    Wipe(Wipe),
    /// Have a device begin its synchronisation anew
    Resync(Order),
    /// Have a device ask for its policies again
    Reprovision(Order),
    /// Forget whose a device is by its use, and what speaks against it; its next use binds it
    Unbind {
        /// The DeviceId
        device: String,
    },
    /// Show a device: record, verdict, last request
    Get(Get),
    /// List devices
    List(List),
    /// Bring device records in
    Import(Import),
    /// Write every device record out as NDJSON
    Export(Export),
    /// Follow decisions, changes, cuts and reloads as they happen
    Watch(Watch),
    /// Show every step to the verdict, and what it saw
    Explain(Explain),
    /// Say which verdicts a policies file or an import would change, and change nothing
    Plan(Plan),
    /// Read sources of sources.toml and hand each to the gateway as one import
    Pull(Pull),
    /// Check, show and test policies
    #[command(subcommand)]
    Policies(PoliciesVerb),
    /// The fleet in numbers, or who changed what
    Report(Report),
}

/// A device, or all that a user has.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whom").required(true).args(["device", "user"]))]
pub(super) struct Target {
    /// The DeviceId
    pub(super) device: Option<String>,
    /// All devices of this user, and his requests without a device
    #[arg(long)]
    pub(super) user: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    pub(super) target: Target,
    /// Why, for the log and for those who ask later
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// When the override ends by itself: a duration (8h, 7d) or a time (2026-12-24T18:00:00Z)
    #[arg(long, value_name = "WHEN")]
    pub(super) expires: Option<String>,
}

/// An order to a device.
#[derive(Debug, Args)]
pub(super) struct Order {
    /// The DeviceId
    pub(super) device: String,
    /// Only when this user comes with it; default: the user of its record
    #[arg(long, conflicts_with = "cancel")]
    pub(super) user: Option<String>,
    /// Why, for the log and for those who ask later
    #[arg(long, conflicts_with = "cancel")]
    pub(super) reason: Option<String>,
    /// Take the order back, if the device has not carried it out
    #[arg(long)]
    pub(super) cancel: bool,
}

#[derive(Debug, Args)]
pub(super) struct Wipe {
    #[command(flatten)]
    pub(super) order: Order,
    /// Erase the account only; the device must speak ActiveSync 16.1
    #[arg(long, conflicts_with = "cancel")]
    pub(super) account_only: bool,
}

#[derive(Debug, Args)]
pub(super) struct Get {
    /// The DeviceId
    pub(super) device: String,
    /// The verdict for this user on it; default: the user of its record
    #[arg(long)]
    pub(super) user: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Devices of this user
    #[arg(long)]
    pub(super) user: Option<String>,
    /// Devices with this verdict
    #[arg(long, value_enum)]
    pub(super) verdict: Option<Verdict>,
    /// Devices that were seen, but have no record
    #[arg(long)]
    pub(super) unknown: bool,
    /// Devices that would be refused if compliance.mode were enforce, or if policies in mode test
    /// were enforced
    #[arg(long, conflicts_with = "verdict")]
    pub(super) would_block: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Verdict {
    Allow,
    Block,
    Quarantine,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The file; - reads standard input
    pub(super) file: std::path::PathBuf,
    /// The file is everything there is: devices of the same source that it doesn't name are
    /// forgotten
    #[arg(long)]
    pub(super) snapshot: bool,
    /// NDJSON or CSV; default: by the file's name, else NDJSON
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,
    /// Name of the system that the records come from
    #[arg(long, value_name = "NAME")]
    pub(super) source: Option<String>,
    /// One bad line refuses the whole file
    #[arg(long)]
    pub(super) strict: bool,
    /// Say what would happen, change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Apply a snapshot even if it changes more devices than
    /// compliance.import.max.change.percent allows
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Ndjson,
    Csv,
    /// Get-MobileDevice | Export-Csv, of Exchange
    Exchange,
    /// The list view of the email dashboard, which shows what SEG V2 knows
    SegV2,
}

#[derive(Debug, Args)]
pub(super) struct Plan {
    /// A policies file (*.toml), or a file to import (- reads standard input)
    pub(super) file: std::path::PathBuf,
    /// The import is everything there is
    #[arg(long)]
    pub(super) snapshot: bool,
    /// NDJSON or CSV; default: by the file's name, else NDJSON
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,
    /// Name of the system that the records come from
    #[arg(long, value_name = "NAME")]
    pub(super) source: Option<String>,
    /// Most changes that are told one by one
    #[arg(long, default_value_t = 10_000)]
    pub(super) limit: usize,
}

#[derive(Debug, Args)]
pub(super) struct Pull {
    /// The source; default: all of them
    #[arg(long, value_name = "NAME")]
    pub(super) source: Option<String>,
    /// The file that defines them; default: compliance.sources.path of the properties file, else
    /// sources.toml beside it
    #[arg(long, value_name = "FILE")]
    pub(super) sources: Option<std::path::PathBuf>,
    /// Go on for ever, each source in its interval
    #[arg(long)]
    pub(super) daemon: bool,
    /// The interval, instead of the sources' own: 15m, 2h
    #[arg(long, value_name = "LENGTH", requires = "daemon")]
    pub(super) interval: Option<String>,
    /// Apply it even if it changes more devices than compliance.import.max.change.percent allows
    #[arg(long, conflicts_with = "daemon")]
    pub(super) force: bool,
    /// Say what would happen, device by device, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum PoliciesVerb {
    /// Read a policies file as the gateway would, without one
    Check {
        /// The file
        #[arg(default_value = "policies.toml")]
        file: std::path::PathBuf,
    },
    /// Show the policies that are in force
    Show,
    /// Run the cases of a file against policies, without a gateway
    Test {
        /// The file with the cases
        cases: std::path::PathBuf,
        /// The policies
        #[arg(long, value_name = "FILE", default_value = "policies.toml")]
        policies: std::path::PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Report {
    /// Print CSV
    #[arg(long, conflicts_with = "audit")]
    pub(super) csv: bool,
    /// Print the audit trail, one entry a line
    #[arg(long)]
    pub(super) audit: bool,
    /// Entries from this time on
    #[arg(long, value_name = "TIME", requires = "audit")]
    pub(super) from: Option<String>,
    /// Entries before this time
    #[arg(long, value_name = "TIME", requires = "audit")]
    pub(super) to: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The file to write; default: standard output
    pub(super) file: Option<std::path::PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Begin after this revision; default: with what happens next
    #[arg(long, value_name = "REVISION")]
    pub(super) from: Option<u64>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).multiple(true).args(["device", "user"]))]
pub(super) struct Explain {
    /// The DeviceId
    #[arg(long)]
    pub(super) device: Option<String>,
    /// The user, as he logs in or by his address
    #[arg(long)]
    pub(super) user: Option<String>,
    /// User-Agent of the request
    #[arg(long)]
    pub(super) agent: Option<String>,
    /// DeviceType of the request
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) device_type: Option<String>,
    /// ActiveSync command or EWS operation
    #[arg(long)]
    pub(super) command: Option<String>,
    /// Address of the client
    #[arg(long, value_name = "ADDRESS")]
    pub(super) address: Option<String>,
    /// Host of the request
    #[arg(long)]
    pub(super) host: Option<String>,
    /// Path of the request
    #[arg(long)]
    pub(super) path: Option<String>,
    /// Method of the request; with one, what the client does not say of itself counts as not said
    #[arg(long)]
    pub(super) method: Option<String>,
    /// Version of the protocol that the client speaks
    #[arg(long, value_name = "VERSION")]
    pub(super) protocol_version: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_table_is_sound() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn connection_flags_stand_before_or_after_the_verb() {
        for line in [
            "sync-compliance --admin http://a:1 --json get D1 --token-file t",
            "sync-compliance get D1 --admin http://a:1 --token-file t --json",
        ] {
            let connection = parse(line).unwrap().connection;
            assert_eq!(connection.admin.as_deref(), Some("http://a:1"));
            assert_eq!(connection.token_file.unwrap().to_str(), Some("t"));
            assert!(connection.json);
        }
    }

    #[test]
    fn what_is_no_sentence_is_refused() {
        for line in [
            "sync-compliance",
            "sync-compliance block",
            "sync-compliance block D1 --user alice",
            "sync-compliance unblock D1 --reason x",
            "sync-compliance unblock D1 --expires 8h",
            "sync-compliance get",
            "sync-compliance list --verdict deny",
            "sync-compliance list --would-block --verdict block",
            "sync-compliance import",
            "sync-compliance explain",
            "sync-compliance explain --command Sync",
            "sync-compliance watch --from yesterday",
            // Verbs of later issues are absent, not stubs.
            "sync-compliance wipe",
            "sync-compliance wipe D1 --cancel --account-only",
            "sync-compliance resync D1 --account-only",
            "sync-compliance pull --interval 5m",
            // For ever is no reason to look away for ever.
            "sync-compliance pull --daemon --force",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn every_verb_has_its_sentence() {
        for line in [
            "sync-compliance block D1 --reason lost --expires 8h",
            "sync-compliance block --user alice@corp.example",
            "sync-compliance unblock --user alice@corp.example",
            "sync-compliance allow D1",
            "sync-compliance quarantine D1",
            "sync-compliance wipe D1 --account-only --user alice --reason sold",
            "sync-compliance wipe D1 --cancel",
            "sync-compliance resync D1",
            "sync-compliance reprovision D1 --reason new-policy",
            "sync-compliance get D1 --user alice",
            "sync-compliance list --user a --verdict block --unknown",
            "sync-compliance import - --snapshot --format csv --source mdm --strict --dry-run",
            "sync-compliance export",
            "sync-compliance export all.ndjson",
            "sync-compliance watch --from 12",
            "sync-compliance explain --device D --user u --agent a --type t --command Sync",
            "sync-compliance import f --snapshot --force",
            "sync-compliance plan policies.toml",
            "sync-compliance plan - --snapshot --source mdm --limit 10",
            "sync-compliance policies check",
            "sync-compliance pull --source uem --dry-run",
            "sync-compliance pull --daemon --interval 5m --sources s.toml",
            "sync-compliance import f --format seg-v2",
            "sync-compliance policies show",
            "sync-compliance policies test cases.toml --policies p.toml",
            "sync-compliance report --csv",
            "sync-compliance report --audit --from 2026-11-22T00:00:00Z",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }
}
