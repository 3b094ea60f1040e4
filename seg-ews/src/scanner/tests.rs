use super::*;
use proptest::prelude::*;

const MESSAGES: &str = "http://schemas.microsoft.com/exchange/services/2006/messages";
const TYPES: &str = "http://schemas.microsoft.com/exchange/services/2006/types";

fn soap(header: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:m=\"{MESSAGES}\" xmlns:t=\"{TYPES}\">{header}<s:Body>{body}</s:Body></s:Envelope>"
    )
}

fn read(text: &str) -> Result<Envelope, RejectKind> {
    classify(text.as_bytes(), &Limits::default()).map_err(|reject| reject.kind)
}

fn body(body: &str) -> Result<Envelope, RejectKind> {
    read(&soap("", body))
}

fn header(header: &str) -> Result<Envelope, RejectKind> {
    read(&soap(
        &format!("<s:Header>{header}</s:Header>"),
        "<m:GetFolder/>",
    ))
}

#[test]
fn headers_are_read() {
    let envelope = header(
        "<t:RequestServerVersion Version='Exchange2016'/><t:MailboxCulture>de</t:MailboxCulture>",
    )
    .expect("fine");
    assert_eq!(
        envelope.request_server_version.as_deref(),
        Some("Exchange2016")
    );
    assert_eq!(envelope.impersonation, None);

    for (element, kind) in [
        ("PrincipalName", ImpersonationKind::PrincipalName),
        ("SID", ImpersonationKind::Sid),
        ("PrimarySmtpAddress", ImpersonationKind::PrimarySmtpAddress),
        ("SmtpAddress", ImpersonationKind::SmtpAddress),
    ] {
        let impersonation = header(&format!(
            "<t:ExchangeImpersonation><t:ConnectingSID><t:{element}> c&#101;o&amp;x<![CDATA[@]]>corp.example </t:{element}></t:ConnectingSID></t:ExchangeImpersonation>"
        ));
        let address = "ceo&x@corp.example".to_owned();
        let expected = Impersonation { kind, address };
        assert_eq!(impersonation.map(|e| e.impersonation), Ok(Some(expected)));
    }
    let empty = header("<t:ExchangeImpersonation/>").expect("well-formed");
    assert_eq!(
        empty.impersonation.map(|i| i.kind),
        Some(ImpersonationKind::Unreadable)
    );
}

#[test]
fn headers_that_say_two_things_are_refused() {
    for twice in [
        "<t:RequestServerVersion Version='a'/><t:RequestServerVersion Version='b'/>",
        "<t:ExchangeImpersonation/><ExchangeImpersonation/>",
        "<t:ManagementRole/><t:ManagementRole/>",
        "<t:ExchangeImpersonation><t:ConnectingSID><t:SID>a</t:SID><t:SID>b</t:SID></t:ConnectingSID></t:ExchangeImpersonation>",
    ] {
        assert!(
            matches!(header(twice), Err(RejectKind::Repeated(_))),
            "{twice}"
        );
    }
    let within = "<t:ExchangeImpersonation><t:ConnectingSID><t:SID>a<b/>c</t:SID></t:ConnectingSID></t:ExchangeImpersonation>";
    assert_eq!(header(within), Err(RejectKind::ElementInValue));
}

#[test]
fn batches_are_counted() {
    let batch = |text: &str| body(text).map(|envelope| envelope.batch);
    assert_eq!(batch("<m:GetFolder/>"), Ok(1));
    assert_eq!(
        batch(
            "<m:GetItem><m:ItemShape><t:a/><t:b/></m:ItemShape><m:ItemIds><t:ItemId Id='1'/><t:ItemId Id='2'><t:x/></t:ItemId></m:ItemIds></m:GetItem>"
        ),
        Ok(2)
    );
    assert_eq!(
        batch(
            "<m:UpdateItem><m:ItemChanges><t:ItemChange/><t:ItemChange/><t:ItemChange/></m:ItemChanges><m:SavedItemFolderId><t:a/></m:SavedItemFolderId></m:UpdateItem>"
        ),
        Ok(3)
    );
    assert_eq!(
        batch(
            "<m:ResolveNames><m:ParentFolderIds><t:a/><t:a/></m:ParentFolderIds></m:ResolveNames>"
        ),
        Ok(1)
    );
}

