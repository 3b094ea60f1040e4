use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::content::mime::text_part;
use crate::multipart::Multipart;
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
    let answered = answered(&[&rule], &given, true, &|_| None, &|_| Whole::Unseen).unwrap();
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
fn what_an_attachment_is_is_found_however_its_base64_is_written() {
    let rule: Rule = toml::from_str(
        "id = 'r'\nattachments = { action = 'block-fetch', types = ['application/pdf'] }\n",
    )
    .unwrap();
    let pdf = STANDARD.encode([b"%PDF-1.7 ".as_slice(), &[7; 3000]].concat());
    let lines: Vec<&str> = pdf
        .as_bytes()
        .chunks(76)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    let broken = lines.join("\r\n");
    let (blanks, accents) = (format!("\r\n  {pdf}"), format!("é{pdf}"));
    let blocked = |data: &str| {
        let message = fetched(&[("a", Err(data))]);
        let answered = answered(&[&rule], &message, false, &|_| None, &|_| Whole::Unseen).unwrap();
        // What was not read is not known from now on.
        assert_ne!(answered.passed.is_empty(), answered.done.blocked == 0);
        answered.done.blocked == 1
    };
    for data in [&pdf, &broken, &blanks] {
        assert!(blocked(data), "{}", &data[..20]);
    }
    assert!(!blocked("d29y\r\nZHM="));
    for data in [accents.as_str(), "%PDF-1.7", "d29yZHM", "===="] {
        assert!(
            blocked(data),
            "{}",
            data.chars().take(9).collect::<String>()
        );
    }
}

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
            let answered = answered(&[&rule], &mails(unreadable), false, &|_| None, &|_| {
                Whole::Unseen
            })
            .unwrap();
            assert_eq!(
                answered.done.withheld, withheld,
                "{unreadable:.20} {too_large}"
            );
            let expected = mails(&String::from_utf8(text_part(UNREADABLE)).unwrap());
            assert_eq!(answered.body, (withheld == 1).then_some(expected));
        }
    }
}

/// A Sync answer whose one mail has a body of this type, its content given piece by piece.
fn mail_of(kind: &str, datas: &[&[&str]]) -> Vec<u8> {
    let mut writer = Writer::message();
    writer.start(Tag::new(0, 0x05));
    writer.start(APPLICATION_DATA);
    writer.element(EMAIL_SUBJECT, "lunch").unwrap();
    writer.start(BODY);
    writer.element(BODY_TYPE, kind).unwrap();
    for pieces in datas {
        writer.start(DATA);
        for piece in *pieces {
            writer.text(piece).unwrap();
        }
        writer.end().unwrap();
    }
    for _ in 0..3 {
        writer.end().unwrap();
    }
    writer.finish().unwrap()
}

fn links_and_marks() -> [Rule; 2] {
    [
        "id = 'clicks'\nlinks = { template = 'awbs://{url}' }\n",
        "id = 'marks'\nclassified = { body = ['top secret'], text = 'GONE' }\n",
    ]
    .map(|toml| toml::from_str(toml).unwrap())
}

#[test]
fn a_text_in_pieces_is_read_as_one() {
    let [clicks, marks] = links_and_marks();
    let rules = [&clicks, &marks];
    let look = |given: &[u8]| answered(&rules, given, false, &|_| None, &|_| Whole::Unseen);
    let link = mail_of("1", &[&["see http://a.exa", "mple/b", " now"]]);
    let found = look(&link).unwrap();
    let whole = mail_of("1", &[&["see awbs://http://a.example/b now"]]);
    assert_eq!((found.body, found.done.links), (Some(whole), 1));
    let marked = look(&mail_of("1", &[&["to", "p sec", "ret"]])).unwrap();
    assert_eq!(marked.body, Some(mail_of("1", &[&["GONE"]])));
    // What needs no change stays as it was, pieces and all.
    let harmless = mail_of("1", &[&["a", "b"]]);
    assert_eq!(look(&harmless).unwrap().body, None);
    // Two texts: a device may show either.
    let two = mail_of("1", &[&["a"], &["top secret"]]);
    assert_eq!(look(&two), Err(OutlineError::Scattered));
}

