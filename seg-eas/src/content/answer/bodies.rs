//! What stands in the bodies of an answer: texts, HTML, MIME, RTF.

use std::borrow::Cow;

use super::{BODY_TYPE, DATA, ESTIMATED_SIZE, PART, PREVIEW, Walk};
use crate::content::attachments::Met;
use crate::content::mime::{Mail, Visit, text_part};
use crate::content::shape::{Shape, Unreadable};
use crate::content::{Classified, Done, Rule, Sealed, TooLarge, judged, rtf};
use crate::wbxml::{Content, Place};

/// What stands in a body, and where.
pub(super) struct Text<'t> {
    pub(super) at: TextAt,
    pub(super) bytes: Cow<'t, [u8]>,
}

#[derive(Clone, Copy)]
pub(super) enum TextAt {
    Element(Place),
    Part(usize),
}

impl<'w> Walk<'w, '_> {
    /// A body: its text, its links, its attachments where it is MIME. `notes` say what was taken
    /// out of the item; the first body takes them.
    pub(super) fn body(&mut self, body: Place, notes: &mut Vec<String>) {
        let outline = self.outline;
        let cut = self.is_truncated(body);
        if let Some(preview) = outline.child(body, PREVIEW) {
            self.plain_cut(preview, true);
        }
        let Some(found) = self.text_in(body) else {
            return;
        };
        let kind = outline.text_of(body, BODY_TYPE).unwrap_or("1");
        let new = match kind {
            "4" => self.mail(&found.bytes, cut),
            "3" => self
                .withholds_rtf()
                .filter(|_| !found.bytes.is_empty())
                .map(|rule| {
                    self.withheld_by(rule);
                    rtf::of(UNREADABLE).into_bytes()
                }),
            _ => {
                let text = String::from_utf8_lossy(&found.bytes);
                let mut new = self.text(&text, kind == "2", cut);
                for note in notes.drain(..) {
                    let text = new.get_or_insert_with(|| text.clone().into_owned());
                    if kind == "2" {
                        text.push_str(&format!("<p>{}</p>", escaped(&note)));
                    } else {
                        text.push_str(&format!("\r\n\r\n{note}"));
                    }
                }
                new.map(String::into_bytes)
            }
        };
        let Some(new) = new else { return };
        let (at, before, after) = (found.at, found.bytes.len(), new.len());
        self.put(at, new);
        if let Some(size) = outline.child(body, ESTIMATED_SIZE)
            && let Ok(told) = outline.text(size).trim().parse::<usize>()
        {
            let told = told.saturating_add(after).saturating_sub(before);
            self.edits.set(size, told.to_string().as_bytes());
        }
    }

    /// A mail. One that can't be looked into is withheld, and no other with it: a device asks for its
    /// Sync again and again.
    fn mail(&mut self, raw: &[u8], cut: bool) -> Option<Vec<u8>> {
        if raw.is_empty() {
            return None;
        }
        let done = self.answered.done.clone();
        match self.looked_at(raw, cut) {
            Ok(new) => new,
            Err(_) => {
                self.answered.done = done;
                let mut rules = self.rules.iter();
                let rule = rules.find(|rule| rule.too_large == TooLarge::Withhold)?;
                self.withheld_by(rule);
                Some(replaced(raw, UNREADABLE))
            }
        }
    }

    fn looked_at(&mut self, raw: &[u8], cut: bool) -> Result<Option<Vec<u8>>, Unreadable> {
        let shape = Shape::of(raw)?;
        let mail = Mail::read(&shape)?;
        if mail.is_sealed() {
            let mut rules = self.rules.iter();
            let Some(rule) = rules.find(|rule| rule.sealed == Sealed::Withhold) else {
                return Ok(None);
            };
            self.withheld_by(rule);
            return Ok(Some(mail.replaced(SEALED)));
        }
        let mut parts = Parts {
            rules: self.rules,
            cut,
            done: &mut self.answered.done,
        };
        mail.edited(&mut parts)
    }

    pub(super) fn withheld_by(&mut self, rule: &Rule) {
        self.answered.done.withheld += 1;
        self.answered.done.by(&rule.id);
    }

    fn text(&mut self, text: &str, html: bool, cut: bool) -> Option<String> {
        links_in(self.rules, text, html, cut, &mut self.answered.done)
    }

    /// An element that holds a plain text, and maybe only the beginning of one.
    pub(super) fn plain(&mut self, at: Place) {
        self.plain_cut(at, true);
    }

    fn plain_cut(&mut self, at: Place, cut: bool) {
        if let Some(new) = self.text(self.outline.text(at), false, cut) {
            self.edits.set(at, new.as_bytes());
        }
    }

    /// The text of a body, which stands in it or in a part of the answer.
    pub(super) fn text_in(&self, body: Place) -> Option<Text<'w>> {
        let outline = self.outline;
        if let Some(data) = outline.child(body, DATA) {
            return Some(Text {
                at: TextAt::Element(data),
                bytes: Cow::Owned(self.bytes_in(data)?),
            });
        }
        let part = outline.text_of(body, PART)?.trim().parse().ok()?;
        let bytes = self.parts.get(part).filter(|_| part > 0)?;
        Some(Text {
            at: TextAt::Part(part),
            bytes: Cow::Owned(bytes.to_vec()),
        })
    }

    /// What an element holds; its text stands in one piece by now.
    pub(super) fn bytes_in(&self, at: Place) -> Option<Vec<u8>> {
        match self.outline.content(at) {
            Content::Text(text) => Some(text.as_bytes().to_vec()),
            Content::Opaque(bytes) => Some(bytes.to_vec()),
            Content::None | Content::Several => None,
        }
    }

    /// Whether a body has its text twice: nobody knows which of them a device shows.
    pub(super) fn has_two_texts(&self, body: Place) -> bool {
        let texts = self.outline.children(body);
        texts.filter(|(_, tag)| *tag == DATA).count() > 1
    }

    /// The rule that withholds compressed RTF. Words and links can be hidden in RTF in more ways than
    /// are looked through, so for rules about them it is what can't be looked into.
    pub(super) fn withholds_rtf(&self) -> Option<&'w Rule> {
        self.rules.iter().copied().find(|rule| {
            let marks = rule.classified.as_ref();
            let reads = rule.links.is_some() || marks.is_some_and(|marks| !marks.body.is_empty());
            reads && rule.too_large == TooLarge::Withhold
        })
    }

    /// The mail that an old device gets as MIME.
    pub(super) fn old_mail(&mut self, at: Place) {
        let Some(raw) = self.bytes_in(at) else { return };
        // Whether it is whole another element says; half a link at its end is none.
        if let Some(new) = self.mail(&raw, true) {
            self.edits.set(at, &new);
        }
    }
}

