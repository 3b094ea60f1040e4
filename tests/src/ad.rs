//! The Active Directory of the interop tests: Samba, and an Apache behind its tickets, started by
//! `tests/interop/ad/lab.sh`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, Weak};

use serde_json::Value;

use crate::GatewayBuilder;
use crate::authority::Identity;
use crate::workspace_root;

/// A running lab; the last handle that is dropped ends it.
#[derive(Debug)]
pub struct Lab {
    folder: PathBuf,
    address: String,
    password: String,
}

/// Tests run beside each other and share one lab while any of them needs it.
static SHARED: Mutex<Weak<Lab>> = Mutex::new(Weak::new());

impl Lab {
    /// The lab that is running, or a new one. What a test makes in its directory has names of its
    /// own, and what others rely on stays.
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
        let lab = Arc::new(Self::own());
        *shared = Arc::downgrade(&lab);
        lab
    }

    /// A lab for one test alone, which may take it apart.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn own() -> Self {
        Self::of_realm("CORP.EXAMPLE")
    }

    /// A lab of another forest, with the same people.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn of_realm(realm: &str) -> Self {
        let output = script(&["start", realm]);
        let description: Value =
            serde_json::from_slice(&output.stdout).expect("lab.sh prints JSON");
        let text = |field: &str| {
            let text = description[field].as_str();
            text.expect("a text in the description").to_owned()
        };
        Self {
            folder: text("folder").into(),
            address: text("address"),
            password: text("password"),
        }
    }

    /// Where everything listens: the domain controller, and the web server on port 443.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The password of every user.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// A file of the lab.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A certificate of `pki`, with its key.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn identity(&self, name: &str) -> Identity {
        let read = |suffix: &str| {
            let path = self.folder.join("pki").join(format!("{name}.{suffix}"));
            std::fs::read_to_string(path).expect("a file of the lab")
        };
        Identity {
            certificate: read("pem"),
            key: read("key"),
        }
    }

    /// `samba-tool` on the directory.
    ///
    /// # Panics
    /// When it fails.
    pub fn tool(&self, arguments: &[&str]) {
        let folder = self.folder();
        script(&[&["tool", &folder], arguments].concat());
    }

    /// Sets an attribute of an account.
    ///
    /// # Panics
    /// When the directory refuses it.
    pub fn attribute(&self, account: &str, name: &str, value: &str) {
        script(&["attribute", &self.folder(), account, name, value]);
    }

    /// Makes an account with the service name `HTTP/<name>` under the realm's domain; its keytab.
    ///
    /// # Panics
    /// When the directory refuses it.
    #[must_use]
    pub fn service(&self, name: &str) -> PathBuf {
        let keytab = self.path(&format!("keytabs/{name}.keytab"));
        let path = keytab.display().to_string();
        let principal = format!("--principal={name}@CORP.EXAMPLE");
        self.tool(&["user", "create", name, "--random-password"]);
        // AES, for tickets and keytabs alike.
        self.attribute(name, "msDS-SupportedEncryptionTypes", "24");
        self.tool(&["spn", "add", &format!("HTTP/{name}.corp.example"), name]);
        self.tool(&["domain", "exportkeytab", &path, &principal]);
        keytab
    }

    /// Ends the domain controller, or starts it again.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn domain_controller(&self, verb: &str) {
        script(&["dc", &self.folder(), verb]);
    }

    /// Adds a second domain controller; its address.
    ///
    /// # Panics
    /// When it can't join.
    #[must_use]
    pub fn second_domain_controller(&self) -> String {
        let output = script(&["second", &self.folder()]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Tries a wrong password for an account.
    ///
    /// # Panics
    /// When it is right.
    pub fn wrong_password(&self, account: &str) {
        use std::io::Write as _;
        let mut kinit = self
            .command("kinit", Path::new("MEMORY:"))
            .arg(format!("{account}@CORP.EXAMPLE"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("kinit runs");
        let mut stdin = kinit.stdin.take().expect("a pipe");
        // Whether it reads all of it is its business.
        let _read = writeln!(stdin, "wrong");
        drop(stdin);
        assert!(!kinit.wait().expect("kinit ends").success());
    }

    /// A web server that tells whether a ticket was bound to its TLS connection.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn bound_server(&self) -> BoundServer {
        self.bound_server_with(None)
    }

    /// The same with the answers to ActiveSync commands that stand in a folder.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn bound_server_with(&self, answers: Option<&Path>) -> BoundServer {
        use std::io::BufRead as _;
        let mut child = Command::new("python3")
            .arg(workspace_root().join("tests/interop/ad/bound_server.py"))
            .arg(&self.folder)
            .arg(&self.address)
            .args(answers)
            .env("KRB5_CONFIG", self.path("krb5.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let stdout = child.stdout.take().expect("a pipe");
        let mut line = String::new();
        std::io::BufReader::new(stdout)
            .read_line(&mut line)
            .expect("it says its port");
        let port = line.trim().parse().expect("a port");
        BoundServer { child, port }
    }

    /// A program that uses the lab's Kerberos, with a ticket cache of its own.
    #[must_use]
    pub fn command(&self, program: &str, cache: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("KRB5_CONFIG", self.path("krb5.conf"))
            .env("KRB5CCNAME", cache)
            .stdin(Stdio::null());
        command
    }

    fn folder(&self) -> String {
        self.folder.display().to_string()
    }
}

impl GatewayBuilder {
    /// Before the lab's directory: its people are asked about there, in the names of its domain.
    #[must_use]
    pub fn directory(self, lab: &Lab) -> Self {
        let ca = lab.path("pki/ca.pem").display().to_string();
        self.set("identity.default.domain", "corp.example")
            .set("identity.domain.map", "CORP=corp.example")
            .set("directory.url", format!("ldaps://{}", lab.address()))
            .set("directory.ca.path", ca)
            .set("directory.base", "DC=corp,DC=example")
    }

    /// With an account of its own in there, for people who come without a password.
    #[must_use]
    pub fn directory_account(self, lab: &Lab) -> Self {
        self.set("directory.bind.user", "svc-ldap@corp.example")
            .set("directory.bind.password", lab.password())
    }
}

/// See [`Lab::bound_server`]; it ends when dropped.
#[derive(Debug)]
pub struct BoundServer {
    child: std::process::Child,
    /// Where it listens, on the lab's address.
    pub port: u16,
}

impl Drop for BoundServer {
    fn drop(&mut self) {
        let _already_ended = self.child.kill();
        let _already_collected = self.child.wait();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        script(&["stop", &self.folder()]);
    }
}

fn script(arguments: &[&str]) -> Output {
    let path = workspace_root().join("tests/interop/ad/lab.sh");
    let output = Command::new("bash")
        .arg(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    assert!(
        output.status.success(),
        "lab.sh {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
