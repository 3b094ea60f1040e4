//! Mail as it stands in a body of type 4 and in what a device sends (RFC 2045 to 2049): parts are
//! taken out or changed, everything else stays byte for byte.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{Encoding, Message, MessageParser, MessagePart, MimeHeaders, PartType};

/// What is read of HTML: the words, without tags and references.
pub(super) use mail_parser::decoders::html::html_to_text as html_text;

use super::attachments::Met;
use super::shape::{self, Kind, Shape, Unreadable};

/// How much of an attachment is looked at to find its type, in bytes.
const BEGIN: usize = 512;
/// Characters on a line of base64 and of quoted-printable (RFC 2045 6.7, 6.8).
const LINE: usize = 76;

/// Who looks at the parts of a mail.
pub(super) trait Visit {
    /// An attachment: the text that stands in its place, if it goes.
    fn attachment(&mut self, met: &Met<'_>) -> Option<String>;

    /// A text that is shown, its transfer encoding undone: what it becomes, if it changes.
    fn text(&mut self, html: bool, text: &[u8]) -> Option<Vec<u8>>;
}

/// A mail that has been read.
pub(super) struct Mail<'a> {
    raw: &'a [u8],
    message: Message<'a>,
    from: String,
    to: String,
    /// How many mails this one is in.
    depth: usize,
}

impl<'a> Mail<'a> {
    /// Reads a mail, or its beginning.
    ///
    /// # Errors
    /// When it has no headers.
    pub(super) fn read(shape: &'a Shape<'a>) -> Result<Self, Unreadable> {
        let message = MessageParser::default()
            .parse(&*shape.shown)
            .ok_or(Unreadable::NoHeaders)?;
        let addresses = |lists: &[Option<&mail_parser::Address<'_>>]| {
            let all = lists.iter().flatten().flat_map(|list| list.iter());
            let found: Vec<_> = all.filter_map(|one| one.address()).collect();
            found.join(", ")
        };
        let from = addresses(&[message.from()]);
        let to = addresses(&[message.to(), message.cc(), message.bcc()]);
        Ok(Self {
            raw: shape.raw,
            message,
            from,
            to,
            depth: shape.depth,
        })
    }

    /// The subject, decoded.
    pub(super) fn subject(&self) -> &str {
        self.message.subject().unwrap_or_default()
    }

