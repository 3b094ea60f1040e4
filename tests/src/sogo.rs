//! The real mail server of the interop tests: SOGo, started by `tests/interop/sogo/lab.py`.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, Weak};

use serde_json::Value;

use crate::workspace_root;

/// A running lab; the last handle that is dropped ends it.
#[derive(Debug)]
pub struct Lab {
    description: Value,
}

/// Tests run beside each other and share one lab while any of them needs it.
static SHARED: Mutex<Weak<Lab>> = Mutex::new(Weak::new());

impl Lab {
    /// The lab that is running, or a new one.
    ///
    /// # Panics
    /// When it does not start; the message says which package is missing.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        // A test that panicked in here leaves no lab behind it.
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(lab) = shared.upgrade() {
            return lab;
        }
        let output = script(&["start"]);
        let description = serde_json::from_slice(&output.stdout).expect("lab.py prints JSON");
        let lab = Arc::new(Self { description });
        *shared = Arc::downgrade(&lab);
        lab
    }

    /// The port of its TLS front on 127.0.0.1.
    ///
    /// # Panics
    /// When lab.py did not say.
    #[must_use]
    pub fn port(&self) -> u16 {
        let port = self.description["https_port"].as_u64();
        port.and_then(|port| u16::try_from(port).ok())
            .expect("a port in the description")
    }

    /// The authority of its certificate, in PEM.
    ///
    /// # Panics
    /// When the file is gone.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        std::fs::read_to_string(self.text("ca")).expect("the lab's authority")
    }

    /// What the scenarios need to know of it, as arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let imap = self.description["imap_port"].to_string();
        ["--imap-port", &imap, "--sent", &self.text("sent")]
            .map(str::to_owned)
            .to_vec()
    }

    fn text(&self, field: &str) -> String {
        let text = self.description[field].as_str();
        text.expect("a path in the description").to_owned()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        script(&["stop", &self.text("state")]);
    }
}

fn script(arguments: &[&str]) -> Output {
    let path: PathBuf = workspace_root().join("tests/interop/sogo/lab.py");
    let output = Command::new("python3")
        .arg(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("python3 runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