#[test]
fn mailboxes_are_found() {
    let found = body(
        "<m:FindItem><m:ParentFolderIds><t:DistinguishedFolderId Id='inbox'><t:Mailbox><t:EmailAddress> bob@corp.example</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId><t:DistinguishedFolderId Id='drafts'><t:Mailbox><t:EmailAddress>Bob@Corp.Example</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId></m:ParentFolderIds></m:FindItem>",
    )
    .expect("fine");
    assert_eq!(found.mailboxes, ["bob@corp.example"]);
    assert_eq!(found.batch, 2);
    let sent = body(
        "<m:CreateItem><m:Items><t:Message><t:ToRecipients><t:Mailbox><t:EmailAddress>x@y</t:EmailAddress></t:Mailbox></t:ToRecipients></t:Message></m:Items></m:CreateItem>",
    )
    .expect("fine");
    assert!(sent.mailboxes.is_empty());
}

#[test]
fn subscriptions_are_read() {
    let stream = body(
        "<m:GetStreamingEvents><m:SubscriptionIds><t:SubscriptionId>a</t:SubscriptionId><t:SubscriptionId>b</t:SubscriptionId></m:SubscriptionIds><m:ConnectionTimeout> 29 </m:ConnectionTimeout></m:GetStreamingEvents>",
    )
    .expect("fine");
    assert_eq!(stream.subscription_ids, ["a", "b"]);
    assert_eq!(stream.connection_timeout_minutes, Some(29));
    assert!(stream.operation.is_long());
    let unsubscribe = body("<m:Unsubscribe><m:SubscriptionId>c</m:SubscriptionId></m:Unsubscribe>")
        .expect("fine");
    assert_eq!(unsubscribe.subscription_ids, ["c"]);
    for (element, kind) in [
        ("PullSubscriptionRequest", SubscriptionKind::Pull),
        ("StreamingSubscriptionRequest", SubscriptionKind::Streaming),
    ] {
        let found = body(&format!("<m:Subscribe><m:{element}/></m:Subscribe>")).expect("fine");
        assert_eq!(found.subscription, Some(kind));
    }
    let push = |urls: &str| {
        body(&format!(
            "<m:Subscribe><m:PushSubscriptionRequest>{urls}</m:PushSubscriptionRequest></m:Subscribe>"
        ))
    };
    let one = push("<t:URL>https://ens.example/n?creds=QUJD</t:URL>").expect("fine");
    assert_eq!(
        one.push_url.as_ref().and_then(PushUrl::host).as_deref(),
        Some("ens.example")
    );
    assert!(!format!("{one:?}").contains("QUJD"));
    assert_eq!(
        push("<t:URL>a</t:URL><t:URL>b</t:URL>"),
        Err(RejectKind::Repeated("URL"))
    );
}

