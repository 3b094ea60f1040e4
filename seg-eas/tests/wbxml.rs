//! Reader, writer and readable text over messages written by hand, and over random ones.

use proptest::prelude::*;
use seg_eas::fuzz;
use seg_eas::wbxml::text::{EncodeErrorKind, decode_to_xml, encode_from_xml};
use seg_eas::wbxml::{
    Error, ErrorKind, Event, Limits, Reader, Tag, UnknownTags, WriteError, Writer,
};

const STRICT: Limits = Limits {
    unknown_tags: UnknownTags::Refuse,
    ..Limits::TRAFFIC
};

fn read(message: &[u8], limits: Limits) -> Result<usize, Error> {
    let mut reader = Reader::new(message, limits)?;
    let mut events = 0;
    while reader.next_event()?.is_some() {
        events += 1;
    }
    Ok(events)
}

/// One message per violation: what is wrong, and at which byte.
#[test]
fn each_violation_is_named_with_its_place() {
    let table: &[(&[u8], ErrorKind, usize)] = &[
        (b"", ErrorKind::Truncated("the header"), 0),
        (b"\x03\x01", ErrorKind::Truncated("the header"), 2),
        (b"\x05\x01\x6a\x00\x45\x01", ErrorKind::Version(5), 0),
        (b"\x03\x01\x04\x00\x45\x01", ErrorKind::Charset(4), 2),
        (
            b"\x03\x01\x6a\x05ab\x00cd\x45\x01",
            ErrorKind::StringTable {
                length: 5,
                limit: 0,
            },
            3,
        ),
        (
            b"\x03\x90\x80\x80\x80\x00\x6a\x00\x05",
            ErrorKind::IntegerTooLong,
            1,
        ),
        (
            b"\x03\x81\x80\x80\x80\x80\x00\x6a\x00\x05",
            ErrorKind::IntegerTooLong,
            1,
        ),
        (b"\x03\x01\x6a\x00", ErrorKind::NoRoot, 4),
        (b"\x03\x01\x6a\x00\x00\x00", ErrorKind::NoRoot, 6),
        (b"\x03\x01\x6a\x00\x01", ErrorKind::StrayEnd, 4),
        (
            b"\x03\x01\x6a\x00\x03a\x00",
            ErrorKind::ContentOutsideRoot,
            4,
        ),
        (
            b"\x03\x01\x6a\x00\xc3\x01a",
            ErrorKind::ContentOutsideRoot,
            4,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x5c\x01",
            ErrorKind::MissingEnd { open: 1 },
            7,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x01\x01",
            ErrorKind::TrailingBytes(1),
            6,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x01\x45\x01",
            ErrorKind::TrailingBytes(2),
            6,
        ),
        (
            b"\x03\x01\x6a\x00\x05\x00\x00",
            ErrorKind::TrailingBytes(2),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x00",
            ErrorKind::Truncated("SWITCH_PAGE"),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x03ab",
            ErrorKind::Truncated("a string (no closing NUL)"),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x03ab\xffc\x00\x01",
            ErrorKind::Utf8,
            8,
        ),
        (
            b"\x03\x01\x6a\x00\x45\xc3\x05abc",
            ErrorKind::BeyondEnd {
                what: "a byte array (OPAQUE)",
                length: 5,
                remaining: 3,
            },
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\xc3\x8f\xff\xff\xff\x7fabc",
            ErrorKind::BeyondEnd {
                what: "a byte array (OPAQUE)",
                length: u32::MAX,
                remaining: 3,
            },
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\xc3\x90\x80\x80\x80\x00\x01",
            ErrorKind::IntegerTooLong,
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\xc3\x81",
            ErrorKind::Truncated("the length of a byte array"),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x83\x00\x01",
            ErrorKind::StringReference(0),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\xc5\x01\x01",
            ErrorKind::Attributes(0xC5),
            4,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x85\x01\x01",
            ErrorKind::Attributes(0x85),
            5,
        ),
        (b"\x03\x01\x6a\x00\x45\x02\x20\x01", ErrorKind::Entity, 5),
        (
            b"\x03\x01\x6a\x00\x45\x43\x05\x01\x01",
            ErrorKind::ProcessingInstruction,
            5,
        ),
        (b"\x03\x01\x6a\x00\x04\x00", ErrorKind::Literal(0x04), 4),
        (
            b"\x03\x01\x6a\x00\x45\x44\x00\x01\x01",
            ErrorKind::Literal(0x44),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x84\x00\x01\x01",
            ErrorKind::Literal(0x84),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\xc4\x00\x01\x01",
            ErrorKind::Literal(0xC4),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x40a\x00\x01",
            ErrorKind::Extension(0x40),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x82\x00\x01",
            ErrorKind::Extension(0x82),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\xc1\x01",
            ErrorKind::Extension(0xC1),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x00\x1a\x05\x01",
            ErrorKind::UnknownPage(26),
            5,
        ),
        (
            b"\x03\x01\x6a\x00\x45\x3f\x01",
            ErrorKind::UnknownToken(Tag::new(0, 0x3F)),
            5,
        ),
    ];
    for (message, kind, offset) in table {
        let error = read(message, STRICT).unwrap_err();
        assert_eq!(
            error,
            Error {
                kind: *kind,
                offset: *offset
            },
            "{message:02x?}: {error}"
        );
    }
}

