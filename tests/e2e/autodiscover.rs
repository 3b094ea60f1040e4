//! Autodiscover never leads a client around the gateway.

use seg_core::sandbox::{Answer, Filter, INSIDE, Kind, Play, Sandbox, Script};
use seg_tests::eas::{Request, basic};
use seg_tests::message::Message;
use seg_tests::{Gateway, GatewayBuilder, interop};
use serde_json::Value;

use crate::sandbox::{self, folder_sync, is_served};

const PUBLIC: &str = "https://mail.public.example";

fn gateway(sandbox: &Sandbox, mode: &str) -> GatewayBuilder {
    Gateway::before(sandbox)
        .set("server.public.url", PUBLIC)
        .set("autodiscover.mode", mode)
}

fn pox(schema: &str) -> Request {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/{schema}/requestschema/2006\"><Request><EMailAddress>alice@sandbox.example</EMailAddress><AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/{schema}/responseschema/2006{}</AcceptableResponseSchema></Request></Autodiscover>",
        if schema == "outlook" { "a" } else { "" }
    );
    Request::new("POST", "/Autodiscover/Autodiscover.xml")
        .header("Authorization", &basic("alice"))
        .header("Content-Type", "text/xml")
        .body(body)
}

fn soap() -> Request {
    Request::new("POST", "/autodiscover/autodiscover.svc")
        .header("Authorization", &basic("alice"))
        .header("Content-Type", "text/xml; charset=utf-8")
        .body(
            r#"<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:a="http://schemas.microsoft.com/exchange/2010/Autodiscover"><s:Body><a:GetUserSettingsRequestMessage><a:Request><a:Users><a:User><a:Mailbox>alice@sandbox.example</a:Mailbox></a:User></a:Users><a:RequestedSettings><a:Setting>ExternalEwsUrl</a:Setting></a:RequestedSettings></a:Request></a:GetUserSettingsRequestMessage></s:Body></s:Envelope>"#,
        )
}

fn json(query: &str) -> Request {
    Request::new("GET", &format!("/autodiscover/autodiscover.json?{query}"))
        .header("Authorization", &basic("alice"))
}

fn told(answer: &Message) -> String {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let text = answer.text();
    for inside in [INSIDE, "corp.internal", "Ntlm"] {
        assert!(!text.contains(inside), "{text}");
    }
    text
}

#[tokio::test]
async fn every_address_that_a_client_is_told_is_ours() {
    for mode in ["rewrite", "answer"] {
        let sandbox = sandbox::start();
        let gateway = gateway(&sandbox, mode).start().await;
        let mobile = told(&gateway.ask(&pox("mobilesync")).await);
        let url = format!("<Url>{PUBLIC}/Microsoft-Server-ActiveSync</Url>");
        assert!(mobile.contains(&url), "{mode}: {mobile}");
        let outlook = told(&gateway.ask(&pox("outlook")).await);
        let ews = format!("<EwsUrl>{PUBLIC}/EWS/Exchange.asmx</EwsUrl>");
        assert!(outlook.contains(&ews), "{mode}: {outlook}");
        let settings = told(&gateway.ask(&soap()).await);
        assert!(
            settings.contains(&format!("<Value>{PUBLIC}/EWS/Exchange.asmx</Value>")),
            "{mode}: {settings}"
        );
        let query = "Email=alice@sandbox.example&Protocol=ActiveSync";
        let version_two: Value =
            serde_json::from_str(&told(&gateway.ask(&json(query)).await)).expect("JSON");
        assert_eq!(version_two["Protocol"], "ActiveSync");
        assert_eq!(
            version_two["Url"],
            format!("{PUBLIC}/Microsoft-Server-ActiveSync")
        );
        let arrived = sandbox.count(&Filter::kind(Kind::Autodiscover));
        assert_eq!(arrived, if mode == "rewrite" { 4 } else { 0 }, "{mode}");
    }
}

#[tokio::test]
async fn nothing_but_values_changes() {
    let sandbox = sandbox::start();
    let gateway = gateway(&sandbox, "rewrite").start().await;
    let outside = told(&gateway.ask(&pox("outlook")).await);
    let inside = sandbox
        .last(&Filter::kind(Kind::Autodiscover))
        .expect("an exchange");
    let inside = String::from_utf8(inside.answer.expect("an answer").body.to_vec()).expect("text");
    let expected = inside
        .replace(INSIDE, PUBLIC)
        .replace("ex01.corp.internal", "mail.public.example")
        .replace("dc01.corp.internal", "mail.public.example")
        .replace("Ntlm", "basic");
    assert_eq!(outside, expected);
}

#[tokio::test]
async fn it_is_judged_by_user_and_needs_credentials() {
    for mode in ["rewrite", "answer"] {
        let sandbox = sandbox::start();
        let gateway = gateway(&sandbox, mode).start().await;
        let nameless = gateway
            .ask(&pox("mobilesync").without("Authorization"))
            .await;
        assert_eq!(nameless.status(), 401, "{mode}");
        let wrong = pox("mobilesync").without("Authorization").header(
            "Authorization",
            "Basic YWxpY2VAc2FuZGJveC5leGFtcGxlOndyb25n",
        );
        assert_eq!(gateway.ask(&wrong).await.status(), 401, "{mode}");

        let target = "/v1/users/alice@sandbox.example/override";
        let block = r#"{"verdict":"block"}"#;
        gateway.admin.write("PUT", target, block).await;
        assert_eq!(gateway.ask(&wrong).await.status(), 401, "{mode}");
        for request in [pox("mobilesync"), soap(), json("Protocol=ActiveSync")] {
            let refused = gateway.ask(&request).await;
            assert_eq!(refused.status(), 403, "{mode}");
            assert!(!refused.text().contains("://"));
        }
        gateway.admin.write("DELETE", target, "").await;
        told(&gateway.ask(&pox("mobilesync")).await);
    }
}

