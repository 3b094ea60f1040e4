//! The verbs: each makes its calls and prints what came of them.

mod explain;
mod orders;
mod overrides;
mod pull;
mod questions;
mod show;
mod transfer;
mod watch;

use super::Outcome;
use super::args::PoliciesVerb;
use super::client::{Answer, Client};
use super::failure::Failure;
use super::job::Job;
use super::output::Output;

/// Runs a job that needs no gateway; gives back one that does.
pub(super) fn run_alone(
    job: Job,
    output: &mut Output<'_>,
) -> Result<Result<Outcome, Job>, Failure> {
    Ok(Ok(match job {
        Job::Policies(PoliciesVerb::Check { file }) => questions::check(&file, output)?,
        Job::Policies(PoliciesVerb::Test { cases, policies }) => {
            questions::test(&policies, &cases, output)?
        }
        job => return Ok(Err(job)),
    }))
}

/// What was asked for, or nothing: the gateway knows no such thing, and that has been said.
fn found(
    answer: Result<Answer, Failure>,
    output: &mut Output<'_>,
) -> Result<Option<Answer>, Failure> {
    match answer {
        Err(Failure::Refused(refusal)) if refusal.status == 404 => {
            output.complain(&refusal.message);
            Ok(None)
        }
        answer => answer.map(Some),
    }
}

/// Runs a job to its end.
pub(super) fn run(job: Job, client: &Client, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    match job {
        Job::Override(set) => overrides::set(&set, client, output),
        Job::Unblock(target) => overrides::unblock(&target, client, output),
        Job::Order(order) => orders::give(&order, client, output),
        Job::Unbind { device } => overrides::unbind(&device, client, output),
        Job::Get(get) => show::get(&get, client, output),
        Job::List(list) => show::list(&list, client, output),
        Job::Import(import) => transfer::import(&import, client, output),
        Job::Export(file) => transfer::export(file.as_deref(), client, output),
        Job::Watch { from } => watch::watch(from, client, output),
        Job::Explain(explain) => explain::explain(&explain, client, output),
        Job::Plan(plan) => questions::plan(&plan, client, output),
        Job::Pull(asked) => pull::pull(&asked, client, output),
        Job::Policies(PoliciesVerb::Show) => questions::show(client, output),
        alone @ Job::Policies(_) => match run_alone(alone, output)? {
            Ok(outcome) => Ok(outcome),
            Err(job) => run(job, client, output),
        },
        Job::Report(form) => questions::report(&form, client, output),
    }
}
