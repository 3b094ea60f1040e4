//! The query of a request, in both forms.

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use seg_eas::request_line::{self, Parameter, QueryForm, RequestLineError, parse};
use seg_eas::{Command, DeviceId, DeviceIdError, ProtocolVersion, fuzz};
use std::borrow::Cow;

/// A base64 query from the parts of its record; what follows the device type is given as bytes.
fn record(version: u8, code: u8, device: &[u8], key: &[u8], kind: &str, rest: &[u8]) -> String {
    let counted = |bytes: &[u8]| [&[bytes.len() as u8], bytes].concat();
    STANDARD.encode(
        [
            &[version, code, 0x07, 0x04],
            counted(device).as_slice(),
            &counted(key),
            &counted(kind.as_bytes()),
            rest,
        ]
        .concat(),
    )
}

#[test]
fn a_plain_query_in_any_order_and_case() {
    let line =
        parse("user=CORP%5Calice&DEVICETYPE=iPhone&saveinsent=T&deviceid=appl1&cmd=sendmail")
            .unwrap();
    assert_eq!(line.form, QueryForm::Plain);
    assert_eq!(line.command, Command::SendMail);
    assert_eq!(line.device_id, Some(DeviceId::parse_text("APPL1").unwrap()));
    assert_eq!(line.device_type.as_deref(), Some("iPhone"));
    assert_eq!(line.user.as_deref(), Some("CORP\\alice"));
    assert!(line.save_in_sent);
    assert_eq!(
        (line.version, line.policy_key, line.locale),
        (None, None, None)
    );
}

#[test]
fn a_base64_query() {
    let query = record(
        141,
        2,
        b"dev1",
        &7_u32.to_le_bytes(),
        "SP",
        b"\x01\x015\x03\x045:12\x07\x01\x03\x08\x05alice",
    );
    let line = parse(&query).unwrap();
    assert_eq!(line.form, QueryForm::Base64);
    assert_eq!(line.command, Command::SmartForward);
    assert_eq!(line.version, Some(ProtocolVersion::V14_1));
    assert_eq!(line.locale, Some(0x0407));
    assert_eq!(line.policy_key, Some(7));
    assert_eq!(line.device_id.unwrap().as_str(), "DEV1");
    assert_eq!(line.collection_id.as_deref(), Some("5"));
    assert_eq!(line.item_id.as_deref(), Some("5:12"));
    assert_eq!(line.user.as_deref(), Some("alice"));
    assert!(line.save_in_sent && line.accept_multipart);
    assert_eq!(line.upstream_query, query);
}

#[test]
fn one_device_is_one_key_in_both_forms() {
    let guid: [u8; 16] = std::array::from_fn(|at| 0xF0 ^ u8::try_from(at * 17).unwrap());
    let hex: String = guid.iter().map(|byte| format!("{byte:02x}")).collect();
    let query = record(140, 9, &guid, b"", "WP", b"");
    let base64 = parse(&query).unwrap();
    let plain = format!("Cmd=FolderSync&DeviceId={hex}&DeviceType=WP&User=a");
    assert_eq!(base64.device_id, parse(&plain).unwrap().device_id);

    let query = record(141, 0, b"Nine4383AF346860", b"", "Android", b"");
    let base64 = parse(&query).unwrap();
    let plain = parse("Cmd=Sync&DeviceId=NINE4383af346860&DeviceType=Android").unwrap();
    assert_eq!(base64.device_id, plain.device_id);
}

