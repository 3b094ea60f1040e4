use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

struct Taker {
    met: Vec<String>,
    takes: &'static str,
    becomes: Option<&'static str>,
}

impl Visit for Taker {
    fn attachment(&mut self, met: &Met<'_>) -> Option<String> {
        let name = met.names.first().copied().unwrap_or_default();
        self.met.push(format!(
            "{name} {} {:?}",
            met.size.unwrap_or(0),
            met.declared
        ));
        met.names.contains(&self.takes).then(|| "gone".to_owned())
    }

    fn text(&mut self, _: bool, text: &str) -> Option<String> {
        self.met.push(text.to_owned());
        self.becomes.map(str::to_owned)
    }
}

fn taker(takes: &'static str) -> Taker {
    Taker {
        met: Vec::new(),
        takes,
        becomes: None,
    }
}

fn edited(raw: &[u8], visit: &mut Taker) -> Result<Option<Vec<u8>>, Unreadable> {
    Mail::read(&Shape::of(raw)?)?.edited(visit)
}

fn is_sealed(raw: &[u8]) -> bool {
    Mail::read(&Shape::of(raw).unwrap()).unwrap().is_sealed()
}

const MIXED: &str = "From: Bob <bob@x.example>\r\nTo: alice@corp.example\r\nSubject: =?utf-8?Q?a=C3=A4?=\r\n\
    MIME-Version: 1.0\r\nX-Class: secret\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\
    Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
    caf=E9 https://a.example/=\r\nx\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\
    Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nJVBERi0=\r\n--b\r\n\
    Content-Type: message/rfc822\r\n\r\nFrom: c@y.example\r\nSubject: in\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n\
    --i\r\nContent-Type: application/x-msdownload; name=\"v.exe\"\r\n\r\nMZ\r\n--i--\r\n--b--\r\nepilogue";

#[test]
fn parts_are_met_with_what_they_are() {
    let shape = Shape::of(MIXED.as_bytes()).unwrap();
    let mail = Mail::read(&shape).unwrap();
    assert!(!mail.is_sealed());
    let mut visit = taker("nothing");
    assert_eq!(mail.edited(&mut visit), Ok(None), "nothing is changed");
    assert!(
        visit.met[0].contains("https://a.example/x"),
        "{:?}",
        visit.met
    );
    assert!(
        visit
            .met
            .contains(&"a.pdf 5 Some(\"application/pdf\")".to_owned()),
        "{:?}",
        visit.met
    );
    assert!(
        visit.met.iter().any(|met| met.starts_with("v.exe 2")),
        "{:?}",
        visit.met
    );
}

#[test]
fn a_part_goes_and_the_rest_stays() {
    for (name, gone) in [("a.pdf", "JVBERi0="), ("v.exe", "MZ")] {
        let new = edited(MIXED.as_bytes(), &mut taker(name)).unwrap().unwrap();
        let new = String::from_utf8(new).unwrap();
        assert!(!new.contains(gone), "{new}");
        assert!(new.contains(&STANDARD.encode("gone")), "{new}");
        assert!(
            new.starts_with("From: Bob") && new.ends_with("--b--\r\nepilogue"),
            "{new}"
        );
        let mut visit = taker("nothing");
        assert_eq!(edited(new.as_bytes(), &mut visit), Ok(None));
        assert!(
            !visit.met.iter().any(|met| met.starts_with(name)),
            "{:?}",
            visit.met
        );
        assert_eq!(
            visit.met.iter().filter(|met| *met == "gone").count(),
            1,
            "{:?}",
            visit.met
        );
    }
}

#[test]
fn a_text_changes_in_its_own_encoding() {
    let mut visit = Taker {
        becomes: Some("caf\u{e9} =\r\nend "),
        ..taker("nothing")
    };
    let utf8 = MIXED
        .replace("iso-8859-1", "utf-8")
        .replace("caf=E9", "cafe");
    let new = edited(utf8.as_bytes(), &mut visit).unwrap().unwrap();
    let text = String::from_utf8_lossy(&new);
    assert!(text.contains("caf=C3=A9 =3D\r\nend=20\r\n--b"), "{text}");
}

