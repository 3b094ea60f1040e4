//! `[ews]` of policies.toml: who may do what, what is left out of answers, whose device it is.

use seg_core::sandbox::{Answer, Filter, Kind, Sandbox, Script, requests};
use seg_tests::eas::{Request, soap};
use seg_tests::message::Message;
use seg_tests::{Gateway, GatewayBuilder};

use crate::block::GET_INBOX;

const GET_ITEM: &str = "<m:GetItem><m:ItemShape><t:BaseShape>AllProperties</t:BaseShape>\
    <t:IncludeMimeContent>true</t:IncludeMimeContent></m:ItemShape>\
    <m:ItemIds><t:ItemId Id=\"AAMkItem-2=\"/></m:ItemIds></m:GetItem>";
const DENIED: &str = "ErrorAccessDenied";

fn sandbox() -> Sandbox {
    crate::sandbox::start()
}

/// A gateway whose policies.toml holds `[ews]`.
fn with_policies(sandbox: &Sandbox, toml: &str) -> GatewayBuilder {
    let builder = Gateway::before(sandbox);
    let path = builder.file("policies.toml", toml);
    builder.set("compliance.policies.path", path.display().to_string())
}

fn as_whom(header: &str, operation: &str) -> Request {
    let plain = soap(operation);
    let request = plain.replace("</s:Header>", &format!("{header}</s:Header>"));
    Request::ews("alice", &request)
}

fn acting_as(who: &str) -> String {
    format!(
        "<t:ExchangeImpersonation><t:ConnectingSID><t:PrimarySmtpAddress>{who}\
         </t:PrimarySmtpAddress></t:ConnectingSID></t:ExchangeImpersonation>"
    )
}

fn inbox_of(who: &str) -> String {
    format!(
        "<m:GetFolder><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape>\
         <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"><t:Mailbox><t:EmailAddress>{who}\
         </t:EmailAddress></t:Mailbox></t:DistinguishedFolderId></m:FolderIds></m:GetFolder>"
    )
}

fn push_to(url: &str) -> String {
    format!(
        "<m:Subscribe><m:PushSubscriptionRequest><t:FolderIds>\
         <t:DistinguishedFolderId Id=\"inbox\"/></t:FolderIds><t:EventTypes>\
         <t:EventType>NewMailEvent</t:EventType></t:EventTypes>\
         <t:StatusFrequency>15</t:StatusFrequency><t:URL>{url}</t:URL>\
         </m:PushSubscriptionRequest></m:Subscribe>"
    )
}

fn is_denied(answer: &Message) -> bool {
    answer.text().contains(DENIED)
}

#[tokio::test]
async fn what_a_phone_has_no_business_with_is_denied_by_default() {
    let sandbox = sandbox();
    let gateway = Gateway::before(&sandbox).start().await;
    let mail = Request::ews("alice", &soap(GET_INBOX));
    let served = gateway.ask(&mail).await;
    assert!(!is_denied(&served), "{}", served.text());
    let before = sandbox.count(&Filter::kind(Kind::Ews).user("alice@sandbox.example"));
    for (what, request) in [
        (
            "ews_operation",
            Request::ews(
                "alice",
                &soap("<m:ExportItems><m:ItemIds/></m:ExportItems>"),
            ),
        ),
        (
            "ews_operation",
            Request::ews("alice", &soap("<m:UpdateInboxRules/>")),
        ),
        (
            "ews_impersonation",
            as_whom(&acting_as("bob@sandbox.example"), GET_INBOX),
        ),
        (
            "ews_management_role",
            as_whom("<t:ManagementRole/>", GET_INBOX),
        ),
        (
            "ews_security_context",
            as_whom("<t:SerializedSecurityContext/>", GET_INBOX),
        ),
        (
            "ews_security_context",
            as_whom("<t:OpenAsAdminOrSystemService/>", GET_INBOX),
        ),
        (
            "ews_foreign_mailbox",
            Request::ews("alice", &soap(&inbox_of("bob@sandbox.example"))),
        ),
        (
            "ews_push_host",
            Request::ews(
                "alice",
                &soap(&push_to("https://ens.example/x?creds=PUSHSECRET")),
            ),
        ),
    ] {
        let answer = gateway.ask(&request).await;
        assert!(is_denied(&answer), "{what}: {}", answer.text());
        let event = gateway
            .event(what, |event| event["verdict_reason"] == what)
            .await;
        assert_eq!(event["outcome"], "refused", "{event}");
        assert_eq!(event["rule"], "ews.native", "{event}");
        assert_eq!(event["client_class"], "native", "{event}");
        assert_eq!(event["device_from"], "user", "{event}");
    }
    let after = sandbox.count(&Filter::kind(Kind::Ews).user("alice@sandbox.example"));
    assert_eq!(after, before, "a denied request has reached the server");
    // Her own mailbox is nobody else's, whichever way she writes her name.
    for own in ["alice@sandbox.example", "Alice@Sandbox.Example"] {
        let answer = gateway
            .ask(&Request::ews("alice", &soap(&inbox_of(own))))
            .await;
        assert!(!is_denied(&answer), "{own}: {}", answer.text());
    }
    assert!(
        !gateway.log().contains("PUSHSECRET"),
        "the push URL is a secret"
    );
}

