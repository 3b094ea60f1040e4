//! What a client may not have is left out of the server's answer.
//!
//! Elements are dropped whole, with everything in them; every other byte stays as the server sent
//! it. Which elements: attachments and MIME content where a policy blocks them (the MIME content
//! of a mail holds its attachments), and where a policy lists the fields of a mail that a client
//! may see, everything else in an item. Works on pieces of any length with bounded memory, and
//! counts the items that pass.

use crate::markup::{Lexer, Sink, Unreadable};

/// Deepest nesting that is followed.
const DEPTH_MAX: usize = 256;

/// What is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redaction {
    /// Attachments, and with them the MIME content.
    pub attachments: bool,
    /// The MIME content.
    pub mime_content: bool,
    /// Everything in an item but these fields and its ids.
    pub fields: Option<Fields>,
}

impl Redaction {
    /// Whether nothing is left out.
    pub fn is_nothing(&self) -> bool {
        !self.attachments && !self.mime_content && self.fields.is_none()
    }
}

/// A list of fields that a client may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields(u32);

/// The words of the list and the elements that they mean, all of the types namespace.
const FIELDS: &[(&str, &[&str])] = &[
    ("subject", &["Subject"]),
    ("sender", &["From", "Sender"]),
    ("time", &["DateTimeReceived", "DateTimeSent"]),
    ("read", &["IsRead"]),
    (
        "recipients",
        &["ToRecipients", "CcRecipients", "DisplayTo", "DisplayCc"],
    ),
    ("importance", &["Importance", "Sensitivity"]),
    ("size", &["Size"]),
    ("has_attachments", &["HasAttachments"]),
    (
        "conversation",
        &["ConversationId", "ConversationIndex", "ConversationTopic"],
    ),
    ("preview", &["Preview"]),
    ("meeting", &["Start", "End", "Location", "IsAllDayEvent"]),
];

/// The mail itself; newer servers give it in UTF-8 as well.
const MIME_CONTENT: [&[u8]; 2] = [b"MimeContent", b"MimeContentUTF8"];

/// What names an item without telling anything of it.
const ALWAYS: &[&str] = &["ItemId", "ParentFolderId", "ItemClass"];

impl Fields {
    /// The list of these words.
    ///
    /// # Errors
    /// The first word that means no field.
    pub fn of<'w>(words: impl IntoIterator<Item = &'w str>) -> Result<Self, &'w str> {
        let mut set = 0;
        for word in words {
            let at = FIELDS.iter().position(|(name, _)| *name == word);
            set |= 1 << at.ok_or(word)?;
        }
        Ok(Self(set))
    }

    /// The words there are.
    pub fn words() -> impl Iterator<Item = &'static str> {
        FIELDS.iter().map(|(word, _)| *word)
    }

    fn keep(self, local: &[u8]) -> bool {
        ALWAYS.iter().any(|name| name.as_bytes() == local)
            || FIELDS.iter().enumerate().any(|(at, (_, elements))| {
                self.0 & (1 << at) != 0 && elements.iter().any(|name| name.as_bytes() == local)
            })
    }
}

/// Leaves elements out of one answer.
#[derive(Debug)]
pub struct Redactor {
    lexer: Lexer,
    picking: Picking,
}

impl Redactor {
    /// A redactor before the first byte.
    pub fn new(redaction: Redaction) -> Self {
        Self {
            lexer: Lexer::default(),
            picking: Picking {
                redaction,
                open: Vec::new(),
                dropping: 0,
                items: 0,
                dropped: 0,
                out: Vec::new(),
            },
        }
    }

    /// Reads the next piece and gives what may pass of it and of what was held before.
    ///
    /// # Errors
    /// The answer can't be followed: nothing of this piece may pass.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<u8>, Unreadable> {
        self.picking.out.reserve(piece.len());
        self.lexer.feed(piece, &mut self.picking)?;
        Ok(std::mem::take(&mut self.picking.out))
    }

    /// Ends the answer.
    ///
    /// # Errors
    /// It has ended within an element.
    pub fn finish(&self) -> Result<(), Unreadable> {
        if self.lexer.is_between() && self.picking.open.is_empty() && self.picking.dropping == 0 {
            Ok(())
        } else {
            Err(Unreadable)
        }
    }

    /// Items that have passed so far.
    pub const fn items(&self) -> u64 {
        self.picking.items
    }

    /// Elements that were left out so far.
    pub const fn dropped(&self) -> u64 {
        self.picking.dropped
    }
}

/// What an open element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Its children are items.
    Container,
    /// A mail, an appointment, a contact …
    Item,
    Other,
}

#[derive(Debug)]
struct Picking {
    redaction: Redaction,
    open: Vec<Place>,
    /// Open elements of the one that is being left out; 0: none is.
    dropping: usize,
    items: u64,
    dropped: u64,
    out: Vec<u8>,
}

impl Picking {
    fn drops(&self, local: &[u8]) -> bool {
        let redaction = &self.redaction;
        if MIME_CONTENT.contains(&local) && (redaction.mime_content || redaction.attachments) {
            return true;
        }
        self.open.last() == Some(&Place::Item)
            && (redaction.attachments && local == b"Attachments"
                || redaction.fields.is_some_and(|fields| !fields.keep(local)))
    }

    fn place(&self, local: &[u8]) -> Place {
        match self.open.last() {
            Some(Place::Container) => Place::Item,
            // Items of folders and searches, and what a synchronisation has made or changed.
            Some(Place::Other) if matches!(local, b"Items" | b"Create" | b"Update") => {
                Place::Container
            }
            _ => Place::Other,
        }
    }
}