#[test]
fn a_mail_that_is_an_attachment_keeps_its_headers() {
    let raw = b"From: a@x\r\nContent-Type: application/zip;\r\n name=z.zip\r\nSubject: s\r\n\r\nPK";
    let shape = Shape::of(raw).unwrap();
    let mail = Mail::read(&shape).unwrap();
    let new = mail.edited(&mut taker("z.zip")).unwrap().unwrap();
    let new = String::from_utf8(new).unwrap();
    assert!(
        new.starts_with("From: a@x\r\nSubject: s\r\nContent-Type: text/plain"),
        "{new}"
    );
    assert!(!new.contains("zip"), "{new}");
    let replaced = String::from_utf8(mail.replaced("x")).unwrap();
    assert!(replaced.starts_with("From: a@x\r\nSubject: s\r\nContent-Type: text/plain"));
}

#[test]
fn a_mail_is_sealed_by_its_root_alone() {
    let signed = b"Content-Type: Multipart/Signed; boundary=s\r\n\r\n--s\r\n\r\nx\r\n--s--\r\n";
    assert!(is_sealed(signed));
    assert!(is_sealed(b"Content-Type: application/pkcs7-mime\r\n\r\nx"));
    let dummy = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/pkcs7-mime\r\n\r\nx\r\n\
        --b\r\nContent-Type: application/zip; name=z.zip\r\n\r\nPK\r\n--b--\r\n";
    assert!(!is_sealed(dummy));
    let new = edited(dummy, &mut taker("z.zip")).unwrap().unwrap();
    assert!(!new.windows(2).any(|bytes| bytes == b"PK"));
}

/// Mail in mail, `level` deep, each by another header; in the innermost an attachment.
fn nested(headers: &[&str]) -> Vec<u8> {
    let mut mail = b"Content-Type: application/zip; name=z.zip\n\nPK".to_vec();
    for (level, header) in headers.iter().enumerate().rev() {
        let coded = match header.split_once("Encoding: ") {
            Some((_, "base64")) => base64_lines(&mail),
            Some((_, "quoted-printable")) => Transfer::QuotedPrintable.encoded(&mail),
            _ => mail,
        };
        mail = if header.contains("digest") {
            let mut digest =
                format!("{header}; boundary=b{level}z\n\n--b{level}z\n\n").into_bytes();
            digest.extend_from_slice(&coded);
            digest.extend_from_slice(format!("\n--b{level}z--\n").as_bytes());
            digest
        } else {
            [header.as_bytes(), b"\n\n", &coded].concat()
        };
    }
    mail
}

const NESTING: [&str; 7] = [
    "Content-Type: message/rfc822",
    "CONTENT-TYPE: MESSAGE (a)\n / (b) \"RFC822\" ; x=y",
    "Subject: x\nc o n t e n t-type: message/global",
    "Content-Type: multipart/digest",
    "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64",
    "Content-Type: message/rfc822\nContent-Transfer-Encoding: quoted-printable",
    "Content-Type: message\n \n /\\rfc822(",
];

#[test]
fn mail_in_mail_is_looked_into_however_it_is_named() {
    for header in NESTING {
        for depth in [1, 3, shape::DEPTH] {
            let raw = nested(&vec![header; depth]);
            let new = edited(&raw, &mut taker("z.zip"));
            assert!(matches!(new, Ok(Some(_))), "{header} {depth}: {new:?}");
        }
        let raw = nested(&vec![
            header;
            if header.contains("Encoding") { 8 } else { 40 }
        ]);
        let new = edited(&raw, &mut taker("z.zip"));
        let expected = if header.contains("Encoding") {
            Ok(())
        } else {
            Err(Unreadable::Depth)
        };
        assert_eq!(new.map(|_| ()), expected, "{header}");
    }
}

