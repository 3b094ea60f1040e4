//! The parts of a multipart answer: changed, taken out, numbered again, and put together.

use std::borrow::Cow;

use super::bodies::TextAt;
use super::{Answered, PART, Walk};
use crate::multipart::Multipart;
use crate::wbxml::Place;

impl<'w> Walk<'w, '_> {
    pub(super) fn put(&mut self, at: TextAt, new: Vec<u8>) {
        match at {
            TextAt::Element(element) => self.edits.set(element, &new),
            TextAt::Part(part) => {
                if let Some(slot) = self.parts.get_mut(part).filter(|_| part > 0) {
                    *slot = Cow::Owned(new);
                    self.parts_changed = true;
                }
            }
        }
    }

    /// Takes a part out, where nothing else names it.
    pub(super) fn drop_part(&mut self, part: usize) {
        let named = self
            .parts_named()
            .filter(|(_, named)| *named == part)
            .count();
        if named > 1 {
            self.put(TextAt::Part(part), Vec::new());
        } else if part > 0 && part < self.parts.len() {
            self.dropped.push(part);
            self.parts_changed = true;
        }
    }

    /// The elements that name a part.
    fn parts_named(&self) -> impl Iterator<Item = (Place, usize)> + use<'w> {
        let outline = self.outline;
        let all = outline
            .root()
            .into_iter()
            .flat_map(|(root, _)| outline.inside(root));
        all.filter(|(_, tag)| *tag == PART)
            .filter_map(|(at, _)| Some((at, outline.text(at).trim().parse().ok()?)))
    }

    /// The parts behind one that was taken out move up.
    fn renumber(&mut self) {
        let mut dropped = std::mem::take(&mut self.dropped);
        dropped.sort_unstable();
        dropped.dedup();
        let Some(&first) = dropped.first() else {
            return;
        };
        for (at, part) in self.parts_named().collect::<Vec<_>>() {
            if part > first {
                let before = dropped.partition_point(|gone| *gone < part);
                self.edits.set(at, (part - before).to_string().as_bytes());
            }
        }
        for part in dropped.into_iter().rev() {
            self.parts.remove(part);
        }
    }

    pub(super) fn finish(mut self, multipart: bool) -> Answered {
        self.renumber();
        let Self {
            edits,
            mut parts,
            parts_changed,
            mut answered,
            ..
        } = self;
        if edits.is_empty() && !parts_changed {
            return answered;
        }
        let message = edits.apply();
        answered.body = Some(if multipart {
            if let Some(first) = parts.first_mut() {
                *first = Cow::Owned(message);
            }
            Multipart::written(&parts)
        } else {
            message
        });
        answered
    }
}
