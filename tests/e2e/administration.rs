//! Questions about the fleet, tokens with roles, and who changed what.

use std::ffi::OsString;
use std::fs;

use seg_tests::{Gateway, eventually};
use serde_json::Value;

use crate::sandbox::{self, folder_sync, is_served};

/// Runs `sync-compliance` against the gateway: exit code, output, errors.
async fn called(gateway: &Gateway, words: &[&str]) -> (u8, String, String) {
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
    fs::write(&policies, "[[policy]]\nid=1").expect("a file");
    let (code, _, err) = called(&gateway, &["plan", &file]).await;
    assert!(code == 2 && err.contains("line 2"), "{code} {err}");

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
async fn a_token_may_what_its_role_says_and_its_holder_is_on_record() {
    let sandbox = sandbox::start();
    let builder = Gateway::before(&sandbox).set("admin.tokens.path", "tokens.toml");
    // SHA-256 of reader, operator and importer.
    let tokens = [
        (
            "reader",
            "read",
            "3d0941964aa3ebdcb00ccef58b1bb399f9f898465e9886d5aec7f31090a0fb30",
        ),
        (
            "operator",
            "operate",
            "06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23",
        ),
    ];
    let text: String = tokens
        .iter()
        .map(|(name, role, hash)| {
            format!("[[token]]\nname=\"{name}\"\nrole=\"{role}\"\nsha256=\"{hash}\"\n")
        })
        .collect();
    builder.file("tokens.toml", text);
    let gateway = builder.start().await;
    let with = |token: &str| {
        let mut admin = gateway.admin.clone();
        token.clone_into(&mut admin.token);
        admin
    };
    let block = r#"{"verdict":"block","reason":"lost"}"#;
    let target = "/v1/devices/ONRECORD/override";
    let (reader, operator) = (with("reader"), with("operator"));
    assert_eq!(reader.request("GET", "/v1/report", "").await.0, 200);
    let (status, body) = reader.request("PUT", target, block).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (403, &"forbidden".into()),
        "{body}"
    );
    assert_eq!(operator.request("PUT", target, block).await.0, 200);
    assert!(!is_served(&gateway.ask(&folder_sync("ONRECORD")).await));
    assert_eq!(operator.request("POST", "/v1/reload", "").await.0, 403);
    assert_eq!(
        operator.request("POST", "/v1/devices:import", "").await.0,
        403
    );
    assert_eq!(operator.request("GET", "/v1/audit", "").await.0, 403);
    assert_eq!(with("nobody").request("GET", "/v1/report", "").await.0, 401);

    let (code, out, err) = called(&gateway, &["report", "--audit"]).await;
    assert_eq!(code, 0, "{err}");
    let trail: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("an entry"))
        .collect();
    let of = |who: &str| {
        let entries = trail.iter().filter(|entry| entry["who"] == who);
        entries
            .map(|entry| entry["status"].as_u64().unwrap_or(0))
            .collect::<Vec<_>>()
    };
    assert_eq!(of("reader"), [403], "{out}");
    assert_eq!(of("operator"), [200, 403, 403], "{out}");
    let done = trail
        .iter()
        .find(|entry| entry["status"] == 200)
        .expect("the block");
    assert_eq!(done["action"], "PUT /v1/devices/{id}/override");
    assert_eq!(done["target"], "ONRECORD");
    assert_eq!(done["detail"]["reason"], "lost");
    assert_eq!(done["role"], "operate");

    // A token that is taken out of the file is nobody's at once.
    fs::write(gateway.path("tokens.toml"), "").expect("the file is written");
    eventually("the token's end", || async {
        (operator.request("GET", "/v1/report", "").await.0 == 401).then_some(())
    })
    .await;
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

    let (code, out, _) = called(&gateway, &["policies", "show"]).await;
    assert!(code == 0 && out.contains("min (line 1): block"), "{out}");
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
}