/// A stack of 256 KiB, where a thread of a runtime has 2 MiB.
#[test]
fn a_hundred_thousand_mails_in_each_other_fill_no_stack() {
    let level = "Content-Type:message/rfc822\n\n";
    let plain = level.repeat(100_000);
    let coded = [
        "Content-Type:message/rfc822\nContent-Transfer-Encoding:=?utf-8?Q?base64?=\n\n".as_bytes(),
        &base64_lines(plain.as_bytes()),
    ]
    .concat();
    let boundaries: String = (0..100_000)
        .map(|level| format!("Content-Type:multipart/x;boundary=b{level}z\n\n--b{level}z\n"))
        .collect();
    let looked = std::thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(move || {
            [plain.as_bytes(), &coded, boundaries.as_bytes()]
                .map(|raw| edited(raw, &mut taker("z.zip")))
        });
    let looked = looked.unwrap().join().unwrap();
    assert_eq!(
        looked,
        [
            Err(Unreadable::Depth),
            Err(Unreadable::Depth),
            Err(Unreadable::Parts)
        ]
    );
}

#[test]
fn parts_and_headers_are_bounded() {
    let parts = format!(
        "Content-Type: multipart/x; boundary=b\n\n{}",
        "--b\n\n".repeat(100_000)
    );
    assert_eq!(Shape::of(parts.as_bytes()).unwrap_err(), Unreadable::Parts);
    let multiparts = "--b\nContent-Type: multipart/x; Boundary=n\n\n".repeat(1_000);
    let multiparts = format!("Content-Type: multipart/x; boundary=b\n\n{multiparts}");
    assert_eq!(
        Shape::of(multiparts.as_bytes()).unwrap_err(),
        Unreadable::Parts
    );
    // The parser compares each parameter that is continued with all others.
    let continued: String = (0..20_000).map(|name| format!(" a{name}*1=b;")).collect();
    for headers in [
        format!("Content-Disposition: attachment;{continued}"),
        "a:\n".repeat(100_000),
        format!("To: {}", "a,".repeat(4 << 20)),
    ] {
        assert_eq!(
            Shape::of(headers.as_bytes()).unwrap_err(),
            Unreadable::Headers
        );
        let behind = format!("Content-Type: multipart/x; boundary=b\n\n--b{headers}");
        assert_eq!(
            Shape::of(behind.as_bytes()).unwrap_err(),
            Unreadable::Headers
        );
        let text = format!("Subject: s\n\n{headers}");
        assert!(Shape::of(text.as_bytes()).is_ok(), "a text is no headers");
    }
}

proptest! {
    #[test]
    fn any_bytes_return(cut in 0..MIXED.len(), junk in proptest::collection::vec(any::<u8>(), 0..40)) {
        let raw = [&MIXED.as_bytes()[..cut], &junk].concat();
        let mut visit = Taker { becomes: Some("x"), ..taker("a.pdf") };
        let _ = edited(&raw, &mut visit);
    }

    #[test]
    fn mail_in_mail_is_found_to_its_depth(
        headers in proptest::collection::vec(proptest::sample::select(&NESTING[..]), 0..40)
    ) {
        let coded = headers.iter().filter(|header| header.contains("Encoding")).count();
        prop_assume!(coded < 6);
        let new = edited(&nested(&headers), &mut taker("z.zip"));
        if headers.len() > shape::DEPTH {
            prop_assert_eq!(new, Err(Unreadable::Depth));
        } else {
            prop_assert!(matches!(new, Ok(Some(_))), "{:?}", new);
        }
    }

    #[test]
    fn the_parser_is_shown_no_mail_in_mail(
        pieces in proptest::collection::vec(proptest::sample::select(&[
            "Content-Type:", "message", "multipart", "/", "rfc822", "global", "digest", ";", "(", ")", "\"", "\\",
            "\n", "\r\n", " ", "\t", "boundary=b", "--b", "--b--", ":", "x", "MESSAGE/RFC822\n\n", "=", "*",
            "Content-Type: message/rfc822\n\n", "Content-Transfer-Encoding: base64\n",
        ][..]), 0..60)
    ) {
        let raw = pieces.concat();
        let shape = Shape::of(raw.as_bytes()).unwrap();
        if let Ok(mail) = Mail::read(&shape) {
            let mut parts = mail.message.parts.iter();
            prop_assert!(!parts.any(|part| matches!(part.body, PartType::Message(_))));
        }
    }
}

