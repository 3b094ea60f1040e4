//! Answers to a device: Sync, ItemOperations, Search and Find, as WBXML or multipart, and the
//! attachment of GetAttachment.

mod bodies;
mod fetched;
mod parts;
#[cfg(test)]
mod tests;

pub(super) use bodies::escaped;

use std::borrow::Cow;

use self::bodies::{UNREADABLE, marks_mail, replaced};
use self::fetched::{may_be_mail, withheld_in_mail};
use super::attachments::{Action, Met};
use super::mime::html_text;
use super::range::parts_of;
use super::whole::{self, ItemId, Wanted, Whole};
use super::{Done, Rule, TooLarge, judged, rtf};
use crate::wbxml::{Edits, Limits, Outline, OutlineError, Place, Tag};

pub(super) const APPLICATION_DATA: Tag = Tag::new(0, 0x1D);
pub(super) const FETCH_PROPERTIES: Tag = Tag::new(20, 0x0B);
const FIND_PREVIEW: Tag = Tag::new(25, 0x14);
const FIND_HAS_ATTACHMENTS: Tag = Tag::new(25, 0x15);
pub(super) const FETCH: Tag = Tag::new(20, 0x06);
pub(super) const FETCH_DATA: Tag = Tag::new(20, 0x0C);
const FETCH_TOTAL: Tag = Tag::new(20, 0x0A);
pub(super) const FETCH_STATUS: Tag = Tag::new(20, 0x0D);
pub(super) const PART: Tag = Tag::new(20, 0x11);

const EMAIL_SUBJECT: Tag = Tag::new(2, 0x14);
/// Of mail, appointments, tasks and notes.
const SUBJECTS: [Tag; 4] = [
    EMAIL_SUBJECT,
    Tag::new(4, 0x26),
    Tag::new(9, 0x20),
    Tag::new(23, 0x05),
];
/// From, and the organizer of an appointment.
const SENDERS: [Tag; 2] = [Tag::new(2, 0x18), Tag::new(4, 0x19)];
/// To, Cc, Bcc, and those who are invited to an appointment.
pub(super) const RECIPIENTS: [Tag; 4] = [
    Tag::new(2, 0x16),
    Tag::new(2, 0x17),
    Tag::new(22, 0x16),
    Tag::new(4, 0x09),
];
/// The code pages of mail and of contacts, which have no subject.
const EMAIL: u8 = 2;
const CONTACTS: u8 = 1;
/// A document of a file server that was fetched.
const LINK_ID: Tag = Tag::new(19, 0x05);
/// Up to 2.5: the attachments and the text of a mail.
const OLD_ATTACHMENTS: Tag = Tag::new(2, 0x06);
const OLD_ATTACHMENT: Tag = Tag::new(2, 0x05);
const OLD_NAME: Tag = Tag::new(2, 0x10);
const OLD_REFERENCE: Tag = Tag::new(2, 0x07);
const OLD_SIZE: Tag = Tag::new(2, 0x08);
const OLD_BODY: Tag = Tag::new(2, 0x0C);
const OLD_MIME: Tag = Tag::new(2, 0x36);
const OLD_CONTACT_BODY: Tag = Tag::new(1, 0x09);
const OLD_EVENT_BODY: Tag = Tag::new(4, 0x0B);
const OLD_TASK_BODY: Tag = Tag::new(9, 0x05);
const OLD_TRUNCATED: Tag = Tag::new(2, 0x0E);
const OLD_MIME_TRUNCATED: Tag = Tag::new(2, 0x37);
const OLD_CONTACT_TRUNCATED: Tag = Tag::new(1, 0x0B);
const OLD_EVENT_TRUNCATED: Tag = Tag::new(4, 0x0C);
const OLD_TASK_TRUNCATED: Tag = Tag::new(9, 0x07);
const OLD_CONTACT_RTF: Tag = Tag::new(1, 0x3B);
const OLD_EVENT_RTF: Tag = Tag::new(4, 0x10);
const OLD_TASK_RTF: Tag = Tag::new(9, 0x21);

const ATTACHMENTS: Tag = Tag::new(17, 0x0E);
const ATTACHMENT: Tag = Tag::new(17, 0x0F);
const DISPLAY_NAME: Tag = Tag::new(17, 0x10);
pub(super) const FILE_REFERENCE: Tag = Tag::new(17, 0x11);
const CONTENT_TYPE: Tag = Tag::new(17, 0x17);
const ESTIMATED_SIZE: Tag = Tag::new(17, 0x0C);
const BODY: Tag = Tag::new(17, 0x0A);
const BODY_PART: Tag = Tag::new(17, 0x1A);
const BODY_TYPE: Tag = Tag::new(17, 0x06);
const DATA: Tag = Tag::new(17, 0x0B);
const TRUNCATED: Tag = Tag::new(17, 0x0D);
const PREVIEW: Tag = Tag::new(17, 0x18);

