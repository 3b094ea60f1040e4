//! Questions about the fleet, and the answers that people and programs get.

use std::ffi::OsString;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use seg_tests::Gateway;
use seg_tests::program::program;
use seg_tests::wait::in_time;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::sandbox::{self, PING_REFUSED, folder_sync, holds_poll, is_served, ping};

/// Runs `sync-compliance` against the gateway: exit code, output, errors.
pub(super) async fn called(gateway: &Gateway, words: &[&str]) -> (u8, String, String) {
    let admin = format!("http://{}", gateway.admin.address);
    let token = gateway.token_path().display().to_string();
    let mut all: Vec<OsString> = ["sync-compliance", "--admin", &admin, "--token-file", &token]
        .map(OsString::from)
        .to_vec();
    all.extend(words.iter().map(OsString::from));
    let ran = tokio::task::spawn_blocking(move || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = seg_compliance::cli::run(all, &mut out, &mut err);
        (code, out, err)
    });
    let (code, out, err) = ran.await.expect("the call ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (code, text(out), text(err))
}

fn fleet(count: usize, compliant: impl Fn(usize) -> bool) -> String {
    (0..count)
        .map(|index| {
            format!(
                "{{\"device_id\":\"FLEET{index}\",\"user\":\"alice@sandbox.example\",\"platform\":\"ios\",\
                 \"os_version\":\"{}\",\"compliant\":{}}}\n",
                15 + index % 4,
                compliant(index)
            )
        })
        .collect()
}

#[tokio::test]
async fn a_plan_says_what_would_change_and_changes_nothing() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    gateway
        .admin
        .write("POST", "/v1/devices:import?source=mdm", &fleet(8, |_| true))
        .await;
    let revision = gateway.admin.read("/v1/report").await["devices"].clone();
    assert_eq!(revision, 8);

    let policies = gateway.path("new.toml");
    let text = "[[policy]]\nid=\"min\"\nwhen={os_minimum={ios=\"16\"}}\naction=\"block\"\n";
    fs::write(&policies, text).expect("a file");
    let file = policies.display().to_string();
    let (code, out, err) = called(&gateway, &["plan", &file]).await;
    assert_eq!(code, 1, "changes are findings: {out}{err}");
    assert!(
        out.contains("FLEET0 alice@sandbox.example: allow, by default"),
        "{out}"
    );
    assert!(out.contains("block, by policy min"), "{out}");
    assert!(
        out.ends_with("8 devices looked at, 2 would have another verdict: 2 allow to block\n"),
        "{out}"
    );
    assert!(
        is_served(&gateway.ask(&folder_sync("FLEET0")).await),
        "nothing is enforced"
    );

    fs::write(&policies, "").expect("a file");
    assert_eq!(called(&gateway, &["plan", &file]).await.0, 0);
    // What only a request tells is named, because nobody can foresee it.
    let asking = "[[policy]]\nid=\"outside\"\nwhen={network_not=\"10.0.0.0/8\"}\naction=\"block\"\n\
                  [[policy]]\nid=\"old\"\nwhen={cel=\"request.command == 'Ping'\"}\naction=\"block\"\n\
                  [[policy]]\nid=\"client\"\nwhen={user_agent=\"curl*\"}\naction=\"block\"\n\
                  [[policy]]\nid=\"told\"\nwhen={host=\"x\"}\naction=\"notify\"\n";
    fs::write(&policies, asking).expect("a file");
    let (code, out, _) = called(&gateway, &["plan", &file]).await;
    assert_eq!(code, 0, "{out}");
    assert!(
        out.starts_with("not foreseen, because only a request tells: outside, old\n"),
        "{out}"
    );
    // Refused with the place, whosever table it is in.
    for (text, part) in [
        ("[[policy]]\nid=1", "line 2"),
        ("[[polcy]]\nid=\"a\"", "unknown field `polcy`"),
        ("\n[eas]\nmax_ping=1", "line 3"),
        ("[ews]\nx=1", "x"),
    ] {
        fs::write(&policies, text).expect("a file");
        let (code, _, err) = called(&gateway, &["plan", &file]).await;
        assert!(code == 2 && err.contains(part), "{code} {err}");
    }
    assert_eq!(called(&gateway, &["plan", "/nowhere/new.toml"]).await.0, 2);

    let import = gateway.path("new.ndjson");
    fs::write(&import, fleet(6, |index| index > 0)).expect("a file");
    let file = import.display().to_string();
    let (code, out, _) = called(
        &gateway,
        &["--json", "plan", &file, "--snapshot", "--source", "mdm"],
    )
    .await;
    assert_eq!(code, 1, "{out}");
    let result: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(result["plan"]["verdicts"]["allow to block"], 1, "{out}");
    assert_eq!(result["removed"], 2, "{out}");
    // Nothing would change, or something can't be read.
    fs::write(&import, fleet(8, |_| true)).expect("a file");
    let words = ["plan", &file, "--snapshot", "--source", "mdm"];
    let (code, out, err) = called(&gateway, &words).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.ends_with(" 0 would have another verdict\n"), "{out}");
    fs::write(&import, fleet(8, |_| true) + "nonsense\n").expect("a file");
    let (code, _, err) = called(&gateway, &["plan", &file, "--source", "mdm"]).await;
    assert!(code == 1 && err.contains("line 9"), "{code} {err}");
    // An export of Exchange is planned as it is imported.
    let export = gateway.path("exchange.csv");
    let text = "\"DeviceId\",\"DeviceAccessState\"\n\"FLEET7\",\"Blocked\"\n";
    fs::write(&export, text).expect("a file");
    let file = export.display().to_string();
    let (code, out, err) = called(&gateway, &["plan", &file, "--format", "exchange"]).await;
    assert_eq!(code, 1, "{out}{err}");
    assert!(
        out.contains("FLEET7 ") && out.contains("-> block, by mdm"),
        "{out}"
    );
    assert_eq!(gateway.admin.read("/v1/report").await["devices"], 8);
}

