//! Which paths lead inward: default deny, one spelling, no second reading.

use seg_core::sandbox::{Filter, Sandbox};
use seg_tests::Gateway;
use seg_tests::eas::{Request, basic, soap};

use crate::block::GET_INBOX;
use crate::sandbox::{self, arrivals};

/// What becomes of a path.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// A SOAP request goes on under this path.
    Soap(&'static str),
    /// A GET goes on under this path.
    Get(&'static str),
    /// It is refused, and nothing reaches the server.
    Denied,
    /// It is refused with 404 for the time being.
    NotYet,
}

/// The paths that proxies before Exchange have stumbled over.
const PATHS: [(&str, Fate); 17] = [
    ("/EWS/Exchange.asmx", Fate::Soap("/EWS/Exchange.asmx")),
    ("/ews/exchange.asmx", Fate::Soap("/EWS/Exchange.asmx")),
    ("/EWS/exchange.asmx/", Fate::Soap("/EWS/Exchange.asmx")),
    ("/EWS/Services.wsdl", Fate::Get("/EWS/Services.wsdl")),
    ("/EWS/messages.xsd", Fate::Get("/EWS/messages.xsd")),
    ("/EWS/types.xsd", Fate::Get("/EWS/types.xsd")),
    (
        "/ews/exchange.asmx/s/GetUserPhoto?email=ceo@corp.example&size=HR240x240",
        Fate::Get("/EWS/Exchange.asmx/s/GetUserPhoto?email=ceo@corp.example&size=HR240x240"),
    ),
    ("/EWS/Exchange.asmx/WSSecurity", Fate::Denied),
    ("/EWS/MRSProxy.svc", Fate::Denied),
    ("/ews/../mapi/emsmdb", Fate::Denied),
    ("/ews/%2e%2e/powershell", Fate::Denied),
    ("/ews%2fexchange.asmx", Fate::Denied),
    ("/ews//exchange.asmx", Fate::Soap("/EWS/Exchange.asmx")),
    ("/autodiscover/autodiscover.xml", Fate::NotYet),
    ("/Autodiscover/Autodiscover.svc", Fate::NotYet),
    (
        "/autodiscover/autodiscover.json?@evil.example/ews/exchange.asmx?&Email=autodiscover/autodiscover.json%3F@evil.example",
        Fate::Denied,
    ),
    (
        "/autodiscover/autodiscover.json/v1.0/alice@corp.example?Protocol=ActiveSync",
        Fate::NotYet,
    ),
];

/// More of what must not lead inward.
const DENIED: [&str; 14] = [
    "/",
    "/owa/",
    "/ecp/",
    "/mapi/emsmdb",
    "/PowerShell",
    "/rpc/rpcproxy.dll",
    "/metrics",
    "/v1/devices",
    "/Microsoft-Server-ActiveSync/../owa",
    "/Microsoft-Server-ActiveSync/%2e%2e/owa",
    "/Microsoft-Server-ActiveSync%2f..%2fowa",
    "/Microsoft-Server-ActiveSync%252f",
    "/Microsoft-Server-ActiveSync\\..\\owa",
    "/Microsoft-Server-ActiveSyncX",
];

#[tokio::test]
async fn every_path_has_its_fate() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    for (path, fate) in PATHS {
        let before = arrivals(&sandbox);
        let request = match fate {
            Fate::Get(_) => Request::new("GET", path).header("Authorization", &basic("alice")),
            _ => soap_to(path),
        };
        let answer = gateway.ask(&request).await;
        match fate {
            Fate::Soap(target) | Fate::Get(target) => {
                assert_eq!(last_target(&sandbox), target, "{path}");
            }
            Fate::Denied => assert!(
                (400..500).contains(&answer.status()),
                "{path}: {}",
                answer.start
            ),
            Fate::NotYet => assert_eq!(answer.status(), 404, "{path}"),
        }
        let expected = u64::from(matches!(fate, Fate::Soap(_) | Fate::Get(_)));
        assert_eq!(
            arrivals(&sandbox) - before,
            expected,
            "{path}: what reached the server"
        );
    }
}

#[tokio::test]
async fn nothing_else_leads_inward() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    for path in DENIED {
        for method in ["GET", "POST"] {
            let request = Request::new(method, path)
                .header("Authorization", &basic("alice"))
                .body("");
            let answer = gateway.ask(&request).await;
            assert!(
                (400..500).contains(&answer.status()),
                "{method} {path}: {}",
                answer.start
            );
        }
    }
    assert_eq!(arrivals(&sandbox), 0);
}

#[tokio::test]
async fn activesync_is_spelled_as_exchange_does() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox).start().await;
    for path in [
        "/microsoft-server-activesync",
        "/MICROSOFT-SERVER-ACTIVESYNC/",
        "//Microsoft-Server-ActiveSync",
    ] {
        let target = format!("{path}?Cmd=FolderSync&User=alice&DeviceId=SPELLING&DeviceType=t");
        let request = Request::new("POST", &target)
            .header("Authorization", &basic("alice"))
            .header("MS-ASProtocolVersion", "14.1")
            .header("Content-Type", "application/vnd.ms-sync.wbxml")
            .body(seg_core::sandbox::requests::FOLDER_SYNC);
        assert!(sandbox::is_served(&gateway.ask(&request).await), "{path}");
        let expected =
            "/Microsoft-Server-ActiveSync?Cmd=FolderSync&User=alice&DeviceId=SPELLING&DeviceType=t";
        assert_eq!(last_target(&sandbox), expected);
    }
}

#[tokio::test]
async fn ews_is_closed_unless_it_is_opened() {
    let sandbox = sandbox::start();
    let gateway = Gateway::before(&sandbox)
        .set("enable.boxer.ens.ews.proxy", "false")
        .start()
        .await;
    let answer = gateway.ask(&soap_to("/EWS/Exchange.asmx")).await;
    assert!((400..500).contains(&answer.status()), "{}", answer.start);
    assert_eq!(arrivals(&sandbox), 0);
}

/// Where the project's collected facts are at hand, the table above holds every path of theirs.
#[test]
fn the_table_is_complete() {
    let Some(facts) = seg_tests::shared_file("facts/ews-hostile-vectors.json") else {
        println!("the collected paths are not at hand; the table was not compared");
        assert_eq!(PATHS.len(), 17);
        return;
    };
    let facts: serde_json::Value = serde_json::from_str(&facts).expect("JSON");
    let listed = facts["paths"].as_array().expect("a list of paths");
    assert!(!listed.is_empty());
    for entry in listed {
        let path = entry["path"].as_str().expect("a path");
        assert!(
            PATHS.iter().any(|(known, _)| *known == path),
            "{path} is not in the table"
        );
    }
}

fn soap_to(path: &str) -> Request {
    Request::new("POST", path)
        .header("Authorization", &basic("alice"))
        .header("Content-Type", "text/xml; charset=utf-8")
        .body(soap(GET_INBOX))
}

fn last_target(sandbox: &Sandbox) -> String {
    let all = sandbox.exchanges(&Filter::any().user("alice@sandbox.example"));
    all.last()
        .map(|exchange| exchange.head.target.clone())
        .unwrap_or_default()
}
