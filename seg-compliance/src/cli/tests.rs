//! The program as a whole, against a gateway that is played from a script.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::run;

const DECISION: &str = r#"{"verdict":"block","step":"override","rule":"device","reason":"lost","revision":7,"enforced":true}"#;

/// A request as the gateway saw it.
#[derive(Debug, Default)]
struct Seen {
    line: String,
    head: String,
    body: String,
}

/// Answers one connection after the other with whole responses.
struct Gateway {
    url: String,
    seen: JoinHandle<Vec<Seen>>,
    folder: tempfile::TempDir,
}

impl Gateway {
    fn plays(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = std::thread::spawn(move || {
            let answers = answers.into_iter();
            answers
                .map(|answer| {
                    let (stream, _) = listener.accept().unwrap();
                    serve(stream, &answer)
                })
                .collect()
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "secret\n").unwrap();
        Self { url, seen, folder }
    }

    /// Exit code, standard output, standard error.
    fn call(&self, words: &[&str]) -> (u8, String, String) {
        let token = self.folder.path().join("token");
        let token = token.to_str().unwrap();
        let connection = [
            "sync-compliance",
            "--admin",
            &self.url,
            "--token-file",
            token,
        ];
        called(&[&connection, words].concat())
    }

    fn seen(self) -> Vec<Seen> {
        self.seen.join().unwrap()
    }
}

fn called(words: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(words.iter().map(OsString::from), &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code, text(out), text(err))
}

fn serve(stream: TcpStream, answer: &str) -> Seen {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    let mut seen = Seen::default();
    reader.read_line(&mut seen.line).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        seen.head.push_str(&line.to_lowercase());
    }
    if seen.head.contains("expect: 100-continue") {
        if answer.contains(" 401 ") {
            // A refusal comes before the body, and the body is never sent.
            writer.write_all(answer.as_bytes()).unwrap();
            return seen;
        }
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    }
    seen.body = body(&seen.head, &mut reader);
    writer.write_all(answer.as_bytes()).unwrap();
    seen
}

fn body(head: &str, reader: &mut impl BufRead) -> String {
    let mut body = Vec::new();
    if let Some((_, rest)) = head.split_once("content-length: ") {
        let length: u64 = rest.split("\r\n").next().unwrap().parse().unwrap();
        reader.take(length).read_to_end(&mut body).unwrap();
    } else if head.contains("transfer-encoding: chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).unwrap();
            let size = u64::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = Vec::new();
            reader.take(size + 2).read_to_end(&mut chunk).unwrap();
            body.extend_from_slice(&chunk[..size as usize]);
            if size == 0 {
                break;
            }
        }
    }
    String::from_utf8(body).unwrap()
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn ok(body: &str) -> String {
    answer("200 OK", body)
}

