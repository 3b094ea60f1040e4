//! `plan`, `policies`, `report`: what would be, what is in force, and the fleet in numbers.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde_json::{Value, json};

use crate::Policies;
use crate::cli::Outcome;
use crate::cli::client::{Client, Patience};
use crate::cli::failure::Failure;
use crate::cli::job::{Import, Plan, ReportForm};
use crate::cli::output::{self, Output, plain, printable, word};
use crate::policy_tests;

/// Prints what would change; changes are findings.
pub(super) fn plan(
    plan: &Plan,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let limit = plan.limit.to_string();
    let answer = match &plan.what {
        Ok(policies) => {
            let failed = |error| Failure::file("read", policies, error);
            let mut file = BufReader::new(File::open(policies).map_err(failed)?);
            let query = [("limit", limit.as_str())];
            let waiting = super::transfer::waiting("judging every device twice");
            let answer = client.post("/v1/policies:plan", &query, "application/toml", &mut file);
            waiting.finish_and_clear();
            answer?
        }
        Err(import) => of_import(import, &limit, client)?,
    };
    // The plan of an import is a part of what the import counts.
    let whole = &answer.json;
    let found = whole.get("plan").unwrap_or(whole);
    let bad = whole.get("errors").and_then(Value::as_array);
    if output.json() {
        output.line(answer.text.trim_end())?;
    } else {
        print(found, output)?;
    }
    for error in bad.into_iter().flatten() {
        let line = error.get("line").and_then(Value::as_u64).unwrap_or(0);
        let message = word(error, "message").unwrap_or("can't be read");
        output.complain(&format!("line {line}: {message}"));
    }
    let changed = found.get("changed").and_then(Value::as_u64).unwrap_or(0);
    let clean = changed == 0 && bad.is_none_or(Vec::is_empty);
    Ok(if clean {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

fn of_import(
    import: &Import,
    limit: &str,
    client: &Client,
) -> Result<crate::cli::client::Answer, Failure> {
    let (input, length) = super::transfer::open(import.file.as_deref())?;
    let progress = super::transfer::progress(length);
    let input = progress.wrap_read(input);
    let mut records = super::transfer::records(import.format, input)?;
    let mode = if import.snapshot { "snapshot" } else { "delta" };
    let mut query = vec![
        ("mode", mode),
        ("dry_run", "true"),
        ("plan", "true"),
        ("limit", limit),
    ];
    query.extend(import.source.as_deref().map(|source| ("source", source)));
    let kind = records.content_type;
    let answer = client.post("/v1/devices:import", &query, kind, &mut records.reader);
    progress.finish_and_clear();
    answer
}

/// Prints a plan: each change, then how many.
pub(super) fn print(plan: &Value, output: &mut Output<'_>) -> Result<(), Failure> {
    let changes = plan.get("changes").and_then(Value::as_array);
    for change in changes.into_iter().flatten() {
        let verdict = |name: &str| change.get(name).map_or_else(String::new, output::decision);
        let user = change.get("user").map_or_else(String::new, plain);
        output.line(format_args!(
            "{} {user}: {} -> {}",
            change.get("device").map_or_else(String::new, plain),
            verdict("was"),
            verdict("will"),
        ))?;
    }
    let unforeseen = plan.get("unforeseen").and_then(Value::as_array);
    if let Some(policies) = unforeseen.filter(|policies| !policies.is_empty()) {
        output.line(format_args!(
            "not foreseen, because only a request tells: {}",
            policies.iter().map(plain).collect::<Vec<_>>().join(", ")
        ))?;
    }
    let number = |name: &str| plan.get(name).and_then(Value::as_u64).unwrap_or(0);
    let told = changes.map_or(0, Vec::len) as u64;
    if number("changed") > told {
        output.line(format_args!("… and {} more", number("changed") - told))?;
    }
    let verdicts = plan.get("verdicts").and_then(Value::as_object);
    let verdicts: Vec<String> = verdicts
        .into_iter()
        .flatten()
        .map(|(way, count)| format!("{} {way}", plain(count)))
        .collect();
    let detail = if verdicts.is_empty() {
        String::new()
    } else {
        format!(": {}", verdicts.join(", "))
    };
    output.line(format_args!(
        "{} devices looked at, {} would have another verdict{detail}",
        number("devices"),
        number("changed"),
    ))
}

/// Prints the policies in force.
pub(super) fn show(client: &Client, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let answer = client.get("/v1/policies", &[])?;
    let policies = answer.json.get("policies").and_then(Value::as_array);
    for policy in policies.into_iter().flatten() {
        if output.json() {
            output.line(policy)?;
            continue;
        }
        output.line(format_args!(
            "{} (line {}): {}{}",
            policy.get("id").map_or_else(String::new, plain),
            policy.get("line").map_or_else(String::new, plain),
            policy.get("action").map_or_else(String::new, plain),
            if word(policy, "mode") == Some("test") {
                ", only tried"
            } else {
                ""
            },
        ))?;
        for name in ["when", "scope", "reason", "stale"] {
            if let Some(value) = policy.get(name) {
                output.line(format_args!(
                    "     {name}: {}",
                    printable(&value.to_string())
                ))?;
            }
        }
    }
    Ok(Outcome::Done)
}

/// Reads a policies file as the gateway would, without one.
pub(super) fn check(file: &Path, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let read = read(file)?;
    if output.json() {
        output.line(match &read {
            Ok(policies) => json!({ "policies": policies.iter().count(), "error": null }),
            Err(error) => json!({
                "policies": null,
                "error": {
                    "policy": error.policy,
                    "line": error.line,
                    "column": error.column,
                    "message": error.message,
                },
            }),
        })?;
    }
    match read {
        Ok(_) if output.json() => {}
        Ok(policies) => output.line(format_args!(
            "{}: {} policies, none wrong",
            file.display(),
            policies.iter().count()
        ))?,
        Err(error) => {
            output.complain(&format!("{}: {error}", file.display()));
            return Ok(Outcome::Findings);
        }
    }
    Ok(Outcome::Done)
}

/// Runs the cases of a file against policies, without a gateway.
pub(super) fn test(file: &Path, cases: &Path, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let policies = match read(file)? {
        Ok(policies) => policies,
        Err(error) => {
            output.complain(&format!("{}: {error}", file.display()));
            return Ok(Outcome::Findings);
        }
    };
    let text =
        std::fs::read_to_string(cases).map_err(|error| Failure::file("read", cases, error))?;
    let ran = policy_tests::run(&policies, &text)
        .map_err(|error| Failure::Usage(format!("{}: {error}", cases.display())))?;
    let failed = ran.iter().filter(|case| case.failure.is_some()).count();
    for case in &ran {
        match &case.failure {
            _ if output.json() => output.line(json!({
                "case": case.name,
                "passed": case.failure.is_none(),
                "failure": case.failure,
            }))?,
            None => output.line(format_args!("ok      {}", case.name))?,
            Some(why) => output.line(format_args!("FAILED  {}: {why}", case.name))?,
        }
    }
    if !output.json() {
        let passed = ran.len() - failed;
        output.line(format_args!("{passed} passed, {failed} failed"))?;
    }
    Ok(if failed == 0 {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

fn read(file: &Path) -> Result<Result<Policies, crate::policy::PolicyError>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| Failure::file("read", file, error))?;
    Ok(Policies::parse(&text))
}

/// Prints the report, or the audit trail.
pub(super) fn report(
    form: &ReportForm,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    match form {
        ReportForm::Csv => {
            let response = client.open("/v1/report", &[("format", "csv")], Patience::Endless)?;
            let mut body = response.into_body().into_reader();
            super::transfer::copy(&mut body, output.raw(), client, Failure::Output)?;
        }
        ReportForm::Audit { from, to } => {
            let mut after = 0;
            loop {
                let text = after.to_string();
                let mut query = vec![("after", text.as_str())];
                query.extend(from.as_deref().map(|from| ("from", from)));
                query.extend(to.as_deref().map(|to| ("to", to)));
                let page = client.lines("/v1/audit", &query)?;
                for entry in &page {
                    output.line(entry)?;
                }
                let last = page.last().and_then(|entry| entry.get("number")?.as_u64());
                match last {
                    Some(last) if last > after => after = last,
                    _ => break,
                }
            }
        }
        ReportForm::Table => {
            let waiting = super::transfer::waiting("counting every device");
            let answer = client.get("/v1/report", &[]);
            waiting.finish_and_clear();
            let answer = answer?;
            if output.json() {
                output.line(answer.text.trim_end())?;
            } else {
                table(&answer.json, output)?;
            }
        }
    }
    Ok(Outcome::Done)
}

fn table(report: &Value, output: &mut Output<'_>) -> Result<(), Failure> {
    let number = |row: &Value, name: &str| row.get(name).and_then(Value::as_i64).unwrap_or(0);
    output.line(format_args!(
        "{} devices with a record, {} seen without one",
        number(report, "devices"),
        number(report, "unknown")
    ))?;
    output.line(format_args!(
        "{:<10} {:<34} {:>9} {:>9} {:>11} {:>9}",
        "by", "", "devices", "allowed", "quarantined", "blocked"
    ))?;
    for row in report
        .get("rows")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let value = row.get("value").map_or_else(String::new, plain);
        let value = if value.is_empty() {
            "(not reported)".to_owned()
        } else {
            value
        };
        output.line(format_args!(
            "{:<10} {value:<34} {:>9} {:>9} {:>11} {:>9}",
            word(row, "kind").unwrap_or_default(),
            number(row, "devices"),
            number(row, "allow"),
            number(row, "quarantine"),
            number(row, "block"),
        ))?;
    }
    for source in report
        .get("sources")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        output.line(format_args!(
            "source {}: reported {} ({} s ago){}",
            source.get("source").map_or_else(String::new, plain),
            source.get("reported").map_or_else(String::new, plain),
            number(source, "age_seconds"),
            if source.get("stale") == Some(&Value::Bool(true)) {
                ", too old"
            } else {
                ""
            },
        ))?;
    }
    Ok(())
}
