//! Mail as it stands in a body of type 4 and in what a device sends (RFC 2045 to 2049): parts are
//! taken out or changed, everything else stays byte for byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{Encoding, Message, MessageParser, MessagePart, MimeHeaders, PartType};

use super::attachments::Met;

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
}

impl<'a> Mail<'a> {
    /// Reads a mail, or its beginning. `None`: it has no headers.
    pub(super) fn read(raw: &'a [u8]) -> Option<Self> {
        let message = MessageParser::default().parse(raw)?;
        let addresses = |lists: &[Option<&mail_parser::Address<'_>>]| {
            let all = lists.iter().flatten().flat_map(|list| list.iter());
            let found: Vec<_> = all.filter_map(|one| one.address()).collect();
            found.join(", ")
        };
        let from = addresses(&[message.from()]);
        let to = addresses(&[message.to(), message.cc(), message.bcc()]);
        Some(Self {
            raw,
            message,
            from,
            to,
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

    /// The texts that are shown.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.message
            .parts
            .iter()
            .filter_map(|part| match &part.body {
                PartType::Text(text) | PartType::Html(text) => Some(&**text),
                _ => None,
            })
    }

    /// Whether it is signed or encrypted: a change would break the one and can't reach the other.
    pub(super) fn is_sealed(&self) -> bool {
        self.message.parts.iter().any(|part| {
            part.content_type().is_some_and(|kind| {
                let (class, of) = (kind.ctype(), kind.subtype().unwrap_or_default());
                let multipart = class.eq_ignore_ascii_case("multipart");
                multipart
                    && (of.eq_ignore_ascii_case("signed") || of.eq_ignore_ascii_case("encrypted"))
                    || class.eq_ignore_ascii_case("application")
                        && (of.eq_ignore_ascii_case("pkcs7-mime")
                            || of.eq_ignore_ascii_case("x-pkcs7-mime"))
            })
        })
    }

    /// The mail as `visit` wants it; `None`: as it is.
    pub(super) fn edited(&self, visit: &mut dyn Visit) -> Option<Vec<u8>> {
        let mut edits = Vec::new();
        self.walk(&self.message, visit, &mut edits);
        if edits.is_empty() {
            return None;
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
        Some(out)
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

    fn walk(&self, message: &Message<'_>, visit: &mut dyn Visit, edits: &mut Vec<Edit>) {
        for (index, part) in message.parts.iter().enumerate() {
            let root = index == 0 && std::ptr::eq(message, &raw const self.message);
            let whole = (part.offset_header as usize, part.offset_end as usize);
            let body = (part.offset_body as usize, part.offset_end as usize);
            let declared = declared(part);
            let declared = declared.as_deref();
            match &part.body {
                PartType::Multipart(_) => {}
                PartType::Message(nested) => {
                    if let Some(text) =
                        visit.attachment(&self.met(part, declared, b"", nested_size(part)))
                    {
                        edits.push((whole.0, whole.1, self.in_place(root, whole, body, &text)));
                    } else if part.encoding == Encoding::None {
                        self.walk(nested, visit, edits);
                    } else if let Some(inner) = Mail::read(&nested.raw_message)
                        && let Some(new) = inner.edited(visit)
                    {
                        edits.push((body.0, body.1, encoded(part.encoding, &new)));
                    }
                }
                PartType::Text(_) | PartType::Html(_) if !is_attached(part) => {
                    let raw = self.raw.get(body.0..body.1).unwrap_or_default();
                    let html = matches!(part.body, PartType::Html(_));
                    let Some(decoded) = decoded(part.encoding, raw) else {
                        continue;
                    };
                    if let Some(new) = visit.text(html, &decoded) {
                        edits.push((body.0, body.1, encoded(part.encoding, &new)));
                    }
                }
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

/// The type that a part declares.
fn declared(part: &MessagePart<'_>) -> Option<String> {
    let kind = part.content_type()?;
    Some(format!("{}/{}", kind.ctype(), kind.subtype()?))
}

fn nested_size(part: &MessagePart<'_>) -> u64 {
    u64::from(part.offset_end.saturating_sub(part.offset_body))
}

fn is_attached(part: &MessagePart<'_>) -> bool {
    part.attachment_name().is_some()
        || part
            .content_disposition()
            .is_some_and(|disposition| disposition.is_attachment())
}

fn decoded(encoding: Encoding, raw: &[u8]) -> Option<Vec<u8>> {
    match encoding {
        Encoding::None => Some(raw.to_vec()),
        Encoding::Base64 => base64_decode(raw),
        Encoding::QuotedPrintable => quoted_printable_decode(raw),
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

fn text_part(text: &str) -> Vec<u8> {
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

    const MIXED: &str = "From: Bob <bob@x.example>\r\nTo: alice@corp.example\r\nSubject: =?utf-8?Q?a=C3=A4?=\r\n\
        MIME-Version: 1.0\r\nX-Class: secret\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n--b\r\n\
        Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        caf=E9 https://a.example/=\r\nx\r\n--b\r\nContent-Type: application/pdf; name=a.pdf\r\n\
        Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nJVBERi0=\r\n--b\r\n\
        Content-Type: message/rfc822\r\n\r\nFrom: c@y.example\r\nSubject: in\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n\
        --i\r\nContent-Type: application/x-msdownload; name=\"v.exe\"\r\n\r\nMZ\r\n--i--\r\n--b--\r\nepilogue";

    #[test]
    fn parts_are_met_with_what_they_are() {
        let mail = Mail::read(MIXED.as_bytes()).unwrap();
        assert_eq!(
            (mail.subject(), mail.header("x-class")),
            ("aä", Some("secret"))
        );
        assert!(!mail.is_sealed());
        let mut visit = taker("nothing");
        assert_eq!(mail.edited(&mut visit), None, "nothing is changed");
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
            let mail = Mail::read(MIXED.as_bytes()).unwrap();
            let new = mail.edited(&mut taker(name)).unwrap();
            let new = String::from_utf8(new).unwrap();
            assert!(!new.contains(gone), "{new}");
            assert!(new.contains(&STANDARD.encode("gone")), "{new}");
            assert!(
                new.starts_with("From: Bob") && new.ends_with("--b--\r\nepilogue"),
                "{new}"
            );
            let again = Mail::read(new.as_bytes()).unwrap();
            let mut visit = taker("nothing");
            assert_eq!(again.edited(&mut visit), None);
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
        let mail = Mail::read(MIXED.as_bytes()).unwrap();
        let mut visit = Taker {
            becomes: Some(b"caf\xE9 =\r\nend "),
            ..taker("nothing")
        };
        let new = mail.edited(&mut visit).unwrap();
        let text = String::from_utf8_lossy(&new);
        assert!(text.contains("caf=E9 =3D\r\nend=20\r\n--b"), "{text}");
    }

    #[test]
    fn a_mail_that_is_an_attachment_keeps_its_headers() {
        let raw =
            b"From: a@x\r\nContent-Type: application/zip;\r\n name=z.zip\r\nSubject: s\r\n\r\nPK";
        let mail = Mail::read(raw).unwrap();
        let new = String::from_utf8(mail.edited(&mut taker("z.zip")).unwrap()).unwrap();
        assert!(
            new.starts_with("From: a@x\r\nSubject: s\r\nContent-Type: text/plain"),
            "{new}"
        );
        assert!(!new.contains("zip"), "{new}");
        let replaced = String::from_utf8(mail.replaced("x")).unwrap();
        assert!(replaced.starts_with("From: a@x\r\nSubject: s\r\nContent-Type: text/plain"));
    }

    #[test]
    fn a_signed_mail_is_sealed() {
        let raw = b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\nx\r\n--s--\r\n";
        assert!(Mail::read(raw).unwrap().is_sealed());
        let raw = b"Content-Type: application/pkcs7-mime\r\n\r\nx";
        assert!(Mail::read(raw).unwrap().is_sealed());
    }

    proptest! {
        #[test]
        fn any_bytes_return(cut in 0..MIXED.len(), junk in proptest::collection::vec(any::<u8>(), 0..40)) {
            let raw = [&MIXED.as_bytes()[..cut], &junk].concat();
            if let Some(mail) = Mail::read(&raw) {
                let mut visit = Taker { becomes: Some(b"x"), ..taker("a.pdf") };
                let _ = mail.edited(&mut visit);
                let _ = mail.is_sealed();
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
