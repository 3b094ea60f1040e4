//! Programs in other languages: real clients, and drivers for them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::workspace_root;

/// A script under `tests/interop`, ready for arguments, run by the Python that `tests/run` has
/// installed the clients for.
#[must_use]
pub fn script(path: &str) -> Command {
    let mut command = Command::new(python());
    command
        .arg(folder().join(path))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A script for Node under `tests/interop`, with the packages that `tests/run` has installed.
///
/// # Panics
/// When they are not installed.
#[must_use]
pub fn node(path: &str) -> Command {
    let modules = crate::program::target_folder().join("interop-node/node_modules");
    assert!(
        modules.exists(),
        "{} is missing: the interop clients are not installed; `tests/run install` mends that",
        modules.display()
    );
    let mut command = Command::new("node");
    command
        .arg(folder().join(path))
        .env("NODE_PATH", modules)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// A program that is running, and that is spoken to line by line.
#[derive(Debug)]
pub struct Running {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Starts it.
    ///
    /// # Panics
    /// When it can't be run.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the program starts");
        Self {
            stdin: child.stdin.take().expect("its input"),
            lines: BufReader::new(child.stdout.take().expect("its output")).lines(),
            _child: child,
        }
    }

    /// The next line that it writes.
    ///
    /// # Panics
    /// When it ends, or writes nothing for a minute.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(LINE_LIMIT, self.lines.next_line()).await;
        line.expect("a line in time")
            .expect("a line")
            .expect("a line before the program's end")
    }

    /// Writes a line to it.
    ///
    /// # Panics
    /// When it does not listen.
    pub async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.stdin
            .write_all(line.as_bytes())
            .await
            .expect("the program listens");
    }
}

const LINE_LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

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
