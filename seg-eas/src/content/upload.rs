//! What a device sends: SendMail, SmartReply, SmartForward, and what a Sync adds or changes (drafts and
//! appointments of 16.x). Links that were rewritten for it are restored, attachments that the rules
//! keep from it do not leave by it.

use super::answer::{APPLICATION_DATA, BEGIN, RECIPIENTS, escaped, texts_of};
use super::attachments::Action;
use super::mime::{Mail, Visit};
use super::shape::{Shape, Unreadable};
use super::{Done, Met, Rule, Sealed, judged};
use crate::wbxml::{Content, Edits, Limits, Outline, OutlineError, Place, Tag};

const MIME: Tag = Tag::new(21, 0x10);

const BODY: Tag = Tag::new(17, 0x0A);
const BODY_TYPE: Tag = Tag::new(17, 0x06);
const DATA: Tag = Tag::new(17, 0x0B);
const ATTACHMENTS: Tag = Tag::new(17, 0x0E);
const ADD: Tag = Tag::new(17, 0x1C);
const DISPLAY_NAME: Tag = Tag::new(17, 0x10);
const CONTENT_TYPE: Tag = Tag::new(17, 0x17);
const CONTENT: Tag = Tag::new(17, 0x1F);

/// A mail on its way out that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// The new body; `None`: it stays as it is, byte for byte.
    pub body: Option<Vec<u8>>,
    /// The rule that refuses the mail: for an attachment in it, or because it is sealed.
    pub refused: Option<String>,
    /// What was done.
    pub done: Done,
}

/// Why what a device sends was not looked into. It must not pass then, unless every rule says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLookedInto {
    /// The WBXML can't be read.
    #[error(transparent)]
    Wbxml(#[from] OutlineError),
    /// The mail can't be read.
    #[error(transparent)]
    Mail(#[from] Unreadable),
    /// An element that must hold one string or one byte array.
    #[error("the message has {0} in more than one piece, or not as UTF-8")]
    Pieces(&'static str),
}

/// Looks at the WBXML body of a SendMail, SmartReply, SmartForward or Sync.
///
/// # Errors
/// When it can't be read.
pub fn sent(rules: &[&Rule], body: &[u8]) -> Result<Sent, NotLookedInto> {
    if body.is_empty() {
        return Ok(Sent::default());
    }
    let outline = Outline::read(body, Limits::TRAFFIC)?;
    let Some((root, _)) = outline.root() else {
        return Ok(Sent::default());
    };
    let mut uploading = Uploading {
        rules,
        outline: &outline,
        edits: Edits::new(&outline),
        sent: Sent::default(),
    };
    let mut mails = outline.children(root).filter(|(_, tag)| *tag == MIME);
    if let Some((at, _)) = mails.next() {
        if mails.next().is_some() {
            return Err(NotLookedInto::Pieces("the mail"));
        }
        let looked = mail(rules, bytes_of(&outline, at, "the mail")?)?;
        if let Some(new) = &looked.body {
            uploading.edits.set(at, new);
        }
        uploading.sent = looked;
    }
    let mut items = vec![root];
    items.extend(
        outline
            .inside(root)
            .filter(|(_, tag)| *tag == APPLICATION_DATA)
            .map(|(at, _)| at),
    );
    items
        .into_iter()
        .try_for_each(|item| uploading.item(item))?;
    let Uploading {
        edits, mut sent, ..
    } = uploading;
    sent.body = (!edits.is_empty()).then(|| edits.apply());
    Ok(sent)
}

fn bytes_of<'a>(
    outline: &Outline<'a>,
    at: Place,
    what: &'static str,
) -> Result<&'a [u8], NotLookedInto> {
    match outline.content(at) {
        Content::Opaque(bytes) => Ok(bytes),
        Content::Text(text) => Ok(text.as_bytes()),
        Content::None => Ok(&[]),
        Content::Several => Err(NotLookedInto::Pieces(what)),
    }
}

/// What is written into an item by its parts: the root of a reply, the data of a Sync.
struct Uploading<'u, 'a> {
    rules: &'u [&'u Rule],
    outline: &'u Outline<'a>,
    edits: Edits<'u, 'a>,
    sent: Sent,
}

