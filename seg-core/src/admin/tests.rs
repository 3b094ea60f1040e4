//! The API over a real loopback connection, with an engine in memory.

mod running;

use aws_lc_rs::digest::{SHA256, digest};
use seg_compliance::api::ReloadResult;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{NamedTokens, ReloadError, endpoints};
use running::{Running, TOKEN, program};

#[tokio::test]
async fn health_is_open_and_everything_else_asks_for_the_token() {
    let api = Running::start().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(
            api.send(&format!("GET {path} HTTP/1.1"), "").await.status,
            200,
            "{path}"
        );
    }
    for line in [
        "GET /v1/devices",
        "GET /openapi.json",
        "GET /nothing",
        "POST /v1/reload",
    ] {
        for authorization in [
            "",
            "\r\nauthorization: Bearer wrong",
            "\r\nauthorization: Basic YTpi",
        ] {
            let answer = api
                .send(&format!("{line} HTTP/1.1{authorization}"), "")
                .await;
            assert_eq!(answer.status, 401, "{line}");
            assert!(
                answer.head.contains("www-authenticate: bearer"),
                "{}",
                answer.head
            );
            assert_eq!(answer.error()["code"], "unauthorized");
        }
    }
    for line in [
        "GET /nothing",
        "POST /v1/devices/D1:erase",
        "POST /v1/devices/D1",
        "POST /v1/devices",
        "GET /v1/reload",
    ] {
        let answer = api.call(line, "").await;
        assert_eq!(
            (answer.status, answer.error()["code"].as_str()),
            (404, Some("not_found")),
            "{line}"
        );
    }
}

#[tokio::test]
async fn every_endpoint_of_the_table_is_served() {
    let api = Running::start().await;
    for endpoint in endpoints::endpoints() {
        if endpoint.path == "/v1/events" {
            continue; // Never ends; has a test of its own.
        }
        let path = endpoint
            .path
            .replace("{id}", "D1")
            .replace("{user}", "alice");
        let answer = api.call(&format!("{} {path}", endpoint.method), "").await;
        let documented = answer.status == 200 || endpoint.errors.contains(&answer.status);
        assert!(
            documented,
            "{} {path}: {} {}",
            endpoint.method, answer.status, answer.body
        );
    }
    let description = api.ok("GET /openapi.json", "").await;
    assert_eq!(description["openapi"], "3.1.0");
}

/// Every endpoint, and the roles that may call it, as the documentation says.
const ROLES: [(&str, &str); 28] = [
    ("GET /healthz", "anybody"),
    ("GET /readyz", "anybody"),
    ("GET /metrics", "anybody"),
    ("GET /openapi.json", "read operate import admin"),
    ("GET /v1/devices", "read operate import admin"),
    ("GET /v1/devices/{id}", "read operate import admin"),
    ("PUT /v1/devices/{id}", "operate admin"),
    ("DELETE /v1/devices/{id}", "operate admin"),
    ("POST /v1/devices/{id}:{action}", "operate admin"),
    ("DELETE /v1/devices/{id}/binding", "operate admin"),
    ("DELETE /v1/devices/{id}/order", "operate admin"),
    ("PUT /v1/devices/{id}/override", "operate admin"),
    ("DELETE /v1/devices/{id}/override", "operate admin"),
    ("PUT /v1/users/{user}/override", "operate admin"),
    ("DELETE /v1/users/{user}/override", "operate admin"),
    ("POST /v1/devices:import", "import admin"),
    ("GET /v1/devices:export", "read operate import admin"),
    ("GET /v1/explain", "read operate import admin"),
    ("GET /v1/sessions", "read operate import admin"),
    ("GET /v1/upstreams", "read operate import admin"),
    ("GET /v1/redirects", "read operate import admin"),
    ("DELETE /v1/redirects", "operate admin"),
    ("GET /v1/events", "read operate import admin"),
    ("GET /v1/policies", "read operate import admin"),
    ("POST /v1/policies:plan", "import admin"),
    ("GET /v1/report", "read operate import admin"),
    ("GET /v1/audit", "admin"),
    ("POST /v1/reload", "admin"),
];

