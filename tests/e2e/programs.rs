//! The programs as people call them: what they print and how they end.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use seg_tests::Gateway;
use seg_tests::eas::soap;
use seg_tests::program::program;

use crate::sandbox::{self, folder_sync, is_served};

#[test]
fn wbxml_is_decoded_and_encoded_without_loss() {
    let wbxml = seg_core::sandbox::requests::FOLDER_SYNC;
    let decoded = run("seg", &["wbxml", "decode"], wbxml);
    assert_eq!(decoded.status.code(), Some(0), "{decoded:?}");
    let xml = String::from_utf8(decoded.stdout).expect("text");
    assert!(
        xml.contains("FolderSync") && xml.contains("SyncKey"),
        "{xml}"
    );
    let encoded = run("seg", &["wbxml", "encode"], xml.as_bytes());
    assert_eq!(
        (encoded.status.code(), &encoded.stdout[..]),
        (Some(0), wbxml)
    );
    assert_eq!(
        run("seg", &["wbxml", "decode"], b"\x03\x01\x6a\x00\xff\xff")
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn ews_requests_are_classified() {
    let output = run(
        "seg",
        &["ews", "classify"],
        soap(crate::block::GET_INBOX).as_bytes(),
    );
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["operation"], "GetFolder", "{json}");
    let refused = run("seg", &["ews", "classify"], b"<not soap>");
    assert_ne!(refused.status.code(), Some(0), "{refused:?}");
}

#[test]
fn a_configuration_that_is_refused_names_key_and_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("application.properties");
    fs::write(&file, "server.listen=127.0.0.1:0\nsever.drain.seconds=1\n").expect("a file");
    let output = run(
        "seg",
        &["run", "--config", &file.display().to_string()],
        b"",
    );
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    for word in ["sever.drain.seconds", "server.drain.seconds", "2"] {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
}

#[tokio::test]
async fn exit_codes_tell_how_it_went() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("KNOWN")).await));
    let admin = format!("http://{}", gateway.admin.address);
    let token = gateway.token_path().display().to_string();
    let compliance = |words: &[&str], input: &str| {
        let mut all = vec!["--admin", &admin, "--token-file", &token];
        all.extend_from_slice(words);
        run("sync-compliance", &all, input.as_bytes())
    };
    let good = r#"{"device_id":"KNOWN","user":"alice@sandbox.example","compliant":true}"#;
    let cases: [(&[&str], &str, i32); 12] = [
        (&["import", "-"], good, 0),
        (
            &["import", "-"],
            "{\"device_id\":\"A1\"}\nnonsense\n{\"device_id\":\"A2\"}\n",
            1,
        ),
        (&["get", "KNOWN"], "", 0),
        (&["get", "UNHEARDOF"], "", 1),
        (
            &[
                "explain",
                "--device",
                "KNOWN",
                "--user",
                "alice@sandbox.example",
            ],
            "",
            0,
        ),
        (
            &[
                "explain",
                "--device",
                "UNHEARDOF",
                "--user",
                "alice@sandbox.example",
            ],
            "",
            1,
        ),
        (&["block", "KNOWN", "--reason", "lost"], "", 0),
        (&["unblock", "KNOWN"], "", 0),
        (&["list", "--json"], "", 0),
        (&["export"], "", 0),
        (&["explode"], "", 2),
        (&["get"], "", 2),
    ];
    for (words, input, code) in cases {
        let output = compliance(words, input);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
    }
    let exported = compliance(&["export"], "").stdout;
    let exported = String::from_utf8_lossy(&exported).into_owned();
    for device in ["KNOWN", "A1", "A2"] {
        assert!(exported.contains(device), "{device} is missing: {exported}");
    }
    for line in String::from_utf8_lossy(&compliance(&["list", "--json"], "").stdout).lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("one object a line");
    }

    let wrong_token = run(
        "sync-compliance",
        &["--admin", &admin, "--token-file", "/dev/null", "list"],
        b"",
    );
    assert_eq!(wrong_token.status.code(), Some(2), "{wrong_token:?}");
    let nobody = run(
        "sync-compliance",
        &[
            "--admin",
            "http://127.0.0.1:1",
            "--token-file",
            &token,
            "list",
        ],
        b"",
    );
    assert_eq!(nobody.status.code(), Some(2), "{nobody:?}");
    let through_seg = run(
        "seg",
        &[
            "compliance",
            "--admin",
            &admin,
            "--token-file",
            &token,
            "get",
            "KNOWN",
        ],
        b"",
    );
    assert_eq!(through_seg.status.code(), Some(0), "{through_seg:?}");
}