#[tokio::test]
async fn a_snapshot_that_would_change_too_much_asks_first() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("compliance.import.max.change.percent", "20")
        .start()
        .await;
    let target = "/v1/devices:import?mode=snapshot&source=mdm";
    gateway
        .admin
        .write("POST", target, &fleet(10, |_| true))
        .await;
    // Half of the list is missing, or half of the fleet is suddenly not compliant.
    for half in [fleet(5, |_| true), fleet(10, |index| index % 2 == 0)] {
        let (status, body) = gateway.admin.request("POST", target, &half).await;
        assert_eq!(status, 409, "{body}");
        assert_eq!(body["error"]["key"], "compliance.import.max.change.percent");
        assert!(is_served(&gateway.ask(&folder_sync("FLEET9")).await));
    }
    gateway
        .admin
        .write("POST", target, &fleet(10, |index| index < 8))
        .await;
    assert!(!is_served(&gateway.ask(&folder_sync("FLEET9")).await));
    let file = gateway.path("half.ndjson");
    fs::write(&file, fleet(5, |_| true)).expect("a file");
    let file = file.display().to_string();
    let words = ["import", &file, "--snapshot", "--source", "mdm"];
    let (code, _, err) = called(&gateway, &words).await;
    assert!(code == 2 && err.contains("--force"), "{err}");
    let (code, _, err) = called(&gateway, &[&words[..], &["--force"]].concat()).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(gateway.admin.read("/v1/report").await["devices"], 5);
}