/// ItemOperations Status 16: access to the attachment is denied.
const ACCESS_DENIED: &[u8] = b"16";

/// How much of an attachment's base64 is decoded to find its type, in characters.
pub(super) const BEGIN: usize = 1024;

/// An answer that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answered {
    /// The new body; `None`: it stays as it is, byte for byte.
    pub body: Option<Vec<u8>>,
    /// References of attachments that must not be fetched, and the rule that says so.
    pub withheld: Vec<(String, String)>,
    /// References of attachments whose beginning was looked at, and that pass.
    pub passed: Vec<String>,
    /// What was done.
    pub done: Done,
}

/// Looks at an answer. `withheld` knows the references that an earlier call has told of, with the
/// rule; `whole` knows what the whole text of a mail says that the answer shows the beginning of.
///
/// # Errors
/// When it can't be read: nothing is said about it then.
pub fn answered(
    rules: &[&Rule],
    body: &[u8],
    multipart: bool,
    withheld: &dyn Fn(&str) -> Option<String>,
    whole: &dyn Fn(&ItemId) -> Whole,
) -> Result<Answered, OutlineError> {
    if body.is_empty() {
        return Ok(Answered::default());
    }
    let answered = walked(rules, body, multipart, |mut walk| {
        for (item, id) in whole::items(walk.outline) {
            walk.item(item, || id.as_ref().map_or(Whole::Unseen, whole));
        }
        if let Some((root, _)) = walk.outline.root() {
            for (at, _) in walk.outline.inside(root).filter(|(_, tag)| *tag == FETCH) {
                walk.fetched(at, withheld);
            }
        }
        walk.finish(multipart)
    })?;
    Ok(answered.unwrap_or_default())
}

/// Reads an answer and has it looked at; `None`: there is no element in it.
pub(super) fn walked<T>(
    rules: &[&Rule],
    body: &[u8],
    multipart: bool,
    look: impl FnOnce(Walk<'_, '_>) -> T,
) -> Result<Option<T>, OutlineError> {
    let parts = parts_of(body, multipart)?;
    let message = parts
        .first()
        .map_or(Cow::Borrowed([].as_slice()), Cow::clone);
    let outline = Outline::read(&message, Limits::TRAFFIC)?;
    // A text in several pieces is looked at, and changed, as one.
    let joined = outline.joined()?;
    let outline = match &joined {
        Some(joined) => Outline::read(joined, Limits::TRAFFIC)?,
        None => outline,
    };
    let walk = Walk {
        rules,
        outline: &outline,
        edits: Edits::new(&outline),
        parts,
        parts_changed: false,
        dropped: Vec::new(),
        answered: Answered::default(),
    };
    let Some((root, _)) = outline.root() else {
        return Ok(None);
    };
    let mut bodies = outline
        .inside(root)
        .filter(|(_, tag)| matches!(*tag, BODY | BODY_PART));
    if bodies.any(|(at, _)| walk.has_two_texts(at)) {
        return Err(OutlineError::Scattered);
    }
    Ok(Some(look(walk)))
}

/// The rule that would have to know what an attachment is, and does not let pass what can't be read.
fn withholds_unread(rules: &[&Rule]) -> Option<String> {
    let mut rules = rules.iter();
    let rule = rules.find(|rule| {
        let reads = rule
            .attachments
            .as_ref()
            .is_some_and(|a| !a.types.is_empty());
        reads && rule.too_large == TooLarge::Withhold
    })?;
    Some(rule.id.clone())
}

/// The rule that would have to know which attachment this is.
fn withholds_unnamed(rules: &[&Rule]) -> Option<String> {
    let mut rules = rules.iter();
    let rule = rules.find(|rule| {
        let attachments = rule.attachments.as_ref();
        attachments.is_some_and(|attachments| attachments.action != Action::Allow)
            && rule.too_large == TooLarge::Withhold
    })?;
    Some(rule.id.clone())
}

