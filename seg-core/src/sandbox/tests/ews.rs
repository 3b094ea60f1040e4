use super::*;

fn soap(inner: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\">\
         <s:Body>{inner}</s:Body></s:Envelope>"
    );
    let login = STANDARD.encode("CORP\\bob:Secret-bob-1");
    format!(
        "POST /ews/exchange.asmx HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Basic {login}\r\n\
         Content-Type: text/xml; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn ask(client: &mut Client, inner: &str) -> (String, String) {
    let (head, body) = client.ask(&soap(inner)).await;
    (head, String::from_utf8(body).unwrap())
}

/// The whole answer is well-formed XML; gives the names of its elements in order.
fn elements(xml: &str) -> Vec<String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut names = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            quick_xml::events::Event::Start(tag) | quick_xml::events::Event::Empty(tag) => {
                names.push(tag.local_name().as_ref().to_owned());
            }
            quick_xml::events::Event::Eof => return names,
            _ => {}
        }
    }
}

#[tokio::test]
async fn every_id_of_a_batch_gets_its_message_in_order() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    let (_, xml) = ask(
        &mut client,
        "<m:GetFolder><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape>\
         <m:FolderIds><t:DistinguishedFolderId Id=\"inbox\"/><t:FolderId Id=\"nowhere\"/>\
         <t:DistinguishedFolderId Id=\"calendar\"/></m:FolderIds></m:GetFolder>",
    )
    .await;
    let names = elements(&xml);
    let messages = names
        .iter()
        .filter(|name| *name == "GetFolderResponseMessage")
        .count();
    assert_eq!(messages, 3);
    let (inbox, error, calendar) = (
        xml.find(">Inbox<"),
        xml.find("ErrorFolderNotFound"),
        xml.find(">Calendar<"),
    );
    assert!(inbox < error && error < calendar, "{xml}");
    assert_eq!(
        sandbox.count(&Filter::name("GetFolder").user("bob@sandbox.example")),
        1
    );
}

#[tokio::test]
async fn the_mail_is_found_and_read() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    let (_, found) = ask(
        &mut client,
        "<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape>\
         </m:ItemShape><m:ParentFolderIds><t:DistinguishedFolderId Id=\"inbox\"/>\
         </m:ParentFolderIds></m:FindItem>",
    )
    .await;
    assert_eq!(
        elements(&found)
            .iter()
            .filter(|name| *name == "Message")
            .count(),
        3
    );
    assert!(!found.contains("<t:Body"), "{found}");
    let (_, mail) = ask(
        &mut client,
        "<m:GetItem><m:ItemShape><t:IncludeMimeContent>true</t:IncludeMimeContent></m:ItemShape>\
         <m:ItemIds><t:ItemId Id=\"AAMkItem-2=\"/></m:ItemIds></m:GetItem>",
    )
    .await;
    let names = elements(&mail);
    for name in ["MimeContent", "Body", "AttachmentId"] {
        assert!(
            names.iter().any(|known| known == name),
            "{name} is missing: {mail}"
        );
    }
    let (_, attachment) = ask(
        &mut client,
        "<m:GetAttachment><m:AttachmentIds><t:AttachmentId Id=\"AAMkAttachment-2=\"/>\
         </m:AttachmentIds></m:GetAttachment>",
    )
    .await;
    assert!(
        attachment.contains(&STANDARD.encode(eas::ATTACHMENT)),
        "{attachment}"
    );
}

#[tokio::test]
async fn every_operation_answers_well_formed() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    for operation in [
        "ConvertId",
        "GetFolder",
        "FindFolder",
        "SyncFolderHierarchy",
        "SyncFolderItems",
        "FindItem",
        "GetItem",
        "GetAttachment",
        "CreateItem",
        "SendItem",
        "UpdateItem",
        "MoveItem",
        "DeleteItem",
        "ResolveNames",
        "GetServerTimeZones",
        "Subscribe",
        "Unsubscribe",
        "GetEvents",
        "GetUserAvailabilityRequest",
        "GetUserOofSettingsRequest",
        "SetUserOofSettingsRequest",
        "GetUserConfiguration",
    ] {
        let (head, xml) = ask(&mut client, &format!("<m:{operation}/>")).await;
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n"),
            "{operation}: {head}"
        );
        let names = elements(&xml);
        let response = format!("{}Response", operation.trim_end_matches("Request"));
        assert!(names.contains(&response), "{operation}: {xml}");
        assert!(
            names.contains(&"ServerVersionInfo".to_owned()),
            "{operation}: {xml}"
        );
    }
    let (head, xml) = ask(&mut client, "<m:ExportItems/>").await;
    assert!(head.starts_with("HTTP/1.1 500"), "{head}");
    assert!(elements(&xml).contains(&"Fault".to_owned()), "{xml}");
}

#[tokio::test]
async fn only_what_is_sent_counts_as_sent() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    for disposition in ["SaveOnly", "SendOnly", "SendAndSaveCopy"] {
        ask(
            &mut client,
            &format!("<m:CreateItem MessageDisposition=\"{disposition}\"/>"),
        )
        .await;
    }
    ask(&mut client, "<m:SendItem/>").await;
    let sent = sandbox.sent();
    assert_eq!(
        (sent.len(), sandbox.count(&Filter::name("CreateItem"))),
        (3, 3)
    );
}

#[tokio::test]
async fn a_stream_carries_envelopes_until_it_is_ended() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    let request = "<m:GetStreamingEvents><m:SubscriptionIds><t:SubscriptionId>sandbox-0\
        </t:SubscriptionId></m:SubscriptionIds><m:ConnectionTimeout>30</m:ConnectionTimeout>\
        </m:GetStreamingEvents>";
    client.send(&soap(request)).await;
    let stream = Filter::name("GetStreamingEvents");
    assert!(
        sandbox
            .wait_until(LIMIT, |sandbox| !sandbox.open_polls(&stream).is_empty())
            .await
    );
    assert_eq!(
        sandbox.open_polls(&stream)[0].limit,
        Duration::from_secs(1800)
    );
    assert_eq!(sandbox.release(&stream, &Release::Changes), 1);
    assert_eq!(sandbox.release(&stream, &Release::Expire), 1);

    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n0\r\n\r\n") {
        bytes.push(client.0.read_u8().await.unwrap());
    }
    let text = String::from_utf8(bytes).unwrap();
    let envelopes: Vec<&str> = text.matches("<?xml").collect();
    assert_eq!(envelopes.len(), 3);
    let (ok, event, closed) = (
        text.find(">OK<"),
        text.find("NewMailEvent"),
        text.find(">Closed<"),
    );
    assert!(ok.is_some() && ok < event && event < closed, "{text}");
}

#[tokio::test]
async fn the_page_wants_a_password_and_any_case_will_do() {
    let sandbox = sandbox();
    let mut client = Client::to(&sandbox).await;
    let (head, _) = client
        .ask(b"GET /EWS/Exchange.asmx HTTP/1.1\r\nHost: s\r\n\r\n")
        .await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    let login = STANDARD.encode("bob@sandbox.example:Secret-bob-1");
    for (path, status) in [
        ("/ews/EXCHANGE.asmx", "200"),
        ("/EWS/Services.wsdl", "200"),
        ("/EWS/other", "404"),
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Basic {login}\r\n\r\n");
        let (head, _) = client.ask(request.as_bytes()).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {head}"
        );
    }
    assert_eq!(sandbox.count(&Filter::kind(Kind::Ews).user("")), 1);
}