fn marked(raw: &str, toml: &str) -> Result<bool, Unreadable> {
    let classified = toml::from_str(toml).unwrap();
    let shape = Shape::of(raw.as_bytes())?;
    Mail::read(&shape)?.is_marked(&classified)
}

/// Two readers who find the parts of a mail in two places: what one of them hides from the gateway, the
/// other one shows.
#[test]
fn a_mail_with_two_structures_is_not_read() {
    let exe = "Content-Type: application/octet-stream; name=v.exe\r\n\r\nMZPAYLOAD\r\n";
    let text = "Content-Type: text/plain\r\n\r\nHello\r\n";
    let mixed = "Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
    for (what, raw) in [
        (
            "a closing boundary in a line with more",
            format!("{mixed}--b\r\n{text}--b--x\r\n--b\r\n{exe}--b--\r\n"),
        ),
        (
            "parts behind the end",
            format!("{mixed}--b\r\n{text}--b--\r\n--b\r\n{exe}--b--\r\n"),
        ),
        (
            "inner parts that end behind the outer ones",
            format!(
                "{mixed}--b\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n--i\r\n{text}\
                 --b\r\n{exe}--b--\r\n--i--\r\n"
            ),
        ),
        (
            "two boundaries",
            format!(
                "Content-Type: multipart/mixed; boundary=x; boundary=b\r\n\r\n--x\r\n{text}\
                 --b\r\n{exe}--b--\r\n--x--\r\n"
            ),
        ),
        (
            "a boundary, and the continuation of one",
            format!(
                "Content-Type: multipart/mixed; boundary=b; boundary*1=x\r\n\r\n--b\r\n{exe}--b--\r\n"
            ),
        ),
        (
            "no boundary that is there",
            format!(
                "Content-Type: multipart/mixed; (boundary=b) boundary=x\r\n\r\n--b\r\n{exe}--b--\r\n"
            ),
        ),
        (
            "two types",
            format!(
                "Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{exe}--b--\r\n"
            ),
        ),
        (
            "two encodings",
            "Content-Type: text/html\r\nContent-Transfer-Encoding: 7bit\r\n\
             Content-Transfer-Encoding: base64\r\n\r\nPGE+"
                .to_owned(),
        ),
        (
            "two character sets",
            "Content-Type: text/html; charset=utf-8; charset=utf-7\r\n\r\n+ADw-a".to_owned(),
        ),
        (
            "a line end that is none",
            format!(
                "Subject: s\rContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{exe}--b--\r\n"
            ),
        ),
        (
            "one boundary for two",
            format!(
                "{mixed}--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{exe}--b--\r\n--b--\r\n"
            ),
        ),
    ] {
        let new = edited(raw.as_bytes(), &mut taker("v.exe"));
        let is_taken =
            matches!(&new, Ok(Some(new)) if !String::from_utf8_lossy(new).contains("MZ"));
        assert!(
            is_taken || matches!(new, Err(Unreadable::Ambiguous(_))),
            "{what}: {:?}",
            new.map(|new| new.map(|new| String::from_utf8_lossy(&new).into_owned()))
        );
    }
    // What no mail program takes for a boundary is none.
    for middle in ["Hello --b-- and more", "--bxx", "- --b--", "a\r\n --b--"] {
        let raw = format!(
            "{mixed}--b\r\nContent-Type: text/plain\r\n\r\n{middle}\r\n--b \t\r\n{exe}--b--\r\n"
        );
        let new = edited(raw.as_bytes(), &mut taker("v.exe"));
        if middle == "--bxx" {
            assert!(matches!(new, Err(Unreadable::Ambiguous(_))), "{middle}");
            continue;
        }
        let new = String::from_utf8(new.unwrap().unwrap()).unwrap();
        assert!(!new.contains("MZ") && new.contains(middle), "{new}");
    }
}

