//! Programs in other languages: real clients, and drivers for them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Output;

use tokio::process::Command;

use crate::workspace_root;

/// A script under `tests/interop`, ready for arguments, run by the Python that `tests/run` has
/// installed the clients for.
#[must_use]
pub fn script(path: &str) -> Command {
    let mut command = Command::new(python());
    command
        .arg(folder().join(path))
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs it to its end.
///
/// # Panics
/// When it can't be run.
pub async fn output(mut command: Command) -> Output {
    let what = format!("{:?}", command.as_std().get_program());
    let output = tokio::time::timeout(SCRIPT_LIMIT, command.output()).await;
    output
        .unwrap_or_else(|_| panic!("{what} has not ended within {SCRIPT_LIMIT:?}"))
        .unwrap_or_else(|error| {
            panic!("{what} can't be run ({error}); `tests/run install` mends that")
        })
}

/// Runs a script with these arguments and expects exit code 0.
///
/// # Panics
/// With the script's words, when it fails.
pub async fn run<A: AsRef<OsStr>>(path: &str, arguments: impl IntoIterator<Item = A>) -> String {
    let mut command = script(path);
    command.args(arguments);
    let output = output(command).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{path}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

const SCRIPT_LIMIT: std::time::Duration = std::time::Duration::from_secs(300);

fn folder() -> PathBuf {
    workspace_root().join("tests/interop")
}

fn python() -> PathBuf {
    let python = std::env::var_os("SEG_TEST_PYTHON").map_or_else(
        || crate::program::target_folder().join("interop-venv/bin/python"),
        PathBuf::from,
    );
    assert!(
        python.exists(),
        "{} is missing: the interop clients are not installed; `tests/run install` mends that",
        python.display()
    );
    python
}
