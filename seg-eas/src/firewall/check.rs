//! The check of a body while it passes.
//!
//! The reads that PEAS and its like make through a mailbox server into the network behind it
//! (MS-ASCMD "Store (Search)", "LinkId", "UserName", "Password") are known by their tags.

use super::Violation;
use crate::Command;
use crate::wbxml::{Limits, Piece, PieceReader, Tag};

/// The code page of document libraries: nothing of it stands in a request about mail.
const DOCUMENT_LIBRARY: u8 = 19;
/// The name of the store in Search and ItemOperations.
const DOCUMENT_LIBRARY_NAME: &[u8] = b"DocumentLibrary";

const SEARCH_NAME: Tag = Tag::new(15, 0x08);
const SEARCH_LONG_ID: Tag = Tag::new(15, 0x18);
const SEARCH_USER_NAME: Tag = Tag::new(15, 0x1E);
const SEARCH_PASSWORD: Tag = Tag::new(15, 0x1F);
const FETCH_STORE: Tag = Tag::new(20, 0x07);
const FETCH_USER_NAME: Tag = Tag::new(20, 0x14);
const FETCH_PASSWORD: Tag = Tag::new(20, 0x15);
const FILE_REFERENCE: Tag = Tag::new(17, 0x11);

/// How much of a watched text is looked at, in bytes: more than the longest word that matters.
const WATCHED: usize = 32;

/// The check of one body. Fed piece by piece; a violation is final.
#[derive(Debug, Clone)]
pub struct Check {
    reader: PieceReader,
    judge: Judge,
}

#[derive(Debug, Clone)]
struct Judge {
    root: Option<Tag>,
    outward: bool,
    /// The text that is being watched, and its first bytes.
    watched: Option<(Tag, [u8; WATCHED], usize)>,
    violation: Option<Violation>,
}

impl Check {
    pub(super) fn new(
        command: Command,
        limits: Limits,
        refuse_outward: bool,
        length: Option<u64>,
    ) -> Self {
        Self {
            reader: PieceReader::new(limits, length),
            judge: Judge {
                root: command.root(),
                outward: refuse_outward,
                watched: None,
                violation: None,
            },
        }
    }

    /// Reads the next piece.
    ///
    /// # Errors
    /// What is wrong with the body so far.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Violation> {
        let judge = &mut self.judge;
        self.reader
            .feed(piece, &mut |piece, depth| judge.look(piece, depth))?;
        judge.violation.map_or(Ok(()), Err)
    }

    /// Says that no more will come; tells how many tags nobody knows.
    ///
    /// # Errors
    /// When the body is not whole.
    pub fn finish(&self) -> Result<u64, Violation> {
        self.reader.finish()?;
        Ok(self.reader.unknown_tags())
    }
}

impl Judge {
    fn look(&mut self, piece: Piece<'_>, depth: u32) {
        match piece {
            Piece::Start(tag) => {
                if depth == 1 {
                    self.root(tag);
                }
                self.element(tag);
            }
            Piece::Empty(tag) => {
                if depth == 0 {
                    self.root(tag);
                }
                self.element(tag);
                self.watched = None;
            }
            Piece::Text { bytes, .. } | Piece::Opaque { bytes, .. } => self.text(bytes),
            Piece::Reference(text) => self.text(text.as_bytes()),
            Piece::End => self.end_of_text(),
        }
    }

    fn root(&mut self, found: Tag) {
        if let Some(expected) = self.root.filter(|expected| *expected != found) {
            self.break_rule(Violation::Root { expected, found });
        }
    }