#[test]
fn a_string_table_is_read_where_it_is_allowed() {
    // <Sync><SyncKey>cd</SyncKey></Sync>, the text in the table.
    let message = b"\x03\x01\x6a\x06ab\x00cd\x00\x45\x4b\x83\x03\x01\x01";
    assert_eq!(read(message, Limits::INSPECTION), Ok(5));
    for (bad, kind) in [
        (
            b"\x03\x01\x6a\x06ab\x00cd\x00\x45\x4b\x83\x06\x01\x01".as_slice(),
            6,
        ),
        (b"\x03\x01\x6a\x05ab\x00cd\x45\x4b\x83\x03\x01\x01", 3),
    ] {
        let error = read(bad, Limits::INSPECTION).unwrap_err();
        assert_eq!(error.kind, ErrorKind::StringReference(kind));
    }
    let short = read(b"\x03\x01\x6a\x05ab", Limits::INSPECTION).unwrap_err();
    let what = "a string table";
    assert_eq!(
        short.kind,
        ErrorKind::BeyondEnd {
            what,
            length: 5,
            remaining: 2
        }
    );
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| {
        [
            b"\x03\x01\x6a\x00".as_slice(),
            &vec![0x45; depth],
            &vec![0x01; depth],
        ]
        .concat()
    };
    assert_eq!(read(&nested(32), Limits::TRAFFIC), Ok(64));
    let error = read(&nested(33), Limits::TRAFFIC).unwrap_err();
    assert_eq!(
        error,
        Error {
            kind: ErrorKind::TooDeep(32),
            offset: 36
        }
    );
    assert!(decode_to_xml(&nested(33), &Limits::INSPECTION).is_err());
}

#[test]
fn an_error_stays_where_it_is() {
    let mut reader = Reader::new(b"\x03\x01\x6a\x00\x45\x03ab", Limits::TRAFFIC).unwrap();
    assert!(reader.next_event().is_ok());
    let error = reader.next_event().unwrap_err();
    assert_eq!(reader.next_event(), Err(error));
}

/// Texts are checked a stretch of the message at a time; its end may fall anywhere into a character.
#[test]
fn a_text_is_utf_8_wherever_it_stands_in_a_long_message() {
    for before in 980..1060 {
        for character in ["\u{E9}", "\u{20AC}", "\u{1F4E7}"] {
            let texts = ["a".repeat(before), character.repeat(3), "b".to_owned()];
            let mut message = b"\x03\x01\x6a\x00\x45".to_vec();
            for text in &texts {
                message.extend_from_slice(&[b"\x4e\x03", text.as_bytes(), b"\x00\x01"].concat());
            }
            message.push(0x01);
            let mut reader = Reader::new(&message, STRICT).expect("a header");
            let mut found = Vec::new();
            while let Some(event) = reader.next_event().expect("well-formed") {
                if let Event::Text(text) = event {
                    found.push(text);
                }
            }
            assert_eq!(found, texts, "{before}");

            // Cut in its middle, the last of the three characters is none.
            let end = 5 + 2 + before + 2 + 2 + 3 * character.len();
            message.splice(end - 1..end, *b"x");
            let wrong = read(&message, STRICT);
            let error = Error {
                kind: ErrorKind::Utf8,
                offset: end - character.len(),
            };
            assert_eq!(wrong, Err(error), "{before}");
        }
    }
}