    /// The value of a header as it stands there.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let headers = &self.message.parts.first()?.headers;
        let header = headers
            .iter()
            .find(|header| header.name().eq_ignore_ascii_case(name))?;
        let (begin, end) = (header.offset_start as usize, header.offset_end as usize);
        let value = self.raw.get(begin..end)?;
        std::str::from_utf8(value).ok().map(str::trim)
    }

    /// The texts that are shown; of HTML as it is written, and as it is read.
    pub(super) fn texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let parts = self.message.parts.iter();
        parts
            .flat_map(|part| match &part.body {
                PartType::Text(text) => [Some(Cow::Borrowed(&**text)), None],
                PartType::Html(html) => [
                    Some(Cow::Borrowed(&**html)),
                    Some(Cow::Owned(html_text(html))),
                ],
                _ => [None, None],
            })
            .flatten()
    }

    /// Whether it is signed or encrypted as a whole: a change would break the one and can't reach the
    /// other. What only has such a part among others is looked into like any mail.
    pub(super) fn is_sealed(&self) -> bool {
        let root = self.message.parts.first();
        root.and_then(MimeHeaders::content_type)
            .is_some_and(|kind| {
                let subtype = kind.subtype().unwrap_or_default();
                let is_one_of = |names: &[&str]| {
                    let mut names = names.iter();
                    names.any(|name| name.eq_ignore_ascii_case(subtype))
                };
                match kind.ctype() {
                    "multipart" => is_one_of(&["signed", "encrypted"]),
                    "application" => is_one_of(&["pkcs7-mime", "x-pkcs7-mime"]),
                    _ => false,
                }
            })
    }

    /// The mail as `visit` wants it; `None`: as it is.
    ///
    /// # Errors
    /// When a mail in it can't be looked into.
    pub(super) fn edited(&self, visit: &mut dyn Visit) -> Result<Option<Vec<u8>>, Unreadable> {
        let mut edits = self.edits(visit)?;
        if edits.is_empty() {
            return Ok(None);
        }
        edits.sort_by_key(|(begin, ..)| *begin);
        let (mut out, mut copied) = (Vec::with_capacity(self.raw.len()), 0);
        for (begin, end, bytes) in edits {
            if begin < copied {
                continue;
            }
            out.extend_from_slice(self.raw.get(copied..begin).unwrap_or_default());
            out.extend_from_slice(&bytes);
            copied = end;
        }
        out.extend_from_slice(self.raw.get(copied..).unwrap_or_default());
        Ok(Some(out))
    }

    /// The same headers over a plain text.
    pub(super) fn replaced(&self, text: &str) -> Vec<u8> {
        let end = self
            .message
            .parts
            .first()
            .map_or(0, |part| part.offset_body);
        let headers = self.raw.get(..end as usize).unwrap_or_default();
        [kept_headers(headers), text_part(text)].concat()
    }

    fn edits(&self, visit: &mut dyn Visit) -> Result<Vec<Edit>, Unreadable> {
        let mut edits = Vec::new();
        let digested = self.digested();
        for (index, part) in self.message.parts.iter().enumerate() {
            let root = index == 0;
            let whole = (part.offset_header as usize, part.offset_end as usize);
            let body = (part.offset_body as usize, part.offset_end as usize);
            let (kind, declared) = declared(part);
            let declared = declared.as_deref();
            let raw = self.raw.get(body.0..body.1).unwrap_or_default();
            let is_mail = kind == Some(Kind::Mail)
                || part.content_type().is_none() && digested.contains(&index);
            match &part.body {
                PartType::Multipart(_) => {}
                _ if is_mail => {
                    let inner = decoded(part.encoding, raw);
                    let inner = inner.as_deref().unwrap_or(raw);
                    if let Some(text) =
                        visit.attachment(&self.met(part, declared, b"", raw.len() as u64))
                    {
                        edits.push((whole.0, whole.1, self.in_place(root, whole, body, &text)));
                    } else if let Some(new) = self.inner(inner, visit)? {
                        edits.push((body.0, body.1, encoded(part.encoding, &new)));
                    }
                }
                PartType::Text(_) | PartType::Html(_) if !is_attached(part) => {
                    let html = matches!(part.body, PartType::Html(_));
                    let Some(decoded) = decoded(part.encoding, raw) else {
                        continue;
                    };
                    if let Some(new) = visit.text(html, &decoded) {
                        edits.push((body.0, body.1, encoded(part.encoding, &new)));
                    }
                }
                // Nothing that the parser was shown is mail.
                PartType::Message(_) => return Err(Unreadable::Depth),
                PartType::Text(_)
                | PartType::Html(_)
                | PartType::Binary(_)
                | PartType::InlineBinary(_) => {
                    let contents = part.contents();
                    let met = self.met(part, declared, contents, contents.len() as u64);
                    if let Some(text) = visit.attachment(&met) {
                        edits.push((whole.0, whole.1, self.in_place(root, whole, body, &text)));
                    }
                }
            }
        }
        Ok(edits)
    }

    /// A mail that is in this one.
    fn inner(&self, raw: &[u8], visit: &mut dyn Visit) -> Result<Option<Vec<u8>>, Unreadable> {
        let shape = Shape::within(raw, self.depth + 1)?;
        match Mail::read(&shape) {
            Ok(mail) => mail.edited(visit),
            // Without headers it is shown as a text.
            Err(Unreadable::NoHeaders) => Ok(visit.text(false, raw)),
            Err(error) => Err(error),
        }
    }

    /// The parts that are mail where they don't say otherwise, as they are in a digest.
    fn digested(&self) -> HashSet<usize> {
        let parts = self.message.parts.iter();
        let digests = parts.filter(|part| declared(part).0 == Some(Kind::Digest));
        let inside = digests.filter_map(|part| match &part.body {
            PartType::Multipart(inside) => Some(inside),
            _ => None,
        });
        inside.flatten().map(|part| *part as usize).collect()
    }

    fn met<'m>(
        &'m self,
        part: &'m MessagePart<'_>,
        declared: Option<&'m str>,
        contents: &'m [u8],
        size: u64,
    ) -> Met<'m> {
        Met {
            name: part.attachment_name(),
            declared,
            begin: contents
                .get(..contents.len().min(BEGIN))
                .unwrap_or_default(),
            size: Some(size),
            from: Some(&self.from),
            to: Some(&self.to),
        }
    }

    /// A part that says what stood in its place. Of the mail itself the headers stay.
    fn in_place(&self, root: bool, whole: Place, body: Place, text: &str) -> Vec<u8> {
        let headers = self.raw.get(whole.0..body.0).unwrap_or_default();
        if root {
            [kept_headers(headers), text_part(text)].concat()
        } else {
            text_part(text)
        }
    }
}

type Place = (usize, usize);
type Edit = (usize, usize, Vec<u8>);

/// The type that a part declares, and what it is where the parser was not shown it.
fn declared(part: &MessagePart<'_>) -> (Option<Kind>, Option<String>) {
    let Some((class, subtype)) = part
        .content_type()
        .and_then(|kind| Some((kind.ctype(), kind.subtype()?)))
    else {
        return (None, None);
    };
    match shape::uncovered(class, subtype) {
        Some((kind, declared)) => (Some(kind), Some(declared)),
        None => (None, Some(format!("{class}/{subtype}"))),
    }
}

