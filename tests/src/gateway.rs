//! A gateway under test: `seg run` as a process of its own, on free ports, in a folder of its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use seg_core::sandbox::Sandbox;
use serde_json::Value;
use tempfile::TempDir;

use crate::admin::Admin;
use crate::authority::{Authority, Identity};
use crate::eas::Request;
use crate::eventually;
use crate::message::Message;
use crate::program::program;
use crate::wire::Wire;

/// What a gateway is started with.
pub struct GatewayBuilder {
    properties: BTreeMap<String, String>,
    environment: Vec<(String, String)>,
    listen: SocketAddr,
    folder: TempDir,
    authority: Authority,
    names: Vec<String>,
    passed: Option<TcpListener>,
}

/// A running gateway; it is killed when dropped.
pub struct Gateway {
    child: Child,
    environment: Vec<(String, String)>,
    folder: TempDir,
    passed: Option<TcpListener>,
    /// Where phones connect.
    pub address: SocketAddr,
    /// The authority that signed its certificate, in PEM.
    pub ca_pem: String,
    /// Its admin API.
    pub admin: Admin,
}

/// The process of a gateway that another has followed; it is killed when dropped.
pub struct Former(Child);

impl GatewayBuilder {
    /// Writes a file beside the properties and returns its path.
    ///
    /// # Panics
    /// When the folder can't be written.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).expect("the folder can be written");
        path
    }

    /// A file in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where phones will connect.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Sets a property.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.properties.insert(key.to_owned(), value.into());
        self
    }

    /// Sets a variable of its environment, for every start of it.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Puts a piece of C between it and the C library, for every start of it.
    ///
    /// # Panics
    /// When it can't be compiled.
    #[must_use]
    pub fn preload(self, name: &str, source: &str) -> Self {
        let source = self.file(name, source);
        let library = source.with_extension("so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .args(["-ldl"])
            .status()
            .expect("a C compiler, as Rust itself needs one");
        assert!(compiled.success(), "{compiled}");
        self.environment("LD_PRELOAD", library.display().to_string())
    }

    /// Passes it a listening socket, as a service manager does, for phones to connect to.
    ///
    /// # Panics
    /// When the socket has no address.
    #[must_use]
    pub fn passed(mut self, listener: TcpListener) -> Self {
        self.listen = listener.local_addr().expect("a socket that is bound");
        self.passed = Some(listener);
        // The only descriptor that can be passed without more ado is the first.
        self.environment("LISTEN_FDS", "1")
            .environment("LISTEN_FDS_FIRST_FD", "0")
    }

    /// Gives its certificate further names.
    #[must_use]
    pub fn names(mut self, names: &[&str]) -> Self {
        self.names
            .extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// The mail server behind it, trusted by this authority.
    #[must_use]
    pub fn upstream(self, url: &str, ca_pem: &str) -> Self {
        let ca = self.file("upstream-ca.pem", ca_pem);
        self.set("email.server.host.and.port", url)
            .set("email.server.ca.path", ca.display().to_string())
    }

    /// Writes its properties without starting it, and returns their path.
    #[must_use]
    pub fn properties(&self) -> PathBuf {
        self.write_properties();
        self.path("application.properties")
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it ends, or never gets ready; its log is shown.
    pub async fn start(self) -> Gateway {
        let (listen, admin) = (self.listen, free_address());
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let identity = self.authority.server(&names);
        let (certificate, key) = identity.write(self.folder.path(), "server");
        let builder = self
            .set("server.listen", listen.to_string())
            .set("admin.listen", admin.to_string())
            .set(
                "server.tls.certificate.path",
                certificate.display().to_string(),
            )
            .set("server.tls.private.key.path", key.display().to_string());
        let mut gateway = Gateway {
            child: builder.spawn(),
            address: listen,
            ca_pem: builder.authority.pem(),
            admin: Admin {
                address: admin,
                token: String::new(),
            },
            environment: builder.environment,
            folder: builder.folder,
            passed: builder.passed,
        };
        gateway.until_ready().await;
        gateway.read_token();
        gateway
    }

    fn spawn(&self) -> Child {
        self.write_properties();
        spawn(
            self.folder.path(),
            &self.environment,
            self.passed.as_ref(),
            &[],
        )
    }

    fn write_properties(&self) {
        let lines: String = self
            .properties
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect();
        self.file("application.properties", lines);
    }
}

impl Gateway {
    /// A gateway before a sandbox: EAS and EWS open, unknown devices allowed.
    #[must_use]
    pub fn before(sandbox: &Sandbox) -> GatewayBuilder {
        let ca = sandbox.ca_pem().unwrap_or_default();
        Self::alone().upstream(&sandbox.url(), ca)
    }

    /// A gateway before several sandboxes that stand in for each other.
    #[must_use]
    pub fn before_all(sandboxes: &[&Sandbox]) -> GatewayBuilder {
        let urls: Vec<String> = sandboxes.iter().map(|sandbox| sandbox.url()).collect();
        let authorities: String = sandboxes
            .iter()
            .filter_map(|sandbox| sandbox.ca_pem())
            .collect();
        let urls = urls.join(",");
        if authorities.is_empty() {
            return Self::alone().set("email.server.host.and.port", urls);
        }
        Self::alone().upstream(&urls, &authorities)
    }

    /// A gateway without a mail server behind it.
    ///
    /// # Panics
    /// When no folder can be made for it.
    #[must_use]
    pub fn alone() -> GatewayBuilder {
        let folder = tempfile::Builder::new()
            .prefix("seg-e2e-")
            .tempdir()
            .expect("a temporary folder");
        let builder = GatewayBuilder {
            properties: BTreeMap::new(),
            environment: Vec::new(),
            listen: free_address(),
            folder,
            authority: Authority::new(),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            passed: None,
        };
        builder
            .set("data.dir", "data")
            .set("enable.boxer.ens.ews.proxy", "true")
            .set("compliance.unknown.device", "allow")
            .set("identity.default.domain", "sandbox.example")
    }

    /// A connection to it.
    ///
    /// # Panics
    /// When there is none.
    pub async fn connect(&self) -> Wire {
        Wire::connect(self.address, &self.ca_pem).await
    }

    /// A connection to it with a client certificate.
    ///
    /// # Panics
    /// When there is none.
    pub async fn connect_as(&self, identity: &Identity) -> Wire {
        Wire::connect_as(self.address, &self.ca_pem, Some(identity)).await
    }

    /// One request on a connection of its own.
    ///
    /// # Panics
    /// When it is not answered.
    pub async fn ask(&self, request: &Request) -> Message {
        let mut wire = self.connect().await;
        wire.send(request.bytes()).await;
        wire.answer().await
    }

    /// The file with the authority of its certificate.
    ///
    /// # Panics
    /// When the folder can't be written.
    pub fn ca_path(&self) -> PathBuf {
        let path = self.folder.path().join("ca.pem");
        fs::write(&path, &self.ca_pem).expect("the folder can be written");
        path
    }

    /// The file with the token of its admin API.
    #[must_use]
    pub fn token_path(&self) -> PathBuf {
        self.folder.path().join("data/admin.token")
    }

    /// A file in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its own process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        let path = self.folder.path().join("log");
        fs::read_to_string(path).unwrap_or_default()
    }

    /// The events it has logged so far.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.log()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for an event that `is_meant`, and returns it.
    ///
    /// # Panics
    /// When it never comes.
    pub async fn event(&self, what: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || async {
            self.events().into_iter().find(|event| is_meant(event))
        })
        .await
    }

    /// Sends a signal by its name, as `kill` does.
    ///
    /// # Panics
    /// When it can't be sent.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status()
            .expect("kill runs");
        assert!(status.success(), "kill -{name}: {status}");
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it doesn't.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let mut ended = || child.try_wait().expect("the child can be asked");
        eventually("the gateway's end", || std::future::ready(ended())).await
    }

    /// Kills it (SIGKILL) and starts it again in the same folder, on the same ports.
    ///
    /// # Panics
    /// When it does not come back.
    pub async fn restart_after_kill(&mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child has ended");
        self.child = spawn(
            self.folder.path(),
            &self.environment,
            self.passed.as_ref(),
            &[],
        );
        self.until_ready().await;
        self.read_token();
    }

    /// Has a process take over that is started in the same folder, and returns the one before.
    ///
    /// # Panics
    /// When it does not.
    pub async fn take_over(&mut self) -> Former {
        let taken = || self.log().matches("another gateway serves now").count();
        let before = taken();
        let mut child = spawn(
            self.folder.path(),
            &self.environment,
            None,
            &["--take-over"],
        );
        eventually("a gateway that serves in the place of another", || {
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                panic!("it has ended with {status}:\n{}", self.log());
            }
            std::future::ready((taken() > before).then_some(()))
        })
        .await;
        Former(std::mem::replace(&mut self.child, child))
    }

    /// Starts a process in the same folder that is to take over, with this environment, and waits
    /// for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn fail_to_take_over(&self, name: &str, value: &str) -> ExitStatus {
        let mut environment = self.environment.clone();
        environment.push((name.to_owned(), value.to_owned()));
        let mut child = spawn(self.folder.path(), &environment, None, &["--take-over"]);
        let mut ended = || child.try_wait().expect("the child can be asked");
        eventually("its end", || std::future::ready(ended())).await
    }

    /// Stops it in the way in which it still writes its log, within a second.
    fn leave_with_log(&mut self) {
        let told = Command::new("kill")
            .args(["-INT", &self.pid().to_string()])
            .status();
        for _ in 0..100 {
            if told.is_err() || !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    async fn until_ready(&mut self) {
        let (child, admin) = (&mut self.child, &self.admin);
        let log = self.folder.path().join("log");
        eventually("a gateway that is ready", || {
            if let Some(status) = child.try_wait().expect("the child can be asked") {
                let log = fs::read_to_string(&log).unwrap_or_default();
                panic!("the gateway has ended with {status}:\n{log}");
            }
            async { admin.is_ready().await.then_some(()) }
        })
        .await;
    }

    fn read_token(&mut self) {
        let token = fs::read_to_string(self.token_path()).expect("the admin token");
        self.admin.token = token.trim().to_owned();
    }
}

impl Former {
    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// When it doesn't.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut ended = || self.0.try_wait().expect("the child can be asked");
        eventually("the former gateway's end", || std::future::ready(ended())).await
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// When it can't be asked.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        let ended = self.0.try_wait().expect("the child can be asked");
        ended.is_none()
    }
}

