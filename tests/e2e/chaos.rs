//! Mail servers that are killed, stopped, slow and that cut connections, for a minute under load:
//! what may be repeated succeeds, nothing hangs, nothing is sent twice, and everybody has counted
//! the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seg_core::sandbox::{End, Filter, Kind, Play, Sandbox, SandboxOptions, Script, requests};
use seg_tests::eas::{Request, soap};
use seg_tests::gateway::free_address;
use seg_tests::program::program;
use seg_tests::wire::Wire;
use seg_tests::{Gateway, eventually};
use tempfile::TempDir;

use crate::sandbox::{folder_sync, is_served};

const CLIENTS: usize = 12;
/// How long it goes on, and how often something else goes wrong.
const ALTOGETHER: Duration = Duration::from_secs(60);
const EACH: Duration = Duration::from_millis(1500);

const GET_INBOX: &str = "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/></m:FolderIds></m:GetFolder>";

/// A server as a process of its own, to be killed and stopped.
struct Server {
    address: SocketAddr,
    diary: PathBuf,
    child: Child,
}

impl Server {
    async fn start(folder: &TempDir, name: &str) -> Self {
        let (address, diary) = (free_address(), folder.path().join(name));
        let child = Self::spawn(address, &diary);
        let server = Self {
            address,
            diary,
            child,
        };
        server.until_it_listens().await;
        server
    }

    fn spawn(address: SocketAddr, diary: &PathBuf) -> Child {
        Command::new(program("seg"))
            .args(["sandbox", "--plain", "--listen", &address.to_string()])
            .arg("--diary")
            .arg(diary)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a sandbox starts")
    }

    async fn until_it_listens(&self) {
        eventually("a server that listens", || async {
            tokio::net::TcpStream::connect(self.address).await.ok()
        })
        .await;
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name}");
    }

    fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A stopped process can be killed too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one client, or all of them, were answered: kind of request and status to how often.
