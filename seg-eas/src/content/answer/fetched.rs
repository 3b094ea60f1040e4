//! What a Fetch of ItemOperations has brought, and GetAttachment: an attachment, or a mail that is one.

use std::borrow::Cow;

use super::bodies::marks_mail;
use super::{
    ACCESS_DENIED, BEGIN, CONTENT_TYPE, FETCH_DATA, FETCH_PROPERTIES, FETCH_STATUS, FETCH_TOTAL,
    FILE_REFERENCE, LINK_ID, PART, Walk, withholds_unnamed, withholds_unread,
};
use crate::content::attachments::{Met, decoded};
use crate::content::coding::base64;
use crate::content::mime::{Mail, Visit};
use crate::content::range::{LOOKED_AT, RANGE, begins};
use crate::content::shape::Shape;
use crate::content::{Rule, TooLarge, judged};
use crate::wbxml::Place;

impl<'w> Walk<'w, '_> {
    /// An attachment that was fetched, or another thing.
    pub(super) fn fetched(&mut self, fetch: Place, withheld: &dyn Fn(&str) -> Option<String>) {
        let outline = self.outline;
        let Some(properties) = outline.child(fetch, FETCH_PROPERTIES) else {
            return;
        };
        let reference = outline.text_of(fetch, FILE_REFERENCE);
        let is_document = outline.child(fetch, LINK_ID).is_some();
        if reference.is_none() && (is_document || outline.child(properties, FETCH_DATA).is_none()) {
            return;
        }
        let Fetched {
            begin,
            size,
            content,
        } = self.content_of(properties);
        let declared = outline.text_of(properties, CONTENT_TYPE);
        // Of a piece the server tells how long the whole is.
        let total = outline.text_of(properties, FETCH_TOTAL);
        let total = total.and_then(|total| total.trim().parse::<u64>().ok());
        let is_read = begin.is_some();
        let begin = begin.unwrap_or_default();
        let met = Met {
            declared,
            begin: &begin,
            size: Some(total.unwrap_or_default().max(size)),
            ..Met::default()
        };
        let is_mail = may_be_mail(declared, &begin);
        let rule = reference
            .and_then(withheld)
            .or_else(|| judged(self.rules, &met).map(|(rule, _)| rule.id.clone()))
            // What it is, nobody can tell.
            .or_else(|| withholds_unread(self.rules).filter(|_| !is_read))
            // Which one of those that were listed it is, nobody can tell.
            .or_else(|| withholds_unnamed(self.rules).filter(|_| reference.is_none()))
            .or_else(|| {
                let content = content().filter(|_| is_mail)?;
                withheld_in_mail(self.rules, declared, &content).map(|rule| rule.id.clone())
            });
        let Some(rule) = rule else {
            let range = outline.text_of(properties, RANGE);
            let is_enough = begin.len() as u64 >= LOOKED_AT && !is_mail || range.is_none();
            if let Some(reference) = reference.filter(|_| begins(range) && is_enough) {
                self.answered.passed.push(reference.to_owned());
            }
            return;
        };
        self.answered.done.blocked += 1;
        self.answered.done.by(&rule);
        if let Some(status) = outline.child(fetch, FETCH_STATUS) {
            self.edits.set(status, ACCESS_DENIED);
        }
        if let Some(part) = outline
            .text_of(properties, PART)
            .and_then(|part| part.trim().parse::<usize>().ok())
        {
            self.drop_part(part);
        }
        self.edits.remove(properties);
    }

    /// What a Fetch has brought.
    fn content_of(&self, properties: Place) -> Fetched<impl FnOnce() -> Option<Vec<u8>> + use<'w>> {
        let outline = self.outline;
        let data = outline.child(properties, FETCH_DATA);
        let text = data.map(|data| self.bytes_in(data).unwrap_or_default());
        let part = outline
            .text_of(properties, PART)
            .and_then(|part| part.trim().parse::<usize>().ok())
            .and_then(|part| self.parts.get(part));
        let bytes = part.map_or([].as_slice(), |bytes| bytes);
        let (begin, size) = match &text {
            Some(text) => (decoded(text, BEGIN), text.len() as u64 / 4 * 3),
            None => {
                let begin = bytes.get(..bytes.len().min(BEGIN)).unwrap_or_default();
                (Some(begin.to_vec()), bytes.len() as u64)
            }
        };
        let part = part.cloned();
        Fetched {
            begin,
            size,
            content: move || match (text, part) {
                (Some(text), _) => Some(base64(&text, usize::MAX)),
                (None, part) => part.map(Cow::into_owned),
            },
        }
    }
}

/// What a Fetch has brought: its first bytes where they can be read, how many there are, and all of them.
struct Fetched<C> {
    begin: Option<Vec<u8>>,
    size: u64,
    content: C,
}

/// Whether what was fetched can be a mail: it says so, or begins with a header.
pub(super) fn may_be_mail(declared: Option<&str>, begin: &[u8]) -> bool {
    let name = begin
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'-');
    let length = name.count();
    is_declared_mail(declared) || length > 1 && begin.get(length) == Some(&b':')
}

fn is_declared_mail(declared: Option<&str>) -> bool {
    declared.is_some_and(|declared| {
        let class = declared.trim_start().get(.."message/".len());
        class.is_some_and(|class| class.eq_ignore_ascii_case("message/"))
    })
}

/// The rule that withholds a mail that was fetched as an attachment: for what is in it, as it would be
/// taken out of a mail that is shown.
pub(super) fn withheld_in_mail<'r>(
    rules: &[&'r Rule],
    declared: Option<&str>,
    raw: &[u8],
) -> Option<&'r Rule> {
    let marks = |rule: &&&Rule| {
        let classified = rule.classified.as_ref();
        classified.is_some_and(|classified| marks_mail(classified, raw))
    };
    if let Some(rule) = rules.iter().find(marks) {
        return Some(rule);
    }
    let looked = Shape::of(raw).and_then(|shape| {
        let mail = Mail::read(&shape)?;
        let mut looking = Looking { rules, found: None };
        if !mail.is_sealed() {
            let _unchanged = mail.edited(&mut looking)?;
        }
        Ok(looking.found)
    });
    match looked {
        Ok(found) => found,
        // A text that begins like a mail and is none.
        Err(_) if !is_declared_mail(declared) => None,
        Err(_) => {
            let mut rules = rules.iter().copied();
            rules.find(|rule| rule.too_large == TooLarge::Withhold)
        }
    }
}

/// Looks for attachments that a rule withholds, and changes nothing.
struct Looking<'l, 'r> {
    rules: &'l [&'r Rule],
    found: Option<&'r Rule>,
}

impl Visit for Looking<'_, '_> {
    fn attachment(&mut self, met: &Met<'_>) -> Option<String> {
        let found = judged(self.rules, met).map(|(rule, _)| rule);
        self.found = self.found.or(found);
        None
    }

    fn text(&mut self, _: bool, _: &str) -> Option<String> {
        None
    }
}