#[tokio::test]
async fn a_report_counts_and_policies_are_shown_checked_and_tested() {
    let sandbox = sandbox::start();
    let builder = Gateway::before(&sandbox);
    let policies = "[[policy]]\nid=\"min\"\nwhen={platform=\"ios\",os_version_below=\"17\"}\naction=\"block\"\n";
    builder.file("policies.toml", policies);
    let gateway = builder.start().await;
    gateway
        .admin
        .write("POST", "/v1/devices:import?source=mdm", &fleet(8, |_| true))
        .await;
    assert!(is_served(&gateway.ask(&folder_sync("FLEET3")).await));

    let (code, out, _) = called(&gateway, &["report", "--csv"]).await;
    assert_eq!(code, 0);
    for line in [
        "verdict,block,4,0,0,4,",
        "reason,min,4,0,0,4,",
        "platform,ios,8,4,0,4,",
        "client,e2e,1,1,0,0,",
    ] {
        assert!(out.lines().any(|found| found == line), "{line}\n{out}");
    }
    assert!(
        out.lines()
            .any(|line| line.starts_with("source,mdm,8,4,0,4,")),
        "{out}"
    );
    let (_, out, _) = called(&gateway, &["report"]).await;
    assert!(out.contains("8 devices with a record"), "{out}");

    let (code, out, _) = called(&gateway, &["--json", "report"]).await;
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let row = |kind: &str, value: &str| {
        let rows = report["rows"].as_array().expect("rows");
        let row = rows
            .iter()
            .find(|row| row["kind"] == kind && row["value"] == value);
        let row = row.unwrap_or_else(|| panic!("{kind} {value}: {out}"));
        [&row["devices"], &row["allow"], &row["block"]]
            .map(|count| count.as_u64().expect("a count"))
    };
    assert_eq!(code, 0);
    assert_eq!(row("reason", "min"), [4, 0, 4]);
    assert_eq!(row("platform", "ios"), [8, 4, 4]);
    assert_eq!(row("client", "e2e"), [1, 1, 0]);
    assert_eq!(row("source", "mdm"), [8, 4, 4]);
    let source = &report["sources"][0];
    assert_eq!(
        (&source["source"], &source["stale"]),
        (&"mdm".into(), &false.into()),
        "{out}"
    );
    assert!(source["age_seconds"].as_i64() >= Some(0), "{out}");
    assert!(
        source["reported"]
            .as_str()
            .is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok())
    );

    let (code, out, _) = called(&gateway, &["policies", "show"]).await;
    assert!(code == 0 && out.contains("min (line 1): block"), "{out}");
    let (code, out, _) = called(&gateway, &["policies", "show", "--json"]).await;
    let shown: Value = serde_json::from_str(&out).expect("one object");
    assert_eq!(
        (code, &shown["id"], &shown["line"]),
        (0, &"min".into(), &1.into())
    );
    assert_eq!(shown["when"]["os_version_below"], "17");
    let file = gateway.path("policies.toml").display().to_string();
    assert_eq!(called(&gateway, &["policies", "check", &file]).await.0, 0);
    let cases = gateway.path("cases.toml");
    let text = "[[case]]\nname=\"old\"\nrecord={platform=\"ios\",os_version=\"16\"}\nexpect=\"block\"\nrule=\"min\"\n";
    fs::write(&cases, text).expect("a file");
    let words = [
        "policies",
        "test",
        &cases.display().to_string(),
        "--policies",
        &file,
    ];
    let (code, out, err) = called(&gateway, &words).await;
    assert!(
        code == 0 && out.contains("1 passed, 0 failed"),
        "{out}{err}"
    );
    fs::write(&cases, text.replace("\"16\"", "\"18\"")).expect("a file");
    let (code, out, _) = called(&gateway, &words).await;
    assert!(
        code == 1 && out.contains("FAILED  old: allow by default"),
        "{out}"
    );
    fs::write(
        gateway.path("bad.toml"),
        "[[policy]]\nid=\"a\"\nwhen={x=1}\n",
    )
    .expect("a file");
    let bad = gateway.path("bad.toml").display().to_string();
    let (code, _, err) = called(&gateway, &["policies", "check", &bad]).await;
    assert!(code == 1 && err.contains("line 3, column 7"), "{err}");

    // The same for scripts.
    let (code, out, err) = called(&gateway, &["--json", "policies", "check", &bad]).await;
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, &told["error"]["line"], &told["error"]["column"]),
        (1, &3.into(), &7.into())
    );
    assert_eq!(told["error"]["policy"], "a", "{err}");
    let (code, out, _) = called(&gateway, &["--json", "policies", "check", &file]).await;
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, &told["policies"], &told["error"]),
        (0, &1.into(), &Value::Null)
    );
    let (code, out, _) = called(&gateway, &[&["--json"], &words[..]].concat()).await;
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, &told["case"], &told["passed"]),
        (1, &"old".into(), &false.into())
    );
    for missing in [
        ["policies", "check", "/nowhere"],
        ["policies", "test", "/nowhere"],
    ] {
        assert_eq!(called(&gateway, &missing).await.0, 2, "{missing:?}");
    }
}