#[tokio::test]
async fn an_operation_that_nobody_knows_passes_where_its_name_is_listed() {
    let sandbox = sandbox();
    let welcome = Answer::ok("text/xml", "<s:Envelope xmlns:s='x'>welcome</s:Envelope>");
    for name in ["MarkAsPhishing", "ForgetEverything"] {
        sandbox.script(Script::answer(Filter::name(name), welcome.clone()).always());
    }
    let ask = |name: &str| Request::ews("alice", &soap(&format!("<m:{name}/>")));
    let gateway = with_policies(&sandbox, "[ews.native]\nunknown = ['MarkAs*']\n")
        .start()
        .await;
    let listed = gateway.ask(&ask("MarkAsPhishing")).await;
    assert!(listed.text().contains("welcome"), "{}", listed.text());
    let denied = gateway.ask(&ask("ForgetEverything")).await;
    assert!(is_denied(&denied), "{}", denied.text());
    assert_eq!(sandbox.count(&Filter::name("ForgetEverything")), 0);
    let event = gateway
        .event("the denial", |event| {
            event["verdict_reason"] == "ews_unknown_operation"
        })
        .await;
    assert_eq!(event["command"], "unknown", "{event}");
    assert_eq!(event["detail"], "ForgetEverything", "{event}");

    // What is known is no unknown operation.
    std::fs::write(
        gateway.path("policies.toml"),
        "[ews.native]\nunknown = ['ExportItems']\n",
    )
    .expect("the file can be written");
    let (status, said) = gateway.admin.request("POST", "/v1/reload", "").await;
    assert_eq!(status, 422, "{said}");
}

#[tokio::test]
async fn a_mailbox_that_a_large_request_names_late_is_judged_too() {
    let sandbox = sandbox();
    let gateway = Gateway::before(&sandbox).start().await;
    let large = |who: &str| {
        let item = format!(
            "<t:Message><t:Subject>{}</t:Subject></t:Message>",
            "x".repeat(200_000)
        );
        Request::ews(
            "alice",
            &soap(&format!(
                "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:Items>{item}</m:Items>\
                 <m:SavedItemFolderId><t:DistinguishedFolderId Id=\"drafts\"><t:Mailbox>\
                 <t:EmailAddress>{who}</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId>\
                 </m:SavedItemFolderId></m:CreateItem>"
            )),
        )
    };
    let own = gateway.ask(&large("alice@sandbox.example")).await;
    assert_eq!(own.status(), 200, "{}", own.text());
    let items = Filter::name("CreateItem");
    assert_eq!(sandbox.count(&items), 1);
    let mut wire = gateway.connect().await;
    wire.send_until_closed(large("bob@sandbox.example").bytes())
        .await;
    if let Some(answer) = wire.try_answer(false).await {
        assert_eq!(answer.status(), 400);
    }
    assert_eq!(
        sandbox.count(&items),
        1,
        "the server has seen a whole request"
    );
}