/// Mail that is written as it is every day is read.
#[test]
fn a_mail_with_one_structure_is_read() {
    let mail = "Content-Type: multipart/mixed;\r\n\tboundary=\"----=_NextPart_000_0001\"\r\n\r\n\
        This is a multi-part message in MIME format.\r\n\r\n------=_NextPart_000_0001\r\n\
        Content-Type: multipart/alternative; boundary=\"----=_NextPart_001_0002\"\r\n\r\n\
        ------=_NextPart_001_0002\r\nContent-Type: text/plain\r\n\r\n-- \r\nBob\r\n---\r\n\
        ------=_NextPart_001_0002--\r\n\r\n------=_NextPart_000_0001\r\n\
        Content-Type: application/zip; name=z.zip\r\n\r\nPK\r\n------=_NextPart_000_0001--\r\n\r\n";
    for end in [
        mail.len(),
        mail.len() - 2,
        mail.len() - 4,
        mail.len() - 6,
        mail.len() - 9,
    ] {
        let new = edited(&mail.as_bytes()[..end], &mut taker("z.zip"));
        assert!(matches!(new, Ok(Some(_))), "{end}: {new:?}");
    }
}

#[test]
fn every_name_of_an_attachment_is_seen() {
    for header in [
        "Content-Type: text/plain; name=v.exe\r\nContent-Disposition: attachment; filename=a.txt",
        "Content-Type: text/plain; name=a.txt\r\nContent-Disposition: attachment; filename=v.exe",
        "Content-Disposition: attachment; filename=a.txt; filename=v.exe",
        "Content-Disposition: attachment; filename=a.txt\r\nContent-Disposition: attachment; filename=v.exe",
        "Content-Disposition: attachment; filename*=utf-8''v%2Eexe",
        "Content-Disposition: attachment; filename*0=\"v.\"; filename*1=\"exe\"",
        "Content-Disposition: attachment; filename*0*=utf-8''v%2E; filename*1*=exe",
        "Content-Disposition: attachment; filename=\"=?utf-8?B?di5leGU=?=\"",
        "Content-Disposition: attachment; filename==?utf-8?Q?v=2Eexe?=",
        "Content-Type: application/octet-stream;\r\n name=\"v.exe\"",
        "CONTENT-DISPOSITION: ATTACHMENT; FILENAME=v.exe",
    ] {
        let raw = format!("Subject: s\r\n{header}\r\n\r\nMZ");
        let new = edited(raw.as_bytes(), &mut taker("v.exe"));
        assert!(matches!(new, Ok(Some(_))), "{header}: {new:?}");
    }
}

/// A text may be written in many ways; whoever shows it reads them all.
#[test]
fn a_text_is_looked_at_however_it_is_written() {
    let html = "<a href=\"&#104;ttps://evil.example\">caf\u{e9}</a>";
    let latin: Vec<u8> = html.chars().map(|letter| letter as u8).collect();
    let wide: Vec<u8> = html.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let seven = html.replace('<', "+ADw-").replace('\u{e9}', "+AOk-");
    for (head, body) in [
        ("; charset=iso-8859-1", latin.clone()),
        ("; charset=utf-8", latin.clone()),
        ("; charset=x-nobody-knows", latin.clone()),
        ("", latin),
        (
            "; charset=utf-16le\r\nContent-Transfer-Encoding: base64",
            base64_lines(&wide),
        ),
        ("; charset=utf-7", seven.into_bytes()),
        (
            "\r\nContent-Transfer-Encoding: base64",
            format!("--!{}", STANDARD.encode(html)).into_bytes(),
        ),
        (
            "\r\nContent-Transfer-Encoding: =?utf-8?Q?base64?= (x)",
            STANDARD.encode(html).into_bytes(),
        ),
        ("; name=a.html\r\nContent-Disposition: inline", html.into()),
        (
            "\r\nContent-Disposition: attachment; filename=a.html",
            html.into(),
        ),
    ] {
        let raw = [
            format!("Subject: s\r\nContent-Type: text/html{head}\r\n\r\n").as_bytes(),
            &body,
        ]
        .concat();
        let mut visit = Taker {
            becomes: Some("<p>safe \u{e9}</p>"),
            ..taker("nothing")
        };
        let new = edited(&raw, &mut visit).unwrap().unwrap();
        assert!(
            visit.met.iter().any(|met| met == html),
            "{head}: {:?}",
            visit.met
        );
        let mut again = taker("nothing");
        assert_eq!(edited(&new, &mut again), Ok(None));
        assert!(
            again.met.iter().any(|met| met == "<p>safe \u{e9}</p>"),
            "{head}: {}",
            String::from_utf8_lossy(&new)
        );
    }
    // Without a closing boundary, a page is a page all the same.
    let cut = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n{html}"
    );
    struct Html(Vec<bool>);
    impl Visit for Html {
        fn attachment(&mut self, _: &Met<'_>) -> Option<String> {
            None
        }
        fn text(&mut self, html: bool, _: &str) -> Option<String> {
            self.0.push(html);
            None
        }
    }
    let mut visit = Html(Vec::new());
    let shape = Shape::of(cut.as_bytes()).unwrap();
    Mail::read(&shape).unwrap().edited(&mut visit).unwrap();
    assert_eq!(visit.0, [true]);
}