#[test]
fn unknown_tags_pass_and_are_counted() {
    let message = b"\x03\x01\x6a\x00\x45\x3f\x00\x1e\x46\x01\x00\x00\x0b\x01";
    let mut reader = Reader::new(message, Limits::TRAFFIC).unwrap();
    while reader.next_event().unwrap().is_some() {}
    assert_eq!(reader.unknown_tags(), 2);
}

#[test]
fn a_body_without_header_is_elements_side_by_side() {
    let body = b"\x05\x00\x02\x54\x03a\x00\x01\x14";
    let mut reader = Reader::body(body, Limits::TRAFFIC);
    let mut events = Vec::new();
    while let Some(event) = reader.next_event().unwrap() {
        events.push((event, reader.event_offset(), reader.offset()));
    }
    let subject = Tag::new(2, 0x14);
    assert_eq!(
        events,
        [
            (Event::Empty(Tag::new(0, 0x05)), 0, 1),
            (Event::Start(subject), 3, 4),
            (Event::Text("a"), 4, 7),
            (Event::End, 7, 8),
            (Event::Empty(subject), 8, 9),
        ]
    );
}

#[test]
fn an_element_can_be_skipped() {
    let message = b"\x03\x01\x6a\x00\x45\x5c\x4f\x4b\x031\x00\x01\x01\x01\x16\x01";
    let mut reader = Reader::new(message, Limits::TRAFFIC).unwrap();
    assert_eq!(
        reader.next_event(),
        Ok(Some(Event::Start(Tag::new(0, 0x05))))
    );
    assert_eq!(
        reader.next_event(),
        Ok(Some(Event::Start(Tag::new(0, 0x1C))))
    );
    reader.skip_element().unwrap();
    assert_eq!(
        reader.next_event(),
        Ok(Some(Event::Empty(Tag::new(0, 0x16))))
    );
}

#[test]
fn the_writer_refuses_what_can_not_be_read_again() {
    let mut writer = Writer::message();
    writer.start(Tag::new(0, 0x05));
    assert_eq!(writer.text("a\0b"), Err(WriteError::Nul { at: 1 }));
    assert_eq!(
        writer.clone().finish(),
        Err(WriteError::MissingEnd { open: 1 })
    );
    assert_eq!(writer.end(), Ok(()));
    assert_eq!(writer.end(), Err(WriteError::StrayEnd));
}

