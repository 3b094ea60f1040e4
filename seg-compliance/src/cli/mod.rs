//! The program `sync-compliance`, also called as `seg compliance <verb>`: the gateway's admin API
//! for people and scripts. It never opens the store; whatever it does, a running gateway does.
//!
//! A call walks one way: words ([`args`]) -> meaning ([`job`]) -> calls of the admin API
//! ([`verbs`], through [`client`]) -> lines ([`output`]) and an exit code.

mod args;
mod client;
mod failure;
mod job;
mod output;
mod settings;
mod verbs;

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use jiff::Timestamp;

use args::CommandLine;
use client::Client;
use failure::Failure;
use job::{Gateway, Job};
use output::Output;

/// How a call ended that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing to remark.
    Done,
    /// Something to look at: bad lines, an unknown device, a verdict that still blocks.
    Findings,
}

/// Runs one call and gives the exit code: 0 done, 1 done with findings, 2 not done. The first of
/// `args` is the program's name as it was called (`sync-compliance`, `seg compliance`).
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut out = BufWriter::new(std::io::stdout().lock());
    // Not locked: a spinner turns on a thread of its own.
    let mut err = std::io::stderr();
    run(args, &mut out, &mut err).into()
}

/// [`main`] on streams of the caller's choice; the exit code as a number.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let command_line = match parse(args) {
        Ok(command_line) => command_line,
        Err(text) => return usage(&text, out, err),
    };
    let mut output = Output::new(out, err, command_line.connection.json);
    let ended = call(command_line, &mut output).and_then(|outcome| {
        output.flush()?;
        Ok(outcome)
    });
    match ended {
        Ok(Outcome::Done) => 0,
        Ok(Outcome::Findings) => 1,
        Err(failure) if failure.is_closed_pipe() => 0,
        Err(failure) => {
            output.complain(&failure.to_string());
            2
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<CommandLine, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = CommandLine::command();
    if let Some(name) = args.first().and_then(|name| name.to_str())
        && name.contains(' ')
    {
        // Called as a part of another program: usage must show how to call it again.
        command = command.bin_name(name);
    }
    let mut matches = command.try_get_matches_from(args)?;
    CommandLine::from_arg_matches_mut(&mut matches)
}

/// Help goes to standard output and is no error.
fn usage<'w>(text: &clap::Error, out: &'w mut dyn Write, err: &'w mut dyn Write) -> u8 {
    let (stream, code) = if text.use_stderr() {
        (err, 2)
    } else {
        (out, 0)
    };
    // Nobody is left to be told when this fails.
    let _ = write!(stream, "{}", text.render()).and_then(|()| stream.flush());
    code
}

fn call(command_line: CommandLine, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let job = Job::of(command_line.verb, Timestamp::now())?;
    let job = match verbs::run_alone(job, output)? {
        Ok(outcome) => return Ok(outcome),
        Err(job) => job,
    };
    let client = Client::new(Gateway::find(&command_line.connection)?);
    verbs::run(job, &client, output)
}

#[cfg(test)]
mod tests;