#[test]
fn a_marking_is_found_however_html_writes_it() {
    let [_, marks] = links_and_marks();
    for html in [
        "<p>TOP <b>SEC</b>RET</p>",
        "top\r\nsecret",
        "top &#115;ecret",
        "top&nbsp;secret",
    ] {
        let given = mail_of("2", &[&[html]]);
        let found = answered(&[&marks], &given, false, &|_| None, &|_| Whole::Unseen).unwrap();
        assert_eq!(found.done.withheld, 1, "{html}");
    }
    let given = mail_of("2", &[&["<p>top of the secretary</p>"]]);
    let found = answered(&[&marks], &given, false, &|_| None, &|_| Whole::Unseen).unwrap();
    assert_eq!(found.body, None);
}

/// Nothing is looked for in RTF: rules about words and links withhold it, unless they say `pass`.
#[test]
fn compressed_rtf_is_withheld_by_rules_that_would_have_to_read_it() {
    let told = mail_of("3", &[&[rtf::of(UNREADABLE).as_str()]]);
    let given = mail_of("3", &[&["TABaRmw="]]);
    for (toml, withheld) in [
        ("links = { template = 'awbs://{url}' }", true),
        ("classified = { body = ['x'] }", true),
        ("classified = { subject = ['x'] }", false),
        (
            "attachments = { action = 'remove', extensions = ['zip'] }",
            false,
        ),
        (
            "too_large = 'pass'\nlinks = { template = 'awbs://{url}' }",
            false,
        ),
    ] {
        let rule: Rule = toml::from_str(&format!("id = 'r'\n{toml}\n")).unwrap();
        let found = answered(&[&rule], &given, false, &|_| None, &|_| Whole::Unseen).unwrap();
        assert_eq!(found.body, withheld.then(|| told.clone()), "{toml}");
        assert_eq!(found.done.withheld, usize::from(withheld));
    }
}

/// Up to 2.5 a mail may come as MIME in an element of its own, and other items have texts of theirs.
#[test]
fn what_old_versions_get_is_looked_at_too() {
    let old = |tag: Tag, text: &str| {
        let mut writer = Writer::message();
        writer.start(Tag::new(0, 0x05));
        writer.start(APPLICATION_DATA);
        writer.element(tag, text).unwrap();
        writer.end().unwrap();
        writer.end().unwrap();
        writer.finish().unwrap()
    };
    let [clicks, marks] = links_and_marks();
    let rules = [&clicks, &marks];
    let look =
        |given: &[u8]| answered(&rules, given, false, &|_| None, &|_| Whole::Unseen).unwrap();
    let mail = "Subject: s\r\nContent-Type: text/plain\r\n\r\nhttp://a.example/ ";
    let changed = mail.replace("http:", "awbs://http:");
    assert_eq!(
        look(&old(OLD_MIME, mail)).body,
        Some(old(OLD_MIME, &changed))
    );
    let marked = look(&old(OLD_MIME, "Subject: s\r\n\r\nTop Secret"));
    assert_eq!(marked.done.withheld, 1);
    for tag in [OLD_BODY, OLD_CONTACT_BODY, OLD_EVENT_BODY, OLD_TASK_BODY] {
        let found = look(&old(tag, "http://a.example/ ."));
        assert_eq!(found.body, Some(old(tag, "awbs://http://a.example/ .")));
        assert_eq!(look(&old(tag, "top secret")).body, Some(old(tag, "GONE")));
    }
    for tag in [OLD_CONTACT_RTF, OLD_EVENT_RTF, OLD_TASK_RTF] {
        assert_eq!(look(&old(tag, "TABaRmw=")).done.withheld, 1);
    }
}