    fn element(&mut self, tag: Tag) {
        self.watched = None;
        if !self.outward {
            return;
        }
        if tag.page() == DOCUMENT_LIBRARY {
            return self.break_rule(Violation::DocumentLibrary);
        }
        match tag {
            SEARCH_USER_NAME | SEARCH_PASSWORD | FETCH_USER_NAME | FETCH_PASSWORD => {
                self.break_rule(Violation::Credentials);
            }
            SEARCH_NAME | FETCH_STORE | SEARCH_LONG_ID | FILE_REFERENCE => {
                self.watched = Some((tag, [0; WATCHED], 0));
            }
            _ => {}
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        if let Some((_, held, length)) = &mut self.watched {
            for (slot, byte) in held.iter_mut().skip(*length).zip(bytes) {
                *slot = *byte;
                *length += 1;
            }
        }
    }

    fn end_of_text(&mut self) {
        let Some((tag, held, length)) = self.watched.take() else {
            return;
        };
        let text = held.get(..length).unwrap_or_default().trim_ascii();
        match tag {
            SEARCH_NAME | FETCH_STORE => {
                if text.eq_ignore_ascii_case(DOCUMENT_LIBRARY_NAME) {
                    self.break_rule(Violation::DocumentLibrary);
                }
            }
            _ => {
                if leads_away(text) {
                    self.break_rule(Violation::Link);
                }
            }
        }
    }

    fn break_rule(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }
}

/// Whether a reference leads out of the mailbox: to a UNC path, or to an address with a scheme.
pub(super) fn leads_away(reference: &[u8]) -> bool {
    let unc = |slash: u8| slash == b'\\' || slash == b'/';
    let begins = matches!(reference, [a, b, ..] if unc(*a) && unc(*b));
    begins || memchr::memmem::find(reference, b"://").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::{Firewall, Unknown};
    use crate::wbxml::{ErrorKind, Writer};

    fn checked(command: Command, body: &[u8]) -> Result<u64, Violation> {
        checked_by(&Firewall::default(), command, body)
    }

    fn checked_by(firewall: &Firewall, command: Command, body: &[u8]) -> Result<u64, Violation> {
        let mut check = firewall.check(command, Some(body.len() as u64));
        for piece in body.chunks(3) {
            check.feed(piece)?;
        }
        check.finish()
    }

    /// A message of nested elements around a text.
    fn message(path: &[(u8, u8)], text: &str) -> Vec<u8> {
        let mut writer = Writer::message();
        for (page, token) in path {
            writer.start(Tag::new(*page, *token));
        }
        writer.text(text).unwrap();
        for _ in path {
            writer.end().unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn the_root_is_the_commands() {
        let sync = message(&[(0, 0x05), (0, 0x0B)], "0");
        assert_eq!(checked(Command::Sync, &sync), Ok(0));
        assert_eq!(
            checked(Command::FolderSync, &sync),
            Err(Violation::Root {
                expected: Tag::new(7, 0x16),
                found: Tag::new(0, 0x05)
            })
        );
        assert_eq!(
            checked(Command::Provision, b"\x03\x01\x6a\x00\x00\x0e\x05"),
            Ok(0)
        );
    }

    #[test]
    fn document_libraries_are_refused_in_every_form() {
        let refused =
            |command, path: &[(u8, u8)], text| checked(command, &message(path, text)).unwrap_err();
        for name in ["DocumentLibrary", "documentlibrary", " DocumentLibrary "] {
            let search = [(15, 0x05), (15, 0x07), (15, 0x08)];
            assert_eq!(
                refused(Command::Search, &search, name),
                Violation::DocumentLibrary
            );
            let fetch = [(20, 0x05), (20, 0x06), (20, 0x07)];
            assert_eq!(
                refused(Command::ItemOperations, &fetch, name),
                Violation::DocumentLibrary
            );
        }
        let link = [(15, 0x05), (15, 0x07), (15, 0x09), (15, 0x11), (19, 0x05)];
        assert_eq!(
            refused(Command::Search, &link, r"\\dc1\sysvol"),
            Violation::DocumentLibrary
        );
        let password = [(15, 0x05), (15, 0x07), (15, 0x0A), (15, 0x1F)];
        assert_eq!(
            refused(Command::Search, &password, "x"),
            Violation::Credentials
        );
        let user = [(20, 0x05), (20, 0x06), (20, 0x08), (20, 0x14)];
        assert_eq!(
            refused(Command::ItemOperations, &user, "x"),
            Violation::Credentials
        );
        let file = [(20, 0x05), (20, 0x06), (17, 0x11)];
        for away in [
            r"\\dc1\c$\x",
            "//dc1/c$/x",
            "https://portal/doc.docx",
            "file://x",
        ] {
            assert_eq!(
                refused(Command::ItemOperations, &file, away),
                Violation::Link
            );
        }
    }

    #[test]
    fn mail_is_searched_and_fetched() {
        let search = message(&[(15, 0x05), (15, 0x07), (15, 0x08)], "Mailbox");
        assert_eq!(checked(Command::Search, &search), Ok(0));
        let fetch = message(
            &[(20, 0x05), (20, 0x06), (17, 0x11)],
            "mail%2fINBOX%2f1%2f2",
        );
        assert_eq!(checked(Command::ItemOperations, &fetch), Ok(0));
    }

    #[test]
    fn document_libraries_are_let_through_where_the_policy_says_so() {
        let firewall = Firewall {
            document_library: super::super::Access::Allow,
            ..Firewall::default()
        };
        let search = message(&[(15, 0x05), (15, 0x07), (15, 0x08)], "DocumentLibrary");
        assert_eq!(checked_by(&firewall, Command::Search, &search), Ok(0));
    }

    #[test]
    fn unknown_tags_pass_with_a_count_or_are_refused() {
        let body = message(&[(0, 0x05), (0, 0x3F)], "x");
        assert_eq!(checked(Command::Sync, &body), Ok(1));
        let strict = Firewall {
            unknown_tags: Unknown::Refuse,
            ..Firewall::default()
        };
        let Err(Violation::Wbxml(error)) = checked_by(&strict, Command::Sync, &body) else {
            panic!("an unknown token has passed");
        };
        assert_eq!(error.kind, ErrorKind::UnknownToken(Tag::new(0, 0x3F)));
    }

    #[test]
    fn a_body_that_ends_early_is_refused() {
        let whole = message(&[(0, 0x05), (0, 0x0B)], "0");
        for end in 0..whole.len() {
            assert!(checked(Command::Sync, &whole[..end]).is_err(), "{end}");
        }
    }
}