#[test]
fn the_envelope_is_strict() {
    let get = "<m:GetFolder/>";
    let plain = |inner: &str| {
        read(&format!(
            "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/' xmlns:m='{MESSAGES}'>{inner}</s:Envelope>"
        ))
    };
    let operation = plain(&format!("<s:Header/>\n …<s:Body>{get}</s:Body><!-- -->"));
    assert_eq!(operation.map(|e| e.operation.name()), Ok("GetFolder"));
    for (inner, kind) in [
        (String::new(), RejectKind::NoOperation),
        ("<s:Header/>".to_owned(), RejectKind::NoOperation),
        ("<s:Body/>".to_owned(), RejectKind::NoOperation),
        (
            format!("<s:Body>{get}</s:Body><s:Body/>"),
            RejectKind::SecondBody,
        ),
        (
            format!("<s:Body>{get}</s:Body><s:Header/>"),
            RejectKind::HeaderAfterBody,
        ),
        (
            format!("<s:Header/><s:Header/><s:Body>{get}</s:Body>"),
            RejectKind::SecondHeader,
        ),
        (
            format!("<s:Body>{get}{get}</s:Body>"),
            RejectKind::SecondOperation,
        ),
        (
            format!("<s:Body>{get}<x/></s:Body>"),
            RejectKind::SecondOperation,
        ),
        (
            format!("<x/><s:Body>{get}</s:Body>"),
            RejectKind::UnexpectedElement,
        ),
        (
            format!("<s:Body>{get}</s:Body><x/>"),
            RejectKind::UnexpectedElement,
        ),
        (
            format!("<m:Body>{get}</m:Body>"),
            RejectKind::UnexpectedElement,
        ),
        (format!("<s:Body>x{get}</s:Body>"), RejectKind::TextInBody),
        (
            format!("<s:Body>{get}&#120;</s:Body>"),
            RejectKind::TextInBody,
        ),
        (
            format!("<s:Body><![CDATA[x]]>{get}</s:Body>"),
            RejectKind::TextInBody,
        ),
        (
            "<s:Body><getFolder/></s:Body>".to_owned(),
            RejectKind::ForeignOperation("getFolder".to_owned()),
        ),
        (
            "<s:Body><s:Fault/></s:Body>".to_owned(),
            RejectKind::ForeignOperation("Fault".to_owned()),
        ),
    ] {
        assert_eq!(plain(&inner), Err(kind), "{inner}");
    }
}

#[test]
fn what_is_not_well_formed_is_refused_by_name() {
    let good = soap("", "<m:GetFolder/>");
    for (text, kind) in [
        (String::new(), RejectKind::Truncated),
        ("   ".to_owned(), RejectKind::Truncated),
        (good.trim_end_matches('>').to_owned(), RejectKind::Truncated),
        (format!("{good}x"), RejectKind::TextOutsideRoot),
        (format!("{good}&#32;"), RejectKind::TextOutsideRoot),
        (format!("{good}<![CDATA[]]>"), RejectKind::TextOutsideRoot),
        (format!("x{good}"), RejectKind::TextOutsideRoot),
        (format!(" {good}"), RejectKind::Declaration),
        (format!("{good}<a/>"), RejectKind::SecondRoot),
        (format!("{good}</a>"), RejectKind::MismatchedTag),
        (format!("{good}<!-- "), RejectKind::Truncated),
        (good.replace("1.0", "1.1"), RejectKind::Declaration),
        (
            good.replace("utf-8", "iso-8859-1"),
            RejectKind::DeclaredEncoding,
        ),
        (
            good.replace("utf-8", "utf-16"),
            RejectKind::DeclaredEncoding,
        ),
        (good.replace("<?xml", "<?XML"), RejectKind::Declaration),
    ] {
        assert_eq!(read(&text), Err(kind), "{text}");
    }
    for (inner, kind) in [
        ("<!DOCTYPE a>", RejectKind::Dtd),
        ("&nbsp;", RejectKind::Entity),
        ("& ", RejectKind::Entity),
        ("&#0;", RejectKind::Character),
        ("\u{1}", RejectKind::Character),
        ("\0", RejectKind::Character),
        ("]]>", RejectKind::Markup),
        ("]]]>", RejectKind::Markup),
        ("<!-- a--b -->", RejectKind::Markup),
        ("<!-- a--->", RejectKind::Markup),
        ("<!ELEMENT a>", RejectKind::Markup),
        ("<![cdata[]]>", RejectKind::Markup),
        ("<a", RejectKind::Markup),
        ("<>", RejectKind::Name),
        ("< a/>", RejectKind::Name),
        ("<a></b>", RejectKind::MismatchedTag),
        ("<a></ a>", RejectKind::MismatchedTag),
        ("<m:a xmlns:n='urn:x'></n:a>", RejectKind::MismatchedTag),
        ("<a b='<'/>", RejectKind::Markup),
        ("<a b='1' b='2'/>", RejectKind::DuplicateAttribute),
        (
            "<a m:b='1' n:b='2' xmlns:n='http://schemas.microsoft.com/exchange/services/2006/messages'/>",
            RejectKind::DuplicateAttribute,
        ),
        ("<n:a/>", RejectKind::NamespacePrefix),
        ("<?1 x?>", RejectKind::Name),
        ("<?xml version='1.0'?>", RejectKind::Declaration),
    ] {
        let text = soap("", &format!("<m:GetFolder>{inner}</m:GetFolder>"));
        assert_eq!(read(&text), Err(kind), "{inner}");
    }
    for inner in [
        "]] >",
        "]>",
        "a]]b",
        "<![CDATA[]]]]>",
        "<![CDATA[<&]] >]]>",
        "<!---->",
        "<!-- - -->",
        "<?x ?y?>",
        "<a b='>'/>",
        "<a  />",
        "<a b='1'/>",
        "<a></a\t\n >",
    ] {
        let text = soap("", &format!("<m:GetFolder>{inner}</m:GetFolder>"));
        assert!(read(&text).is_ok(), "{inner}");
    }
}