/// Messages and their readable text, word for word, in both directions.
#[test]
fn the_readable_text_says_everything() {
    const W: &str = "xmlns:w=\"urn:x-wbxml\"";
    let table: Vec<(&[u8], String)> =
        vec![
        (b"\x03\x01\x6a\x00\x00\x0d\x05", "<Ping xmlns=\"Ping\"/>\n".into()),
        (
            b"\x03\x01\x6a\x00\x45\x4b\x03a<&>\r\n\x00\x01\x00\x02\x54\x03\x00\x01\x00\x00\x16\x01",
            "<Sync xmlns=\"AirSync\">\n  <SyncKey>a&lt;&amp;&gt;&#13;\n</SyncKey>\n  \
             <Subject xmlns=\"Email\"></Subject>\n  <Commands/>\n</Sync>\n"
                .into(),
        ),
        (
            b"\x03\x01\x6a\x00\x45\x4b\x01\x01",
            format!("<Sync xmlns=\"AirSync\">\n  <SyncKey {W} w:content=\"none\"/>\n</Sync>\n"),
        ),
        (
            b"\x03\x01\x6a\x00\x00\x15\x45\x50\xc3\x03\x00\xff\x01\x01\x01",
            format!(
                "<SendMail xmlns=\"ComposeMail\">\n  \
                 <Mime {W} w:opaque=\"base64\">AP8B</Mime>\n</SendMail>\n"
            ),
        ),
        (
            b"\x03\x01\x6a\x00\x45\xc3\x80\x01a\x01",
            format!("<Sync xmlns=\"AirSync\" {W} w:opaque=\"base64\" w:octets=\"2\">YQ==</Sync>\n"),
        ),
        (
            b"\x03\x01\x6a\x00\x45\x03\x01\x00\x01",
            format!("<Sync xmlns=\"AirSync\" {W} w:text=\"base64\">AQ==</Sync>\n"),
        ),
        (
            b"\x03\x01\x6a\x00\x45\x03 \x00\xc3\x00\x0b\x03\x00\x01",
            format!(
                "<Sync xmlns=\"AirSync\">\n  <w:data {W}> </w:data>\n  \
                 <w:data {W} w:opaque=\"base64\"></w:data>\n  <SyncKey/>\n  \
                 <w:data {W}></w:data>\n</Sync>\n"
            ),
        ),
        (
            b"\x03\x01\x6a\x00\x00\x00\x45\x00\x0d\x00\x00\x0b\x00\x00\x03a\x00\x00\x02\x01",
            format!(
                "<Sync xmlns=\"AirSync\" {W} w:switch=\"0\">\n  \
                 <SyncKey {W} w:switch=\"13 0\"/>\n  <w:data {W} w:switch=\"0\">a</w:data>\n  \
                 <w:switch {W} pages=\"2\"/>\n</Sync>\n"
            ),
        ),
        (
            b"\x03\x01\x6a\x00\x45\x00\x1e\x7f\x00\x00\x0b\x01\x01",
            format!(
                "<Sync xmlns=\"AirSync\">\n  <w:tag {W} page=\"30\" token=\"0x3F\">\n    \
                 <SyncKey/>\n  </w:tag>\n</Sync>\n"
            ),
        ),
        (
            b"\x03\x00\x00\x6a\x06ab\x00cd\x00\x45\x83\x80\x03\x01",
            format!(
                "<Sync xmlns=\"AirSync\" {W} w:header=\"0300006A06616200636400\" \
                 w:table=\"3\" w:octets=\"2\">cd</Sync>\n"
            ),
        ),
        // Text that XML can't hold, in the table: found by fuzzing.
        (
            b"\x03\x01\x6a\x03a\x1c\x00\x45\x83\x00\x01",
            format!(
                "<Sync xmlns=\"AirSync\" {W} w:header=\"03016A03611C00\" \
                 w:table=\"0\" w:text=\"base64\">YRw=</Sync>\n"
            ),
        ),
        (
            b"\x05\x00\x02\x14\x00\x00",
            format!(
                "<fragment>\n<Sync xmlns=\"AirSync\"/>\n<Subject xmlns=\"Email\"/>\n\
                 <w:switch {W} pages=\"0\"/>\n</fragment>\n"
            ),
        ),
    ];
    for (message, body) in table {
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>
{body}"
        );
        assert_eq!(
            decode_to_xml(message, &Limits::INSPECTION).as_deref(),
            Ok(xml.as_str())
        );
        assert_eq!(encode_from_xml(&xml).as_deref(), Ok(message), "{xml}");
    }
}

#[test]
fn people_may_write_the_text_in_other_ways() {
    let message = b"\x03\x01\x6a\x00\x00\x15\x45\x51\x03a\x00\x01\x50\xc3\x01b\x01\x01".as_slice();
    for xml in [
        "<SendMail xmlns='ComposeMail'><ClientId>a</ClientId>\
         <Mime xmlns:x='urn:x-wbxml' x:opaque='base64'> Yg\n== </Mime></SendMail>",
        "<!DOCTYPE x><c:SendMail xmlns:c='ComposeMail:'><!-- a comment -->\
         <c:ClientId><![CDATA[a]]></c:ClientId>\
         <c:MIME xmlns:w='urn:x-wbxml' w:opaque='base64'>Yg==</c:MIME></c:SendMail><?x y?>",
    ] {
        assert_eq!(encode_from_xml(xml).as_deref(), Ok(message), "{xml}");
    }
    let empty = "<Sync xmlns='AirSync' xmlns:w='urn:x-wbxml' w:opaque='base64'/>";
    assert_eq!(
        encode_from_xml(empty).as_deref(),
        Ok(b"\x03\x01\x6a\x00\x45\xc3\x00\x01".as_slice())
    );
}