/// What an administrator reads, and what a script reads.
#[tokio::test]
async fn what_the_program_prints_is_what_the_gateway_knows() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    assert!(is_served(&gateway.ask(&folder_sync("STRANGE1")).await));
    assert!(is_served(&gateway.ask(&folder_sync("KNOWN1")).await));
    let admin = format!("http://{}", gateway.admin.address);
    let token = gateway.token_path().display().to_string();
    let compliance = |words: &[&str], input: &str| {
        let mut all = vec!["--admin", &admin, "--token-file", &token];
        all.extend_from_slice(words);
        let output = run("sync-compliance", &all, input.as_bytes());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let record = r#"{"device_id":"KNOWN1","user":"alice@sandbox.example","compliant":true}"#;

    // Tried only: nothing of it is there afterwards, and nobody is cut.
    let before = (
        compliance(&["export"], ""),
        gateway.admin.read("/v1/devices").await,
    );
    for dry in [
        &["import", "-", "--dry-run"][..],
        &["import", "-", "--dry-run", "--snapshot"],
    ] {
        let (code, told) = compliance(dry, record);
        assert_eq!(code, Some(0), "{told}");
        assert!(told.starts_with("1 read: 1 would be applied"), "{told}");
        let after = (
            compliance(&["export"], ""),
            gateway.admin.read("/v1/devices").await,
        );
        assert_eq!(after, before, "{dry:?} has changed something");
    }
    assert_eq!(compliance(&["get", "KNOWN1"], "").0, Some(1));
    assert_eq!(compliance(&["import", "-"], record).0, Some(0));

    let (code, listed) = compliance(&["list", "--unknown"], "");
    assert_eq!(code, Some(0), "{listed}");
    let lines: Vec<&str> = listed.lines().collect();
    let [head, row] = lines[..] else {
        panic!("{listed}");
    };
    // Cells lie under the names of their columns.
    let columns = ["device", "user", "first request", "last request", "agent"];
    let starts: Vec<usize> = columns
        .iter()
        .map(|name| head.find(name).unwrap_or_else(|| panic!("{name}: {head}")))
        .collect();
    let cells: Vec<&str> = starts
        .iter()
        .enumerate()
        .map(|(at, start)| {
            let end = starts.get(at + 1).copied().unwrap_or(row.len());
            row[*start..end].trim()
        })
        .collect();
    assert_eq!(cells[..2], ["STRANGE1", "alice@sandbox.example"], "{row}");
    assert_eq!(cells[4], "e2e/1", "{row}");
    for time in &cells[2..4] {
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}: {row}");
    }

    let explained = "/v1/explain?device=KNOWN1&user=alice@sandbox.example";
    let explain = [
        "explain",
        "--device",
        "KNOWN1",
        "--user",
        "alice@sandbox.example",
        "--json",
    ];
    for (words, target) in [
        (&["get", "KNOWN1", "--json"][..], "/v1/devices/KNOWN1"),
        (&explain[..], explained),
    ] {
        let (code, told) = compliance(words, "");
        assert_eq!((code, told.lines().count()), (Some(0), 1), "{told}");
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(told, gateway.admin.read(target).await, "{words:?}");
    }
}

/// Runs a program on a terminal of 120 columns and prints what the terminal got.
const ON_A_TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    try:
        piece = os.read(terminal, 65536)
    except OSError:
        break
    if not piece:
        break
    sys.stdout.buffer.write(piece)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[tokio::test]
async fn long_work_shows_its_progress_on_a_terminal_and_nowhere_else() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let records: String = (0..20_000)
        .map(|index| format!("{{\"device_id\":\"PROGRESS{index}\",\"compliant\":true}}\n"))
        .collect();
    let file = gateway.path("fleet.ndjson");
    fs::write(&file, &records).expect("the fleet");
    let admin = format!("http://{}", gateway.admin.address);
    let (token, file) = (gateway.token_path(), file.display().to_string());
    let token = token.display().to_string();
    let words = ["--admin", &admin, "--token-file", &token, "import", &file];

    let quiet = run("sync-compliance", &words, b"");
    assert_eq!(
        (quiet.status.code(), &quiet.stderr[..]),
        (Some(0), &b""[..])
    );

    let program = program("sync-compliance");
    let program = program.to_str().expect("a path in UTF-8");
    let on_a_terminal = |words: &[&str]| {
        let shown = Command::new("python3")
            .args(["-c", ON_A_TERMINAL, program])
            .args(words)
            .output()
            .expect("python3 runs");
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        (shown.status.code(), text)
    };
    let (code, text) = on_a_terminal(&words);
    assert_eq!(code, Some(0), "{text}");
    let bar = text.contains('\u{2588}') && text.contains(" left");
    assert!(bar, "no bar: {text:?}");
    assert!(
        text.contains("20000 read: 0 applied, 20000 unchanged"),
        "{text:?}"
    );
    let policies = gateway.path("new.toml").display().to_string();
    fs::write(&policies, "").expect("a file");
    let copy = gateway.path("copy.ndjson").display().to_string();
    for (more, sign, end) in [
        (
            &["plan", policies.as_str()][..],
            "judging every device twice",
            "20000 devices looked at",
        ),
        (
            &["report"],
            "counting every device",
            "20000 devices with a record",
        ),
        (&["export", &copy], "iB/s", ""),
    ] {
        let words = [&words[..4], more].concat();
        let quiet = run("sync-compliance", &words, b"");
        assert_eq!(
            (quiet.status.code(), &quiet.stderr[..]),
            (Some(0), &b""[..]),
            "{more:?}"
        );
        let (code, text) = on_a_terminal(&words);
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains(sign) && text.contains(end),
            "{more:?}: {text:?}"
        );
    }
}

fn run(name: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program(name))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("its input");
    // A program that fails early does not read it.
    let _unread = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("its output")
}