#[tokio::test]
async fn what_has_led_exchange_astray_is_refused() {
    let sandbox = sandbox::start();
    let gateway = gateway(&sandbox, "rewrite").start().await;
    for query in [
        "@evil.example/powershell/?X-Rps-CAT=x",
        "@evil.example/mapi/nspi/?&Email=autodiscover/autodiscover.json%3f@evil.example",
        "Email=autodiscover/autodiscover.json%3f@evil.example&Protocol=ActiveSync",
        "Email=alice%2540sandbox.example&Protocol=ActiveSync",
        "Protocol=PowerShell",
        "Protocol=ActiveSync&Protocol=EWS",
        "Protocol=ActiveSync&x=1",
        "",
    ] {
        assert_eq!(gateway.ask(&json(query)).await.status(), 400, "{query}");
    }
    for path in [
        "/autodiscover/autodiscover.json/v1.0/alice@sandbox.example?Protocol=ActiveSync",
        "/autodiscover/autodiscover.json/mapi/nspi",
        "/autodiscover/other.svc",
    ] {
        let request = Request::new("GET", path).header("Authorization", &basic("alice"));
        assert_eq!(gateway.ask(&request).await.status(), 404, "{path}");
    }
    for body in [
        "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>",
        "<Autodiscover>",
        "no XML",
    ] {
        assert_eq!(gateway.ask(&pox("outlook").body(body)).await.status(), 400);
    }
    assert_eq!(sandbox.count(&Filter::kind(Kind::Autodiscover)), 0);
}

#[tokio::test]
async fn an_answer_that_leads_elsewhere_becomes_our_own() {
    let sandbox = sandbox::start();
    let gateway = gateway(&sandbox, "rewrite").start().await;
    let away = "<Autodiscover><Response><Account><Action>redirectAddr</Action><RedirectAddr>alice@tenant.example</RedirectAddr></Account></Response></Autodiscover>";
    let answers = [
        Answer::ok("text/xml", away),
        Answer::status(302).header(
            "Location",
            "https://outlook.example/autodiscover/autodiscover.xml",
        ),
    ];
    for answer in answers {
        sandbox.script(Script::new(
            Filter::kind(Kind::Autodiscover),
            Play::Answer(answer),
        ));
        let own = told(&gateway.ask(&pox("mobilesync")).await);
        assert!(own.contains(&format!("<Url>{PUBLIC}/")), "{own}");
        assert!(!own.contains("tenant.example"), "{own}");
    }
    let nonsense = Answer::ok("text/xml", "<Autodiscover><Url>https://ex01.corp.internal/");
    sandbox.script(Script::new(
        Filter::kind(Kind::Autodiscover),
        Play::Answer(nonsense),
    ));
    assert_eq!(gateway.ask(&pox("mobilesync")).await.status(), 502);
}

#[tokio::test]
async fn denied_or_without_an_address_of_ours_there_is_none() {
    let sandbox = sandbox::start();
    for gateway in [
        gateway(&sandbox, "deny"),
        Gateway::before(&sandbox).set("autodiscover.mode", "rewrite"),
    ] {
        let gateway = gateway.start().await;
        assert_eq!(gateway.ask(&pox("mobilesync")).await.status(), 404);
        assert!(is_served(&gateway.ask(&folder_sync("OTHERWISE")).await));
    }
    assert_eq!(sandbox.count(&Filter::kind(Kind::Autodiscover)), 0);
}

/// exchangelib's own discovery: it asks for the address of its user's domain, and then works with
/// the address that it was told.
#[tokio::test]
async fn exchangelib_discovers_us() {
    let sandbox = sandbox::start();
    for mode in ["rewrite", "answer"] {
        let gateway = Gateway::before(&sandbox)
            .names(&["sandbox.example"])
            .set("server.public.url", "https://sandbox.example")
            .set("autodiscover.mode", mode)
            .start()
            .await;
        let mut command = interop::script("exchangelib_client.py");
        command
            .arg(format!(
                "https://sandbox.example:{}/",
                gateway.address.port()
            ))
            .args(["alice@sandbox.example", "Secret-alice-1"])
            .arg(gateway.ca_path())
            .arg("discover");
        let said = said(command).await;
        assert_eq!(said["ok"], true, "{mode}: {said}");
        assert_eq!(
            said["endpoint"], "https://sandbox.example/EWS/Exchange.asmx",
            "{mode}: {said}"
        );
        assert!(
            said["subjects"]
                .as_array()
                .is_some_and(|mails| !mails.is_empty())
        );
    }
}

/// DavMail's own request and reader of the answer.
#[tokio::test]
async fn davmail_discovers_us() {
    let sandbox = sandbox::start();
    for mode in ["rewrite", "answer"] {
        let gateway = gateway(&sandbox, mode).start().await;
        let mut command = interop::script("davmail_discovery.py");
        command
            .arg(format!(
                "https://localhost:{}/autodiscover/autodiscover.xml",
                gateway.address.port()
            ))
            .args(["alice@sandbox.example", "Secret-alice-1"])
            .arg(gateway.ca_path());
        let said = said(command).await;
        assert_eq!(said["ok"], true, "{mode}: {said}");
        assert_eq!(
            said["endpoint"],
            format!("{PUBLIC}/EWS/Exchange.asmx"),
            "{mode}"
        );
    }
}

async fn said(command: tokio::process::Command) -> Value {
    let output = interop::output(command).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}