impl Uploading<'_, '_> {
    fn item(&mut self, item: Place) -> Result<(), NotLookedInto> {
        let outline = self.outline;
        // Of an appointment its exceptions have texts and attachments of their own. The root of a Sync
        // holds items, which have their turns.
        let inside: Vec<_> = match item {
            0 => outline.children(item).collect(),
            _ => outline.inside(item).collect(),
        };
        let to = texts_of(outline, &inside, &RECIPIENTS);
        let mut notes = Vec::new();
        for (at, tag) in &inside {
            if *tag == ATTACHMENTS {
                self.attachments(*at, &to, &mut notes)?;
            }
        }
        for (at, tag) in &inside {
            if *tag == BODY {
                let notes = std::mem::take(&mut notes);
                self.text(*at, &notes)?;
            }
        }
        Ok(())
    }

    /// A device that is refused its Sync asks again and again: here even what must not be fetched
    /// is taken out.
    fn attachments(
        &mut self,
        list: Place,
        to: &str,
        notes: &mut Vec<String>,
    ) -> Result<(), NotLookedInto> {
        let outline = self.outline;
        let (mut left, mut gone) = (0, Vec::new());
        for (at, tag) in outline.children(list) {
            let content = match outline.child(at, CONTENT) {
                Some(content) => bytes_of(outline, content, "an attachment")?,
                None => &[],
            };
            let names: Vec<&str> = outline.text_of(at, DISPLAY_NAME).into_iter().collect();
            let met = Met {
                names: &names,
                declared: outline.text_of(at, CONTENT_TYPE),
                begin: content.get(..content.len().min(BEGIN)).unwrap_or_default(),
                size: Some(content.len() as u64),
                to: Some(to),
                ..Met::default()
            };
            let judged = judged(self.rules, &met).filter(|_| tag == ADD);
            let Some((rule, attachments)) = judged else {
                left += 1;
                continue;
            };
            self.sent.done.removed += 1;
            self.sent.done.by(&rule.id);
            notes.push(attachments.text_for(&met, &rule.id));
            gone.push(at);
        }
        if left == 0 && !gone.is_empty() {
            self.edits.remove(list);
        } else {
            gone.into_iter().for_each(|at| self.edits.remove(at));
        }
        Ok(())
    }

    fn text(&mut self, body: Place, notes: &[String]) -> Result<(), NotLookedInto> {
        let outline = self.outline;
        let mut datas = outline.children(body).filter(|(_, tag)| *tag == DATA);
        let Some((data, _)) = datas.next() else {
            return Ok(());
        };
        if datas.next().is_some() {
            return Err(NotLookedInto::Pieces("a body"));
        }
        let bytes = bytes_of(outline, data, "a body")?;
        let html = outline.text_of(body, BODY_TYPE) == Some("2");
        let mut new = match outline.text_of(body, BODY_TYPE) {
            Some("4") => {
                let looked = looked_at(self.rules, bytes, false)?;
                self.sent.done.add(&looked.done);
                self.sent.refused = self.sent.refused.take().or(looked.refused);
                looked.body
            }
            _ => restored(self.rules, bytes, html, &mut self.sent.done),
        };
        if matches!(outline.text_of(body, BODY_TYPE), Some("1" | "2")) {
            for note in notes {
                let text = new.get_or_insert_with(|| bytes.to_vec());
                if html {
                    text.extend_from_slice(format!("<p>{}</p>", escaped(note)).as_bytes());
                } else {
                    text.extend_from_slice(format!("\r\n\r\n{note}").as_bytes());
                }
            }
        }
        if let Some(new) = new {
            self.edits.set(data, &new);
        }
        Ok(())
    }
}

/// A text with the links in it that were rewritten as they were.
fn restored(rules: &[&Rule], text: &[u8], html: bool, done: &mut Done) -> Option<Vec<u8>> {
    let mut new: Option<Vec<u8>> = None;
    for rule in rules {
        let Some(links) = &rule.links else { continue };
        let text = new.as_deref().unwrap_or(text);
        if let Some((restored, count)) = links.template.restored(text, html) {
            done.links += count;
            done.by(&rule.id);
            new = Some(restored);
        }
    }
    new
}

/// Looks at a mail that is sent as it is, up to version 12.1.
///
/// # Errors
/// When it can't be read.
pub fn mail(rules: &[&Rule], raw: &[u8]) -> Result<Sent, NotLookedInto> {
    Ok(looked_at(rules, raw, true)?)
}