#[test]
fn the_alphabet_is_the_standard_one_and_plus_is_no_blank() {
    // The bytes FB EF BE are four times '+', FF FF FF four times '/', when they stand on a
    // multiple of three in the record.
    let raw = *b"\xff\xfb\xef\xbe\xff\xff\xff\xfb\xef\xbe\xff\xff\xff\x00\x01\x02";
    let query = record(140, 9, &raw, b"", "WP1", b"");
    assert!(
        query.contains('+') && query.contains('/') && query.contains('='),
        "{query}"
    );
    let device = parse(&query).unwrap().device_id;
    assert_eq!(device, Some(DeviceId::from_raw(&raw).unwrap()));

    let escaped = query
        .replace('+', "%2B")
        .replace('/', "%2f")
        .replace('=', "%3D");
    let line = parse(&escaped).unwrap();
    assert_eq!(line.device_id, device);
    assert_eq!(
        line.upstream_query, query,
        "the server gets the one spelling"
    );

    assert_eq!(
        parse(query.trim_end_matches('=')).unwrap().device_id,
        device
    );
    let url_safe = query.replace('+', "-").replace('/', "_");
    assert_eq!(parse(&url_safe), Err(RequestLineError::NotBase64));
    assert_eq!(
        parse(&query.replace('+', " ")),
        Err(RequestLineError::NotBase64)
    );
    let other_escape = query.replacen('j', "%6A", 1);
    assert_eq!(
        parse(&other_escape),
        Err(RequestLineError::Escape { at: 0 })
    );
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let base64 = record(141, 0, b"dev1", b"", "SP", b"");
    let duplicate = |parameter| RequestLineError::Duplicate(parameter);
    let table: Vec<(Cow<'_, str>, RequestLineError)> = vec![
        ("".into(), RequestLineError::Empty),
        (
            "Cmd=Sync&DeviceId=a&DeviceId=a".into(),
            duplicate(Parameter::DeviceId),
        ),
        (
            "Cmd=Sync&DeviceId=a&deviceid=b".into(),
            duplicate(Parameter::DeviceId),
        ),
        (
            "Cmd=Sync&DeviceId=a&%44evice%49d=b".into(),
            duplicate(Parameter::DeviceId),
        ),
        (
            "Cmd=Sync&cmd=Ping&DeviceId=a".into(),
            duplicate(Parameter::Cmd),
        ),
        ("Cmd=Sync&User=a&User=b".into(), duplicate(Parameter::User)),
        ("Cmd=Sync&User=&User=b".into(), duplicate(Parameter::User)),
        (
            format!("{base64}&Cmd=Sync").into(),
            RequestLineError::BothForms { at: 0 },
        ),
        (
            format!("Cmd=Sync&{base64}").into(),
            RequestLineError::BothForms { at: 9 },
        ),
        (
            format!("Cmd=Sync&{}", base64.trim_end_matches('=')).into(),
            RequestLineError::BothForms { at: 9 },
        ),
        (
            "Cmd=Sync&DeviceId".into(),
            RequestLineError::BareWord { at: 9 },
        ),
        (
            "Cmd=Sync&x=?Cmd=Ping".into(),
            RequestLineError::QuestionMark { at: 11 },
        ),
        (
            "Cmd=Sync&%u0044eviceId=a".into(),
            RequestLineError::Escape { at: 9 },
        ),
        (
            "Cmd=Sync&DeviceId=%4".into(),
            RequestLineError::Escape { at: 18 },
        ),
        (
            "Cmd=Sync&DeviceId=a%0d%0aX:%20y".into(),
            RequestLineError::Control { at: 18 },
        ),
        (
            "Cmd=Sync&User=a%00b".into(),
            RequestLineError::Control { at: 14 },
        ),
        (
            "Cmd=Sync&User=a%C2%85b".into(),
            RequestLineError::Control { at: 14 },
        ),
        (
            "Cmd=Sync&x%0a=1".into(),
            RequestLineError::Control { at: 9 },
        ),
        (
            "Cmd=Sync&User=%ff".into(),
            RequestLineError::NotUtf8 { at: 14 },
        ),
        ("DeviceId=a&User=b".into(), RequestLineError::NoCommand),
        ("Cmd=&DeviceId=a".into(), RequestLineError::UnknownCommand),
        (
            "Cmd=Autodiscover&DeviceId=a".into(),
            RequestLineError::UnknownCommand,
        ),
        ("Cmd=Sync&DeviceId=".into(), DeviceIdError::Empty.into()),
        (
            "Cmd=Sync&DeviceId=a%2Cb".into(),
            DeviceIdError::Character { byte: b',', at: 1 }.into(),
        ),
        (
            format!("Cmd=Sync&User={}", "a".repeat(321)).into(),
            RequestLineError::ValueTooLong {
                parameter: Parameter::User,
                len: 321,
                limit: 320,
            },
        ),
        (
            format!("Cmd=Sync&x={}", "a".repeat(request_line::MAX_QUERY)).into(),
            RequestLineError::TooLong {
                len: request_line::MAX_QUERY + 11,
            },
        ),
    ];
    for (query, error) in table {
        assert_eq!(parse(&query), Err(error), "{query}");
    }
}