/// Looks at the attachment that GetAttachment brings: the rule that withholds it.
#[must_use]
pub fn attachment<'r>(rules: &[&'r Rule], declared: Option<&str>, body: &[u8]) -> Option<&'r str> {
    let begin = body.get(..body.len().min(BEGIN)).unwrap_or_default();
    let met = Met {
        declared,
        begin,
        size: Some(body.len() as u64),
        ..Met::default()
    };
    let inside = || {
        let is_mail = may_be_mail(declared, begin);
        is_mail.then(|| withheld_in_mail(rules, declared, body))?
    };
    let rule = judged(rules, &met).map(|(rule, _)| rule).or_else(inside)?;
    Some(rule.id.as_str())
}

pub(super) struct Walk<'w, 'a> {
    rules: &'w [&'w Rule],
    pub(super) outline: &'w Outline<'a>,
    edits: Edits<'w, 'a>,
    parts: Vec<Cow<'w, [u8]>>,
    parts_changed: bool,
    /// Parts that nothing names any more.
    dropped: Vec<usize>,
    answered: Answered,
}

impl<'w> Walk<'w, '_> {
    /// A mail, an appointment, or another thing that has a body and attachments.
    fn item(&mut self, item: Place, whole: impl FnOnce() -> Whole) {
        let outline = self.outline;
        // An item inside of an item has its own turn: a Fetch has Properties, never ApplicationData.
        let inside: Vec<_> = outline.inside(item).collect();
        if let Some((rule, text)) = self.marked(&inside, whole) {
            return self.withhold(&inside, rule, &text);
        }
        let from = texts_of(outline, &inside, &SENDERS);
        let to = texts_of(outline, &inside, &RECIPIENTS);
        let mut notes = Vec::new();
        for (at, tag) in &inside {
            match *tag {
                ATTACHMENTS => self.attachments(*at, ATTACHMENT, (&from, &to), &mut notes),
                OLD_ATTACHMENTS => self.attachments(*at, OLD_ATTACHMENT, (&from, &to), &mut notes),
                _ => {}
            }
        }
        for (at, tag) in &inside {
            match *tag {
                BODY | BODY_PART => self.body(*at, &mut notes),
                OLD_MIME => self.old_mail(*at),
                OLD_BODY | OLD_CONTACT_BODY | OLD_EVENT_BODY | OLD_TASK_BODY | FIND_PREVIEW => {
                    self.plain(*at);
                }
                OLD_CONTACT_RTF | OLD_EVENT_RTF | OLD_TASK_RTF => {
                    if let Some(rule) = self.withholds_rtf() {
                        self.withheld_by(rule);
                        self.edits.remove(*at);
                    }
                }
                _ => {}
            }
        }
    }

    /// The rule by which the item is marked, in what is there of it or in the whole of it, or that keeps
    /// back what nobody has seen whole; and the text that stands for it.
    fn marked(
        &self,
        inside: &[(Place, Tag)],
        whole: impl FnOnce() -> Whole,
    ) -> Option<(&'w str, String)> {
        let found = self.classified(inside);
        if found.is_some() {
            return found;
        }
        let mut wanting = self.wanting(inside).peekable();
        wanting.peek()?;
        match whole() {
            Whole::Unmarked => None,
            Whole::Marked(id) => {
                let rule = self.rules.iter().find(|rule| rule.id == id)?;
                let text = &rule.classified.as_ref()?.text;
                Some((rule.id.as_str(), text.replace("{rule}", &rule.id)))
            }
            Whole::Unseen => {
                let rule = wanting.find(|rule| rule.too_large == TooLarge::Withhold)?;
                Some((rule.id.as_str(), UNREADABLE.to_owned()))
            }
        }
    }

    /// The rules that would have to see more of an item than is there.
    fn wanting(&self, inside: &[(Place, Tag)]) -> impl Iterator<Item = &'w Rule> {
        let outline = self.outline;
        let any = |wanted: &dyn Fn(Tag) -> bool| inside.iter().any(|(_, tag)| wanted(*tag));
        // Whatever else of a marked mail is there, its head is shown all the same.
        let has_content = any(&is_content);
        let has_subject = any(&|tag| SUBJECTS.contains(&tag)) || any(&|tag| tag.page() == CONTACTS);
        let is_mime = inside.iter().any(|(at, tag)| match *tag {
            BODY => outline.text_of(*at, BODY_TYPE) == Some("4") && self.text_in(*at).is_some(),
            OLD_MIME => true,
            _ => false,
        });
        let has_headers = is_mime || !any(&|tag| tag.page() == EMAIL || tag == FIND_PREVIEW);
        let is_beginning = self.is_beginning(inside);
        self.rules.iter().copied().filter(move |rule| {
            rule.classified.as_ref().is_some_and(|classified| {
                !classified.body.is_empty() && is_beginning
                    || !classified.subject.is_empty() && has_content && !has_subject
                    || !classified.headers.is_empty() && has_content && !has_headers
            })
        })
    }

    /// Whether an item must be seen whole: what is there of it is not marked, and is not all.
    pub(super) fn is_part_of_unmarked(&self, item: Place) -> bool {
        let inside: Vec<_> = self.outline.inside(item).collect();
        self.wanting(&inside).next().is_some() && self.classified(&inside).is_none()
    }

    /// What an item says that was asked for as a whole.
    pub(super) fn whole(&self, item: Place) -> Whole {
        let outline = self.outline;
        let inside: Vec<_> = outline.inside(item).collect();
        if let Some((rule, _)) = self.classified(&inside) {
            return Whole::Marked(rule.to_owned());
        }
        let wanted = Wanted::by(self.rules);
        if !wanted.headers && !wanted.texts {
            return Whole::Unmarked;
        }
        let mut bodies = inside.iter().filter(|(_, tag)| *tag == BODY);
        let is_there = bodies.any(|(at, _)| {
            self.text_in(*at).is_some_and(|text| {
                let is_mime = outline.text_of(*at, BODY_TYPE) == Some("4");
                let is_whole = !self.is_truncated(*at);
                let has_headers = is_mime && (is_whole || has_end_of_headers(&text.bytes));
                (!wanted.headers || has_headers) && (!wanted.texts || is_whole)
            })
        });
        if is_there {
            Whole::Unmarked
        } else {
            Whole::Unseen
        }
    }

    /// Whether an item shows the beginning of a text only.
    fn is_beginning(&self, inside: &[(Place, Tag)]) -> bool {
        let outline = self.outline;
        inside.iter().any(|(at, tag)| match *tag {
            BODY | BODY_PART => {
                self.is_truncated(*at)
                    || outline.child(*at, PREVIEW).is_some() && self.text_in(*at).is_none()
            }
            OLD_TRUNCATED
            | OLD_MIME_TRUNCATED
            | OLD_CONTACT_TRUNCATED
            | OLD_EVENT_TRUNCATED
            | OLD_TASK_TRUNCATED => outline.text(*at).trim() == "1",
            FIND_PREVIEW => !outline.text(*at).is_empty(),
            _ => false,
        })
    }

    fn is_truncated(&self, body: Place) -> bool {
        let Some(truncated) = self.outline.child(body, TRUNCATED) else {
            return false;
        };
        // An empty element says it too.
        matches!(self.outline.text(truncated).trim(), "1" | "true" | "")
    }

    /// The first rule by which the item is marked, and the text that stands for it.
    fn classified(&self, inside: &[(Place, Tag)]) -> Option<(&'w str, String)> {
        self.rules.iter().find_map(|rule| {
            let classified = rule.classified.as_ref()?;
            // Of an appointment that repeats, one that does not is marked for all.
            let marked = inside.iter().any(|(at, tag)| match *tag {
                tag if SUBJECTS.contains(&tag) => classified.marks_subject(self.outline.text(*at)),
                BODY | BODY_PART => {
                    let text = self.text_in(*at);
                    text.is_some_and(|text| self.marks(rule, *at, &text.bytes))
                }
                OLD_MIME => marks_mail(classified, &self.bytes_in(*at).unwrap_or_default()),
                OLD_BODY | OLD_CONTACT_BODY | OLD_EVENT_BODY | OLD_TASK_BODY | FIND_PREVIEW => {
                    classified.marks_body(self.outline.text(*at))
                }
                _ => false,
            });
            marked.then(|| {
                let text = classified.text.replace("{rule}", &rule.id);
                (rule.id.as_str(), text)
            })
        })
    }

    fn marks(&self, rule: &Rule, body: Place, bytes: &[u8]) -> bool {
        let Some(classified) = &rule.classified else {
            return false;
        };
        match self.outline.text_of(body, BODY_TYPE) {
            Some("4") => marks_mail(classified, bytes),
            Some("2") => {
                let html = String::from_utf8_lossy(bytes);
                classified.marks_body(&html)
                    || !classified.body.is_empty() && classified.marks_body(&html_text(&html))
            }
            _ => classified.marks_body(&String::from_utf8_lossy(bytes)),
        }
    }

    /// A text stands in place of everything that an item holds besides its head.
    fn withhold(&mut self, inside: &[(Place, Tag)], rule: &str, text: &str) {
        self.answered.done.withheld += 1;
        self.answered.done.by(rule);
        for (at, tag) in inside {
            match *tag {
                BODY | BODY_PART => self.withhold_body(*at, text),
                OLD_BODY | OLD_CONTACT_BODY | OLD_EVENT_BODY | OLD_TASK_BODY | FIND_PREVIEW => {
                    self.edits.set(*at, text.as_bytes());
                }
                OLD_MIME | OLD_CONTACT_RTF | OLD_EVENT_RTF | OLD_TASK_RTF => self.edits.remove(*at),
                FIND_HAS_ATTACHMENTS => self.edits.set(*at, b"0"),
                ATTACHMENTS | OLD_ATTACHMENTS => {
                    for (one, tag) in self.outline.inside(*at) {
                        if tag == FILE_REFERENCE || tag == OLD_REFERENCE {
                            let reference = self.outline.text(one).to_owned();
                            self.answered.withheld.push((reference, rule.to_owned()));
                        }
                    }
                    self.edits.remove(*at);
                }
                _ => {}
            }
        }
    }

    fn withhold_body(&mut self, body: Place, text: &str) {
        let outline = self.outline;
        if let Some(preview) = outline.child(body, PREVIEW) {
            self.edits.set(preview, text.as_bytes());
        }
        let Some(found) = self.text_in(body) else {
            return;
        };
        let new = match outline.text_of(body, BODY_TYPE) {
            Some("2") => format!("<html><body><p>{}</p></body></html>", escaped(text)).into_bytes(),
            Some("4") => replaced(&found.bytes, text),
            Some("3") => rtf::of(text).into_bytes(),
            _ => text.as_bytes().to_vec(),
        };
        let (at, length) = (found.at, new.len());
        self.put(at, new);
        if let Some(truncated) = outline.child(body, TRUNCATED) {
            self.edits.set(truncated, b"0");
        }
        if let Some(size) = outline.child(body, ESTIMATED_SIZE) {
            self.edits.set(size, length.to_string().as_bytes());
        }
    }

    fn attachments(
        &mut self,
        list: Place,
        each: Tag,
        (from, to): (&str, &str),
        notes: &mut Vec<String>,
    ) {
        let outline = self.outline;
        let (mut left, mut gone) = (0, Vec::new());
        for (at, tag) in outline.children(list) {
            if tag != each {
                left += 1;
                continue;
            }
            let text = |new, old| {
                outline
                    .text_of(at, new)
                    .or_else(|| outline.text_of(at, old))
            };
            let size = text(ESTIMATED_SIZE, OLD_SIZE).and_then(|size| size.trim().parse().ok());
            let names: Vec<&str> = text(DISPLAY_NAME, OLD_NAME).into_iter().collect();
            let met = Met {
                names: &names,
                declared: outline.text_of(at, CONTENT_TYPE),
                size,
                from: Some(from),
                to: Some(to),
                ..Met::default()
            };
            let Some((rule, attachments)) = judged(self.rules, &met) else {
                left += 1;
                continue;
            };
            self.answered.done.by(&rule.id);
            if let Some(reference) = text(FILE_REFERENCE, OLD_REFERENCE) {
                let withheld = (reference.to_owned(), rule.id.clone());
                self.answered.withheld.push(withheld);
            }
            if attachments.action == Action::Remove {
                self.answered.done.removed += 1;
                notes.push(attachments.text_for(&met, &rule.id));
                gone.push(at);
            } else {
                self.answered.done.blocked += 1;
                left += 1;
            }
        }
        if left == 0 {
            self.edits.remove(list);
        } else {
            gone.into_iter().for_each(|at| self.edits.remove(at));
        }
    }
}

/// Whether an element holds what a marked mail must not show.
const fn is_content(tag: Tag) -> bool {
    matches!(
        tag,
        BODY | BODY_PART
            | ATTACHMENTS
            | OLD_ATTACHMENTS
            | OLD_BODY
            | OLD_CONTACT_BODY
            | OLD_EVENT_BODY
            | OLD_TASK_BODY
            | FIND_PREVIEW
    )
}

/// The texts of these elements in an item, as one list of addresses.
pub(super) fn texts_of(outline: &Outline<'_>, inside: &[(Place, Tag)], tags: &[Tag]) -> String {
    let found = inside.iter().filter(|(_, tag)| tags.contains(tag));
    let texts: Vec<&str> = found.map(|(at, _)| outline.text(*at)).collect();
    texts.join(", ")
}

/// Whether the beginning of a mail has all of its headers.
fn has_end_of_headers(mail: &[u8]) -> bool {
    ["\r\n\r\n", "\n\n"]
        .iter()
        .any(|end| memchr::memmem::find(mail, end.as_bytes()).is_some())
}