fn is_attached(part: &MessagePart<'_>) -> bool {
    part.attachment_name().is_some()
        || part
            .content_disposition()
            .is_some_and(|disposition| disposition.is_attachment())
}

fn decoded(encoding: Encoding, raw: &[u8]) -> Option<Cow<'_, [u8]>> {
    match encoding {
        Encoding::None => Some(Cow::Borrowed(raw)),
        Encoding::Base64 => base64_decode(raw).map(Cow::Owned),
        Encoding::QuotedPrintable => quoted_printable_decode(raw).map(Cow::Owned),
    }
}

fn encoded(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::None => bytes.to_vec(),
        Encoding::Base64 => base64_lines(bytes),
        Encoding::QuotedPrintable => quoted_printable(bytes),
    }
}

fn base64_lines(bytes: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(bytes);
    let mut out = Vec::with_capacity(text.len() + text.len() / LINE * 2 + 2);
    for line in text.as_bytes().chunks(LINE) {
        if !out.is_empty() {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(line);
    }
    out
}

/// RFC 2045 6.7. Line ends of the text stay line ends.
fn quoted_printable(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8);
    let mut column = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte == b'\n' || byte == b'\r' {
            out.push(byte);
            column = 0;
            continue;
        }
        let last = bytes
            .get(at + 1)
            .is_none_or(|next| matches!(next, b'\r' | b'\n'));
        let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || byte == b' ' && !last;
        let width = if plain { 1 } else { 3 };
        if column + width >= LINE {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        if plain {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("={byte:02X}").as_bytes());
        }
        column += width;
    }
    out
}

/// A part, or a mail, that is a plain text.
pub(super) fn text_part(text: &str) -> Vec<u8> {
    let head =
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n";
    [head.as_slice(), &base64_lines(text.as_bytes()), b"\r\n"].concat()
}

/// The header lines that say nothing about the content, without the empty line behind them.
fn kept_headers(headers: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(headers.len());
    let mut keeps = true;
    for line in headers.split_inclusive(|byte| *byte == b'\n') {
        if line.iter().all(u8::is_ascii_whitespace) {
            break;
        }
        let folded = line.first().is_some_and(u8::is_ascii_whitespace);
        if !folded {
            keeps = !line
                .get(..8)
                .is_some_and(|name| name.eq_ignore_ascii_case(b"content-"));
        }
        if keeps {
            kept.extend_from_slice(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Taker {
        met: Vec<String>,
        takes: &'static str,
        becomes: Option<&'static [u8]>,
    }

    impl Visit for Taker {
        fn attachment(&mut self, met: &Met<'_>) -> Option<String> {
            let name = met.name.unwrap_or_default();
            self.met.push(format!(
                "{name} {} {:?}",
                met.size.unwrap_or(0),
                met.declared
            ));
            (name == self.takes).then(|| "gone".to_owned())
        }

        fn text(&mut self, _: bool, text: &[u8]) -> Option<Vec<u8>> {
            self.met.push(String::from_utf8_lossy(text).into_owned());
            self.becomes.map(<[u8]>::to_vec)
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
        assert_eq!(
            (mail.subject(), mail.header("x-class")),
            ("aä", Some("secret"))
        );
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
            becomes: Some(b"caf\xE9 =\r\nend "),
            ..taker("nothing")
        };
        let new = edited(MIXED.as_bytes(), &mut visit).unwrap().unwrap();
        let text = String::from_utf8_lossy(&new);
        assert!(text.contains("caf=E9 =3D\r\nend=20\r\n--b"), "{text}");
    }

    #[test]
    fn a_mail_that_is_an_attachment_keeps_its_headers() {
        let raw =
            b"From: a@x\r\nContent-Type: application/zip;\r\n name=z.zip\r\nSubject: s\r\n\r\nPK";
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
                Some((_, "quoted-printable")) => quoted_printable(&mail),
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
            "Content-Type:message/rfc822\nContent-Transfer-Encoding:=?utf-8?Q?base64?=\n\n"
                .as_bytes(),
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
        for headers in [
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
            let mut visit = Taker { becomes: Some(b"x"), ..taker("a.pdf") };
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

        #[test]
        fn quoted_printable_comes_back(text in "[ -~\t\u{e4}]{0,200}") {
            let coded = quoted_printable(text.as_bytes());
            prop_assert!(coded.split(|byte| *byte == b'\n').all(|line| line.len() <= LINE + 1));
            prop_assert_eq!(quoted_printable_decode(&coded), Some(text.into_bytes()));
        }
    }
}