type Answers = BTreeMap<(&'static str, u16), u64>;

/// What one client has seen.
#[derive(Default)]
struct Seen {
    answers: Answers,
    /// Mails that were accepted, and those of which nobody knows.
    accepted: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

async fn client(address: SocketAddr, ca: String, number: usize, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let device = format!("CHAOS{number}");
    let mut wire: Option<Wire> = None;
    for turn in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let mut open = match wire.take() {
            Some(open) => open,
            None => Wire::connect(address, &ca).await,
        };
        let mail = format!("{device}-{turn}");
        let (kind, request) = match turn % 3 {
            0 => ("FolderSync", folder_sync(&device)),
            1 => ("GetFolder", Request::ews("alice", &soap(GET_INBOX))),
            _ => {
                let body = requests::send_mail(&mail);
                ("SendMail", Request::eas("SendMail", "alice", &device, body))
            }
        };
        open.send(request.bytes()).await;
        let answer = open.try_answer(false).await;
        let answer = answer.unwrap_or_else(|| panic!("{kind} of {device}: no answer"));
        *seen.answers.entry((kind, answer.status())).or_default() += 1;
        match (kind, answer.status()) {
            ("FolderSync", 200) => assert!(is_served(&answer), "{answer:?}"),
            ("GetFolder", 200) => {}
            ("SendMail", 200) => drop(seen.accepted.insert(mail)),
            // Half of it was said: whether it was sent nobody can know, and it is not repeated.
            ("SendMail", 502) => drop(seen.unknown.insert(mail)),
            ("SendMail", 503) => {
                assert!(answer.header("retry-after").is_some(), "{answer:?}");
                seen.unknown.insert(mail);
            }
            (kind, status) => panic!("{kind} was answered {status}: {answer:?}"),
        }
        if answer.header("connection") != Some("close") {
            wire = Some(open);
        }
    }
    seen
}

/// One thing after the other goes wrong. At no time more than two servers are in a bad way, so that
/// a request which may go on to two further ones always finds a good one.
async fn chaos(processes: &mut [Server; 2], sandboxes: [&Sandbox; 2]) {
    let mail = [Kind::Eas, Kind::Ews];
    let on = |sandbox: &Sandbox, play: Play, delay: Duration| {
        for kind in mail {
            let script = Script::new(Filter::kind(kind), play.clone());
            sandbox.script(script.always().delay(delay));
        }
    };
    let half_a_head = Play::Raw {
        bytes: "HTTP/1.1 200 OK\r\nContent-Le".into(),
        end: End::Drop,
    };
    let mut steps = tokio::time::interval(EACH);
    let until = tokio::time::Instant::now() + ALTOGETHER;
    for round in 0.. {
        steps.tick().await;
        if tokio::time::Instant::now() >= until {
            break;
        }
        let process = &mut processes[round / 2 % 2];
        let sandbox = sandboxes[round / 2 % 2];
        match round % 8 {
            0 | 6 => {
                process.kill();
                on(sandbox, Play::Close, Duration::ZERO);
            }
            2 => {
                process.signal("STOP");
                on(sandbox, half_a_head.clone(), Duration::ZERO);
            }
            4 => {
                process.signal("STOP");
                on(sandbox, Play::Ordinary, Duration::from_millis(400));
            }
            // And is well again.
            _ => {
                sandbox.clear_scripts();
                if process.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                    process.child = Server::spawn(process.address, &process.diary);
                    process.until_it_listens().await;
                } else {
                    process.signal("CONT");
                }
            }
        }
    }
    for sandbox in sandboxes {
        sandbox.clear_scripts();
    }
    for process in processes {
        // Which of them runs is not told here.
        let _ = process.child.try_wait().map(|ended| {
            if ended.is_none() {
                process.signal("CONT");
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minute_of_failing_servers_under_load() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut processes = [
        Server::start(&folder, "killed-1").await,
        Server::start(&folder, "killed-2").await,
    ];
    let sandbox = |name: &str| {
        Sandbox::start(SandboxOptions {
            diary: Some(folder.path().join(name)),
            ..SandboxOptions::plain()
        })
        .expect("a sandbox")
    };
    let (one, other) = (sandbox("scripted-1"), sandbox("scripted-2"));
    let [a, b] = processes.each_ref().map(Server::url);
    let urls = [a, b, one.url(), other.url()].join(",");
    let gateway = Gateway::alone()
        .set("email.server.host.and.port", urls)
        .set("email.server.timeout.connect.seconds", "2")
        .set("email.server.timeout.response.seconds", "1")
        .set("email.server.health.interval.seconds", "1")
        .set("email.server.health.threshold", "1")
        .start()
        .await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (address, ca) = (gateway.address, gateway.ca_pem.clone());
            tokio::spawn(client(address, ca, number, Arc::clone(&stop)))
        })
        .collect();
    chaos(&mut processes, [&one, &other]).await;
    stop.store(true, Ordering::SeqCst);
    let mut all = Seen::default();
    for client in clients {
        let seen = client.await.expect("a client that was answered to the end");
        for (what, times) in seen.answers {
            *all.answers.entry(what).or_default() += times;
        }
        all.accepted.extend(seen.accepted);
        all.unknown.extend(seen.unknown);
    }
    eprintln!("{:?}", all.answers);

    // What the servers have written down.
    let names = ["killed-1", "killed-2", "scripted-1", "scripted-2"];
    let diaries: String = names
        .map(|name| std::fs::read_to_string(folder.path().join(name)).expect("a diary"))
        .concat();
    let mut sent: BTreeMap<&str, u64> = BTreeMap::new();
    for line in diaries.lines() {
        if let Some(mail) = line.strip_prefix("Sent ") {
            *sent.entry(mail).or_default() += 1;
        }
    }
    let twice: Vec<_> = sent.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    let lost: Vec<_> = all
        .accepted
        .iter()
        .filter(|mail| !sent.contains_key(mail.as_str()))
        .collect();
    assert!(lost.is_empty(), "accepted and never sent: {lost:?}");
    for mail in sent.keys() {
        let asked = all.accepted.contains(*mail) || all.unknown.contains(*mail);
        assert!(asked, "{mail} was sent by nobody");
    }
    for kind in ["FolderSync", "GetFolder"] {
        let arrived = diaries.lines().filter(|line| line.starts_with(kind));
        let arrived = arrived.count() as u64;
        let answered = all.answers.get(&(kind, 200)).copied().unwrap_or_default();
        assert!(
            answered > 0 && arrived >= answered,
            "{kind}: {arrived} for {answered}"
        );
    }

    // What the gateway has counted, once it has counted the last.
    for ((kind, status), times) in &all.answers {
        let labels = [
            format!("command=\"{kind}\""),
            format!("status=\"{status}\""),
        ];
        let labels = labels.each_ref().map(String::as_str);
        let count = || gateway.admin.metric("seg_requests_total", &labels);
        eventually("the gateway's count", || async {
            (count().await == *times as f64).then_some(())
        })
        .await;
    }
    // The chaos was one: servers failed, and requests went on to others.
    assert!(gateway.admin.metric("seg_upstream_moves_total", &[]).await > 0.0);
    assert!(!all.unknown.is_empty());
}