#[test]
fn what_is_wrong_in_a_base64_record_is_named() {
    let named = |query: String| parse(&query).unwrap_err();
    let truncated = |what, at| RequestLineError::Truncated { what, at };
    assert_eq!(named("jA==".into()), truncated("the command code", 1));
    assert_eq!(
        named(STANDARD.encode(b"\x8c\x00\x09\x04\xffA")),
        truncated("the device id", 4)
    );
    assert_eq!(
        named(record(9, 0, b"a", b"", "S", b"")),
        RequestLineError::Version(9)
    );
    assert_eq!(
        named(record(140, 255, b"a", b"", "S", b"")),
        RequestLineError::UnknownCode(255)
    );
    assert_eq!(
        named(record(140, 0, b"", b"", "S", b"")),
        DeviceIdError::Empty.into()
    );
    assert_eq!(
        named(record(140, 0, b"a", b"\x01\x02", "S", b"")),
        RequestLineError::PolicyKeyLength(2)
    );
    assert_eq!(
        named(record(140, 0, b"a", b"", "S", b"\x01\x05")),
        truncated("a parameter", 10)
    );
    assert_eq!(
        named(record(140, 0, b"a", b"", "S", b"\x08\x01a\x08\x01a")),
        RequestLineError::Duplicate(Parameter::User)
    );
    assert_eq!(
        named(record(140, 0, b"a", b"", "S", b"\x08\x03a\r\n")),
        RequestLineError::Control { at: 9 }
    );
    assert_eq!(
        named(record(140, 0, b"a", b"", "S", b"\x07\x02\x01\x01")),
        RequestLineError::OptionsLength(2)
    );
    assert_eq!(
        named(record(140, 0, b"a\r\nb", b"", "S", b"")),
        DeviceIdError::Character { byte: b'\r', at: 1 }.into()
    );
}

#[test]
fn an_unknown_tag_and_an_empty_options_are_passed_over() {
    let query = record(140, 0, b"a", b"", "S", b"\x07\x00\x63\x02\x00\xff");
    let line = parse(&query).unwrap();
    assert!(!line.save_in_sent && !line.accept_multipart);
}