#[test]
fn what_is_no_readable_text_is_named() {
    let kind = |xml: &str| encode_from_xml(xml).unwrap_err().kind;
    let unknown = |namespace: &str, name: &str| EncodeErrorKind::UnknownElement {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let w = |rest: &str| format!("<Sync xmlns='AirSync' xmlns:w='urn:x-wbxml'{rest}");
    let table: Vec<(String, EncodeErrorKind)> = vec![
        ("".into(), EncodeErrorKind::Incomplete),
        ("<Sync xmlns='AirSync'>".into(), EncodeErrorKind::Incomplete),
        (
            "<Sync xmlns='AirSync'/><Sync xmlns='AirSync'/>".into(),
            EncodeErrorKind::AfterRoot,
        ),
        ("text".into(), EncodeErrorKind::MixedText),
        ("<Sync/>".into(), unknown("", "Sync")),
        ("<Sync xmlns='Nowhere'/>".into(), unknown("Nowhere", "Sync")),
        (
            "<Nothing xmlns='AirSync'/>".into(),
            unknown("AirSync", "Nothing"),
        ),
        ("<x:Sync/>".into(), unknown("x", "Sync")),
        (w(">a<SyncKey/></Sync>"), EncodeErrorKind::MixedText),
        (w("><SyncKey/>a</Sync>"), EncodeErrorKind::MixedText),
        (
            w("><w:data><SyncKey/></w:data></Sync>"),
            EncodeErrorKind::ElementInContent,
        ),
        (
            w(" w:opaque='base64'><SyncKey/></Sync>"),
            EncodeErrorKind::ElementInContent,
        ),
        (w(" w:opaque='base64'>?</Sync>"), EncodeErrorKind::NotBase64),
        (
            w(" w:text='base64'>/w==</Sync>"),
            EncodeErrorKind::NotBase64,
        ),
        (
            w(" w:opaque='hex'>00</Sync>"),
            EncodeErrorKind::BadAttribute("w:opaque"),
        ),
        (
            w(" w:octets='9'>00</Sync>"),
            EncodeErrorKind::BadAttribute("w:octets"),
        ),
        (
            w(" w:switch='300'/>"),
            EncodeErrorKind::BadAttribute("w:switch"),
        ),
        (
            w(" w:header='03016A'/>"),
            EncodeErrorKind::BadAttribute("w:header"),
        ),
        (
            w(" w:header='xx'/>"),
            EncodeErrorKind::BadAttribute("w:header"),
        ),
        (
            w("><w:tag page='1'/></Sync>"),
            EncodeErrorKind::BadAttribute("token"),
        ),
        (
            w("><w:tag page='1' token='0x03'/></Sync>"),
            EncodeErrorKind::BadAttribute("token"),
        ),
        (
            w("><w:switch/></Sync>"),
            EncodeErrorKind::BadAttribute("pages"),
        ),
        (w(" w:table='0'>a</Sync>"), EncodeErrorKind::NotInTable(0)),
        (w(" a='b'/>"), EncodeErrorKind::UnknownAttribute("a".into())),
        (
            w(" w:a='b'/>"),
            EncodeErrorKind::UnknownAttribute("w:a".into()),
        ),
        (
            w("><SyncKey w:header='03016A00'/></Sync>"),
            EncodeErrorKind::UnknownAttribute("header".into()),
        ),
        (w(">&nbsp;</Sync>"), EncodeErrorKind::Entity("nbsp".into())),
    ];
    for (xml, wanted) in table {
        assert_eq!(kind(&xml), wanted, "{xml}");
    }
    for xml in [
        "<Sync xmlns='AirSync'></Ping>",
        "<Sync",
        "<Sync xmlns='AirSync'>&</Sync>",
        "</a>",
    ] {
        assert!(matches!(kind(xml), EncodeErrorKind::Xml(_)), "{xml}");
    }
    for child in ["<Sync>", "<Sync xmlns='AirSync'>"] {
        let deep = format!("<Sync xmlns='AirSync'>{}", child.repeat(256));
        assert_eq!(kind(&deep), EncodeErrorKind::TooDeep);
    }
}

/// A piece of a random message.
#[derive(Debug, Clone)]
enum Piece {
    Start(Tag),
    Empty(Tag),
    End,
    Text(String),
    Opaque(Vec<u8>),
}

fn tag() -> impl Strategy<Value = Tag> {
    (prop_oneof![9 => 0_u8..26, 1 => any::<u8>()], 0x05_u8..0x40)
        .prop_map(|(page, token)| Tag::new(page, token))
}

fn piece() -> impl Strategy<Value = Piece> {
    let text = prop_oneof![
        "[a-z]{0,20}",
        "[ \\t\\r\\n<>&\"'\\]]{0,5}",
        "[\\x01-\\x1f\u{80}-\u{ff}\u{fffd}-\u{10010}]{0,4}",
    ];
    prop_oneof![
        4 => tag().prop_map(Piece::Start),
        2 => tag().prop_map(Piece::Empty),
        4 => Just(Piece::End),
        3 => text.prop_map(Piece::Text),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Piece::Opaque),
    ]
}