#[test]
fn block_puts_an_override() {
    let gateway = Gateway::plays(vec![ok(&format!(
        r#"{{"revision":7,"cut":2,"decision":{DECISION}}}"#
    ))]);
    let (code, out, err) = gateway.call(&[
        "block",
        "Appl/1",
        "--reason",
        "lost",
        "--expires",
        "2099-01-01T00:00:00Z",
    ]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(
        out,
        "Appl/1: block, by override device: lost (revision 7)\n2 requests in flight are cut\n"
    );
    let seen = &gateway.seen()[0];
    assert_eq!(seen.line, "PUT /v1/devices/Appl%2F1/override HTTP/1.1\r\n");
    assert!(seen.head.contains("authorization: bearer secret\r\n"));
    let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
    let expected = serde_json::json!({
        "verdict": "block", "reason": "lost", "expires": "2099-01-01T00:00:00Z"
    });
    assert_eq!(body, expected);
}

#[test]
fn unblock_says_which_verdict_holds_and_fails_softly_where_it_blocks() {
    let allow = r#"{"revision":8,"cut":0,"decision":{"verdict":"allow","step":"default"}}"#;
    let block = r#"{"revision":9,"cut":0,"decision":{"verdict":"block","step":"mdm","reason":"not_compliant"}}"#;
    let gateway = Gateway::plays(vec![ok(allow), ok(block)]);
    let (code, out, _) = gateway.call(&["unblock", "D1"]);
    assert_eq!((code, out.as_str()), (0, "D1: allow, by default\n"));
    let (code, out, _) = gateway.call(&["--json", "unblock", "--user", "CORP\\alice"]);
    assert_eq!((code, out), (1, format!("{block}\n")));
    let seen = gateway.seen();
    assert_eq!(seen[0].line, "DELETE /v1/devices/D1/override HTTP/1.1\r\n");
    assert_eq!(
        seen[1].line,
        "DELETE /v1/users/CORP%5Calice/override HTTP/1.1\r\n"
    );
}

#[test]
fn get_shows_a_device_and_finds_the_unknown() {
    let device = format!(
        r#"{{"device_id":"D1","known":true,"user":"alice","compliant":true,"groups":["a","b"],
        "decision":{DECISION},"live":1,"last_request":{{"at":"2026-11-22T09:00:00Z","status":200}}}}"#
    );
    let seen_only = format!(r#"{{"device_id":"D2","known":false,"decision":{DECISION}}}"#);
    let missing = answer(
        "404 Not Found",
        r#"{"error":{"code":"unknown_device","message":"D3: never seen","key":null,"line":null}}"#,
    );
    let gateway = Gateway::plays(vec![ok(&device), ok(&seen_only), missing]);
    let (code, out, _) = gateway.call(&["get", "D1", "--user", "alice"]);
    assert_eq!(code, 0);
    for row in [
        "D1\n",
        "  decision      block, by override device: lost (revision 7)\n",
        "  compliant     yes\n",
        "  groups        a, b\n",
        "  in flight     1\n",
        "status=200",
    ] {
        assert!(out.contains(row), "{row}\n{out}");
    }
    let (code, _, err) = gateway.call(&["get", "D2"]);
    assert_eq!(
        (code, err.as_str()),
        (1, "sync-compliance: D2: no record of this device\n")
    );
    let (code, out, err) = gateway.call(&["get", "D3"]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (1, "", "sync-compliance: D3: never seen\n")
    );
    assert_eq!(
        gateway.seen()[0].line,
        "GET /v1/devices/D1?user=alice HTTP/1.1\r\n"
    );
}

#[test]
fn list_walks_every_page_and_prints_objects_as_they_came() {
    let gateway = Gateway::plays(vec![
        ok(r#"{"devices":[{"z":1,"a":2},{"device_id":"D2"}],"next":"D2"}"#),
        ok(r#"{"devices":[{"device_id":"D3"}],"next":null}"#),
    ]);
    let (code, out, _) = gateway.call(&["list", "--json", "--unknown", "--user", "alice"]);
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "{\"z\":1,\"a\":2}\n{\"device_id\":\"D2\"}\n{\"device_id\":\"D3\"}\n"
    );
    let seen = gateway.seen();
    assert_eq!(
        seen[0].line,
        "GET /v1/devices?limit=1000&user=alice&known=false HTTP/1.1\r\n"
    );
    assert_eq!(
        seen[1].line,
        "GET /v1/devices?limit=1000&user=alice&known=false&after=D2 HTTP/1.1\r\n"
    );
}

#[test]
fn list_would_block_shows_what_observe_mode_lets_through() {
    let page = |verdict: &str, enforced: bool| {
        ok(&format!(
            r#"{{"devices":[{{"device_id":"D-{verdict}","live":0,"decision":{{"verdict":"{verdict}",
            "step":"mdm","reason":"not_compliant","enforced":{enforced}}}}}],"next":null}}"#
        ))
    };
    let tried = ok(
        r#"{"devices":[{"device_id":"D-tried","live":0,"decision":{"verdict":"allow",
        "step":"default","enforced":true,"trial":{"rule":"old","verdict":"block"}}},
        {"device_id":"D-well","live":0,"decision":{"verdict":"allow","step":"default",
        "enforced":true}}],"next":null}"#,
    );
    let pages = vec![page("block", false), page("quarantine", true), tried];
    let gateway = Gateway::plays(pages);
    let (code, out, _) = gateway.call(&["list", "--would-block"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("D-block") && out.contains("mdm: not_compliant"),
        "{out}"
    );
    assert!(!out.contains("D-quarantine"), "{out}");
    assert!(
        out.contains("D-tried") && out.contains("old (only tried) would block"),
        "{out}"
    );
    assert!(!out.contains("D-well"), "{out}");
    let seen = gateway.seen();
    assert!(seen[0].line.contains("verdict=block"));
    assert!(seen[1].line.contains("verdict=quarantine"));
    assert!(seen[2].line.contains("verdict=allow"));
}

