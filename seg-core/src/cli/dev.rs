//! `seg dev`: a newcomer's first minute. A gateway, a sandbox mail server behind it, a phone that
//! is known, and the commands that show what the gateway is for.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use seg_compliance::record::Patch;
use tempfile::TempDir;

use crate::runtime::{Gateway, StartOptions};
use crate::sandbox::{Sandbox, SandboxOptions, User, requests};
use crate::telemetry::log::{Format, Levels, Log};
use crate::telemetry::metrics::Metrics;

/// Not done.
const NOT_DONE: u8 = 2;
/// The port of the first minute; another one is taken when it is busy.
const GATEWAY_PORT: u16 = 8443;
/// The admin API's usual port; another one is taken when it is busy.
const ADMIN_PORT: u16 = 44444;
/// The phone in the commands.
const DEVICE: &str = "SANDBOX1";
/// Whose phone it is.
const NAME: &str = "alice";
/// How long the Ping in the commands stays open when nobody blocks it: time to paste the block
/// into another terminal.
const PING_SECONDS: u32 = 30;

/// `seg dev`'s arguments.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct DevArgs {
    /// Where the gateway listens [default: 127.0.0.1:8443, or a free port if that is busy]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

/// Runs until SIGINT or SIGTERM; then everything is gone, the data folder too. 0: done; 2: not
/// started.
pub fn run(args: DevArgs) -> ExitCode {
    match dev(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seg dev: {error}");
            ExitCode::from(NOT_DONE)
        }
    }
}

fn dev(args: DevArgs) -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::start(SandboxOptions::default())?;
    let folder = tempfile::Builder::new().prefix("seg-dev-").tempdir()?;
    let stage = Stage {
        gateway: match args.listen {
            Some(address) => address,
            None => usual_or_free("the gateway", GATEWAY_PORT)?,
        },
        admin: usual_or_free("the admin API", ADMIN_PORT)?,
        folder: folder.path().to_owned(),
        program: std::env::current_exe()?,
    };
    stage.furnish(&sandbox)?;
    // Signals are taken from here on: an impatient Ctrl-C must not leave the folder behind.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = {
        let _entered = runtime.enter();
        Ended::listen()?
    };
    let metrics = Metrics::new();
    let log = Arc::new(Log::init(
        Format::Text,
        "info".parse::<Levels>()?,
        &metrics,
    )?);
    let gateway = Gateway::start(StartOptions {
        config: Some(stage.properties()),
        // Nothing from outside: what is printed must hold.
        env: Vec::new(),
        cores: None,
        log: Some(Arc::clone(&log)),
        metrics: Some(metrics),
        ..StartOptions::default()
    })?;
    let known = runtime.block_on(introduce(&gateway));
    if known.is_ok() {
        log.flush();
        print!("{}", stage.welcome());
        io::stdout().flush()?;
        runtime.block_on(ended.wait());
    }
    gateway.stop();
    log.flush();
    drop(sandbox);
    removed(folder)?;
    known
}

/// Tells the gateway of the phone, as an MDM would: who is unknown is blocked.
async fn introduce(gateway: &Gateway) -> Result<(), Box<dyn Error>> {
    let (device, record) = Patch::from_json(device_record().as_bytes())?;
    let device = device.ok_or("the record names no device")?;
    gateway.shared().engine.put_record(&device, &record).await?;
    Ok(())
}

/// What tells the process to end.
struct Ended {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Ended {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn removed(folder: TempDir) -> Result<(), Box<dyn Error>> {
    let path = folder.path().to_owned();
    folder
        .close()
        .map_err(|error| format!("{} is left behind: {error}", path.display()).into())
}

/// The usual port of 127.0.0.1, or, and then it is said, a free one.
fn usual_or_free(what: &str, port: u16) -> io::Result<SocketAddr> {
    if let Ok(probe) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        return probe.local_addr();
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    println!("Port {port} is busy: {what} is on {free}.");
    Ok(free)
}

/// Everything that the commands need: addresses, files, the program.
#[derive(Debug)]
struct Stage {
    gateway: SocketAddr,
    admin: SocketAddr,
    folder: PathBuf,
    program: PathBuf,
}

impl Stage {
    fn properties(&self) -> PathBuf {
        self.folder.join("application.properties")
    }

    /// Writes the files: configuration, the sandbox's authority, requests.
    fn furnish(&self, sandbox: &Sandbox) -> io::Result<()> {
        let write = |name: &str, bytes: &[u8]| std::fs::write(self.folder.join(name), bytes);
        write(
            "application.properties",
            self.configuration(&sandbox.url()).as_bytes(),
        )?;
        write(
            "sandbox-ca.pem",
            sandbox.ca_pem().unwrap_or_default().as_bytes(),
        )?;
        write("folder-sync.wbxml", requests::FOLDER_SYNC)?;
        write("ping.wbxml", &requests::ping(PING_SECONDS))
    }

    /// The properties file: all that differs from the defaults.
    fn configuration(&self, upstream: &str) -> String {
        format!(
            "server.listen={}\nserver.drain.seconds=1\nemail.server.host.and.port={upstream}\n\
             email.server.ca.path=sandbox-ca.pem\nenable.boxer.ens.ews.proxy=true\n\
             identity.domain.map=SANDBOX=sandbox.example\n\
             identity.default.domain=sandbox.example\ndata.dir=data\nadmin.listen={}\n\
             log.format=text\n",
            self.gateway, self.admin
        )
    }

    fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    fn token_file(&self) -> PathBuf {
        self.folder.join("data").join("admin.token")
    }

