//! The verbs: each makes its calls and prints what came of them.

mod explain;
mod orders;
mod overrides;
mod show;
mod transfer;
mod watch;

use super::Outcome;
use super::client::Client;
use super::failure::Failure;
use super::job::Job;
use super::output::Output;

/// Runs a job to its end.
pub(super) fn run(job: Job, client: &Client, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    match job {
        Job::Override(set) => overrides::set(&set, client, output),
        Job::Unblock(target) => overrides::unblock(&target, client, output),
        Job::Order(order) => orders::give(&order, client, output),
        Job::Get(get) => show::get(&get, client, output),
        Job::List(list) => show::list(&list, client, output),
        Job::Import(import) => transfer::import(&import, client, output),
        Job::Export(file) => transfer::export(file.as_deref(), client, output),
        Job::Watch { from } => watch::watch(from, client, output),
        Job::Explain(explain) => explain::explain(&explain, client, output),
    }
}