/// A Sync answer whose mails have an id, a body's beginning, and whether it is one.
fn beginnings(mails: &[(&str, &str, Option<&str>)]) -> Vec<u8> {
    let mut writer = Writer::message();
    for token in [0x05, 0x1C, 0x0F] {
        writer.start(Tag::new(0, token));
    }
    writer.element(Tag::new(0, 0x12), "5").unwrap();
    writer.start(Tag::new(0, 0x16));
    for (id, text, truncated) in mails {
        writer.start(Tag::new(0, 0x07));
        writer.element(Tag::new(0, 0x0D), id).unwrap();
        writer.start(APPLICATION_DATA);
        writer.start(BODY);
        writer.element(BODY_TYPE, "1").unwrap();
        if let Some(truncated) = truncated {
            writer.element(TRUNCATED, truncated).unwrap();
        }
        writer.element(DATA, text).unwrap();
        for _ in 0..3 {
            writer.end().unwrap();
        }
    }
    for _ in 0..4 {
        writer.end().unwrap();
    }
    writer.finish().unwrap()
}

fn by_server(server: &str) -> ItemId {
    ItemId::Server {
        collection: "5".to_owned(),
        server: server.to_owned(),
    }
}

/// A marking may stand behind the place where a body was cut off.
#[test]
fn what_was_cut_off_is_judged_by_the_whole() {
    let [clicks, marks] = links_and_marks();
    let rules = [&clicks, &marks];
    let given = beginnings(&[
        ("5:1", "short", None),
        ("5:2", "long and", Some("1")),
        ("5:3", "top secret", Some("1")),
        ("5:4", "long and", Some("1")),
        ("5:5", "not cut", Some("0")),
        ("5:6", "long and", Some("1")),
    ]);
    let ids = ["5:2", "5:4", "5:6"].map(by_server);
    assert_eq!(whole::unseen(&rules, &given, false), Ok(ids.to_vec()));
    assert_eq!(whole::unseen(&[&clicks], &given, false), Ok(Vec::new()));

    let whole = |id: &ItemId| match id {
        id if *id == by_server("5:2") => Whole::Unmarked,
        id if *id == by_server("5:4") => Whole::Marked("marks".to_owned()),
        _ => Whole::Unseen,
    };
    let found = answered(&rules, &given, false, &|_| None, &whole).unwrap();
    let left = beginnings(&[
        ("5:1", "short", None),
        ("5:2", "long and", Some("1")),
        ("5:3", "GONE", Some("0")),
        ("5:4", "GONE", Some("0")),
        ("5:5", "not cut", Some("0")),
        ("5:6", UNREADABLE, Some("0")),
    ]);
    assert_eq!((found.body, found.done.withheld), (Some(left), 3));
    // By policy what nobody has seen whole passes.
    let pass: Rule = toml::from_str(
        "id = 'marks'\ntoo_large = 'pass'\nclassified = { body = ['top secret'] }\n",
    )
    .unwrap();
    let found = answered(&[&pass], &given, false, &|_| None, &|_| Whole::Unseen).unwrap();
    assert_eq!(found.done.withheld, 1);
}

