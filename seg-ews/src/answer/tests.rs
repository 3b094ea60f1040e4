use super::*;
use crate::Limits;
use crate::document;

fn version() -> ServerVersion {
    "15.1.2507.6".parse().expect("a version")
}

fn named(name: &str) -> Operation {
    Operation::from_name(name).expect("known")
}

fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn every_operation_is_refused_in_a_form_of_its_own() {
    for operation in Operation::all() {
        let answer = refusal(Some(operation), 3, &version(), "not allowed");
        let read = document::classify(answer.body.as_bytes(), &Limits::default())
            .unwrap_or_else(|reject| panic!("{operation}: {reject}"));
        let codes = count(&answer.body, "ErrorAccessDenied<");
        match operation.response() {
            ResponseShape::Single => {
                assert_eq!(
                    (answer.status, read.kind),
                    (500, document::Kind::Fault),
                    "{operation}"
                );
                assert!(answer.body.contains("a:ErrorAccessDenied</faultcode>"));
            }
            ResponseShape::Batch(_) => {
                assert_eq!((answer.status, codes), (200, 3), "{operation}");
                assert_eq!(read.known, Some(operation));
            }
            ResponseShape::Reported(_) => {
                assert_eq!((answer.status, codes), (200, 4), "{operation}");
                assert_eq!(read.known, Some(operation));
            }
        }
        assert_eq!(ServerVersion::scan(answer.body.as_bytes()), Some(version()));
        assert!(answer.body.ends_with("</Envelope>"), "{operation}");
        assert_eq!(answer.content_type, "text/xml; charset=utf-8");
    }
}

#[test]
fn a_get_folder_refusal_word_for_word() {
    let answer = refusal(Some(named("GetFolder")), 1, &version(), "blocked");
    assert_eq!(
        answer.body,
        concat!(
            r#"<?xml version="1.0" encoding="utf-8"?>"#,
            r#"<Envelope xmlns="http://schemas.xmlsoap.org/soap/envelope/"><Header>"#,
            r#"<h:ServerVersionInfo MajorVersion="15" MinorVersion="1" MajorBuildNumber="2507" "#,
            r#"MinorBuildNumber="6" Version="V2017_07_11" "#,
            r#"xmlns:h="http://schemas.microsoft.com/exchange/services/2006/types"/></Header><Body>"#,
            r#"<m:GetFolderResponse xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages">"#,
            r#"<m:ResponseMessages><m:GetFolderResponseMessage ResponseClass="Error">"#,
            r#"<m:MessageText>blocked</m:MessageText>"#,
            r#"<m:ResponseCode>ErrorAccessDenied</m:ResponseCode>"#,
            r#"<m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>"#,
            r#"</m:GetFolderResponseMessage></m:ResponseMessages></m:GetFolderResponse>"#,
            r#"</Body></Envelope>"#,
        )
    );
}

#[test]
fn the_number_of_messages_is_that_of_the_batch_within_bounds() {
    let messages = |batch| {
        let answer = refusal(Some(named("GetItem")), batch, &version(), "");
        count(&answer.body, "<m:GetItemResponseMessage ")
    };
    assert_eq!(messages(0), 1);
    assert_eq!(messages(7), 7);
    assert_eq!(messages(usize::MAX), MAX_MESSAGES);
}

#[test]
fn text_can_break_nothing() {
    for operation in [None, Some(named("GetItem")), Some(named("AddDelegate"))] {
        let answer = refusal(
            operation,
            1,
            &version(),
            "</m:MessageText>&\0\u{ffff}\"'<x>",
        );
        assert!(document::classify(answer.body.as_bytes(), &Limits::default()).is_ok());
        assert!(answer.body.contains("&lt;/m:MessageText&gt;&amp;"));
    }
}

#[test]
fn a_stream_ends_in_an_error_that_closes_it() {
    let end = stream_end(&version(), "blocked & gone");
    let read = document::classify(end.as_bytes(), &Limits::default()).expect("well-formed");
    assert_eq!(
        (read.kind, read.known),
        (document::Kind::Response, Some(named("GetStreamingEvents")))
    );
    assert!(end.starts_with("<Envelope ") && end.ends_with("</Envelope>"));
    assert_eq!(count(&end, "</Envelope>"), 1);
    assert!(end.contains("<m:ConnectionStatus>Closed</m:ConnectionStatus>"));
    assert!(end.contains("<m:ResponseCode>ErrorAccessDenied</m:ResponseCode>"));
    assert!(end.contains("blocked &amp; gone"));
}