/// A row of pieces made into one balanced message: a root around all, ends where they fit.
fn balanced(pieces: Vec<Piece>) -> Vec<Piece> {
    const DEPTH: usize = 32;
    let mut depth = 1;
    let mut whole = vec![Piece::Start(Tag::new(0, 0x05))];
    for piece in pieces {
        match piece {
            Piece::Start(_) if depth == DEPTH => continue,
            Piece::End if depth == 1 => continue,
            Piece::Start(_) => depth += 1,
            Piece::End => depth -= 1,
            _ => {}
        }
        whole.push(piece);
    }
    whole.extend(vec![Piece::End; depth]);
    whole
}

fn written(pieces: &[Piece]) -> Result<Vec<u8>, WriteError> {
    let mut writer = Writer::message();
    for piece in pieces {
        match piece {
            Piece::Start(tag) => writer.start(*tag),
            Piece::Empty(tag) => writer.empty(*tag),
            Piece::End => writer.end()?,
            Piece::Text(text) => writer.text(text)?,
            Piece::Opaque(bytes) => writer.opaque(bytes)?,
        }
    }
    writer.finish()
}

/// Token soup: mostly valid, with what a writer never makes (page switches anywhere, long integers,
/// string references, a string table).
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        6 => (0x45_u8..0x80).prop_map(|tag| vec![tag]),
        3 => (0x05_u8..0x40).prop_map(|tag| vec![tag]),
        6 => Just(vec![0x01]),
        3 => (0_u8..28).prop_map(|page| vec![0x00, page]),
        2 => "[a-z<\\r]{0,4}".prop_map(|text| [b"\x03", text.as_bytes(), b"\0"].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..4)
            .prop_map(|bytes| [&[0xC3, 0x80, bytes.len() as u8], bytes.as_slice()].concat()),
        1 => (0_u8..8).prop_map(|place| vec![0x83, place]),
    ];
    let header = prop_oneof![
        Just(b"\x03\x01\x6a\x00".to_vec()),
        Just(b"\x02\x01\x6a\x05ab\0c\0".to_vec()),
        Just(Vec::new()),
    ];
    (header, prop::collection::vec(token, 0..40), 0_usize..8).prop_map(|(header, tokens, ends)| {
        [header, vec![0x45], tokens.concat(), vec![0x01; ends]].concat()
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz::wbxml_reader(&data);
        fuzz::wbxml_text(&data);
        fuzz::bodies(&data);
        fuzz::multipart(&data);
    }

    #[test]
    fn soup_is_read_or_refused_and_its_text_loses_nothing(data in soup()) {
        fuzz::wbxml_reader(&data);
        fuzz::wbxml_text(&data);
        fuzz::bodies(&data);
    }

    #[test]
    fn what_is_written_is_read(pieces in prop::collection::vec(piece(), 0..60)) {
        let pieces = balanced(pieces);
        let message = written(&pieces).unwrap();
        let mut reader = Reader::new(&message, Limits::TRAFFIC).unwrap();
        for piece in &pieces {
            let event = reader.next_event().unwrap().unwrap();
            match piece {
                Piece::Start(tag) => prop_assert_eq!(event, Event::Start(*tag)),
                Piece::Empty(tag) => prop_assert_eq!(event, Event::Empty(*tag)),
                Piece::End => prop_assert_eq!(event, Event::End),
                Piece::Text(text) => prop_assert_eq!(event, Event::Text(text)),
                Piece::Opaque(bytes) => prop_assert_eq!(event, Event::Opaque(bytes)),
            }
        }
        prop_assert_eq!(reader.next_event().unwrap(), None);
        let xml = decode_to_xml(&message, &Limits::TRAFFIC).unwrap();
        prop_assert_eq!(encode_from_xml(&xml).unwrap(), message);
    }

    #[test]
    fn a_cut_message_is_refused(pieces in prop::collection::vec(piece(), 0..30), cut in any::<prop::sample::Index>()) {
        let message = written(&balanced(pieces)).unwrap();
        let cut = cut.index(message.len());
        prop_assert!(read(&message[..cut], Limits::TRAFFIC).is_err());
    }

    #[test]
    fn any_text_is_encoded_or_refused(xml in "(<(Sync|SyncKey|w:tag|w:data|/Sync|/SyncKey)( (xmlns|xmlns:w|w:opaque|w:table|page|token)='(AirSync|urn:x-wbxml|base64|1|0x05)'){0,3}/?>|[a&;# ]{1,3}){0,12}") {
        fuzz::wbxml_text(xml.as_bytes());
    }
}