#[tokio::test]
async fn explain_tells_every_step_with_its_facts_their_ages_and_the_line_of_the_rule() {
    let sandbox = sandbox::start();
    let builder = Gateway::before(&sandbox);
    let policies = "# the house\n[[policy]]\nid=\"told\"\nwhen={platform=\"ios\"}\naction=\"notify\"\n\
        [[policy]]\nid=\"tried\"\nmode=\"test\"\nwhen={encrypted=false}\naction=\"block\"\n\
        [[policy]]\nid=\"silent\"\nwhen={inactive_days=30}\naction=\"quarantine\"\n\n\
        [[policy]]\nid=\"outside\"\nwhen={network_not=\"10.0.0.0/8\",command=\"Sync\"}\naction=\"block\"\nreason=\"from the office only\"\n\
        [[policy]]\nid=\"behind\"\nwhen={cel=\"device.os_version.startsWith('16')\"}\naction=\"block\"\n";
    builder.file("policies.toml", policies);
    let gateway = builder.start().await;
    let seen = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(48);
    let record = format!(
        "{{\"device_id\":\"TOLD1\",\"user\":\"alice@sandbox.example\",\"platform\":\"ios\",\"encrypted\":false,\
         \"os_version\":\"16.7\",\"last_seen\":\"{seen}\",\"updated\":\"{seen}\"}}\n"
    );
    gateway
        .admin
        .write("POST", "/v1/devices:import?source=mdm", &record)
        .await;
    let asked = [
        "explain",
        "--device",
        "told1",
        "--user",
        "alice",
        "--agent",
        "Apple-iPhone/1",
        "--command",
        "Sync",
        "--method",
        "POST",
        "--address",
        "192.0.2.1",
    ];
    let (code, out, err) = called(&gateway, &[&["--json"], &asked[..]].concat()).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&told["verdict"], &told["step"]),
        (&"block".into(), &"policy".into())
    );
    assert_eq!(
        (&told["rule"], &told["reason"]),
        (&"outside".into(), &"from the office only".into())
    );
    let steps = told["steps"].as_array().expect("steps");
    let short: Vec<(&str, &str, &str, Option<u64>)> = steps
        .iter()
        .map(|step| {
            let word = |name: &str| step[name].as_str().unwrap_or_default();
            (
                word("step"),
                word("rule"),
                word("outcome"),
                step["line"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            ("override", "", "none", None),
            ("mdm", "", "none", None),
            ("policy", "told", "notify", Some(2)),
            ("policy", "tried", "test:block", Some(6)),
            ("policy", "silent", "none", Some(11)),
            ("policy", "outside", "block", Some(16)),
            ("policy", "behind", "not_reached", Some(21)),
            ("default", "", "not_reached", None),
        ],
        "{out}"
    );
    let saw = |at: usize, name: &str| &steps[at]["saw"][name];
    let two_days = 48 * 3_600;
    for at in [1, 4] {
        let age = saw(at, "last_seen_age_seconds").as_i64().expect("an age");
        assert!((two_days..two_days + 600).contains(&age), "{out}");
    }
    assert_eq!(saw(1, "source"), "mdm");
    assert!(
        saw(1, "updated_age_seconds").as_i64() >= Some(two_days),
        "{out}"
    );
    assert_eq!(saw(2, "platform"), "ios");
    assert_eq!(saw(3, "encrypted"), false);
    assert_eq!(
        (saw(5, "address"), saw(5, "command")),
        (&"192.0.2.1".into(), &"Sync".into())
    );
    assert_eq!(saw(6, "device.os_version"), "16.7");
    assert_eq!(
        (saw(7, "stale"), saw(7, "compliance.known.device")),
        (&false.into(), &"allow".into())
    );
    assert!(saw(7, "stale_from").is_string(), "{out}");

    // The same for people, and for whoever asks with the verb of the gateway's own program.
    let (_, out, _) = called(&gateway, &asked).await;
    for part in [
        "verdict: block, by policy outside: from the office only",
        "3. policy: notify, rule told (line 2)",
        "6. policy: block, rule outside (line 16), from the office only",
        "     address: 192.0.2.1",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    // An override is above all of it, and says until when.
    gateway.admin.block("TOLD1").await;
    let told = gateway.admin.read("/v1/explain?device=TOLD1").await;
    assert_eq!(
        (&told["step"], &told["reason"]),
        (&"override".into(), &"test".into())
    );
    assert_eq!(
        told["steps"][0]["saw"]["device"]["verdict"], "block",
        "{told}"
    );
    let reached = told["steps"].as_array().expect("steps").iter().skip(1);
    assert!(
        reached.clone().count() == 7
            && reached
                .into_iter()
                .all(|step| step["outcome"] == "not_reached"),
        "{told}"
    );
}

#[tokio::test]
async fn watch_follows_changes_decisions_cuts_and_reloads() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let admin = format!("http://{}", gateway.admin.address);
    let mut watching = tokio::process::Command::new(program("sync-compliance"))
        .args(["--json", "watch", "--admin", &admin, "--token-file"])
        .arg(gateway.token_path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("sync-compliance runs");
    let mut lines = BufReader::new(watching.stdout.take().expect("its output")).lines();
    // It says nothing of itself; what happens is repeated until it follows.
    let record = r#"{"user":"alice@sandbox.example"}"#;
    let mut first = None;
    while first.is_none() {
        gateway
            .admin
            .write("PUT", "/v1/devices/FOLLOWED", record)
            .await;
        gateway
            .admin
            .write("DELETE", "/v1/devices/FOLLOWED", "")
            .await;
        let wait = tokio::time::timeout(Duration::from_millis(100), lines.next_line()).await;
        first = wait.ok().and_then(|line| line.expect("its output"));
    }
    let mut wire = gateway.connect().await;
    wire.send(ping("WATCHED1").bytes()).await;
    holds_poll(&sandbox, "WATCHED1").await;
    gateway.admin.block("WATCHED1").await;
    assert_eq!(&wire.answer().await.body[..], PING_REFUSED);
    gateway.admin.write("POST", "/v1/reload", "").await;
    let mut events = Vec::new();
    let is = |event: &Value, kind: &str| event["event"] == kind || event["type"] == kind;
    while !events.iter().any(|event| is(event, "reload")) {
        let line = in_time("an event", lines.next_line()).await;
        let line = line.expect("its output").expect("the feed goes on");
        let event: Value = serde_json::from_str(&line).expect("one object a line");
        assert!(event["revision"].is_u64(), "{event}");
        events.push(event);
    }
    let of = |kind: &str| {
        let found = events
            .iter()
            .find(|event| is(event, kind) && event["device"] == "WATCHED1");
        found.unwrap_or_else(|| panic!("{kind}: {events:?}"))
    };
    assert_eq!(of("change")["override"]["verdict"], "block");
    assert_eq!(of("cut")["command"], "Ping");
    assert_eq!(of("decision")["decision"]["verdict"], "block");
}

#[tokio::test]
async fn what_would_be_refused_is_listed_device_by_device() {
    let sandbox = sandbox::start();
    let builder = Gateway::before(&sandbox).set("compliance.mode", "observe");
    let policies = "[[policy]]\nid=\"plain\"\nwhen={encrypted=false}\naction=\"block\"\n\
        [[policy]]\nid=\"tried\"\nmode=\"test\"\nwhen={compromised=true}\naction=\"quarantine\"\n";
    builder.file("policies.toml", policies);
    let gateway = builder.start().await;
    for (device, fact) in [
        ("WOULD1", "\"encrypted\":false"),
        ("WOULD2", "\"compromised\":true"),
        ("WOULD3", "\"encrypted\":true"),
    ] {
        let record = format!("{{\"user\":\"alice@sandbox.example\",{fact}}}");
        let target = format!("/v1/devices/{device}");
        gateway.admin.write("PUT", &target, &record).await;
        assert!(
            is_served(&gateway.ask(&folder_sync(device)).await),
            "{device}"
        );
    }
    let (code, out, err) = called(&gateway, &["--json", "list", "--would-block"]).await;
    assert_eq!(code, 0, "{err}");
    let listed: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("one object a line"))
        .collect();
    let [first, second] = &listed[..] else {
        panic!("{out}");
    };
    assert_eq!(first["device_id"], "WOULD1");
    assert_eq!(first["decision"]["rule"], "plain");
    assert_eq!(
        (
            &first["decision"]["verdict"],
            &first["decision"]["enforced"]
        ),
        (&"block".into(), &false.into())
    );
    assert_eq!(second["device_id"], "WOULD2");
    assert_eq!(second["decision"]["verdict"], "allow");
    assert_eq!(second["decision"]["trial"]["rule"], "tried");
    assert_eq!(second["decision"]["trial"]["verdict"], "quarantine");
    let (_, out, _) = called(&gateway, &["report", "--csv"]).await;
    assert!(
        out.lines().any(|line| line.starts_with("test,tried,1,")),
        "{out}"
    );
    // The events say it of each request, too.
    let event = gateway.event("a request that would have been refused", |event| {
        event["rule"] == "plain"
    });
    assert_eq!(event.await["enforced"], false);
}