/// What is asked for, and what is read of its answer.
#[test]
fn a_whole_text_is_asked_for_and_read() {
    let [_, marks] = links_and_marks();
    let ids = [by_server("5:2"), ItemId::Long("abc".to_owned())];
    let asked = whole::asks(&[&marks], &ids);
    let outline = Outline::read(&asked, Limits::TRAFFIC).unwrap();
    let told: Vec<&str> = outline
        .inside(0)
        .map(|(at, _)| outline.text(at))
        .filter(|text| !text.is_empty())
        .collect();
    assert_eq!(told, ["Mailbox", "5", "5:2", "1", "Mailbox", "abc", "1"]);
    assert!(crate::item_operations::fetch_only(&asked));

    let mut writer = Writer::message();
    writer.start(Tag::new(20, 0x05));
    writer.start(Tag::new(20, 0x0E));
    for (status, id, text, truncated) in [
        ("1", "5:1", Some("words"), "0"),
        ("1", "5:2", Some("and top secret"), "0"),
        ("1", "5:3", Some("words"), "1"),
        ("1", "5:4", None, "0"),
        ("6", "5:5", Some("words"), "0"),
    ] {
        writer.start(FETCH);
        writer.element(FETCH_STATUS, status).unwrap();
        writer.element(Tag::new(0, 0x12), "5").unwrap();
        writer.element(Tag::new(0, 0x0D), id).unwrap();
        writer.start(FETCH_PROPERTIES);
        writer.start(BODY);
        writer.element(BODY_TYPE, "1").unwrap();
        writer.element(TRUNCATED, truncated).unwrap();
        if let Some(text) = text {
            writer.element(DATA, text).unwrap();
        }
        for _ in 0..3 {
            writer.end().unwrap();
        }
    }
    writer.end().unwrap();
    writer.end().unwrap();
    let answer = writer.finish().unwrap();
    assert_eq!(
        whole::read(&[&marks], &answer),
        Ok(vec![
            (by_server("5:1"), Whole::Unmarked),
            (by_server("5:2"), Whole::Marked("marks".to_owned())),
            (by_server("5:3"), Whole::Unseen),
            (by_server("5:4"), Whole::Unseen),
            (by_server("5:5"), Whole::Unseen),
        ])
    );
}

/// A Sync answer with one item that holds these elements.
fn item_of(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::message();
    for token in [0x05, 0x1C, 0x0F] {
        writer.start(Tag::new(0, token));
    }
    writer.element(Tag::new(0, 0x12), "5").unwrap();
    writer.start(Tag::new(0, 0x16));
    writer.start(Tag::new(0, 0x08));
    writer.element(Tag::new(0, 0x0D), "5:1").unwrap();
    writer.start(APPLICATION_DATA);
    write(&mut writer);
    for _ in 0..6 {
        writer.end().unwrap();
    }
    writer.finish().unwrap()
}

fn body_of(writer: &mut Writer, kind: &str, text: &str) {
    writer.start(BODY);
    writer.element(BODY_TYPE, kind).unwrap();
    writer.element(DATA, text).unwrap();
    writer.end().unwrap();
}

fn rule(toml: &str) -> Rule {
    toml::from_str(&format!("id = 'r'\n{toml}\n")).unwrap()
}

