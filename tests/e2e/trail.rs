//! Tokens with roles, and who changed what.

use std::fs;

use seg_tests::{Gateway, eventually};
use serde_json::Value;

use crate::administration::called;
use crate::sandbox::{self, folder_sync, is_served};

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
async fn who_changed_what_when_and_from_where_is_on_record() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    let begun = jiff::Timestamp::now();
    let line = "{\"device_id\":\"A:1\",\"user\":\"alice@sandbox.example\"}\nnonsense\n";
    gateway
        .admin
        .write("POST", "/v1/devices:import?source=mdm", line)
        .await;
    let dry = "/v1/devices:import?source=mdm&dry_run=true";
    gateway.admin.write("POST", dry, line).await;
    gateway
        .admin
        .write("PUT", "/v1/devices/D1", r#"{"managed":true}"#)
        .await;
    let block = r#"{"verdict":"block","reason":"lost"}"#;
    gateway
        .admin
        .write("PUT", "/v1/users/bob%40sandbox.example/override", block)
        .await;
    gateway
        .admin
        .write("DELETE", "/v1/users/bob%40sandbox.example/override", "")
        .await;
    gateway
        .admin
        .write("POST", "/v1/devices/A:1:wipe", r#"{"reason":"sold"}"#)
        .await;
    gateway
        .admin
        .write("DELETE", "/v1/devices/A:1/order", "")
        .await;
    gateway
        .admin
        .write("POST", "/v1/devices/A%3A1:resync", "")
        .await;
    let refused = gateway
        .admin
        .request("PUT", "/v1/devices/D1/override", "{}")
        .await;
    assert_eq!(refused.0, 400);
    // Whoever only asks changes nothing.
    gateway.admin.read("/v1/report").await;
    gateway.admin.write("POST", "/v1/policies:plan", "").await;
    fs::write(
        gateway.path("policies.toml"),
        "[[policy]]\nid=\"new\"\naction=\"notify\"\n",
    )
    .expect("a file");
    let trail = async |query: &str| -> Vec<Value> {
        let text = gateway.admin.text(&format!("/v1/audit{query}")).await;
        text.lines()
            .map(|line| serde_json::from_str(line).expect("an entry"))
            .collect()
    };
    let whole = eventually("the new file", || async {
        let whole = trail("").await;
        whole
            .iter()
            .any(|entry| entry["action"] == "reload")
            .then_some(whole)
    })
    .await;
    let short: Vec<(&str, &str, &str, u64)> = whole
        .iter()
        .map(|entry| {
            let word = |name: &str| entry[name].as_str().unwrap_or_default();
            (
                word("who"),
                word("action"),
                word("target"),
                entry["status"].as_u64().unwrap_or(0),
            )
        })
        .collect();
    assert_eq!(
        short,
        [
            ("admin", "POST /v1/devices:import", "", 200),
            ("admin", "PUT /v1/devices/{id}", "D1", 200),
            (
                "admin",
                "PUT /v1/users/{user}/override",
                "bob@sandbox.example",
                200
            ),
            (
                "admin",
                "DELETE /v1/users/{user}/override",
                "bob@sandbox.example",
                200
            ),
            ("admin", "POST /v1/devices/{id}:wipe", "A:1", 200),
            ("admin", "DELETE /v1/devices/{id}/order", "A:1", 200),
            ("admin", "POST /v1/devices/{id}:resync", "A:1", 200),
            ("admin", "PUT /v1/devices/{id}/override", "D1", 400),
            ("file", "reload", "", 200),
        ]
    );
    let (mut number, mut at) = (0, begun - jiff::SignedDuration::from_secs(1));
    for entry in &whole {
        let time: jiff::Timestamp = entry["at"]
            .as_str()
            .expect("a time")
            .parse()
            .expect("a time");
        assert!(
            entry["number"].as_u64() > Some(number) && time >= at,
            "{entry}"
        );
        (number, at) = (entry["number"].as_u64().unwrap_or(0), time);
        let from = entry["from"].as_str().unwrap_or_default();
        assert_eq!(from == "127.0.0.1", entry["who"] == "admin", "{entry}");
        assert_eq!(entry["role"] == "admin", entry["who"] == "admin", "{entry}");
    }
    // What was told: the source and the counts of an import, the reason of an override.
    assert_eq!(whole[0]["detail"]["query"], "source=mdm", "{}", whole[0]);
    assert_eq!(whole[0]["detail"]["said"]["applied"], 1, "{}", whole[0]);
    assert_eq!(whole[0]["detail"]["said"]["bad"], 1, "{}", whole[0]);
    assert_eq!(whole[2]["detail"]["reason"], "lost");
    assert_eq!(whole[4]["detail"]["reason"], "sold");
    assert!(whole[2]["revision"].as_u64() > whole[1]["revision"].as_u64());

    // Exported whole, or a part of it.
    let cut = whole[4]["at"].as_str().expect("a time");
    let (code, out, err) = called(&gateway, &["report", "--audit", "--from", cut]).await;
    assert_eq!(
        (code, out.lines().count()),
        (0, whole.len() - 4),
        "{out}{err}"
    );
    let (code, out, _) = called(&gateway, &["report", "--audit", "--to", cut]).await;
    assert_eq!((code, out.lines().count()), (0, 4), "{out}");
    assert_eq!(
        called(&gateway, &["report", "--audit", "--from", "yesterday"])
            .await
            .0,
        2
    );
    let after = whole[2]["number"].as_u64().expect("a number");
    let page = trail(&format!("?after={after}&limit=2")).await;
    assert_eq!(page, whole[3..5]);
}