#[test]
fn markings_are_found_wherever_a_reader_may_find_them() {
    let subject = "subject = ['[secret]']\n";
    let header = "subject = []\nheaders = { X-Class = 'top secret' }\n";
    let body = "body = ['tlp:red']\n";
    for (toml, raw) in [
        (subject, "Subject: a\r\nSubject: [SECRET] b\r\n\r\nx"),
        (subject, "Subject: =?utf-8?B?W1NFQ1JFVF0=?=\r\n\r\nx"),
        (subject, "Subject: [sec\u{200b}ret]\r\n\r\nx"),
        (header, "X-Class: none\r\nX-Class: Top Secret\r\n\r\nx"),
        (header, "X-Class: =?utf-8?Q?top_secret?=\r\n\r\nx"),
        (header, "x-class: top\r\n secret\r\n\r\nx"),
        (
            header,
            "Subject: fwd\r\nContent-Type: message/rfc822\r\n\r\nX-Class: top secret\r\n\r\nx",
        ),
        (
            body,
            "Content-Type: text/plain; charset=utf-16be\r\n\r\n\0T\0L\0P\0:\0R\0E\0D",
        ),
        (body, "Content-Type: text/html\r\n\r\n<b>T</b>LP:R&shy;ED"),
        (
            body,
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogcwoKdGxwOnJlZA==",
        ),
        (
            body,
            "Content-Type: text/plain\r\nContent-Disposition: attachment; filename=a.txt\r\n\r\ntlp:red",
        ),
    ] {
        assert_eq!(marked(raw, toml), Ok(true), "{raw}");
        let toml = toml
            .replace("[secret]", "[public]")
            .replace("top secret", "low");
        assert_eq!(
            marked(raw, &toml.replace("red", "green")),
            Ok(false),
            "{raw}"
        );
    }
}

/// `winmail.dat` is named as what it is, whatever its sender calls it.
#[test]
fn tnef_is_an_attachment_by_its_name_and_its_content() {
    let rule: crate::content::Attachments =
        toml::from_str("action = 'remove'\ntypes = ['application/ms-tnef']\n").unwrap();
    struct By<'r>(&'r crate::content::Attachments, usize);
    impl Visit for By<'_> {
        fn attachment(&mut self, met: &Met<'_>) -> Option<String> {
            self.1 += usize::from(self.0.covers(met));
            None
        }
        fn text(&mut self, _: bool, _: &str) -> Option<String> {
            None
        }
    }
    let content = STANDARD.encode([0x78, 0x9F, 0x3E, 0x22, 1, 2, 3]);
    for kind in [
        "application/ms-tnef; name=winmail.dat",
        "application/vnd.ms-tnef",
        "application/octet-stream; name=a.txt",
        "text/plain; name=a.txt",
    ] {
        let raw = format!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: {kind}\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{content}\r\n--b--\r\n"
        );
        let shape = Shape::of(raw.as_bytes()).unwrap();
        let mut by = By(&rule, 0);
        Mail::read(&shape).unwrap().edited(&mut by).unwrap();
        assert_eq!(by.1, 1, "{kind}");
    }
}