impl Sink for Picking {
    fn other(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        if self.dropping == 0 {
            self.out.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn start(
        &mut self,
        tag: &[u8],
        local: &[u8],
        empty: bool,
        _behind: usize,
    ) -> Result<(), Unreadable> {
        if self.open.len() + self.dropping >= DEPTH_MAX {
            return Err(Unreadable);
        }
        if self.dropping > 0 || self.drops(local) {
            self.dropped += u64::from(self.dropping == 0);
            self.dropping += usize::from(!empty);
            return Ok(());
        }
        let place = self.place(local);
        self.items += u64::from(place == Place::Item);
        if !empty {
            self.open.push(place);
        }
        self.out.extend_from_slice(tag);
        Ok(())
    }

    fn end(&mut self, tag: &[u8], _behind: usize) -> Result<(), Unreadable> {
        if self.dropping > 0 {
            self.dropping -= 1;
            return Ok(());
        }
        self.open.pop().ok_or(Unreadable)?;
        self.out.extend_from_slice(tag);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "<?xml version=\"1.0\"?><s:Envelope><s:Body><m:GetItemResponse><m:ResponseMessages>\
        <m:GetItemResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode><m:Items>\
        <t:Message><t:MimeContent CharacterSet=\"UTF-8\">TUlNRQ==</t:MimeContent><t:MimeContentUTF8>VVRGOA==</t:MimeContentUTF8><t:ItemId Id=\"a\" ChangeKey=\"k\"/>\
        <t:Subject>A &amp; B</t:Subject><t:Body BodyType=\"Text\">secret <![CDATA[<t:Subject>]]></t:Body>\
        <t:Attachments><t:FileAttachment><t:Name>x.pdf</t:Name></t:FileAttachment></t:Attachments>\
        <t:DateTimeReceived>2026</t:DateTimeReceived><t:From><t:Mailbox><t:Name>Bob</t:Name></t:Mailbox></t:From>\
        <t:IsRead>false</t:IsRead><t:HasAttachments>true</t:HasAttachments></t:Message></m:Items>\
        </m:GetItemResponseMessage></m:ResponseMessages></m:GetItemResponse></s:Body></s:Envelope>";

    fn redacted(redaction: Redaction, size: usize) -> (String, u64) {
        let mut redactor = Redactor::new(redaction);
        let mut out = Vec::new();
        for piece in ANSWER.as_bytes().chunks(size) {
            out.extend(redactor.feed(piece).expect("readable"));
        }
        redactor.finish().expect("complete");
        (String::from_utf8(out).expect("UTF-8"), redactor.items())
    }

    #[test]
    fn nothing_to_leave_out_changes_nothing() {
        for size in [1, 7, 64, 10_000] {
            let (out, items) = redacted(Redaction::default(), size);
            assert_eq!((out.as_str(), items), (ANSWER, 1));
        }
    }

    #[test]
    fn attachments_go_with_the_mime_content_that_holds_them() {
        for size in [1, 7, 64, 10_000] {
            let (out, _) = redacted(
                Redaction {
                    attachments: true,
                    ..Redaction::default()
                },
                size,
            );
            for gone in ["TUlNRQ", "VVRGOA", "MimeContent", "x.pdf"] {
                assert!(!out.contains(gone), "{gone}: {out}");
            }
            assert!(!out.contains("t:Attachments"), "{out}");
            assert!(
                out.contains("secret") && out.contains("<t:HasAttachments>true</t:HasAttachments>")
            );
        }
    }

    #[test]
    fn mime_content_goes_by_both_its_names() {
        let redaction = Redaction {
            mime_content: true,
            ..Redaction::default()
        };
        let (out, _) = redacted(redaction, 7);
        assert!(!out.contains("MimeContent"), "{out}");
        assert!(out.contains("x.pdf") && out.contains("secret"), "{out}");
    }

    #[test]
    fn fields_that_are_not_listed_go() {
        let fields = Fields::of(["subject", "sender", "time", "read"]).expect("fields");
        for size in [1, 7, 64, 10_000] {
            let (out, items) = redacted(
                Redaction {
                    fields: Some(fields),
                    ..Redaction::default()
                },
                size,
            );
            assert_eq!(items, 1);
            assert!(out.contains("A &amp; B") && out.contains("Bob") && out.contains("IsRead"));
            assert!(out.contains("<t:ItemId Id=\"a\" ChangeKey=\"k\"/>"));
            for gone in ["secret", "TUlNRQ", "VVRGOA", "x.pdf", "HasAttachments"] {
                assert!(!out.contains(gone), "{gone}: {out}");
            }
            assert!(out.ends_with("</s:Envelope>"));
        }
        assert_eq!(Fields::of(["subject", "body"]), Err("body"));
    }

    /// Found by fuzzing: a tag of 100 KB passed where it came in one piece.
    #[test]
    fn the_longest_tag_is_the_same_in_any_pieces() {
        for (length, passes) in [(65_536, true), (65_537, false)] {
            let name = "a b='";
            let value = "x".repeat(length - name.len() - 4);
            let answer = format!("<{name}{value}'/>");
            assert_eq!(answer.len(), length);
            for size in [1, 1_000, 30_000, 65_535, length] {
                let mut redactor = Redactor::new(Redaction::default());
                let mut pieces = answer.as_bytes().chunks(size);
                let read = pieces.all(|piece| redactor.feed(piece).is_ok());
                assert_eq!(read, passes, "{length} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_ends_early_is_not_finished() {
        let mut redactor = Redactor::new(Redaction::default());
        redactor.feed(b"<a><b>").expect("readable");
        assert_eq!(redactor.finish(), Err(Unreadable));
    }
}