/// `may_refuse`: an attachment that must not be fetched refuses the mail, instead of being taken out.
fn looked_at(rules: &[&Rule], raw: &[u8], may_refuse: bool) -> Result<Sent, Unreadable> {
    let mut sent = Sent::default();
    if raw.is_empty() {
        return Ok(sent);
    }
    let shape = Shape::of(raw)?;
    let mail = Mail::read(&shape)?;
    // A signed mail is the sender's own: a change would break it, and it holds no link of ours
    // that he has not signed.
    if mail.is_sealed() {
        let mut rules = rules.iter();
        if let Some(rule) = rules.find(|rule| rule.sealed == Sealed::Withhold) {
            sent.refused = Some(rule.id.clone());
            sent.done.withheld = 1;
            sent.done.by(&rule.id);
        }
        return Ok(sent);
    }
    let mut outgoing = Outgoing {
        rules,
        may_refuse,
        refused: None,
        done: &mut sent.done,
    };
    let new = mail.edited(&mut outgoing)?;
    sent.refused = outgoing.refused.take();
    sent.body = new;
    Ok(sent)
}

struct Outgoing<'o> {
    rules: &'o [&'o Rule],
    may_refuse: bool,
    refused: Option<String>,
    done: &'o mut Done,
}

impl Visit for Outgoing<'_> {
    fn attachment(&mut self, met: &Met<'_>) -> Option<String> {
        let (rule, attachments) = judged(self.rules, met)?;
        self.done.by(&rule.id);
        if self.may_refuse && attachments.action == Action::BlockFetch {
            self.done.blocked += 1;
            self.refused.get_or_insert_with(|| rule.id.clone());
            return None;
        }
        self.done.removed += 1;
        Some(attachments.text_for(met, &rule.id))
    }

    fn text(&mut self, html: bool, text: &str) -> Option<String> {
        let new = restored(self.rules, text.as_bytes(), html, self.done)?;
        Some(String::from_utf8_lossy(&new).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wbxml::Writer;

    fn rule(toml: &str) -> Rule {
        toml::from_str(toml).unwrap()
    }

    /// A Sync that adds a draft with a text and these attachments.
    fn draft(kind: &str, text: &str, attachments: &[(&str, &[u8])]) -> Vec<u8> {
        let tag = |page, token| Tag::new(page, token);
        let mut writer = Writer::message();
        for open in [0x05, 0x1C, 0x0F, 0x16, 0x07] {
            writer.start(tag(0, open));
        }
        writer.element(tag(0, 0x0C), "new-1").unwrap();
        writer.start(APPLICATION_DATA);
        writer
            .element(RECIPIENTS[0], "carol@partner.example")
            .unwrap();
        writer.start(BODY);
        writer.element(BODY_TYPE, kind).unwrap();
        writer.element(DATA, text).unwrap();
        writer.end().unwrap();
        if !attachments.is_empty() {
            writer.start(ATTACHMENTS);
            for (name, content) in attachments {
                writer.start(ADD);
                writer.element(tag(17, 0x1E), name).unwrap();
                writer.start(CONTENT);
                writer.opaque(content).unwrap();
                writer.end().unwrap();
                writer.element(DISPLAY_NAME, name).unwrap();
                writer.end().unwrap();
            }
            writer.end().unwrap();
        }
        for _ in 0..6 {
            writer.end().unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_a_sync_adds_is_judged_like_a_mail_that_is_sent() {
        let pdf = rule(
            "id = 'no-pdf'\nattachments = { action = 'remove', types = ['application/pdf'], text = 'GONE {name}' }\n",
        );
        let zip = rule(
            "id = 'no-zip'\nattachments = { action = 'block-fetch', extensions = ['zip'], text = 'NO {name}' }\n",
        );
        let rules = [&pdf, &zip];
        let given = draft(
            "2",
            "<p>x</p>",
            &[
                ("a.txt", b"%PDF-1.7"),
                ("b.txt", b"words"),
                ("c.zip", b"PK"),
            ],
        );
        let sent = sent(&rules, &given).unwrap();
        let left = draft(
            "2",
            "<p>x</p><p>GONE a.txt</p><p>NO c.zip</p>",
            &[("b.txt", b"words")],
        );
        assert_eq!(sent.body, Some(left));
        assert_eq!((sent.refused, sent.done.removed), (None, 2));

        let only = super::sent(&rules, &draft("1", "x", &[("c.zip", b"PK")])).unwrap();
        assert_eq!(only.body, Some(draft("1", "x\r\n\r\nNO c.zip", &[])));
        let harmless = draft("1", "x", &[("b.txt", b"words")]);
        assert_eq!(super::sent(&rules, &harmless).unwrap(), Sent::default());
    }

    /// An exception of an appointment is written as the appointment is.
    #[test]
    fn what_an_exception_adds_is_judged_too() {
        let zip = rule(
            "id = 'no-zip'\nattachments = { action = 'remove', extensions = ['zip'], text = 'NO {name}' }\n",
        );
        let event = |text: &str, name: Option<&str>| {
            let tag = |page, token| Tag::new(page, token);
            let mut writer = Writer::message();
            for open in [0x05, 0x1C, 0x0F, 0x16, 0x08, 0x1D] {
                writer.start(tag(0, open));
            }
            writer.start(tag(4, 0x14));
            writer.start(tag(4, 0x13));
            writer.start(BODY);
            writer.element(BODY_TYPE, "1").unwrap();
            writer.element(DATA, text).unwrap();
            writer.end().unwrap();
            if let Some(name) = name {
                writer.start(ATTACHMENTS);
                writer.start(ADD);
                writer.start(CONTENT);
                writer.opaque(b"PK").unwrap();
                writer.end().unwrap();
                writer.element(DISPLAY_NAME, name).unwrap();
                writer.end().unwrap();
                writer.end().unwrap();
            }
            for _ in 0..8 {
                writer.end().unwrap();
            }
            writer.finish().unwrap()
        };
        let sent = sent(&[&zip], &event("x", Some("c.zip"))).unwrap();
        assert_eq!(sent.body, Some(event("x\r\n\r\nNO c.zip", None)));
        let harmless = event("x", Some("c.txt"));
        assert_eq!(super::sent(&[&zip], &harmless), Ok(Sent::default()));
    }

    /// A SendMail whose mail stands in these strings and byte arrays.
    fn send_mail(mimes: &[&[&[u8]]]) -> Vec<u8> {
        let mut writer = Writer::message();
        writer.start(Tag::new(21, 0x05));
        for pieces in mimes {
            writer.start(MIME);
            for piece in *pieces {
                writer.opaque(piece).unwrap();
            }
            writer.end().unwrap();
        }
        writer.end().unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn a_mail_that_cant_be_read_is_said_to_be() {
        let rule =
            rule("id = 'z'\nattachments = { action = 'block-fetch', extensions = ['zip'] }\n");
        let rules = [&rule];
        let mail: &[u8] = b"Content-Type: application/zip; name=z.zip\r\n\r\nPK";
        let (one, two) = mail.split_at(20);
        let refused = sent(&rules, &send_mail(&[&[mail]])).unwrap().refused;
        assert_eq!(refused.as_deref(), Some("z"));
        let pieces = Err(NotLookedInto::Pieces("the mail"));
        assert_eq!(sent(&rules, &send_mail(&[&[one, two]])), pieces);
        assert_eq!(
            sent(&rules, &send_mail(&[&[b"Subject: s\r\n\r\nx"], &[mail]])),
            pieces
        );
        // <SendMail><Mime>STR_I with a byte that is no UTF-8.
        let latin = [
            b"\x03\x01\x6a\x00\x00\x15\x45\x50\x03".as_slice(),
            mail,
            b"\xe9\x00\x01\x01",
        ]
        .concat();
        for unread in [&latin, mail] {
            assert!(matches!(sent(&rules, unread), Err(NotLookedInto::Wbxml(_))));
        }
        assert_eq!(sent(&rules, &send_mail(&[&[]])), Ok(Sent::default()));
        let no_headers = Err(NotLookedInto::Mail(Unreadable::NoHeaders));
        assert_eq!(super::mail(&rules, b"  "), no_headers);
    }

    #[test]
    fn a_sealed_mail_is_refused_where_a_rule_withholds_it() {
        let rule = |sealed| {
            let toml =
                format!("id = 'z'\nsealed = '{sealed}'\nattachments = {{ action = 'remove' }}\n");
            rule(&toml)
        };
        let raw = b"Content-Type: application/pkcs7-mime; name=smime.p7m\r\n\r\nx";
        assert_eq!(mail(&[&rule("leave")], raw), Ok(Sent::default()));
        let sent = mail(&[&rule("withhold")], raw).unwrap();
        assert_eq!(
            (sent.refused.as_deref(), sent.done.withheld),
            (Some("z"), 1)
        );
    }

    #[test]
    fn links_of_a_draft_are_restored() {
        let rule =
            rule("id = 'clicks'\nlinks = { template = 'https://safe.example/?u={url_encoded}' }\n");
        for kind in ["1", "2"] {
            let given = draft(
                kind,
                "see https://safe.example/?u=https%3A%2F%2Fa.example%2Fb",
                &[],
            );
            let sent = sent(&[&rule], &given).unwrap();
            assert_eq!(sent.body, Some(draft(kind, "see https://a.example/b", &[])));
            assert_eq!(sent.done.links, 1);
        }
    }
}