/// The parts of a mail, as the rules want them.
pub(in crate::content) struct Parts<'p> {
    pub(in crate::content) rules: &'p [&'p Rule],
    pub(in crate::content) cut: bool,
    pub(in crate::content) done: &'p mut Done,
}

impl Visit for Parts<'_> {
    fn attachment(&mut self, met: &Met<'_>) -> Option<String> {
        let (rule, attachments) = judged(self.rules, met)?;
        // What stands in the mail itself is there: to block it is to take it out.
        self.done.removed += 1;
        self.done.by(&rule.id);
        Some(attachments.text_for(met, &rule.id))
    }

    fn text(&mut self, html: bool, text: &str) -> Option<String> {
        links_in(self.rules, text, html, self.cut, self.done)
    }
}

/// Whether a mail is marked in its subject, its headers or its texts. One that can't be read is not: it
/// is withheld by itself.
pub(super) fn marks_mail(classified: &Classified, raw: &[u8]) -> bool {
    let marked = Shape::of(raw).and_then(|shape| Mail::read(&shape)?.is_marked(classified));
    marked.unwrap_or(false)
}

fn links_in(rules: &[&Rule], text: &str, html: bool, cut: bool, done: &mut Done) -> Option<String> {
    let mut new: Option<String> = None;
    for rule in rules {
        let Some(links) = &rule.links else { continue };
        let text = new.as_deref().unwrap_or(text);
        let changed = if html {
            links.in_html(text, cut)
        } else {
            links.in_text(text, cut)
        };
        if let Some((changed, count)) = changed {
            done.links += count;
            done.by(&rule.id);
            new = Some(changed);
        }
    }
    new
}

/// The headers of a mail over a plain text; nothing but the text where there are no headers.
pub(super) fn replaced(raw: &[u8], text: &str) -> Vec<u8> {
    let replaced = Shape::of(raw).and_then(|shape| Ok(Mail::read(&shape)?.replaced(text)));
    replaced.unwrap_or_else(|_| text_part(text))
}

/// What stands in place of a mail that can't be looked into.
pub(super) const UNREADABLE: &str = "This message can't be checked by the rules of your organisation and is not shown on this device.";

/// What stands in place of a signed or encrypted mail.
const SEALED: &str = "This message is signed or encrypted and is not shown on this device.";

pub(in crate::content) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