/// A rule looks where a device has not: a change without the subject, a body without the headers.
#[test]
fn what_a_rule_must_see_is_asked_for() {
    let read = Tag::new(2, 0x15);
    let mail = |kind: &'static str, subject: bool, has_body: bool| {
        item_of(move |writer| {
            writer.element(read, "1").unwrap();
            if subject {
                writer.element(EMAIL_SUBJECT, "lunch").unwrap();
            }
            if has_body {
                body_of(writer, kind, "X-Class: low\r\n\r\nwords");
            }
        })
    };
    let subject = rule("classified = { subject = ['secret'], text = 'GONE' }");
    let header = rule("classified = { headers = { X-Class = 'secret' }, text = 'GONE' }");
    let asked = |rule: &Rule, given: &[u8]| whole::unseen(&[rule], given, false).unwrap().len();
    for (rule, given, count) in [
        (&subject, mail("1", true, true), 0),
        (&subject, mail("1", false, true), 1),
        (&subject, mail("1", false, false), 0),
        (&header, mail("1", true, true), 1),
        (&header, mail("2", false, true), 1),
        (&header, mail("4", true, true), 0),
        (&header, mail("1", true, false), 0),
    ] {
        assert_eq!(asked(rule, &given), count, "{rule:?}");
        for (whole, withheld) in [
            (Whole::Unmarked, 0),
            (Whole::Marked("r".to_owned()), count),
            (Whole::Unseen, count),
        ] {
            let found = answered(&[rule], &given, false, &|_| None, &|_| whole.clone()).unwrap();
            assert_eq!(found.done.withheld, withheld);
            let left = found.body.unwrap_or_default();
            assert!(withheld == 0 || memchr::memmem::find(&left, b"words").is_none());
        }
    }
    // A contact has no subject, and an appointment no headers.
    let contact = item_of(|writer| {
        writer.element(Tag::new(1, 0x1E), "Bob").unwrap();
        body_of(writer, "1", "words");
    });
    let event = item_of(|writer| {
        writer.element(Tag::new(4, 0x26), "lunch").unwrap();
        body_of(writer, "1", "words");
    });
    assert_eq!((asked(&subject, &contact), asked(&header, &event)), (0, 0));

    // What is asked for: headers stand in mail as MIME alone.
    let told = |rule: &Rule| {
        let asked = whole::asks(&[rule], &[by_server("5:1")]);
        let outline = Outline::read(&asked, Limits::TRAFFIC).unwrap();
        let texts = outline.inside(0).map(|(at, _)| outline.text(at).to_owned());
        texts.filter(|text| !text.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(told(&subject), ["Mailbox", "5", "5:1", "1", "65536"]);
    assert_eq!(told(&header), ["Mailbox", "5", "5:1", "2", "4", "65536"]);
    let both = rule("classified = { headers = { X-Class = 'secret' }, body = ['zz'] }");
    assert_eq!(told(&both), ["Mailbox", "5", "5:1", "2", "4"]);

    // And what is made of it.
    let answer = |kind: &str, truncated: &str, text: &str| {
        let mut writer = Writer::message();
        writer.start(Tag::new(20, 0x05));
        writer.start(Tag::new(20, 0x0E));
        writer.start(FETCH);
        writer.element(FETCH_STATUS, "1").unwrap();
        writer.element(Tag::new(0, 0x12), "5").unwrap();
        writer.element(Tag::new(0, 0x0D), "5:1").unwrap();
        writer.start(FETCH_PROPERTIES);
        writer.start(BODY);
        writer.element(BODY_TYPE, kind).unwrap();
        writer.element(TRUNCATED, truncated).unwrap();
        writer.element(DATA, text).unwrap();
        for _ in 0..5 {
            writer.end().unwrap();
        }
        writer.finish().unwrap()
    };
    let secret = "X-Class: secret\r\n\r\nx";
    for (rule, kind, truncated, text, seen) in [
        (&header, "4", "0", "X-Class: low\r\n\r\nx", Whole::Unmarked),
        (&header, "4", "1", "X-Class: low\r\n\r\nx", Whole::Unmarked),
        (&header, "4", "1", "Subject: s\r\n", Whole::Unseen),
        (&header, "1", "0", "words", Whole::Unseen),
        (&header, "4", "0", secret, Whole::Marked("r".to_owned())),
        (&both, "4", "1", "X-Class: low\r\n\r\nx", Whole::Unseen),
        (&subject, "1", "1", "words", Whole::Unmarked),
    ] {
        let read = whole::read(&[rule], &answer(kind, truncated, text)).unwrap();
        assert_eq!(
            read,
            [(by_server("5:1"), seen)],
            "{kind} {truncated} {text}"
        );
    }
}

/// Who else gets a mail, and who has sent it, stands in more places than one.
#[test]
fn attachments_are_judged_by_all_who_send_and_get_them() {
    let list = |tag: Tag, who: &'static str| {
        item_of(move |writer| {
            writer.element(tag, who).unwrap();
            writer.start(ATTACHMENTS);
            writer.start(ATTACHMENT);
            writer.element(DISPLAY_NAME, "a.txt").unwrap();
            writer.element(FILE_REFERENCE, "ref").unwrap();
            writer.end().unwrap();
            writer.end().unwrap();
        })
    };
    let removed = |toml: &str, given: &[u8]| {
        let rule = rule(toml);
        let found = answered(&[&rule], given, false, &|_| None, &|_| Whole::Unseen);
        found.unwrap().done.removed
    };
    let to = "attachments = { action = 'remove', recipient_domains = ['partner.example'] }";
    let from = "attachments = { action = 'remove', sender_domains = ['partner.example'] }";
    for tag in RECIPIENTS {
        assert_eq!(
            removed(to, &list(tag, "Al <a@partner.example>")),
            1,
            "{tag:?}"
        );
        assert_eq!(removed(from, &list(tag, "Al <a@partner.example>")), 0);
    }
    for tag in SENDERS {
        assert_eq!(
            removed(from, &list(tag, "Al <a@partner.example>")),
            1,
            "{tag:?}"
        );
        let name = "\"a@partner.example\" <b@evil.example>";
        assert_eq!(removed(from, &list(tag, name)), 0);
    }
}