impl Drop for Former {
    fn drop(&mut self) {
        // It may have ended already, as the test wanted.
        let _already_ended = self.0.kill();
        let _already_collected = self.0.wait();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.leave_with_log();
        }
        // It may have ended already, as the test wanted.
        let _already_ended = self.child.kill();
        let _already_collected = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let start = log.len().saturating_sub(8_000);
            eprintln!(
                "--- the gateway's log\n{}",
                log.get(start..).unwrap_or(&log)
            );
        }
    }
}

fn spawn(
    folder: &Path,
    environment: &[(String, String)],
    passed: Option<&TcpListener>,
    further: &[&str],
) -> Child {
    let stdin = passed.map_or_else(Stdio::null, |listener| {
        let listener = listener.try_clone().expect("a second handle");
        Stdio::from(OwnedFd::from(listener))
    });
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .expect("a log file");
    let mut command = Command::new(program("seg"));
    // The environment overrides properties: the gateway gets none of the tests' own.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SEG_") {
            command.env_remove(name);
        }
    }
    command
        .args(["run", "--config"])
        .arg(folder.join("application.properties"))
        .args(further)
        .current_dir(folder)
        .envs(environment.iter().cloned())
        .stdin(stdin)
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("the gateway starts")
}

/// An address on loopback where nobody listens. It lies below the ports that the system gives to
/// outgoing connections, and no two tests of a process get the same.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run beside each other begin at different places.
    let start = u16::try_from(std::process::id() % 97).unwrap_or_default() * 100;
    for _ in 0..PORTS.len() {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + offset));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port in {PORTS:?}");
}

const PORTS: Range<u16> = 20_000..30_000;
