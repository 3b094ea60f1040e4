//! What a device sends: SendMail, SmartReply and SmartForward. Links that were rewritten for it are
//! restored, attachments that the rules keep from it do not leave by it.

use super::attachments::Action;
use super::mime::{Mail, Visit};
use super::{Done, Met, Rule, judged};
use crate::wbxml::{Content, Edits, Limits, Outline, OutlineError, Tag};

const MIME: Tag = Tag::new(21, 0x10);

/// A mail on its way out that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// The new body; `None`: it stays as it is, byte for byte.
    pub body: Option<Vec<u8>>,
    /// The rule that refuses the mail for an attachment in it.
    pub refused: Option<String>,
    /// What was done.
    pub done: Done,
}

/// Looks at the WBXML body of a SendMail, SmartReply or SmartForward.
///
/// # Errors
/// When it can't be read.
pub fn sent(rules: &[&Rule], body: &[u8]) -> Result<Sent, OutlineError> {
    let outline = Outline::read(body, Limits::TRAFFIC)?;
    let Some(at) = outline
        .root()
        .and_then(|(root, _)| outline.child(root, MIME))
    else {
        return Ok(Sent::default());
    };
    let raw = match outline.content(at) {
        Content::Opaque(bytes) => bytes,
        Content::Text(text) => text.as_bytes(),
        Content::None | Content::Several => return Ok(Sent::default()),
    };
    let mut looked = mail(rules, raw);
    if let Some(new) = looked.body.take() {
        let mut edits = Edits::new(&outline);
        edits.set(at, &new);
        looked.body = Some(edits.apply());
    }
    Ok(looked)
}

/// Looks at a mail that is sent as it is, up to version 12.1.
#[must_use]
pub fn mail(rules: &[&Rule], raw: &[u8]) -> Sent {
    let mut sent = Sent::default();
    let Some(mail) = Mail::read(raw) else {
        return sent;
    };
    let mut outgoing = Outgoing {
        rules,
        refused: None,
        done: &mut sent.done,
    };
    // A signed mail is the sender's own: a change would break it, and it holds no link of ours
    // that he has not signed.
    if mail.is_sealed() {
        return sent;
    }
    let new = mail.edited(&mut outgoing);
    sent.refused = outgoing.refused.take();
    sent.body = new;
    sent
}

struct Outgoing<'o> {
    rules: &'o [&'o Rule],
    refused: Option<String>,
    done: &'o mut Done,
}

impl Visit for Outgoing<'_> {
    fn attachment(&mut self, met: &Met<'_>) -> Option<String> {
        let (rule, attachments) = judged(self.rules, met)?;
        self.done.by(&rule.id);
        if attachments.action == Action::BlockFetch {
            self.done.blocked += 1;
            self.refused.get_or_insert_with(|| rule.id.clone());
            return None;
        }
        self.done.removed += 1;
        Some(attachments.text_for(met, &rule.id))
    }

    fn text(&mut self, _html: bool, text: &[u8]) -> Option<Vec<u8>> {
        let mut new: Option<Vec<u8>> = None;
        for rule in self.rules {
            let Some(links) = &rule.links else { continue };
            let text = new.as_deref().unwrap_or(text);
            if let Some((restored, count)) = links.template.restored(text) {
                self.done.links += count;
                self.done.by(&rule.id);
                new = Some(restored);
            }
        }
        new
    }
}