#[test]
fn limits_hold() {
    let limits = Limits {
        markup_bytes: 400,
        values: 2,
        value_bytes: 8,
        ..Limits::default()
    };
    let read = |body: &str| {
        classify(soap("", body).as_bytes(), &limits)
            .map(drop)
            .map_err(|reject| reject.kind)
    };
    let ids = |id: &str, count: usize| {
        let ids = format!("<t:SubscriptionId>{id}</t:SubscriptionId>").repeat(count);
        format!(
            "<m:GetStreamingEvents><m:SubscriptionIds>{ids}</m:SubscriptionIds></m:GetStreamingEvents>"
        )
    };
    assert_eq!(read(&ids("12345678", 2)), Ok(()));
    assert_eq!(read(&ids("123456789", 1)), Err(RejectKind::ValueTooLong));
    assert_eq!(read(&ids("", 3)), Err(RejectKind::ValueTooLong));
    assert_eq!(
        read(&format!("<m:GetFolder a='{}'/>", "x".repeat(400))),
        Err(RejectKind::MarkupTooLong)
    );
    assert_eq!(
        read(&format!(
            "<m:GetFolder><?x {}?></m:GetFolder>",
            "x".repeat(400)
        )),
        Err(RejectKind::MarkupTooLong)
    );
    let deep = |levels| {
        format!(
            "<m:GetFolder>{}{}</m:GetFolder>",
            "<t:a>".repeat(levels),
            "</t:a>".repeat(levels)
        )
    };
    assert_eq!(read(&deep(61)), Ok(()));
    assert_eq!(read(&deep(62)), Err(RejectKind::TooDeep));
}

#[test]
fn the_operation_is_known_at_the_first_child_of_the_body() {
    let text = soap("", "<m:GetItem><m:ItemIds/></m:GetItem>");
    let at = text.find("<m:ItemIds").expect("there");
    let mut scanner = Scanner::new(Limits::default());
    let (start, rest) = text.split_at(at - "<m:GetItem>".len());
    assert_eq!(scanner.feed(start.as_bytes()), Ok(Progress::NeedMore));
    assert_eq!(scanner.feed(b"<m:GetItem>"), Ok(Progress::Decided));
    assert_eq!(scanner.operation().map(Operation::name), Some("GetItem"));
    let rest = rest.strip_prefix("<m:GetItem>").expect("there");
    assert_eq!(scanner.feed(rest.as_bytes()), Ok(Progress::Decided));
    assert!(scanner.finish().is_ok());
}