#[test]
fn import_streams_the_file_and_names_bad_lines() {
    let result = r#"{"read":3,"applied":1,"unchanged":1,"removed":0,"cut":0,"revision":5,"errors":[{"line":2,"message":"not JSON"}]}"#;
    let gateway = Gateway::plays(vec![ok(result), ok(result)]);
    let file = gateway.folder.path().join("fleet.csv");
    std::fs::write(&file, "device_id\nD1\n").unwrap();
    let words = [
        "import",
        file.to_str().unwrap(),
        "--snapshot",
        "--source",
        "my mdm",
    ];
    let (code, out, err) = gateway.call(&words);
    assert_eq!(code, 1);
    assert!(
        out.starts_with("3 read: 1 applied, 1 unchanged, 0 removed, 1 bad"),
        "{out}"
    );
    assert_eq!(err, "sync-compliance: line 2: not JSON\n");
    let (code, out, _) = gateway.call(&[&words[..], &["--json", "--dry-run", "--strict"]].concat());
    assert_eq!((code, out), (1, format!("{result}\n")));
    let seen = gateway.seen();
    assert_eq!(
        seen[0].line,
        "POST /v1/devices:import?mode=snapshot&source=my%20mdm HTTP/1.1\r\n"
    );
    assert!(seen[0].head.contains("content-type: text/csv"));
    assert_eq!(seen[0].body, "device_id\nD1\n");
    assert!(seen[1].line.contains("&strict=true&dry_run=true "));
}

#[test]
fn a_refused_token_is_an_answer_even_to_an_import() {
    let gateway = Gateway::plays(vec![answer(
        "401 Unauthorized",
        r#"{"error":{"code":"unauthorized","message":"the token is wrong","key":null,"line":null}}"#,
    )]);
    let file = gateway.folder.path().join("fleet");
    std::fs::write(&file, "{}\n".repeat(1_000_000)).unwrap();
    let (code, out, err) = gateway.call(&["import", file.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.contains("the token is wrong") && err.contains("--token-file"),
        "{err}"
    );
}

#[test]
fn a_strict_import_that_is_refused_is_not_done() {
    let gateway = Gateway::plays(vec![answer(
        "422 Unprocessable Entity",
        r#"{"error":{"code":"bad_line","message":"unknown field","key":null,"line":17}}"#,
    )]);
    let file = gateway.folder.path().join("fleet");
    std::fs::write(&file, "{}\n").unwrap();
    let (code, _, err) = gateway.call(&["import", file.to_str().unwrap(), "--strict"]);
    assert_eq!(code, 2);
    assert_eq!(
        err,
        "sync-compliance: the gateway refuses: line 17: unknown field\n"
    );
}

#[test]
fn export_writes_a_file_only_when_it_is_whole() {
    let broken =
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"device_id\":\"D1\"}\n".to_owned();
    let gateway = Gateway::plays(vec![ok("{\"device_id\":\"D1\"}\n"), broken, ok("x\n")]);
    let file = gateway.folder.path().join("all.ndjson");
    let path = file.to_str().unwrap();
    assert_eq!(gateway.call(&["export", path]).0, 0);
    let (code, _, err) = gateway.call(&["export", path]);
    assert_eq!(code, 2);
    assert!(err.contains("can't be used"), "{err}");
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "{\"device_id\":\"D1\"}\n"
    );
    assert_eq!(
        gateway.call(&["export"]),
        (0, "x\n".to_owned(), String::new())
    );
}

