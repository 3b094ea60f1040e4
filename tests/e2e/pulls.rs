//! Pulls: several sources, for ever, with secrets from the environment; and a source that is asked
//! while a phone waits.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seg_tests::program::program;
use seg_tests::system::{System, json};
use seg_tests::{Gateway, eventually};

use crate::sandbox::{self, folder_sync, is_served};
use crate::sources::{called, checked};

fn source(name: &str, system: &System, more: &str) -> String {
    format!(
        "[[source]]\nname=\"{name}\"\ntype=\"json\"\nurl=\"http://{}\"\npath=\"/devices\"\n\
         items=\"$.devices\"\ntries=1\nmap={{device_id=\"$.id\",user=\"$.who\",compliant=\"$.state\"}}\n{more}",
        system.address
    )
}

fn device(id: &str) -> String {
    format!(r#"{{"id":"{id}","who":"alice@sandbox.example","state":"compliant"}}"#)
}

fn list(devices: &[&str]) -> String {
    let devices: Vec<String> = devices.iter().map(|id| device(id)).collect();
    json(
        "200 OK",
        &format!("{{\"devices\":[{}]}}", devices.join(",")),
    )
}

/// `sync-compliance` as a process of its own.
fn process(gateway: &Gateway, words: &[&str]) -> Command {
    let mut command = Command::new(program("sync-compliance"));
    command
        .arg("--config")
        .arg(gateway.path("application.properties"))
        .arg("--token-file")
        .arg(gateway.token_path())
        .args(words)
        .stdin(Stdio::null());
    command
}

/// A daemon; it ends with its test.
struct Daemon(Child);

impl Daemon {
    fn start(gateway: &Gateway, errors: Stdio) -> Self {
        let words = ["pull", "--daemon", "--interval", "20ms"];
        let mut command = process(gateway, &words);
        command.stdout(Stdio::null()).stderr(errors);
        Self(command.spawn().expect("it starts"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_source_that_fails_does_not_make_the_others_old() {
    let sandbox = sandbox::start();
    let broken = System::start(|_| Some(json("500 Internal Server Error", "{}"))).await;
    let well = System::start(|_| Some(list(&["OFWELL"]))).await;
    let builder = Gateway::before(&sandbox).set("compliance.unknown.device", "block");
    builder.file(
        "sources.toml",
        source("broken", &broken, "") + &source("well", &well, ""),
    );
    let gateway = builder.start().await;
    let (code, said) = called(&gateway, &["pull"]).await;
    assert_eq!(code, 2, "{said}");
    for part in [
        "broken: http://",
        "answers 500",
        "check url",
        "1 of 2 sources",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(is_served(&gateway.ask(&folder_sync("OFWELL")).await));
    let (code, said) = called(&gateway, &["pull", "--source", "well"]).await;
    assert!(
        code == 0 && said.contains("0 applied, 1 unchanged"),
        "{said}"
    );
}

/// Answers that are no list, one after the other; with each of them the fleet stays as it was.
#[tokio::test]
async fn nothing_that_is_no_whole_list_changes_the_fleet() {
    const FLEET: [&str; 4] = ["W0", "W1", "W2", "W3"];
    let round = Arc::new(AtomicUsize::new(0));
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<h1>Sorry</h1";
    let answers = [
        json("200 OK", "{\"devices\":[]}"),
        json("204 No Content", ""),
        list(&FLEET[..1]),
        json("200 OK", &format!("{{\"devices\":[{}", device("W0"))),
        html.to_owned(),
        json("200 OK", "{\"message\":\"maintenance\"}"),
        "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"devices\":[".to_owned(),
        "HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            .to_owned(),
        json("401 Unauthorized", "{}"),
    ];
    let count = answers.len();
    let now = Arc::clone(&round);
    let system = System::start(move |_| {
        Some(match now.load(Ordering::SeqCst) {
            0 => list(&FLEET),
            round => answers[round - 1].clone(),
        })
    })
    .await;
    let sandbox = sandbox::start();
    let builder = Gateway::before(&sandbox).set("compliance.unknown.device", "block");
    builder.file("sources.toml", source("own", &system, ""));
    let gateway = builder.start().await;
    let (code, said) = called(&gateway, &["pull"]).await;
    assert!(code == 0 && said.contains("4 read: 4 applied"), "{said}");
    for next in 1..=count {
        round.store(next, Ordering::SeqCst);
        let (code, said) = called(&gateway, &["pull"]).await;
        assert_eq!(code, 2, "answer {next}: {said}");
        let report = gateway.admin.read("/v1/report").await;
        assert_eq!(report["devices"], 4, "answer {next}: {report}");
        assert!(
            is_served(&gateway.ask(&folder_sync("W3")).await),
            "answer {next}"
        );
    }
}

#[tokio::test]
async fn a_daemon_survives_its_failing_source_and_ends_when_it_is_told() {
    let sandbox = sandbox::start();
    // It fails twice, is well for a while, and fails again.
    let asked = AtomicUsize::new(0);
    let system = System::start(move |_| {
        Some(match asked.fetch_add(1, Ordering::SeqCst) {
            0 => json("500 Internal Server Error", "{}"),
            1 => json("200 OK", "<html>"),
            2 | 3 => list(&["DAEMON1"]),
            _ => json("503 Service Unavailable", "{}"),
        })
    })
    .await;
    let builder = Gateway::before(&sandbox).set("compliance.unknown.device", "block");
    builder.file("sources.toml", source("own", &system, ""));
    let gateway = builder.start().await;
    let errors = fs::File::create(gateway.path("errors")).expect("a file");
    let mut daemon = Daemon::start(&gateway, errors.into());
    eventually("eight readings", || async {
        (system.asked().len() >= 8).then_some(())
    })
    .await;
    assert!(is_served(&gateway.ask(&folder_sync("DAEMON1")).await));
    assert_eq!(daemon.0.try_wait().expect("a child"), None, "it goes on");
    let id = daemon.0.id().to_string();
    let told = Command::new("kill").args(["-TERM", &id]).status();
    assert!(told.expect("kill runs").success());
    let ended = eventually("its end", || {
        std::future::ready(daemon.0.try_wait().expect("a child"))
    })
    .await;
    assert_eq!(ended.signal(), Some(15), "{ended}");
    let said = fs::read_to_string(gateway.path("errors")).expect("a file");
    for part in ["own: http://", "answers 500", "no JSON", "answers 503"] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

/// One that says nothing, and one that is read again and again meanwhile.
#[tokio::test]
async fn a_silent_source_does_not_keep_a_daemon_from_the_others() {
    let sandbox = sandbox::start();
    let silent = System::start(|_| None).await;
    let well = System::start(|_| Some(list(&["BESIDE"]))).await;
    let builder = Gateway::before(&sandbox).set("compliance.unknown.device", "block");
    builder.file(
        "sources.toml",
        source("silent", &silent, "timeout=\"1h\"\n") + &source("well", &well, ""),
    );
    let gateway = builder.start().await;
    let mut daemon = Daemon::start(&gateway, Stdio::null());
    eventually("three readings", || async {
        (silent.asked().len() == 1 && well.asked().len() >= 3).then_some(())
    })
    .await;
    assert!(is_served(&gateway.ask(&folder_sync("BESIDE")).await));
    assert_eq!(daemon.0.try_wait().expect("a child"), None, "it goes on");
}

// The program is waited for while the system has to answer it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_comes_from_the_environment() {
    let sandbox = sandbox::start();
    let system = System::start(|head| {
        Some(
            if head
                .to_lowercase()
                .contains("bearer of-the-environment\r\n")
            {
                list(&["BYENV"])
            } else {
                json("401 Unauthorized", "{}")
            },
        )
    })
    .await;
    let builder = Gateway::before(&sandbox).set("compliance.unknown.device", "block");
    let token = "token=\"env:SYSTEM_TOKEN_OF_THE_TEST\"\n";
    builder.file("sources.toml", source("own", &system, token));
    let gateway = builder.start().await;
    let pull = |value: Option<&str>| {
        let mut command = process(&gateway, &["pull"]);
        if let Some(value) = value {
            command.env("SYSTEM_TOKEN_OF_THE_TEST", value);
        }
        let ran = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        (ran.status.code(), said)
    };
    // Without the variable nobody is asked, and it is named.
    let (code, said) = pull(None);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("env:SYSTEM_TOKEN_OF_THE_TEST"), "{said}");
    assert_eq!(system.asked().len(), 0);
    let (code, said) = pull(Some("another"));
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("refuses the login") && !said.contains("another"),
        "{said}"
    );
    assert!(!is_served(&gateway.ask(&folder_sync("BYENV")).await));
    let (code, said) = pull(Some("of-the-environment"));
    assert_eq!(code, Some(0), "{said}");
    assert!(is_served(&gateway.ask(&folder_sync("BYENV")).await));
}

/// What `seg check` says of each kind of source, first of those that are well.
// `seg check` is waited for while the systems have to answer it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_source_is_checked() {
    let sandbox = sandbox::start();
    let broken = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&broken);
    let system = System::start(move |head| {
        let line = head.lines().next().unwrap_or_default();
        if now.load(Ordering::SeqCst) > 0 {
            return Some(json(
                "403 Forbidden",
                "{\"error\":{\"code\":\"Forbidden\"}}",
            ));
        }
        Some(match line.split([' ', '?']).nth(1).unwrap_or_default() {
            "/token" | "/api/oauth/token" => json("200 OK", "{\"access_token\":\"T\"}"),
            "/api/mdm/devices/search" => json(
                "200 OK",
                "{\"Devices\":[{\"EasIds\":{\"EasId\":[\"U1\"]}}],\"Total\":1}",
            ),
            "/api/mdm/devices" => json("404 Not Found", "{\"errorCode\":404}"),
            "/v1.0/deviceManagement/managedDevices" => json(
                "200 OK",
                "{\"value\":[{\"easDeviceId\":\"I1\"},{\"id\":\"2\"}]}",
            ),
            "/api/v2/mobile-devices/detail" => json("200 OK", "{\"totalCount\":0,\"results\":[]}"),
            "/devices" => json("200 OK", "{\"devices\":[{\"id\":\"A1\"}]}"),
            _ => json("500 Internal Server Error", "{}"),
        })
    })
    .await;
    let builder = Gateway::before(&sandbox);
    let url = format!("url=\"http://{}\"\n", system.address);
    let client = format!(
        "{url}token_url=\"http://{}/token\"\nclient_id=\"app\"\nclient_secret=\"file:secret\"\n",
        system.address
    );
    let definitions = [
        format!(
            "[[source]]\nname=\"uem\"\ntype=\"workspace-one\"\n{client}tenant_code=\"file:secret\"\non_miss=true\n"
        ),
        format!("[[source]]\nname=\"intune\"\ntype=\"intune\"\n{client}"),
        format!("[[source]]\nname=\"jamf\"\ntype=\"jamf\"\n{client}"),
        format!(
            "[[source]]\nname=\"own\"\ntype=\"json\"\n{url}path=\"/devices\"\nitems=\"$.devices\"\nmap={{device_id=\"$.id\"}}\n"
        ),
        "[[source]]\nname=\"lines\"\ntype=\"ndjson\"\npath=\"lines\"\n".to_owned(),
        "[[source]]\nname=\"table\"\ntype=\"csv\"\npath=\"table\"\n".to_owned(),
        "[[source]]\nname=\"exchange\"\ntype=\"exchange\"\npath=\"exchange\"\n".to_owned(),
        "[[source]]\nname=\"seg\"\ntype=\"seg-v2\"\npath=\"seg\"\n".to_owned(),
    ];
    builder.file("sources.toml", definitions.concat());
    builder.file("secret", "a-secret");
    builder.file("lines", "{\"device_id\":\"L1\"}\n{\"device_id\":\"L2\"}\n");
    builder.file("table", "device_id,user\nT1,alice\n");
    builder.file("exchange", "DeviceId,DeviceOS\nE1,iOS 17\n,\n");
    builder.file("seg", "Identifier,Status\nS1,Allowed\n");
    let gateway = builder.start().await;
    for (name, expected) in [
        (
            "uem",
            "answers; 1 devices on the first page, 1 of them with a DeviceId, and can be asked for one",
        ),
        (
            "intune",
            "answers; 2 devices on the first page, 1 of them with a DeviceId",
        ),
        ("jamf", "answers; 0 devices on the first page"),
        ("own", "answers; 1 devices on the first page"),
        ("lines", "a file of 2 devices"),
        ("table", "a file of 1 devices"),
        ("exchange", "a file of 2 devices, 1 of them with a DeviceId"),
        ("seg", "a file of 1 devices, 1 of them with a DeviceId"),
    ] {
        let (ok, said) = checked(&gateway, &format!("source {name}"));
        assert!(ok && said.contains(expected), "{name}: {said}");
    }
    assert!(system.count("searchby=EasId&id=SEGCHECK0 ") > 0);

    // And then of those that are not: what is wrong, and what helps.
    broken.store(1, Ordering::SeqCst);
    fs::write(gateway.path("lines"), "{\"device_id\":\"L1\"}\nL2\n").expect("a file");
    fs::write(gateway.path("table"), "").expect("a file");
    fs::write(gateway.path("exchange"), "Name\nE1\n").expect("a file");
    fs::remove_file(gateway.path("seg")).expect("a file");
    for (name, why, mend) in [
        ("uem", "gives no token: 403 Forbidden (Forbidden)", "login"),
        ("intune", "gives no token: 403", "login"),
        ("jamf", "gives no token: 403", "login"),
        ("own", "answers 403 (Forbidden)", "right to read devices"),
        ("lines", "line 2: ", "whole"),
        ("table", "the header line is missing", "whole"),
        ("exchange", "no column DeviceId", "whole"),
        ("seg", "No such file", "there"),
    ] {
        let (ok, said) = checked(&gateway, &format!("source {name}"));
        assert!(
            !ok && said.contains(why) && said.contains(mend),
            "{name}: {said}"
        );
    }
    fs::remove_file(gateway.path("secret")).expect("a file");
    let (ok, said) = checked(&gateway, "source uem");
    assert!(
        !ok && said.contains("secret") && said.contains("one line"),
        "{said}"
    );
}

#[tokio::test]
async fn a_phone_does_not_wait_for_a_source_that_says_nothing() {
    let sandbox = sandbox::start();
    // It never answers, as long as the test runs.
    let silent = System::start(|_| None).await;
    let knows = System::start(|head| {
        Some(if head.contains("one=KNOWN ") {
            list(&["KNOWN"])
        } else {
            list(&[])
        })
    })
    .await;
    let builder = Gateway::before(&sandbox).set("compliance.unknown.device", "block");
    let on_miss = "lookup=\"/devices?one={device}\"\non_miss=true\n";
    builder.file(
        "sources.toml",
        source("silent", &silent, on_miss) + &source("knows", &knows, on_miss),
    );
    let gateway = builder.start().await;
    for _ in 0..2 {
        assert!(!is_served(&gateway.ask(&folder_sync("UNKNOWN")).await));
    }
    assert_eq!(
        (silent.asked().len(), knows.asked().len()),
        (1, 1),
        "it is remembered"
    );
    gateway
        .event("why", |event| {
            event["source"] == "silent"
                && event["reason"]
                    .as_str()
                    .is_some_and(|reason| reason.contains("no answer within"))
        })
        .await;
    // The one that is silent does not keep the other from being heard.
    assert!(is_served(&gateway.ask(&folder_sync("KNOWN")).await));
    assert_eq!(
        gateway.admin.read("/v1/devices/KNOWN").await["source"],
        "knows"
    );
}
