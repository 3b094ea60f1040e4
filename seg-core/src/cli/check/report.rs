//! What was found, part by part.

use std::fmt;

use serde::Serialize;

use crate::config::ConfigError;

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Well.
    Ok,
    /// It works, but something should be done.
    Warning,
    /// It doesn't work.
    Failed,
    /// Nothing was looked at: what is to be done elsewhere.
    Advice,
}

/// One part and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The key, with the file, folder or address that it names.
    pub part: String,
    /// How it is.
    pub state: State,
    /// What was found.
    pub message: String,
    /// How to mend it.
    pub mend: Option<String>,
}

/// All findings in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn ok(&mut self, part: &str, message: impl Into<String>) {
        self.add(part, State::Ok, message.into(), None);
    }

    pub(super) fn warning(&mut self, part: &str, message: impl Into<String>) {
        self.add(part, State::Warning, message.into(), None);
    }

    pub(super) fn fail(&mut self, part: &str, message: impl Into<String>, mend: impl Into<String>) {
        self.add(part, State::Failed, message.into(), Some(mend.into()));
    }

    pub(super) fn advise(&mut self, part: &str, message: impl Into<String>) {
        self.add(part, State::Advice, message.into(), None);
    }

    fn add(&mut self, part: &str, state: State, message: String, mend: Option<String>) {
        self.findings.push(Finding {
            part: part.to_owned(),
            state,
            message,
            mend,
        });
    }

    /// Whether a part doesn't work.
    pub fn failed(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.state == State::Failed)
    }

    pub(super) fn print(&self, json: bool) {
        for finding in &self.findings {
            match serde_json::to_string(finding) {
                Ok(line) if json => println!("{line}"),
                _ => println!("{finding}"),
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failed => "failed",
            State::Advice => "advice",
        };
        write!(f, "{state:<8} {}: {}", self.part, self.message)?;
        if let Some(mend) = &self.mend {
            write!(f, "; {mend}")?;
        }
        Ok(())
    }
}

/// A refused configuration as the admin API would say it, one problem a line.
pub(super) fn print_refusals(error: &ConfigError) {
    for problem in &error.problems {
        let body = serde_json::json!({ "error": {
            "code": "configuration",
            "message": problem.message,
            "key": problem.key,
            "line": problem.line(),
        }});
        eprintln!("{body}");
    }
}