#[test]
fn watch_prints_events_until_the_feed_ends() {
    let feed = "event: cut\nid: 3\ndata: {\"revision\":3,\"device\":\"D1\"}\n\n: idle\n\n";
    let gateway = Gateway::plays(vec![ok(feed), ok(feed)]);
    let (code, out, err) = gateway.call(&["watch", "--from", "2"]);
    assert_eq!((code, out.as_str()), (2, "cut device=D1 revision=3\n"));
    assert!(err.contains("ended the feed"), "{err}");
    let (_, out, _) = gateway.call(&["watch", "--json"]);
    assert_eq!(out, "{\"revision\":3,\"device\":\"D1\"}\n");
    assert_eq!(gateway.seen()[0].line, "GET /v1/events?from=2 HTTP/1.1\r\n");
}

#[test]
fn explain_prints_the_steps() {
    let explanation = r#"{"identity":{"device":"D1","user":null},"known":false,"verdict":"block","reason":"unknown_device",
        "steps":[{"step":"override","outcome":"none","rule":null,"reason":null,"saw":{}},
        {"step":"policy","outcome":"none","rule":"ios-min","reason":null,"line":12,"saw":{"os_version":"18.1"}},
        {"step":"default","outcome":"block","rule":null,"reason":"unknown_device","saw":{"known":false}}]}"#;
    let gateway = Gateway::plays(vec![ok(explanation), ok(explanation)]);
    let (code, out, _) = gateway.call(&["explain", "--device", "D1", "--type", "iPhone"]);
    assert_eq!(code, 1);
    assert_eq!(
        out,
        "verdict: block: unknown_device\ndevice: D1\n1. override: none\n\
         2. policy: none, rule ios-min (line 12)\n     os_version: 18.1\n\
         3. default: block, unknown_device\n     known: no\n"
    );
    let request = "--address 192.0.2.1 --host mail --path /x --method POST --protocol-version 14.1";
    let words: Vec<&str> = "explain --user alice --agent a --command Sync"
        .split(' ')
        .chain(request.split(' '))
        .collect();
    assert_eq!(gateway.call(&words).0, 1);
    let seen = gateway.seen();
    assert_eq!(
        seen[0].line,
        "GET /v1/explain?device=D1&type=iPhone HTTP/1.1\r\n"
    );
    assert_eq!(
        seen[1].line,
        "GET /v1/explain?user=alice&agent=a&command=Sync&address=192.0.2.1&host=mail&path=%2Fx&method=POST&version=14.1 HTTP/1.1\r\n"
    );
}

#[test]
fn failures_name_the_thing_the_reason_and_the_mend() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gateway = Gateway::plays(vec![answer("200 OK", "<html>")]);
    let token = gateway.folder.path().join("token");
    let (code, _, err) = called(&[
        "sync-compliance",
        "list",
        "--admin",
        &format!("http://{free}"),
        "--token-file",
        token.to_str().unwrap(),
    ]);
    assert_eq!(code, 2);
    assert!(
        err.contains(&free.to_string()) && err.contains("seg run"),
        "{err}"
    );

    let (code, _, err) = called(&["sync-compliance", "list", "--token-file", "/nowhere/token"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("/nowhere/token") && err.contains("--config"),
        "{err}"
    );

    let (code, _, err) = gateway.call(&["list"]);
    assert_eq!(code, 2);
    assert!(err.contains("can't be used"), "{err}");

    let (code, _, err) = gateway.call(&["block", "D1", "--expires", "soon"]);
    assert_eq!(code, 2);
    assert!(err.contains("8h"), "{err}");

    let (code, _, err) = gateway.call(&["import", "/nowhere/fleet"]);
    assert_eq!(code, 2);
    assert!(err.contains("/nowhere/fleet"), "{err}");
}

#[test]
fn usage_goes_to_standard_error_and_help_to_standard_output() {
    let (code, out, err) = called(&["sync-compliance", "bloc", "D1"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("block"), "{err}");
    let (code, out, err) = called(&["seg compliance", "--help"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("seg compliance"), "{out}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let gateway = Gateway::plays(vec![ok(r#"{"devices":[{"device_id":"D1"}],"next":null}"#)]);
    let token = gateway.folder.path().join("token");
    let words = [
        "s",
        "list",
        "--admin",
        &gateway.url,
        "--token-file",
        token.to_str().unwrap(),
    ];
    let mut err = Vec::new();
    let code = run(words.iter().map(OsString::from), &mut Closed, &mut err);
    assert_eq!((code, err.as_slice()), (0, &b""[..]));
}