/// What an appointment's exceptions hold is the appointment's.
#[test]
fn exceptions_of_appointments_are_looked_at() {
    let event = |subject: &'static str, text: &'static str, name: Option<&'static str>| {
        item_of(move |writer| {
            writer.element(Tag::new(4, 0x26), "weekly").unwrap();
            writer.start(Tag::new(4, 0x14));
            writer.start(Tag::new(4, 0x13));
            writer.element(Tag::new(4, 0x26), subject).unwrap();
            body_of(writer, "1", text);
            if let Some(name) = name {
                writer.start(ATTACHMENTS);
                writer.start(ATTACHMENT);
                writer.element(DISPLAY_NAME, name).unwrap();
                writer.element(FILE_REFERENCE, "ref").unwrap();
                writer.end().unwrap();
                writer.end().unwrap();
            }
            writer.end().unwrap();
            writer.end().unwrap();
        })
    };
    let look = |toml: &str, given: &[u8]| {
        let rule = rule(toml);
        answered(&[&rule], given, false, &|_| None, &|_| Whole::Unseen).unwrap()
    };
    let exe = "attachments = { action = 'remove', extensions = ['exe'], text = 'NO {name}' }";
    let found = look(exe, &event("s", "words", Some("v.exe")));
    assert_eq!(found.body, Some(event("s", "words\r\n\r\nNO v.exe", None)));
    let links = "links = { template = 'awbs://{url}' }";
    let found = look(links, &event("s", "http://a.example/ ", None));
    assert_eq!(
        found.body,
        Some(event("s", "awbs://http://a.example/ ", None))
    );
    let marks = "classified = { subject = ['secret'], text = 'GONE' }";
    let found = look(marks, &event("top secret", "words", Some("a.txt")));
    assert_eq!(found.body, Some(event("top secret", "GONE", None)));
    assert_eq!(found.withheld, [("ref".to_owned(), "r".to_owned())]);
}