#[tokio::test]
async fn who_may_act_as_somebody_is_judged_as_both() {
    let sandbox = sandbox();
    let gateway = with_policies(
        &sandbox,
        "[ews]\ndefault_class = 'service'\n[ews.service]\n\
         impersonation = [{ by = 'alice@sandbox.example', of = ['*@sandbox.example'] }]\n",
    )
    .start()
    .await;
    let as_bob = as_whom(&acting_as("bob@sandbox.example"), GET_INBOX);
    let answer = gateway.ask(&as_bob).await;
    assert!(!is_denied(&answer), "{}", answer.text());
    let target = "/v1/users/bob@sandbox.example/override";
    gateway
        .admin
        .write("PUT", target, r#"{"verdict":"block"}"#)
        .await;
    assert!(is_denied(&gateway.ask(&as_bob).await));
    let alone = Request::ews("alice", &soap(GET_INBOX));
    assert!(
        !is_denied(&gateway.ask(&alone).await),
        "only Bob is blocked"
    );
    gateway.admin.write("DELETE", target, "").await;
    assert!(!is_denied(&gateway.ask(&as_bob).await));
}

#[tokio::test]
async fn a_class_has_its_own_operations_refusal_and_hosts() {
    let sandbox = sandbox();
    let gateway = with_policies(
        &sandbox,
        "[[ews.client]]\nclass = 'ens'\nnetworks = ['127.0.0.0/8']\nagents = ['*ENS*']\n\
         [ews.ens]\ngroups = ['notify', 'content']\npush_hosts = ['*.ens.example']\n",
    )
    .start()
    .await;
    let ens = |operation: &str| {
        Request::ews("alice", &soap(operation))
            .without("User-Agent")
            .header("User-Agent", "VMware ENS 2")
    };
    let folder = gateway.ask(&ens(GET_INBOX)).await;
    assert_eq!(folder.status(), 403, "ENS is refused with 403");
    assert_eq!(gateway.ask(&ens(GET_ITEM)).await.status(), 200);
    let listed = gateway.ask(&ens(&push_to("https://a.ens.example/"))).await;
    assert_eq!(listed.status(), 200, "{}", listed.text());
    let other = gateway.ask(&ens(&push_to("https://evil.example/"))).await;
    assert_eq!(other.status(), 403);
    let native = gateway.ask(&Request::ews("alice", &soap(GET_INBOX))).await;
    assert!(!is_denied(&native), "{}", native.text());

    let explained = gateway
        .admin
        .read("/v1/explain?user=alice@sandbox.example&command=ExportItems&agent=x")
        .await;
    assert_eq!(explained["verdict"], "block", "{explained}");
    assert_eq!(explained["reason"], "ews_operation", "{explained}");
    let steps = explained["steps"].as_array().expect("steps");
    let step = steps
        .iter()
        .find(|step| step["step"] == "ews")
        .expect("a step of [ews]");
    assert_eq!(step["saw"]["group"], "bulk_admin", "{step}");
    let explained = gateway
        .admin
        .read("/v1/explain?user=alice@sandbox.example&command=GetFolder")
        .await;
    let step = &explained["steps"]
        .as_array()
        .expect("steps")
        .last()
        .expect("a step")["saw"];
    assert_eq!(step["classes"]["ens"], "ews_operation", "{explained}");
    assert_eq!(step["classes"]["native"], "allow", "{explained}");
}

#[tokio::test]
async fn in_observe_mode_nothing_is_denied_and_everything_told() {
    let sandbox = sandbox();
    let gateway = Gateway::before(&sandbox)
        .set("compliance.mode", "observe")
        .start()
        .await;
    let foreign = Request::ews("alice", &soap(&inbox_of("bob@sandbox.example")));
    let answer = gateway.ask(&foreign).await;
    assert!(!is_denied(&answer), "{}", answer.text());
    let event = gateway
        .event("an observed denial", |event| {
            event["verdict_reason"] == "ews_foreign_mailbox"
        })
        .await;
    assert_eq!(
        (&event["enforced"], &event["verdict"]),
        (&false.into(), &"block".into())
    );
}

#[tokio::test]
async fn attachments_and_mime_content_are_left_out() {
    let sandbox = sandbox();
    let open = Gateway::before(&sandbox).start().await;
    let whole = open
        .ask(&Request::ews("alice", &soap(GET_ITEM)))
        .await
        .text();
    for part in ["MimeContent>", "<t:Attachments>", "<t:Body", "<t:Subject>"] {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    let gateway = with_policies(&sandbox, "[ews.native]\nattachments = 'block'\n")
        .start()
        .await;
    // A client that takes compressed answers gets one that can be looked into.
    let ask = Request::ews("alice", &soap(GET_ITEM)).header("Accept-Encoding", "gzip");
    let picked = gateway.ask(&ask).await;
    assert_eq!(picked.status(), 200, "{}", picked.text());
    let picked = picked.text();
    for gone in ["MimeContent>", "<t:Attachments>"] {
        assert!(!picked.contains(gone), "{gone}: {picked}");
    }
    assert!(
        picked.contains("<t:Subject>") && picked.ends_with("</s:Envelope>"),
        "{picked}"
    );
    let attachment = "<m:GetAttachment><m:AttachmentIds><t:AttachmentId Id=\"a\"/>\
        <t:AttachmentId Id=\"b\"/></m:AttachmentIds></m:GetAttachment>";
    let refused = gateway
        .ask(&Request::ews("alice", &soap(attachment)))
        .await
        .text();
    assert_eq!(
        refused.matches("<m:ResponseCode>ErrorAccessDenied").count(),
        2,
        "{refused}"
    );
    let seen = sandbox.last(&Filter::name("GetItem")).expect("a request");
    assert_eq!(seen.head.header("Accept-Encoding"), None);
}

#[tokio::test]
async fn ens_gets_the_listed_fields_and_no_more() {
    let sandbox = sandbox();
    let gateway = with_policies(
        &sandbox,
        "[ews]\ndefault_class = 'ens'\n[ews.ens]\nfields = ['subject', 'sender', 'time', 'read']\n",
    )
    .start()
    .await;
    let answer = gateway
        .ask(&Request::ews("alice", &soap(GET_ITEM)))
        .await
        .text();
    for kept in [
        "<t:ItemId ",
        "<t:Subject>",
        "<t:From>",
        "<t:DateTimeReceived>",
        "<t:IsRead>",
    ] {
        assert!(answer.contains(kept), "{kept}: {answer}");
    }
    for gone in [
        "MimeContent",
        "<t:Body",
        "<t:Attachments>",
        "<t:ToRecipients>",
    ] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    let conversations = "<m:GetConversationItems/>";
    let answer = gateway
        .ask(&Request::ews("alice", &soap(conversations)))
        .await;
    assert_eq!(answer.status(), 403, "what can't be redacted is denied");
}

#[tokio::test]
async fn a_device_takes_no_more_than_its_measure() {
    let sandbox = sandbox();
    let gateway = with_policies(
        &sandbox,
        "[ews.native]\nmeter = { minutes = 44640, items = 3 }\n",
    )
    .start()
    .await;
    let ask = Request::ews("alice", &soap(GET_ITEM));
    for turn in 0..3 {
        let answer = gateway.ask(&ask).await;
        assert!(!is_denied(&answer), "{turn}: {}", answer.text());
    }
    assert!(is_denied(&gateway.ask(&ask).await));
    let folders = gateway.ask(&Request::ews("alice", &soap(GET_INBOX))).await;
    assert!(!is_denied(&folders), "only content is measured");
    let bob = gateway.ask(&Request::ews("bob", &soap(GET_ITEM))).await;
    assert!(!is_denied(&bob), "everybody has a measure of his own");
}

/// Everything that may name a device, and what must hold of it.
const LADDER: &str = "[ews]\ntrusted_networks = ['127.0.0.1']\n[ews.native]\n\
    device = ['header:X-Device-Id', 'query:deviceId', 'path', 'learned']\n";

#[tokio::test]
async fn each_rung_names_the_device_that_is_judged() {
    let sandbox = sandbox();
    let gateway = with_policies(&sandbox, LADDER).start().await;
    // Learned from ActiveSync.
    let sync = Request::eas("FolderSync", "alice", "LEARNED", requests::FOLDER_SYNC);
    assert_eq!(gateway.ask(&sync).await.status(), 200);
    let to = |target: &str| {
        Request::new("POST", target)
            .header("Authorization", &seg_tests::eas::basic("alice"))
            .header("Content-Type", "text/xml")
            .body(soap(GET_INBOX))
    };
    let plain = "/EWS/Exchange.asmx";
    for (rung, device, request) in [
        (
            "header",
            "HEADER",
            to(plain).header("X-Device-Id", "header"),
        ),
        (
            "query",
            "QUERY",
            to("/EWS/Exchange.asmx?a=1&deviceID=query"),
        ),
        ("path", "PATH", to("/ews/d/Path/exchange.asmx")),
        ("learned", "LEARNED", to(plain)),
    ] {
        let answer = gateway.ask(&request).await;
        assert!(!is_denied(&answer), "{rung}: {}", answer.text());
        let event = gateway
            .event(rung, |event| event["device_from"] == rung)
            .await;
        assert_eq!(event["device"], device, "{event}");
        gateway.admin.block(device).await;
        assert!(is_denied(&gateway.ask(&request).await), "{rung}");
        gateway.admin.unblock(device).await;
    }
    for exchange in sandbox.exchanges(&Filter::name("GetFolder")) {
        let target = &exchange.head.target;
        assert!(
            target == "/EWS/Exchange.asmx" || target == "/EWS/Exchange.asmx?a=1",
            "{target} has reached the server"
        );
    }
    let explained = gateway
        .admin
        .read("/v1/explain?user=alice@sandbox.example&command=GetFolder")
        .await;
    let step = &explained["steps"]
        .as_array()
        .expect("steps")
        .last()
        .expect("a step")["saw"];
    assert_eq!(step["learned_device"], "LEARNED", "{explained}");

    // With a second device nobody can tell which one it is.
    let sync = Request::eas("FolderSync", "alice", "SECOND", requests::FOLDER_SYNC);
    assert_eq!(gateway.ask(&sync).await.status(), 200);
    assert!(!is_denied(&gateway.ask(&to(plain)).await));
    gateway
        .event("judged by user", |event| {
            event["command"] == "GetFolder" && event["device_from"] == "user"
        })
        .await;
}

#[tokio::test]
async fn a_header_is_believed_from_trusted_networks_only() {
    let sandbox = sandbox();
    let gateway = with_policies(
        &sandbox,
        "[ews]\ntrusted_networks = ['192.0.2.0/24']\n[ews.native]\ndevice = ['header:X-Device-Id']\n",
    )
    .start()
    .await;
    gateway.admin.block("GOOD").await;
    let claimed = Request::ews("alice", &soap(GET_INBOX)).header("X-Device-Id", "GOOD");
    let answer = gateway.ask(&claimed).await;
    assert!(!is_denied(&answer), "judged by user: {}", answer.text());
    gateway
        .event("judged by user", |event| event["device_from"] == "user")
        .await;
    let path = Request::new("POST", "/EWS/d/GOOD/Exchange.asmx")
        .header("Authorization", &seg_tests::eas::basic("alice"))
        .header("Content-Type", "text/xml")
        .body(soap(GET_INBOX));
    assert_eq!(
        gateway.ask(&path).await.status(),
        404,
        "no rung looks there"
    );
}

#[tokio::test]
async fn a_policy_that_can_not_be_read_changes_nothing() {
    let sandbox = sandbox();
    let gateway = with_policies(&sandbox, "[ews.native]\ndeny = ['GetFolder']\n")
        .start()
        .await;
    let ask = Request::ews("alice", &soap(GET_INBOX));
    assert!(is_denied(&gateway.ask(&ask).await));
    std::fs::write(
        gateway.path("policies.toml"),
        "[ews.native]\ndeny = ['GetFolders']\n",
    )
    .expect("the file can be written");
    let (status, said) = gateway.admin.request("POST", "/v1/reload", "").await;
    assert_eq!(status, 422, "{said}");
    let message = said["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("\"GetFolders\" is no operation of EWS"),
        "{said}"
    );
    assert!(is_denied(&gateway.ask(&ask).await));
    std::fs::write(gateway.path("policies.toml"), "").expect("the file can be written");
    gateway.admin.write("POST", "/v1/reload", "").await;
    assert!(!is_denied(&gateway.ask(&ask).await));
}