#[tokio::test]
async fn each_role_may_call_its_endpoints_and_no_others() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let tokens = ["read", "operate", "import", "admin"].map(|role| {
        let token = format!("token-of-{role}");
        let hash: String = digest(&SHA256, token.as_bytes())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("[[token]]\nname=\"{role}-token\"\nrole=\"{role}\"\nsha256=\"{hash}\"\n")
    });
    std::fs::write(file.path(), tokens.concat()).unwrap();
    let api = Running::start_with(NamedTokens::load(file.path()).unwrap()).await;
    let listed: Vec<String> = ROLES
        .iter()
        .map(|(endpoint, _)| (*endpoint).to_owned())
        .collect();
    let there: Vec<String> = endpoints::endpoints()
        .iter()
        .map(|endpoint| format!("{} {}", endpoint.method, endpoint.path))
        .collect();
    assert_eq!(listed, there, "an endpoint without its roles");
    for (endpoint, roles) in ROLES {
        let line = endpoint
            .replace("{id}", "D1")
            .replace("{user}", "alice")
            .replace("{action}", "resync");
        for role in ["read", "operate", "import", "admin"] {
            let status = api.status(&line, &format!("token-of-{role}")).await;
            let may = roles == "anybody" || roles.split(' ').any(|one| one == role);
            assert_eq!(status != 403, may, "{role}: {line} is {status}");
            assert_ne!(status, 401, "{role}: {line}");
        }
        let stranger = api.status(&line, "token-of-nobody").await;
        assert_eq!(stranger == 401, roles != "anybody", "{line} is {stranger}");
    }
    // What a role was refused is on record, under its name.
    let trail = api.call("GET /v1/audit?limit=1000", "").await.body;
    let refused = trail.lines().filter(|line| line.contains("\"status\":403"));
    assert_eq!(refused.count(), 25, "{trail}");
    assert!(
        trail.contains("\"who\":\"read-token\",\"role\":\"read\""),
        "{trail}"
    );
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let api = Running::start().await;
    api.gateway
        .not_ready
        .lock()
        .push("the journal is not loaded".to_owned());
    let answer = api.send("GET /readyz HTTP/1.1", "").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.error()["message"], "the journal is not loaded");
    assert_eq!(api.send("GET /healthz HTTP/1.1", "").await.status, 200);
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let api = Running::start().await;
    api.ok("PUT /v1/devices/D1", r#"{"compliant":true}"#).await;
    let plain = api.send("GET /metrics HTTP/1.1", "").await;
    assert!(
        plain
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        plain.head
    );
    assert!(
        plain.body.contains("seg_devices{state=\"known\"} 1\n"),
        "{}",
        plain.body
    );
    let open = "GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text";
    assert!(api.send(open, "").await.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_device_is_put_blocked_unblocked_and_forgotten() {
    let api = Running::start().await;
    let applied = api
        .ok(
            "PUT /v1/devices/appl1",
            r#"{"device_id":"APPL1","user":"CORP\\alice","compliant":true}"#,
        )
        .await;
    assert_eq!(applied["decision"]["verdict"], "allow");

    let device = api.ok("GET /v1/devices/Appl1", "").await;
    assert_eq!(device["device_id"], "APPL1");
    assert_eq!(
        device["user"], "alice@corp.example",
        "the record's user is made canonical"
    );
    assert_eq!(device["decision"]["step"], "default");
    assert_eq!(device["live"], 0);
    let other = api.ok("GET /v1/devices/APPL1?user=bob", "").await;
    assert_eq!(other["decision"]["reason"], "user_mismatch");

    let body = r#"{"verdict":"block","reason":"lost","expires":"2999-01-01T00:00:00Z"}"#;
    let applied = api.ok("PUT /v1/devices/APPL1/override", body).await;
    assert_eq!(applied["decision"]["verdict"], "block");
    assert_eq!(applied["decision"]["reason"], "lost");
    let applied = api.ok("DELETE /v1/devices/APPL1/override", "").await;
    assert_eq!(applied["decision"]["verdict"], "allow");

    api.ok(
        "PUT /v1/users/corp%5CAlice/override",
        r#"{"verdict":"quarantine"}"#,
    )
    .await;
    let device = api.ok("GET /v1/devices/APPL1", "").await;
    assert_eq!(device["decision"]["verdict"], "quarantine");
    let applied = api
        .ok("DELETE /v1/users/alice%40corp.example/override", "")
        .await;
    assert_eq!(applied["decision"]["verdict"], "allow");

    api.ok("DELETE /v1/devices/APPL1", "").await;
    let gone = api.call("GET /v1/devices/APPL1", "").await;
    assert_eq!((gone.status, &gone.error()["key"]), (404, &json!("device")));
    assert_eq!(api.call("DELETE /v1/devices/APPL1", "").await.status, 404);
}

#[tokio::test]
async fn what_can_not_be_understood_is_refused_with_its_key() {
    let api = Running::start().await;
    let long = "x".repeat(100_000);
    let cases = [
        ("PUT /v1/devices/D1", r#"{"complaint":true}"#, Value::Null),
        (
            "PUT /v1/devices/D1",
            r#"{"device_id":"D2"}"#,
            json!("device_id"),
        ),
        ("PUT /v1/devices/D1", long.as_str(), Value::Null),
        ("PUT /v1/devices/D1/override", "{}", Value::Null),
        (
            "PUT /v1/devices/D1/override",
            r#"{"verdict":"block","expires":"1999-01-01T00:00:00Z"}"#,
            json!("expires"),
        ),
        (
            "PUT /v1/devices/a%20b/override",
            r#"{"verdict":"block"}"#,
            json!("device"),
        ),
        ("GET /v1/devices/%FF", "", Value::Null),
        ("GET /v1/devices?limit=many", "", json!("limit")),
        ("GET /v1/devices?verdict=deny", "", json!("verdict")),
        ("GET /v1/devices?usr=alice", "", json!("usr")),
        ("GET /v1/explain", "", json!("device")),
        ("GET /v1/events?from=yesterday", "", json!("from")),
    ];
    for (line, body, key) in cases {
        let answer = api.call(line, body).await;
        assert_eq!(answer.status, 400, "{line}: {}", answer.body);
        assert_eq!(answer.error()["key"], key, "{line}: {}", answer.body);
        assert_eq!(answer.error()["code"], "bad_request");
    }
}

#[tokio::test]
async fn devices_are_listed_page_by_page() {
    let api = Running::start().await;
    for number in 0..5 {
        let body = format!(r#"{{"compliant":{}}}"#, number % 2 == 0);
        api.ok(&format!("PUT /v1/devices/D{number}"), &body).await;
    }
    let names = |page: &Value| -> Vec<String> {
        let devices = page["devices"].as_array().unwrap();
        devices
            .iter()
            .map(|device| device["device_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = api.ok("GET /v1/devices?limit=3", "").await;
    assert_eq!(names(&first), ["D0", "D1", "D2"]);
    let after = first["next"].as_str().unwrap();
    let second = api
        .ok(&format!("GET /v1/devices?limit=3&after={after}"), "")
        .await;
    assert_eq!(names(&second), ["D3", "D4"]);
    assert_eq!(second["next"], Value::Null);
    let blocked = api
        .ok("GET /v1/devices?verdict=block&known=true&user=&after=", "")
        .await;
    assert_eq!(names(&blocked), ["D1", "D3"]);
    assert_eq!(
        names(&api.ok("GET /v1/devices?known=false", "").await),
        [""; 0]
    );
}

#[tokio::test]
async fn records_come_in_and_go_out() {
    let api = Running::start().await;
    let lines =
        "{\"device_id\":\"D1\",\"user\":\"CORP\\\\alice\"}\nnonsense\n{\"device_id\":\"D2\"}\n";
    let dry = api
        .import("?dry_run=true", "application/x-ndjson", lines)
        .await;
    assert_eq!(
        (dry.status, &dry.json()["applied"]),
        (200, &json!(2)),
        "{}",
        dry.body
    );
    assert_eq!(api.call("GET /v1/devices:export", "").await.body, "");

    let strict = api
        .import("?strict=true", "application/x-ndjson", lines)
        .await;
    assert_eq!(
        (strict.status, &strict.error()["line"]),
        (422, &json!(2)),
        "{}",
        strict.body
    );
    assert_eq!(api.call("GET /v1/devices:export", "").await.body, "");

    let result = api
        .import("?source=mdm", "application/x-ndjson", lines)
        .await
        .json();
    assert_eq!(
        (&result["read"], &result["applied"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(result["errors"].as_array().unwrap().len(), 1);
    assert_eq!(result["errors"][0]["line"], 2);

    let snapshot = "device_id,compliant\nD2,false\n";
    let media = "text/csv; charset=utf-8";
    // Both devices would change, which is more than the half that a snapshot may.
    let result = api
        .import("?mode=snapshot&source=mdm", media, snapshot)
        .await;
    assert_eq!(result.status, 409, "{}", result.body);
    let result = api
        .import("?mode=snapshot&source=mdm&force=true", media, snapshot)
        .await;
    assert_eq!(result.json()["removed"], 1, "{}", result.body);
    let exported = api.call("GET /v1/devices:export", "").await;
    assert!(exported.head.contains("content-type: application/x-ndjson"));
    let lines: Vec<Value> = exported
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["device_id"], &lines[0]["compliant"]),
        (&json!("D2"), &json!(false))
    );

    for query in ["?mode=all", "?strict=maybe", "?snapshot=true"] {
        assert_eq!(
            api.import(query, "text/csv", "").await.status,
            400,
            "{query}"
        );
    }
    assert_eq!(api.import("", "application/xml", "").await.status, 400);
}

#[tokio::test]
async fn explain_tells_who_was_asked_for_and_every_step() {
    let api = Running::start().await;
    let told = api
        .ok(
            "GET /v1/explain?device=D1&user=CORP%5Calice&agent=a&type=iPhone&command=Sync",
            "",
        )
        .await;
    assert_eq!(
        told["identity"],
        json!({"given": "CORP\\alice", "user": "alice@corp.example"})
    );
    assert_eq!(
        (&told["verdict"], &told["known"]),
        (&json!("block"), &json!(false))
    );
    let steps: Vec<_> = told["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| &step["step"])
        .collect();
    assert_eq!(steps, ["override", "mdm", "policy", "default"]);
    let told = api
        .ok("GET /v1/explain?user=alice&command=FindItem", "")
        .await;
    assert_eq!(told["verdict"], "block");
}

#[tokio::test]
async fn reload_reports_or_refuses() {
    let api = Running::start().await;
    *api.gateway.reload.lock() = Ok(ReloadResult {
        changed: vec!["compliance.mode".to_owned()],
        restart_required: Vec::new(),
    });
    let done = api.ok("POST /v1/reload", "").await;
    assert_eq!(
        done,
        json!({"changed": ["compliance.mode"], "restart_required": []})
    );
    *api.gateway.reload.lock() = Err(ReloadError {
        message: "compliance.mode: observe or enforce".to_owned(),
        key: Some("compliance.mode".to_owned()),
        line: Some(12),
    });
    let refused = api.call("POST /v1/reload", "").await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.error()["key"], "compliance.mode");
    assert_eq!(refused.error()["line"], 12);
}

#[tokio::test]
async fn events_are_sent_as_they_happen_and_end_with_the_gateway() {
    let api = Running::start().await;
    let stream = TcpStream::connect(api.address).await.unwrap();
    let mut feed = BufReader::new(stream);
    let request =
        format!("GET /v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    feed.get_mut().write_all(request.as_bytes()).await.unwrap();
    let mut line = String::new();
    // The answer's head comes when the feed is subscribed.
    while line != "\r\n" {
        line.clear();
        feed.read_line(&mut line).await.unwrap();
    }
    api.ok("PUT /v1/devices/D1/override", r#"{"verdict":"block"}"#)
        .await;
    let mut seen = String::new();
    while !(seen.contains("event: change\n") && seen.contains("\"device\":\"D1\"")) {
        assert!(feed.read_line(&mut seen).await.unwrap() > 0, "{seen}");
    }
    assert!(seen.contains("id: 1\n"), "{seen}");

    api.stop.send(()).unwrap();
    let mut rest = Vec::new();
    feed.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the feed ends whole");
    api.served.await.unwrap();
    assert!(TcpStream::connect(api.address).await.is_err());
}

#[tokio::test]
async fn a_feed_from_before_the_compaction_is_gone() {
    let api = Running::start().await;
    for reason in ["first", "second", "third"] {
        let body = json!({ "verdict": "block", "reason": reason }).to_string();
        api.ok("PUT /v1/devices/D1/override", &body).await;
    }
    let engine = &api.gateway.engine;
    let newest = engine.revision();
    engine.compact_store().await.expect("a compaction");
    let gone = api.call("GET /v1/events?from=1", "").await;
    assert_eq!(gone.status, 410, "{}", gone.body);
    let error = gone.error();
    assert_eq!(
        (&error["code"], &error["key"]),
        (&json!("gone"), &json!("from"))
    );
    // It says from where on there is something to follow, and there is.
    let message = error["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.contains(&format!("revision {newest} on")),
        "{message}"
    );
    let mut stream = TcpStream::connect(api.address).await.expect("a connection");
    let request = format!(
        "GET /v1/events?from={newest} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("the request");
    let mut first = String::new();
    let mut feed = BufReader::new(stream);
    feed.read_line(&mut first).await.expect("an answer");
    assert_eq!(first, "HTTP/1.1 200 OK\r\n");
}

#[tokio::test]
async fn the_program_and_the_api_understand_each_other() {
    let api = Running::start().await;
    let done = |out: &str| (0, out.to_owned(), String::new());
    assert_eq!(
        program(
            &api,
            &["block", "appl1", "--reason", "lost", "--expires", "8h"]
        )
        .await,
        done("appl1: block, by override device: lost (revision 1)\n")
    );
    let (code, out, err) = program(&api, &["unblock", "appl1"]).await;
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(
        out.starts_with("appl1: block, by default: unknown_device"),
        "{out}"
    );
    assert_eq!(program(&api, &["get", "appl1"]).await.0, 1);
    assert_eq!(program(&api, &["explain", "--device", "appl1"]).await.0, 1);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "{\"device_id\":\"appl1\",\"user\":\"CORP\\\\alice\"}\nx\n",
    )
    .unwrap();
    let (code, out, err) = program(&api, &["import", file.path().to_str().unwrap()]).await;
    assert_eq!(code, 1, "{err}");
    assert!(
        out.starts_with("2 read: 1 applied, 0 unchanged, 0 removed, 1 bad"),
        "{out}"
    );
    assert!(err.starts_with("sync-compliance: line 2: "), "{err}");

    let (code, out, _) = program(&api, &["get", "appl1"]).await;
    assert_eq!(code, 0);
    assert!(
        out.contains("allow, by default") && out.contains("alice@corp.example"),
        "{out}"
    );
    let (code, out, _) = program(&api, &["list"]).await;
    assert!(
        code == 0 && out.contains("APPL1") && out.contains("allow"),
        "{out}"
    );
    let (code, out, _) = program(&api, &["list", "--json", "--verdict", "allow"]).await;
    let device: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &device["device_id"]), (0, &json!("APPL1")));
    assert_eq!(program(&api, &["list", "--unknown"]).await, done(""));
    assert_eq!(program(&api, &["list", "--would-block"]).await, done(""));
    let (code, out, _) = program(
        &api,
        &["explain", "--device", "appl1", "--user", "corp\\alice"],
    )
    .await;
    assert!(code == 0 && out.contains("4. default: allow"), "{out}");
    let (code, out, _) = program(&api, &["export"]).await;
    assert!(
        code == 0 && out.starts_with("{\"device_id\":\"APPL1\""),
        "{out}"
    );

    let blocked = program(&api, &["block", "--user", "corp\\alice", "--json"]).await;
    let applied: Value = serde_json::from_str(&blocked.1).unwrap();
    assert_eq!(
        (blocked.0, &applied["decision"]["verdict"]),
        (0, &json!("block"))
    );
    let (code, out, _) = program(&api, &["unblock", "--user", "alice@corp.example"]).await;
    assert!(code == 0 && out.contains("allow"), "{out}");
    let (code, _, err) = program(&api, &["block", "a b"]).await;
    assert!(code == 2 && err.contains("device"), "{err}");
}