/// A mail that is fetched as an attachment is a mail: what must not be seen in it is not fetched in it.
#[test]
fn a_mail_that_is_fetched_is_looked_into() {
    let mail = |name: &str, text: &str| {
        format!(
            "Subject: fwd\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
             Content-Type: text/plain\r\n\r\n{text}\r\n--b\r\nContent-Type: application/octet-stream; name={name}\r\n\r\n\
             MZ\r\n--b--\r\n"
        )
    };
    let exe = rule("attachments = { action = 'remove', extensions = ['exe'] }");
    let marks = rule("classified = { body = ['tlp:red'] }");
    for (content, by_exe, by_marks) in [
        (mail("v.exe", "x"), true, false),
        (mail("a.txt", "TLP:RED"), false, true),
        (mail("a.txt", "x"), false, false),
        (
            format!(
                "Subject: s\r\nContent-Type: message/rfc822\r\n\r\n{}",
                mail("v.exe", "x")
            ),
            true,
            false,
        ),
        ("Subject: a text, and no mail".to_owned(), false, false),
        ("Error: --b\r\nnone".to_owned(), false, false),
    ] {
        for (rule, wanted) in [(&exe, by_exe), (&marks, by_marks)] {
            let refused = attachment(&[rule], Some("text/plain"), content.as_bytes());
            assert_eq!(refused.is_some(), wanted, "{content}");
            let given = fetched(&[("a", Err(&STANDARD.encode(&content)))]);
            let found = answered(&[rule], &given, false, &|_| None, &|_| Whole::Unseen).unwrap();
            assert_eq!(found.done.blocked, usize::from(wanted), "{content}");
            let message = fetched(&[("a", Ok("1"))]);
            let parts =
                Multipart::written(&[message, content.clone().into_bytes()].map(Cow::Owned));
            let found = answered(&[rule], &parts, true, &|_| None, &|_| Whole::Unseen).unwrap();
            assert_eq!(found.done.blocked, usize::from(wanted), "{content}");
        }
    }
    // One that says that it is a mail, and can't be read.
    let deep = "Content-Type: message/rfc822\n\n".repeat(100);
    assert!(attachment(&[&exe], Some("message/rfc822"), deep.as_bytes()).is_some());
    assert!(attachment(&[&exe], Some("text/plain"), deep.as_bytes()).is_none());
}

/// Which one of the attachments that were listed it is, a Fetch must say.
#[test]
fn what_is_fetched_has_a_name() {
    let mut writer = Writer::message();
    for token in [0x05, 0x0E, 0x06] {
        writer.start(Tag::new(20, token));
    }
    writer.element(FETCH_STATUS, "1").unwrap();
    writer.start(FETCH_PROPERTIES);
    writer.element(FETCH_DATA, "d29yZHM=").unwrap();
    for _ in 0..4 {
        writer.end().unwrap();
    }
    let given = writer.finish().unwrap();
    for (toml, blocked) in [
        (
            "attachments = { action = 'remove', extensions = ['exe'] }",
            1,
        ),
        (
            "too_large = 'pass'\nattachments = { action = 'remove', extensions = ['exe'] }",
            0,
        ),
        (
            "attachments = { action = 'allow', extensions = ['exe'] }",
            0,
        ),
        ("links = { template = 'awbs://{url}' }", 0),
    ] {
        let rule = rule(toml);
        let found = answered(&[&rule], &given, false, &|_| None, &|_| Whole::Unseen).unwrap();
        assert_eq!(found.done.blocked, blocked, "{toml}");
    }
}

/// What an item says of its own length is as true as before, and half a link is shown nowhere.
#[test]
fn sizes_and_previews_stay_true() {
    let mail = |size: &'static str, text: &'static str, preview: &'static str| {
        item_of(move |writer| {
            writer.element(EMAIL_SUBJECT, "lunch").unwrap();
            for tag in [BODY, BODY_PART] {
                writer.start(tag);
                writer.element(BODY_TYPE, "1").unwrap();
                writer.element(ESTIMATED_SIZE, size).unwrap();
                writer.element(TRUNCATED, "1").unwrap();
                writer.element(DATA, text).unwrap();
                writer.element(PREVIEW, preview).unwrap();
                writer.end().unwrap();
            }
        })
    };
    let links = rule("links = { template = 'awbs://{url}' }");
    let look = |given: &[u8]| {
        answered(&[&links], given, false, &|_| None, &|_| Whole::Unseen)
            .unwrap()
            .body
    };
    let given = mail(
        "5000",
        "see http://a.example/b or http://a.exa",
        "see http://a.ex",
    );
    // Seven letters more for the one link, twelve fewer for the half of one.
    let left = mail("4995", "see awbs://http://a.example/b or ", "see ");
    assert_eq!(look(&given), Some(left));
    let whole = mail("5000", "no link", "no link");
    assert_eq!(look(&whole), None);
}
