use super::*;
use crate::wbxml::Writer;

/// An ItemOperations answer whose fetches name these parts, or bring this content in base64.
fn fetched(fetches: &[(&str, Result<&str, &str>)]) -> Vec<u8> {
    let tag = |token| Tag::new(20, token);
    let mut writer = Writer::message();
    writer.start(tag(0x05));
    writer.element(FETCH_STATUS, "1").unwrap();
    writer.start(tag(0x0E));
    for (reference, content) in fetches {
        writer.start(FETCH);
        writer.element(FETCH_STATUS, "1").unwrap();
        writer.element(FILE_REFERENCE, reference).unwrap();
        writer.start(FETCH_PROPERTIES);
        writer.element(CONTENT_TYPE, "text/plain").unwrap();
        match content {
            Ok(part) => writer.element(PART, part).unwrap(),
            Err(data) => writer.element(FETCH_DATA, data).unwrap(),
        }
        writer.end().unwrap();
        writer.end().unwrap();
    }
    writer.end().unwrap();
    writer.end().unwrap();
    writer.finish().unwrap()
}

#[test]
fn a_part_that_is_withheld_goes_and_the_others_move_up() {
    let rule: Rule = toml::from_str(
        "id = 'r'\nattachments = { action = 'block-fetch', types = ['application/pdf'] }\n",
    )
    .unwrap();
    let message = fetched(&[
        ("a", Ok("1")),
        ("b", Ok("2")),
        ("c", Ok("3")),
        ("d", Err("d29yZHM=")),
    ]);
    let parts: [&[u8]; 4] = [&message, b"first", b"%PDF-1.7 second", b"third"];
    let given = Multipart::written(&parts.map(Cow::Borrowed));
    let answered = answered(&[&rule], &given, true, &|_| None).unwrap();
    assert_eq!(answered.done.blocked, 1);
    let body = answered.body.unwrap();
    let left: Vec<&[u8]> = Multipart::parse(&body).unwrap().parts().collect();
    assert_eq!(left[1..], [&b"first"[..], b"third"]);
    let outline = Outline::read(left[0], Limits::TRAFFIC).unwrap();
    let (root, _) = outline.root().unwrap();
    let told: Vec<(Tag, &str)> = outline
        .inside(root)
        .filter(|(_, tag)| [FETCH_STATUS, FILE_REFERENCE, PART, FETCH_DATA].contains(tag))
        .map(|(at, tag)| (tag, outline.text(at)))
        .collect();
    assert_eq!(
        told,
        [
            (FETCH_STATUS, "1"),
            (FETCH_STATUS, "1"),
            (FILE_REFERENCE, "a"),
            (PART, "1"),
            (FETCH_STATUS, "16"),
            (FILE_REFERENCE, "b"),
            (FETCH_STATUS, "1"),
            (FILE_REFERENCE, "c"),
            (PART, "2"),
            (FETCH_STATUS, "1"),
            (FILE_REFERENCE, "d"),
            (FETCH_DATA, "d29yZHM="),
        ]
    );
}

/// One mail that can't be read withholds itself, not the answer that it stands in.
#[test]
fn a_mail_that_cant_be_read_is_withheld_alone() {
    let mails = |first: &str| {
        let mut writer = Writer::message();
        writer.start(Tag::new(0, 0x05));
        for text in [first, "Subject: t\r\n\r\nreadable"] {
            writer.start(APPLICATION_DATA);
            writer.start(BODY);
            writer.element(BODY_TYPE, "4").unwrap();
            writer.element(DATA, text).unwrap();
            writer.end().unwrap();
            writer.end().unwrap();
        }
        writer.end().unwrap();
        writer.finish().unwrap()
    };
    let deep = "Content-Type:message/rfc822\n\n".repeat(1_000);
    for unreadable in [deep.as_str(), "  "] {
        for (too_large, withheld) in [("withhold", 1), ("pass", 0)] {
            let toml = format!(
                "id = 'r'\ntoo_large = '{too_large}'\nattachments = {{ action = 'remove', extensions = ['zip'] }}\n"
            );
            let rule: Rule = toml::from_str(&toml).unwrap();
            let answered = answered(&[&rule], &mails(unreadable), false, &|_| None).unwrap();
            assert_eq!(
                answered.done.withheld, withheld,
                "{unreadable:.20} {too_large}"
            );
            let expected = mails(&String::from_utf8(text_part(UNREADABLE)).unwrap());
            assert_eq!(answered.body, (withheld == 1).then_some(expected));
        }
    }
}