#[test]
fn debug_shows_nothing_of_a_push_url_on_its_way() {
    let text = soap(
        "",
        "<m:Subscribe><m:PushSubscriptionRequest><t:URL>https://ens.example/?creds=QUJD",
    );
    let mut scanner = Scanner::new(Limits::default());
    assert_eq!(
        scanner.feed(&text.as_bytes()[..text.len() - 40]),
        Ok(Progress::Decided)
    );
    assert!(!format!("{scanner:?}").contains("creds"));
}

#[test]
fn a_refused_document_stays_refused() {
    let mut scanner = Scanner::new(Limits::default());
    let first = scanner.feed(b"<a>").expect_err("no envelope");
    assert_eq!(
        first,
        Reject {
            kind: RejectKind::NotSoap,
            offset: 0
        }
    );
    assert_eq!(scanner.feed(b"</a>"), Err(first.clone()));
    assert_eq!(scanner.finish(), Err(first));
}

#[test]
fn offsets_point_at_the_fault() {
    let at = |text: &str| {
        classify(text.as_bytes(), &Limits::default())
            .map_err(|r| r.offset)
            .err()
    };
    assert_eq!(at("<?xml version='1.0'?> x"), Some(22));
    assert_eq!(at("\u{feff}  <a"), Some(4));
    assert_eq!(at("  <a>"), Some(2));
    let text = soap("", "<m:GetItem>\u{1}");
    assert_eq!(at(&text), text.find('\u{1}').map(|at| at as u64));
}

#[test]
fn utf_16_is_read_with_its_mark() {
    let text = soap("", "<m:GetFolder/>").replace("utf-8", "utf-16");
    for (mark, bytes) in [
        (
            [0xff, 0xfe],
            text.encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<u8>>(),
        ),
        (
            [0xfe, 0xff],
            text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        ),
    ] {
        let whole = [&mark[..], &bytes].concat();
        let found = classify(&whole, &Limits::default()).map(|envelope| envelope.operation.name());
        assert_eq!(found, Ok("GetFolder"));
        assert!(
            classify(&bytes, &Limits::default()).is_err(),
            "without a mark"
        );
    }
}

#[test]
fn only_one_plain_xml_document_is_acceptable() {
    let accept = |content_types: &[&str], encodings: &[&str]| {
        request_acceptable(
            content_types.iter().map(|line| line.as_bytes()),
            encodings.iter().map(|line| line.as_bytes()),
        )
        .map_err(|reject| reject.kind)
    };
    for content_types in [
        &[][..],
        &[""],
        &["text/xml"],
        &["text/xml; charset=utf-8"],
        &["Text/XML;Charset=\"UTF-8\";action=\"x\""],
        &["application/xml; charset=utf-16"],
    ] {
        assert_eq!(accept(content_types, &[]), Ok(()), "{content_types:?}");
    }
    for (content_type, kind) in [
        (
            "multipart/related; type=\"application/xop+xml\"",
            RejectKind::ContentType,
        ),
        ("application/soap+xml", RejectKind::ContentType),
        ("application/soap+msbin1", RejectKind::ContentType),
        ("text/plain", RejectKind::ContentType),
        ("text/xml, multipart/related", RejectKind::ContentType),
        ("text/xml; charset=utf-7; x=é", RejectKind::ContentType),
        ("text/xml; charset=utf-7", RejectKind::ContentCharset),
        ("text/xml; charset = iso-8859-1", RejectKind::ContentCharset),
        (
            "text/xml; charset=utf-8; charset=utf-7",
            RejectKind::ContentCharset,
        ),
        ("text/xml; x=y charset=utf-7", RejectKind::ContentCharset),
        ("text/xml; x=y, charset=utf-7", RejectKind::ContentCharset),
        (
            "text/xml; charset*=utf-8''utf-7",
            RejectKind::ContentCharset,
        ),
    ] {
        assert_eq!(accept(&[content_type], &[]), Err(kind), "{content_type}");
    }
    assert_eq!(
        accept(&["text/xml", "text/xml; charset=utf-7"], &[]),
        Err(RejectKind::ContentType),
        "two lines are two answers"
    );
    for (encodings, accepted) in [
        (&["identity"][..], true),
        (&["gzip"], false),
        (&["identity, gzip"], false),
        (&["identity", "gzip"], false),
        (&["gzip, é"], false),
    ] {
        let expected = match accepted {
            true => Ok(()),
            false => Err(RejectKind::ContentEncoding),
        };
        assert_eq!(accept(&["text/xml"], encodings), expected, "{encodings:?}");
    }
}