/// PHP's `parse_str` reads a known name in each of these, and believes the last.
#[test]
fn a_name_that_another_server_reads_otherwise_is_refused() {
    for name in [
        "+Cmd",
        "%20Cmd",
        " Cmd",
        "%2BCmd",
        "Cmd+",
        "Cmd%20",
        "Cmd[",
        "Cmd[]",
        "Cmd%5B",
        "Cmd.",
        "De.viceId",
        "+DeviceId",
        "",
        "%C2%A0Cmd",
        "Cm\u{e4}d",
        "x,y",
    ] {
        let query = format!("Cmd=Sync&DeviceId=a&{name}=Ping");
        assert_eq!(
            parse(&query),
            Err(RequestLineError::Name { at: 20 }),
            "{name}"
        );
        let query = format!("{name}=Ping&Cmd=Sync&DeviceId=a");
        assert_eq!(
            parse(&query),
            Err(RequestLineError::Name { at: 0 }),
            "{name}"
        );
        assert!(request_line::parse_options(&query).is_err(), "{name}");
    }
    for name in ["x", "Log", "X-Trace_2", "%4cog"] {
        assert!(
            parse(&format!("Cmd=Sync&DeviceId=a&{name}=Ping")).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn an_options_request_needs_no_command() {
    assert!(request_line::parse_options("").is_ok_and(|line| line.device_id.is_none()));
    let line = request_line::parse_options("User=a&DeviceId=dev1&DeviceType=SP").unwrap();
    assert_eq!(line.device_id.unwrap().as_str(), "DEV1");
    assert!(request_line::parse_options("DeviceId=a&DeviceId=a").is_err());
}

#[test]
fn no_error_and_no_debug_form_repeats_what_must_not_be_logged() {
    let line = parse("Cmd=GetAttachment&User=secret1&DeviceId=a&AttachmentName=secret2").unwrap();
    assert!(!format!("{line:?}").contains("secret"));
    for query in [
        "Cmd=Sync&User=secret%0d&DeviceId=a".to_owned(),
        "Cmd=secret&DeviceId=a".to_owned(),
        format!("Cmd=Sync&AttachmentName={}", "secret".repeat(300)),
        "Cmd=Sync&DeviceId=secret,".to_owned(),
        "Cmd=Sync&secret".to_owned(),
    ] {
        let error = parse(&query).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}

/// The published and third-party queries, where they are.
#[test]
fn shared_base64_queries() {
    let Some(shared) = support::shared() else {
        return;
    };
    let file = std::fs::read(shared.join("facts/base64-queries.json")).unwrap();
    let queries: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let valid = queries["valid"].as_array().unwrap();
    for entry in valid {
        let query = entry["query"].as_str().unwrap();
        let line = parse(query).unwrap_or_else(|error| panic!("{query}: {error}"));
        let want = &entry["decoded"];
        assert_eq!(line.form, QueryForm::Base64);
        assert_eq!(
            u64::from(line.version.unwrap().code()),
            want["version"].as_u64().unwrap()
        );
        assert_eq!(line.command.name(), want["cmd"].as_str().unwrap());
        assert_eq!(
            format!("0x{:04x}", line.locale.unwrap()),
            want["locale"].as_str().unwrap()
        );
        let device = want["device_id_ascii"]
            .as_str()
            .or_else(|| want["device_id_hex"].as_str())
            .unwrap();
        assert_eq!(
            line.device_id.unwrap().as_str(),
            device.to_ascii_uppercase()
        );
        assert_eq!(line.policy_key.map(u64::from), want["policy_key"].as_u64());
        assert_eq!(line.device_type.as_deref(), want["device_type"].as_str());
        for parameter in want["params"].as_array().unwrap() {
            let value = parameter["value"].as_str();
            match parameter["name"].as_str().unwrap() {
                "Options" => {
                    let flags = parameter["value"].as_u64().unwrap_or(0);
                    assert_eq!(line.save_in_sent, flags & 1 != 0);
                    assert_eq!(line.accept_multipart, flags & 2 != 0);
                }
                "User" => assert_eq!(line.user.as_deref(), value),
                "AttachmentName" => assert_eq!(line.attachment_name.as_deref(), value),
                "CollectionId" => assert_eq!(line.collection_id.as_deref(), value),
                "ItemId" => assert_eq!(line.item_id.as_deref(), value),
                other => panic!("{other} is not compared"),
            }
        }
    }
    let invalid = queries["invalid"].as_array().unwrap();
    for entry in invalid {
        let query = entry["query"].as_str().unwrap();
        let error = parse(query).expect_err(query);
        println!("refused ({}): {error}", entry["why"]);
    }
    println!(
        "base64 queries: {} valid, {} invalid",
        valid.len(),
        invalid.len()
    );
    assert_eq!((valid.len(), invalid.len()), (9, 6));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz::request_line(&data);
        fuzz::request_line(STANDARD.encode(&data).as_bytes());
    }

    #[test]
    fn any_text_is_read_or_refused(query in "([A-Za-z%=&+/?0-9]{0,6}(Cmd=|DeviceId=|Sync|&|%4[0-9A-F])){0,9}") {
        fuzz::request_line(query.as_bytes());
    }

    #[test]
    fn both_forms_of_a_request_say_the_same(
        code in 0_u8..24,
        device in "[A-Za-z0-9]{1,32}",
        kind in "[A-Za-z0-9]{1,20}",
        user in "[a-z@.+]{1,30}",
    ) {
        let command = Command::from_code(code).unwrap();
        let tagged = [&[8, u8::try_from(user.len()).unwrap()], user.as_bytes()].concat();
        let query = record(141, code, device.as_bytes(), b"", &kind, &tagged);
        let base64 = parse(&query).unwrap();
        let query = format!("DeviceType={kind}&User={user}&Cmd={}&DeviceId={device}", command.name());
        let plain = parse(&query).unwrap();
        prop_assert_eq!(base64.command, plain.command);
        prop_assert_eq!(base64.device_id, plain.device_id);
        prop_assert_eq!(base64.device_type, plain.device_type);
        prop_assert_eq!(base64.user, plain.user);
    }
}
