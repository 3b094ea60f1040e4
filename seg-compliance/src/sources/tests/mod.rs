//! Each known system as a stand-in that serves the shapes it documents.

mod limits;
mod pages;
mod patience;
mod secrets;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::record::Patch;

/// Answers one connection after the other with what `serve` makes of each request's line and head.
struct StandIn {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    fn serving(serve: impl Fn(usize, &str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(mut stream) = stream else { return };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap_or(0);
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                let _ = std::io::Read::read_exact(&mut reader, &mut body);
                head.push_str(&String::from_utf8_lossy(&body));
                let answer = serve(number, &head);
                noted.lock().unwrap().push(head);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn ok(body: &Value) -> String {
    answer("200 OK", "", &body.to_string())
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn definition(text: &str) -> Definition {
    let folder = Path::new("/nonexistent/sources.toml");
    let definitions = Definitions::parse(text, folder).unwrap_or_else(|error| panic!("{error}"));
    definitions.iter().next().unwrap().clone()
}

fn pulled(source: &Definition, state: &Path) -> Result<(Pulled, Vec<Value>), SourceError> {
    let mut out = Vec::new();
    let pulled = pull(source, state, Timestamp::now(), &mut |_| Ok(()), &mut out)?;
    let text = String::from_utf8(out).unwrap();
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for record in &records {
        Patch::from_json(record.to_string().as_bytes())
            .unwrap_or_else(|why| panic!("{why}: {record}"));
    }
    Ok((pulled, records))
}

fn nowhere() -> std::path::PathBuf {
    Path::new("/nonexistent/state").to_path_buf()
}

/// Secrets of tests: files, because the environment is everybody's.
fn secret(folder: &tempfile::TempDir, name: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, format!("{name}-value\n")).unwrap();
    format!("file:{}", path.display())
}

#[test]
fn workspace_one_is_read_page_by_page() {
    let device = |id: &str| {
        json!({
            "EasIds": {"EasId": [id]}, "Udid": "u", "SerialNumber": "s", "UserName": "alice",
            "UserEmailAddress": "alice@corp.example", "Ownership": "C", "Platform": "Apple",
            "Model": "iPhone 15", "OperatingSystem": "17.1.2", "LastSeen": "2026-11-22T09:00:00.000",
            "EnrollmentStatus": "Enrolled", "ComplianceStatus": "NonCompliant",
            "CompromisedStatus": false, "Id": {"Value": 7}
        })
    };
    let uem = StandIn::serving(move |number, _| match number {
        0 => ok(
            &json!({"Devices": [device("A1"), device("A2")], "Page": 0, "PageSize": 2, "Total": 3}),
        ),
        _ => ok(
            &json!({"Devices": [{"EasIds": {"EasId": []}, "UserName": "bob"}], "Page": 1, "PageSize": 2, "Total": 3}),
        ),
    });
    let folder = tempfile::tempdir().unwrap();
    let source = definition(&format!(
        "[[source]]\nname=\"uem\"\ntype=\"workspace-one\"\nurl=\"{}\"\nuser=\"api\"\npassword=\"{}\"\n\
         tenant_code=\"{}\"\npages={{size=2}}\nrequests_per_second=1000\n",
        uem.url,
        secret(&folder, "password"),
        secret(&folder, "tenant"),
    ));
    let (pulled, records) = pulled(&source, &nowhere()).unwrap();
    assert_eq!(
        (pulled.items, pulled.skipped, pulled.reading),
        (3, 1, Reading::Everything)
    );
    assert_eq!(
        records[0],
        json!({"device_id": "A1", "user": "alice", "managed": true, "compliant": false,
            "compromised": false, "platform": "ios", "model": "iPhone 15", "os_version": "17.1.2",
            "ownership": "corporate", "last_seen": "2026-11-22T09:00:00Z"})
    );
    assert_eq!(records.len(), 2);
    let seen = uem.seen();
    assert!(
        seen[0].starts_with("GET /api/mdm/devices/search?page=0&pagesize=2 "),
        "{}",
        seen[0]
    );
    assert!(
        seen[1].starts_with("GET /api/mdm/devices/search?page=1&pagesize=2 "),
        "{}",
        seen[1]
    );
    let head = seen[0].to_lowercase();
    assert!(head.contains("aw-tenant-code: tenant-value"), "{head}");
    assert!(head.contains("authorization: basic yxbpon"), "{head}");
    assert!(
        head.contains("accept: application/json;version=1"),
        "{head}"
    );
}

#[test]
fn intune_is_read_by_links_with_a_token_and_then_by_changes() {
    let graph = Arc::new(Mutex::new(String::new()));
    let base = Arc::clone(&graph);
    let stand_in = StandIn::serving(move |_, head| {
        let base = base.lock().unwrap().clone();
        let device = |id: &str, state: &str| {
            json!({"id": "1", "easDeviceId": id, "userPrincipalName": "alice@corp.example",
                "complianceState": state, "jailBroken": "False", "isEncrypted": true,
                "operatingSystem": "iOS", "osVersion": "18.1", "model": "iPhone 15",
                "managedDeviceOwnerType": "company", "lastSyncDateTime": "2026-11-22T09:00:00Z",
                "managementState": "managed"})
        };
        if head.starts_with("POST /token") {
            return ok(
                &json!({"token_type": "Bearer", "expires_in": 3599, "access_token": "TOKEN"}),
            );
        }
        if head.contains("deltatoken") {
            return ok(&json!({"value": [device("I2", "noncompliant")],
                "@odata.deltaLink": format!("{base}/v1.0/d?$deltatoken=2")}));
        }
        if head.contains("skiptoken") {
            return ok(
                &json!({"value": [device("I2", "compliant"), device("", "compliant")],
                "@odata.deltaLink": format!("{base}/v1.0/d?$deltatoken=1")}),
            );
        }
        ok(&json!({"value": [device("I1", "inGracePeriod")],
            "@odata.nextLink": format!("{base}/v1.0/d?$skiptoken=x")}))
    });
    stand_in.url.clone_into(&mut graph.lock().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("intune.state");
    let source = definition(&format!(
        "[[source]]\nname=\"intune\"\ntype=\"intune\"\nurl=\"{0}\"\ntoken_url=\"{0}/token\"\ndelta=true\n\
         client_id=\"app\"\nclient_secret=\"{1}\"\nrequests_per_second=1000\n",
        stand_in.url,
        secret(&folder, "client"),
    ));
    let (first, records) = pulled(&source, &state).unwrap();
    assert_eq!(
        (first.items, first.skipped, first.reading),
        (3, 1, Reading::Everything)
    );
    assert_eq!(
        (&records[0]["device_id"], &records[0]["compliant"]),
        (&json!("I1"), &json!(true))
    );
    assert_eq!(records[0]["ownership"], "corporate");
    // What was not imported is read again.
    assert_eq!(
        pulled(&source, &state).unwrap().0.reading,
        Reading::Everything
    );
    first.keep(&state).unwrap();
    let (second, records) = pulled(&source, &state).unwrap();
    assert_eq!(second.reading, Reading::Changes);
    assert_eq!(records[0]["compliant"], false);
    let seen = stand_in.seen();
    assert!(
        seen[0].contains("grant_type=client_credentials"),
        "{}",
        seen[0]
    );
    let scope = "scope=https%3A%2F%2Fgraph.microsoft.com%2F.default";
    assert!(seen[0].contains(scope), "{}", seen[0]);
    assert!(
        seen[0].contains("client_secret=client-value"),
        "{}",
        seen[0]
    );
    assert!(
        seen[1].contains("Bearer TOKEN") || seen[1].contains("bearer TOKEN"),
        "{}",
        seen[1]
    );
}

/// A Graph whose delta function refuses with `first`, and whose delta link answers `changes`; and
/// the source that it is.
fn graph(folder: &tempfile::TempDir, first: &'static str, changes: Value) -> Definition {
    let own = Arc::new(Mutex::new(String::new()));
    let base = Arc::clone(&own);
    let stand_in = StandIn::serving(move |_, head| {
        let base = base.lock().unwrap().clone();
        if head.starts_with("POST /token") {
            return ok(&json!({"token_type": "Bearer", "access_token": "TOKEN"}));
        }
        let mut list =
            json!({"value": [{"id": "1", "easDeviceId": "I1", "complianceState": "compliant"}]});
        if head.contains("deltatoken") {
            return ok(&changes);
        }
        if head.contains("/delta") {
            if !first.is_empty() {
                return answer(first, "", "");
            }
            list["@odata.deltaLink"] = json!(format!("{base}/v1.0/d?$deltatoken=1"));
        }
        ok(&list)
    });
    stand_in.url.clone_into(&mut own.lock().unwrap());
    definition(&format!(
        "[[source]]\nname=\"intune\"\ntype=\"intune\"\nurl=\"{0}\"\ntoken_url=\"{0}/token\"\ndelta=true\n\
         client_id=\"app\"\nclient_secret=\"{1}\"\nrequests_per_second=1000\ntries=1\n",
        stand_in.url,
        secret(folder, "client"),
    ))
}

#[test]
fn the_list_of_intune_is_read_where_its_changes_say_too_little() {
    let removed = json!({"value": [{"id": "1", "@removed": {"reason": "deleted"}}]});
    let unnamed = json!({"value": [{"id": "1", "complianceState": "noncompliant"}]});
    for (first, changes) in [
        ("400 Bad Request", Value::Null),
        ("404 Not Found", Value::Null),
        ("501 Not Implemented", Value::Null),
        ("", removed),
        ("", unnamed),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("intune.state");
        let source = graph(&folder, first, changes);
        for _ in 0..2 {
            let (read, records) = pulled(&source, &state).unwrap();
            assert_eq!(read.reading, Reading::Everything, "{first:?}");
            assert_eq!(records.len(), 1, "{first:?}");
            assert_eq!(records[0]["device_id"], "I1");
            read.keep(&state).unwrap();
        }
        assert_eq!(state.exists(), first.is_empty());
    }
}

#[test]
fn a_refused_login_is_no_reason_to_read_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let source = graph(&folder, "403 Forbidden", Value::Null);
    let error = pulled(&source, &nowhere()).unwrap_err();
    let status = matches!(error, SourceError::Refused { status: 403, .. });
    assert!(status, "{error}");
}

#[test]
fn jamf_is_read_with_its_sections() {
    let jamf = StandIn::serving(|_, head| {
        if head.starts_with("POST /api/oauth/token") {
            return ok(&json!({"access_token": "TOKEN", "expires_in": 1200}));
        }
        ok(&json!({"totalCount": 1, "results": [{
            "mobileDeviceId": "1", "deviceType": "iOS",
            "hardware": {"model": "iPhone 15", "modelIdentifier": "iPhone15,4", "serialNumber": "S"},
            "userAndLocation": {"username": "alice", "emailAddress": "alice@corp.example"},
            "general": {"managed": true, "osVersion": "17.5", "deviceOwnershipType": "Institutional",
                "exchangeDeviceId": "J1", "lastInventoryUpdateDate": "2026-11-22T09:00:00.000Z"},
            "security": {"dataProtected": true, "passcodeCompliant": false, "jailBreakDetected": false},
            "applications": [{"identifier": "com.a", "name": "A"}, {"identifier": "com.b"}],
            "groups": [{"groupId": "1", "groupName": "Mail", "smart": false}]
        }]}))
    });
    let folder = tempfile::tempdir().unwrap();
    let source = definition(&format!(
        "[[source]]\nname=\"jamf\"\ntype=\"jamf\"\nurl=\"{}\"\nclient_id=\"app\"\nclient_secret=\"{}\"\n\
         requests_per_second=1000\n",
        jamf.url,
        secret(&folder, "jamf"),
    ));
    let (_, records) = pulled(&source, &nowhere()).unwrap();
    assert_eq!(
        records,
        [
            json!({"device_id": "J1", "user": "alice", "managed": true, "compromised": false,
            "encrypted": true, "passcode": false, "platform": "ios", "model": "iPhone15,4",
            "os_version": "17.5", "ownership": "corporate", "last_seen": "2026-11-22T09:00:00Z",
            "apps": ["com.a", "com.b"], "groups": ["Mail"]})
        ]
    );
    assert!(
        jamf.seen()[1].contains("section=GENERAL"),
        "{:?}",
        jamf.seen()
    );
}

const GENERIC: &str = "[[source]]\nname=\"own\"\ntype=\"json\"\npath=\"/devices\"\nitems=\"$.list\"\n\
    map={device_id=\"$.eas\",user=\"$.owner.login\",compliant=\"$.state\",groups=\"$.tags[*].name\"}\n\
    requests_per_second=1000\n";

#[test]
fn any_json_is_read_by_a_mapping_and_asked_again_where_it_may_help() {
    let server = StandIn::serving(|number, _| match number {
        0 => answer("429 Too Many Requests", "retry-after: 0\r\n", ""),
        1 => answer("503 Service Unavailable", "retry-after: 0\r\n", ""),
        2 => "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned(),
        _ => ok(
            &json!({"list": [{"eas": "G1", "owner": {"login": "alice"}, "state": "ok",
            "tags": [{"name": "a"}, {"name": "b"}]}]}),
        ),
    });
    let source = definition(&format!("{GENERIC}url=\"{}\"\n", server.url));
    let (_, records) = pulled(&source, &nowhere()).unwrap();
    // "ok" is no word for yes or no: whatever it was before, it is not known now.
    assert_eq!(
        records,
        [json!({"device_id": "G1", "user": "alice", "compliant": null, "groups": ["a", "b"]})]
    );
    assert_eq!(server.seen().len(), 4);
    assert!(
        check(&source)
            .unwrap()
            .contains("1 of them with a DeviceId")
    );
}

#[test]
fn a_busy_login_is_asked_again_and_a_refusing_one_is_not() {
    for (first, tries) in [
        ("429 Too Many Requests", 3),
        ("503 Service Unavailable", 3),
        ("400 Bad Request", 1),
    ] {
        let server = StandIn::serving(move |number, head| match number {
            0 => answer(first, "retry-after: 0\r\n", ""),
            _ if head.starts_with("POST /token") => ok(&json!({"access_token": "T"})),
            _ => ok(&json!({"list": [{"eas": "G1"}]})),
        });
        let folder = tempfile::tempdir().unwrap();
        let source = definition(&format!(
            "{GENERIC}url=\"{0}\"\ntoken_url=\"{0}/token\"\nclient_id=\"app\"\nclient_secret=\"{1}\"\n",
            server.url,
            secret(&folder, "client"),
        ));
        let read = pulled(&source, &nowhere());
        assert_eq!(read.is_ok(), tries == 3, "{first}: {:?}", read.err());
        assert_eq!(server.seen().len(), tries, "{first}");
    }
}

#[test]
fn what_is_read_in_part_is_an_error() {
    let total = StandIn::serving(|_, _| ok(&json!({"list": [{"eas": "G1"}], "all": 9})));
    let source = definition(&format!(
        "{GENERIC}url=\"{}\"\ntotal=\"$.all\"\n",
        total.url
    ));
    let error = pulled(&source, &nowhere()).unwrap_err();
    assert!(
        matches!(error, SourceError::Partial { said: 9, given: 1 }),
        "{error}"
    );

    let elsewhere =
        StandIn::serving(|_, _| ok(&json!({"list": [], "next": "https://evil.example/devices"})));
    let source = definition(&format!(
        "{GENERIC}url=\"{}\"\nnext=\"$.next\"\n",
        elsewhere.url
    ));
    let error = pulled(&source, &nowhere()).unwrap_err().to_string();
    assert!(error.contains("not followed"), "{error}");

    for (status, part) in [
        ("404 Not Found", "404"),
        ("302 Found", "302"),
        ("200 OK", "can't be used"),
    ] {
        let server =
            StandIn::serving(move |_, _| answer(status, "location: http://127.0.0.1:1/\r\n", "x"));
        let source = definition(&format!("{GENERIC}url=\"{}\"\ntries=2\n", server.url));
        let error = pulled(&source, &nowhere()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// Asks for one device as the gateway does.
fn asked(source: &Definition, device: &str) -> Result<Vec<Value>, SourceError> {
    lookup(
        source,
        device,
        Duration::from_secs(60),
        &Sessions::default(),
    )
}

#[test]
fn one_device_is_asked_for_and_nothing_else_is_believed() {
    let server = StandIn::serving(|_, _| {
        ok(&json!({"list": [{"eas": "ASKED", "state": "compliant"}, {"eas": "OTHER"}]}))
    });
    let text = format!(
        "{GENERIC}url=\"{}\"\nlookup=\"/one?id={{device}}\"\non_miss=true\n",
        server.url
    );
    let source = definition(&text);
    assert!(source.on_miss);
    let found = asked(&source, "ASKED").unwrap();
    assert_eq!(found, [json!({"device_id": "ASKED", "compliant": true})]);
    assert!(asked(&source, "x' or '1'='1").unwrap().is_empty());
    assert_eq!(server.seen().len(), 1);
    assert!(
        server.seen()[0].starts_with("GET /one?id=ASKED "),
        "{:?}",
        server.seen()
    );
}

#[test]
fn workspace_one_answers_for_one_device_with_the_device_itself() {
    let uem = StandIn::serving(|_, head| {
        if head.starts_with("GET /api/mdm/devices?searchby=EasId&id=KNOWN ") {
            return ok(
                &json!({"EasIds": {"EasId": ["KNOWN"]}, "EasId": "KNOWN", "UserName": "alice",
                "Platform": "Android", "ComplianceStatus": "Compliant", "Id": {"Value": 7}}),
            );
        }
        let body = json!({"errorCode": 404, "message": "Device not found for the EasId"});
        answer("404 Not Found", "", &body.to_string())
    });
    let folder = tempfile::tempdir().unwrap();
    let source = definition(&format!(
        "[[source]]\nname=\"uem\"\ntype=\"workspace-one\"\nurl=\"{}\"\nuser=\"api\"\npassword=\"{}\"\n\
         tenant_code=\"{}\"\non_miss=true\n",
        uem.url,
        secret(&folder, "password"),
        secret(&folder, "tenant"),
    ));
    let found = asked(&source, "known").unwrap();
    assert!(found.is_empty(), "a DeviceId is asked for as it is");
    let found = asked(&source, "KNOWN").unwrap();
    assert_eq!(
        found,
        [json!({"device_id": "KNOWN", "user": "alice", "platform": "android", "compliant": true})]
    );
}

#[test]
fn intune_answers_for_one_device_with_a_list() {
    let graph = StandIn::serving(|_, head| {
        if head.starts_with("POST /token") {
            return ok(&json!({"token_type": "Bearer", "access_token": "TOKEN"}));
        }
        ok(&json!({"value": [{"id": "1", "easDeviceId": "I1", "complianceState": "noncompliant"}]}))
    });
    let folder = tempfile::tempdir().unwrap();
    let source = definition(&format!(
        "[[source]]\nname=\"intune\"\ntype=\"intune\"\nurl=\"{0}\"\ntoken_url=\"{0}/token\"\n\
         client_id=\"app\"\nclient_secret=\"{1}\"\non_miss=true\n",
        graph.url,
        secret(&folder, "client"),
    ));
    let sessions = Sessions::default();
    for _ in 0..2 {
        let found = lookup(&source, "I1", Duration::from_secs(60), &sessions).unwrap();
        assert_eq!(found, [json!({"device_id": "I1", "compliant": false})]);
    }
    let seen = graph.seen();
    assert_eq!(seen.len(), 3, "one login for both");
    let filter = "GET /v1.0/deviceManagement/managedDevices?$filter=easDeviceId%20eq%20'I1' ";
    assert!(
        seen[1].starts_with(filter) && seen[2].starts_with(filter),
        "{seen:?}"
    );
}

#[test]
fn intune_is_where_microsoft_has_it_and_logs_in_at_its_tenant() {
    let source = definition(
        "[[source]]\nname=\"intune\"\ntype=\"intune\"\ntenant=\"corp.onmicrosoft.com\"\n\
         client_id=\"app\"\nclient_secret=\"env:SECRET\"\n",
    );
    let definition::From::Web(web) = &source.from else {
        panic!("{source:?}");
    };
    assert_eq!(web.url, "https://graph.microsoft.com");
    let definition::Login::Client { token_url, .. } = &web.login else {
        panic!("{source:?}");
    };
    let expected = "https://login.microsoftonline.com/corp.onmicrosoft.com/oauth2/v2.0/token";
    assert_eq!(token_url, expected);
}

#[test]
fn a_definition_with_a_mistake_is_refused_with_its_place() {
    for (text, expected) in [
        (
            "[[source]]\nname=\"a\"\ntype=\"uem\"\n",
            "line 3, column 1: unknown type \"uem\"",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"jamf\"\n",
            "line 1, column 1: missing field `url`",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"jamf\"\nurl=\"http://jamf.example\"\n",
            "line 1, column 1: url \"http://jamf.example\" must begin with https://",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"jamf\"\nurl=\"https://j\"\nclient_id=\"i\"\nclient_secret=\"secret\"\n",
            "line 6, column 1: client_secret: secrets don't stand here",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"json\"\nurl=\"https://j\"\nitems=\"list\"\nmap={device_id=\"$.a\"}\n",
            "line 5, column 1: \"list\" is no path",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"json\"\nurl=\"https://j\"\nitems=\"$.l\"\nmap={device_id=\"$.a\",x=\"$.b\"}\n",
            "line 6, column 22: \"x\" is no fact",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"csv\"\npath=\"f\"\nurl=\"x\"\n",
            "line 5, column 1: unknown field `url`",
        ),
        ("[sauce]\n", "line 1, column 2: unknown field `sauce`"),
        (
            "[[source]]\nname=\"a\"\ntype=\"jamf\"\nurl=\"https://me:word@jamf.example\"\n",
            "line 1, column 1: url must be of the form https://host/path",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"jamf\"\nurl=\"https://jamf example\"\n",
            "line 1, column 1: url \"https://jamf example\" is no URL",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"jamf\"\nurl=\"https://j\"\nproxy=\"http://me:word@proxy:1\"\n",
            "line 5, column 1: proxy: with a password it is a secret",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"jamf\"\nurl=\"https://j\"\nproxy=\"pigeon://proxy\"\n",
            "line 5, column 1: proxy: \"pigeon://proxy\" is not of the form",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"jamf\"\nurl=\"https://j\"\nheaders={X-Api-Key=\"word\"}\n",
            "line 5, column 10: x-api-key: secrets don't stand here",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"jamf\"\nurl=\"https://j\"\nheaders={\"X Y\"=\"word\"}\n",
            "line 5, column 10: \"X Y\" is no name of a header",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"csv\"\npath=\"f\"\n[[source]]\nname=\"a\"\ntype=\"csv\"\npath=\"g\"\n",
            "line 5, column 1: another source is called \"a\"",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"jamf\"\nurl=\"https://j\"\non_miss=true\n",
            "line 1, column 1: on_miss needs a source that can be asked for one device",
        ),
        (
            "[[source]]\nname=\"a\"\ntype=\"jamf\"\nurl=\"https://j\"\nrequests_per_second=0\n",
            "line 5, column 1:",
        ),
    ] {
        let error = Definitions::parse(text, Path::new("sources.toml")).unwrap_err();
        let error = error.to_string();
        let error = error.strip_prefix("sources.toml: ").unwrap_or(&error);
        assert!(error.starts_with(expected), "{error}\n{expected}");
    }
    let page = include_str!("../../../../docs/sources.md");
    for block in page.split("```toml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        if let Err(error) = Definitions::parse(text, Path::new("sources.toml")) {
            panic!("{error}\n{text}");
        }
    }
}