    /// What the newcomer reads.
    fn welcome(&self) -> String {
        let user = User::named(NAME);
        let mut text = format!(
            "\nThe gateway is on https://{gateway}, with a sandbox mail server behind it.\n\
             {address} (password {password}) has the phone {DEVICE}.\n\
             Mail clients that speak EWS find https://{gateway}/EWS/Exchange.asmx.\n\
             Configuration and data are in {folder}, until Ctrl-C.\n\n\
             To try, in a second terminal:\n",
            gateway = self.gateway,
            address = user.address,
            password = user.password,
            folder = self.folder.display(),
        );
        for step in self.steps() {
            let _infallible = write!(text, "\n# {}\n{}\n", step.meaning, step.command);
        }
        text.push('\n');
        text
    }

    fn steps(&self) -> Vec<Step> {
        let seg = shell_word(&self.program.to_string_lossy());
        let answer = self.file("answer.wbxml");
        let step = |meaning, command| Step { meaning, command };
        let folder_sync = || self.eas("FolderSync", "folder-sync.wbxml");
        let read = || format!("{seg} wbxml decode {answer}");
        let compliance = |verb: &str| {
            format!(
                "{seg} compliance {verb} --admin {} --token-file {}",
                self.admin_url(),
                shell_word(&self.token_file().to_string_lossy())
            )
        };
        let block = || compliance(&format!("block {DEVICE} --reason lost"));
        let unblock = || compliance(&format!("unblock {DEVICE}"));
        let address = User::named(NAME).address;
        let explain = format!("explain --device {DEVICE} --user {address} --command FolderSync");
        vec![
            step("The phone asks for its folders,", folder_sync()),
            step("and gets them.", read()),
            step("It is reported lost: block it.", block()),
            step("The same question", folder_sync()),
            step("is answered with Status 129: device blocked.", read()),
            step("Why?", compliance(&explain)),
            step("It was under the sofa.", unblock()),
            step(
                "The phone waits for mail, up to half a minute. In a third terminal, meanwhile:",
                self.eas("Ping", "ping.wbxml"),
            ),
            step("the block ends the wait at once,", block()),
            step("with Status 129 as well.", read()),
            step("And back to normal.", unblock()),
        ]
    }

    /// An ActiveSync command by curl. The answer is binary, so it goes to a file.
    fn eas(&self, command: &str, body: &str) -> String {
        let user = User::named(NAME);
        format!(
            "curl -sSk -u {address}:{password} -H 'MS-ASProtocolVersion: 14.1' \
             -H 'Content-Type: application/vnd.ms-sync.wbxml' --data-binary @{body} -o {answer} \
             -w 'HTTP %{{http_code}}, %{{size_download}} bytes\\n' \
             'https://{gateway}/Microsoft-Server-ActiveSync?Cmd={command}&User={NAME}\
             &DeviceId={DEVICE}&DeviceType=Sandbox'",
            address = user.address,
            password = user.password,
            body = self.file(body),
            answer = self.file("answer.wbxml"),
            gateway = self.gateway,
        )
    }

    fn file(&self, name: &str) -> String {
        shell_word(&self.folder.join(name).to_string_lossy())
    }
}

/// One command to paste, and what it shows.
#[derive(Debug)]
struct Step {
    meaning: &'static str,
    command: String,
}

fn device_record() -> String {
    let address = User::named(NAME).address;
    format!(
        "{{\"device_id\":\"{DEVICE}\",\"user\":\"{address}\",\"managed\":true,\"compliant\":true,\
         \"compromised\":false,\"encrypted\":true,\"platform\":\"ios\",\"model\":\"iPhone15,2\",\
         \"os_version\":\"18.1\",\"ownership\":\"corporate\"}}"
    )
}

/// The text as one word for a POSIX shell.
fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Stage {
        Stage {
            gateway: "127.0.0.1:8443".parse().unwrap(),
            admin: "127.0.0.1:44444".parse().unwrap(),
            folder: PathBuf::from("/tmp/seg dev"),
            program: PathBuf::from("/opt/it's/seg"),
        }
    }

    #[test]
    fn every_command_is_one_line_of_curl_or_of_this_program() {
        for step in stage().steps() {
            let command = &step.command;
            assert!(
                command.starts_with("curl ") || command.starts_with("'/opt/it'\\''s/seg' "),
                "{command}"
            );
            assert!(!command.contains('\n'), "{command}");
            assert!(!command.contains(" /tmp/seg dev"), "unquoted: {command}");
            if command.contains(" compliance ") {
                assert!(
                    command.contains(" --admin http://127.0.0.1:44444 "),
                    "{command}"
                );
                assert!(command.contains(" --token-file '/tmp/seg dev/data/admin.token'"));
            }
        }
    }

    #[test]
    fn the_configuration_is_accepted_without_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let stage = Stage {
            folder: folder.path().to_owned(),
            ..stage()
        };
        let sandbox = Sandbox::start(SandboxOptions::default()).unwrap();
        stage.furnish(&sandbox).unwrap();
        let loaded = crate::config::load(Some(&stage.properties()), std::iter::empty()).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert_eq!(loaded.config.admin.listen, stage.admin);
        assert_eq!(loaded.config.admin.token_path, stage.token_file());
        for file in ["folder-sync.wbxml", "ping.wbxml", "sandbox-ca.pem"] {
            assert!(
                std::fs::metadata(stage.folder.join(file)).unwrap().len() > 0,
                "{file}"
            );
        }
    }

    #[test]
    fn a_busy_port_is_stepped_around() {
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap();
        // Free again: taken as it is.
        assert_eq!(usual_or_free("test", busy.port()).unwrap(), busy);
        let held = TcpListener::bind(busy).unwrap();
        assert_ne!(
            usual_or_free("test", busy.port()).unwrap(),
            held.local_addr().unwrap()
        );
    }

    #[test]
    fn a_word_is_one_word() {
        for (text, word) in [
            ("/tmp/a-b", "/tmp/a-b"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }
}