#[test]
fn what_nobody_knows_is_an_operation_all_the_same() {
    for name in ["Nope", "GetItemResponse", "getFolder", "GetFolderRequest"] {
        let envelope =
            read(&soap("", &format!("<m:{name}><m:x/></m:{name}>"))).expect("well-formed");
        assert!(envelope.operation.is_unknown(), "{name}");
        assert_eq!(envelope.unknown.as_deref(), Some(name));
    }
    let known = read(&soap("", "<m:GetFolder/>")).expect("well-formed");
    assert_eq!(known.unknown, None);
}

#[test]
fn what_servers_hand_each_other_is_seen_by_any_of_its_names() {
    for name in [
        "SerializedSecurityContext",
        "ProxySecurityContext",
        "ProxySuggesterSid",
        "ProxyPartnerToken",
        "OpenAsAdminOrSystemService",
    ] {
        let envelope = read(&soap(
            &format!("<s:Header><t:{name}/></s:Header>"),
            "<m:GetFolder/>",
        ))
        .expect("well-formed");
        assert!(envelope.serialized_security_context, "{name}");
    }
}

/// Pieces of documents, so that the generator gets somewhere.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        "<?xml version=\"1.0\"?>",
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\">",
        "<s:Header>",
        "</s:Header>",
        "<s:Body>",
        "<m:GetItem>",
        "<m:ItemIds a='1' b=\">\"/>",
        "</m:GetItem>",
        "</s:Body>",
        "</s:Envelope>",
        "<!-- c -->",
        "<![CDATA[x]]]]>",
        "]]>",
        "]",
        ">",
        "<",
        "&amp;",
        "&#x41;",
        "&",
        "text é \u{1f4e7}",
        " ",
        "\u{feff}",
        "\u{0}",
        "<?p i?>",
        "<!DOCTYPE",
        "'",
        "\"",
        "/",
        "--",
        "<m:Mailbox>",
        "=",
    ]);
    prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat().into_bytes())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_result(data in fragments(), size in 1u8..40) {
        let data = [&[size][..], &data].concat();
        crate::fuzz::scanner(&data);
        crate::fuzz::document(data.get(1..).unwrap_or_default());
    }

    #[test]
    fn a_damaged_request_gives_the_same_result_however_it_is_split(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        size in 1u8..60,
        wide: bool,
    ) {
        let text = soap(
            "<s:Header><t:ExchangeImpersonation><t:ConnectingSID><t:SID>S-1&amp;</t:SID></t:ConnectingSID></t:ExchangeImpersonation></s:Header>",
            "<m:GetItem><!-- - --><m:ItemIds><t:ItemId Id='1' ChangeKey=\"é\"/></m:ItemIds><![CDATA[]]]>]]></m:GetItem>",
        );
        let mut body: Vec<u8> = match wide {
            false => text.into_bytes(),
            true => format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect(),
        };
        *at.get_mut(&mut body) = byte;
        crate::fuzz::scanner(&[&[size][..], &body].concat());
    }

    #[test]
    fn arbitrary_bytes_are_no_danger(data in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::fuzz::scanner(&data);
        crate::fuzz::document(&data);
        crate::fuzz::authorization(&data);
        crate::fuzz::server_version(&data);
        crate::fuzz::get_form(&data);
        let header = [b"Negotiate ", &data[..]].concat();
        crate::fuzz::authorization(&header);
    }
}
