//! What a quarantined device sees: the folders that every phone expects, empty but for one message
//! in the Inbox that says why.
//!
//! Nothing of it comes from the mail server, and the keys are ours: they begin with [`PREFIX`], so
//! that, at release, what the device has is known to be nothing of the server's. Public sources do
//! not show what Exchange sends to a quarantined device; this is a design, not a copy.

use std::borrow::Cow;

use crate::answer::Answer;
use crate::sync_keys::{self, FIRST};
use crate::wbxml::{Tag, WriteError, Writer};

/// How every key and id of a quarantine begins. Servers make keys of numbers and braces.
pub const PREFIX: &str = "seg-quarantine";

const BEGUN: &str = "seg-quarantine-0";
const TOLD: &str = "seg-quarantine-1";
const INBOX: &str = "seg-quarantine:inbox";
const NOTICE: &str = "seg-quarantine:notice";

/// Name, id and type of the folders (MS-ASCMD "Type (FolderSync)").
const FOLDERS: [(&str, &str, &str); 6] = [
    ("Inbox", INBOX, "2"),
    ("Drafts", "seg-quarantine:drafts", "3"),
    ("Deleted Items", "seg-quarantine:deleted", "4"),
    ("Sent Items", "seg-quarantine:sent", "5"),
    ("Calendar", "seg-quarantine:calendar", "8"),
    ("Contacts", "seg-quarantine:contacts", "9"),
];

/// The one message.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// Who sends it, as an address.
    pub from: &'a str,
    /// Whom it is for.
    pub to: &'a str,
    /// Its subject.
    pub subject: &'a str,
    /// What it says, in lines.
    pub text: &'a str,
    /// When it came: `2026-11-22T09:00:00.000Z`.
    pub date: &'a str,
}

/// What a Sync of a quarantined device is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Synced {
    /// This, at once.
    Answer(Answer),
    /// Nothing is new: a device that asked to wait waits.
    Nothing,
}

/// The answer to a FolderSync with this key.
#[must_use]
pub fn folders(key: Option<&str>) -> Answer {
    match key {
        None | Some(FIRST) => hierarchy(&FOLDERS),
        Some(key) if key.starts_with(PREFIX) => hierarchy(&[]),
        Some(_) => sync_keys::folders_anew(),
    }
}

/// The answer to a Sync of these collections.
#[must_use]
pub fn sync(collections: &[sync_keys::Collection<'_>], notice: &Notice<'_>) -> Synced {
    let foreign = |collection: &sync_keys::Collection<'_>| !collection.id.starts_with(PREFIX);
    if collections.iter().any(foreign) {
        return Synced::Answer(sync_keys::sync_folders_first());
    }
    let news: Vec<_> = collections
        .iter()
        .filter(|collection| {
            collection.key == FIRST || collection.key == BEGUN && collection.id == INBOX
        })
        .copied()
        .collect();
    if news.is_empty() {
        return Synced::Nothing;
    }
    let body = write_sync(&news, notice).unwrap_or_default();
    Synced::Answer(Answer::message(Cow::Owned(body)))
}

/// The answer to Settings: everything is taken note of, nothing is told.
#[must_use]
pub const fn settings() -> Answer {
    // <Settings><Status>1</Status><DeviceInformation><Status>1
    Answer::message(Cow::Borrowed(
        b"\x03\x01\x6a\x00\x00\x12\x45\x46\x031\x00\x01\x56\x46\x031\x00\x01\x01\x01",
    ))
}

fn hierarchy(folders: &[(&str, &str, &str)]) -> Answer {
    let tag = |token| Tag::new(7, token);
    let write = || -> Result<Vec<u8>, WriteError> {
        let mut writer = Writer::message();
        writer.start(tag(0x16));
        writer.element(tag(0x0C), "1")?;
        writer.element(tag(0x12), TOLD)?;
        writer.start(tag(0x0E));
        writer.element(tag(0x17), &folders.len().to_string())?;
        for (name, id, kind) in folders {
            writer.start(tag(0x0F));
            writer.element(tag(0x08), id)?;
            writer.element(tag(0x09), "0")?;
            writer.element(tag(0x07), name)?;
            writer.element(tag(0x0A), kind)?;
            writer.end()?;
        }
        writer.end()?;
        writer.end()?;
        writer.finish()
    };
    Answer::message(Cow::Owned(write().unwrap_or_default()))
}

fn write_sync(
    news: &[sync_keys::Collection<'_>],
    notice: &Notice<'_>,
) -> Result<Vec<u8>, WriteError> {
    let tag = |token| Tag::new(0, token);
    let mut writer = Writer::message();
    writer.start(tag(0x05));
    writer.start(tag(0x1C));
    for collection in news {
        writer.start(tag(0x0F));
        if let Some(class) = collection.class {
            writer.element(tag(0x10), class)?;
        }
        let told = collection.key == BEGUN;
        writer.element(tag(0x0B), if told { TOLD } else { BEGUN })?;
        writer.element(tag(0x12), collection.id)?;
        writer.element(tag(0x0E), "1")?;
        if told {
            writer.start(tag(0x16));
            writer.start(tag(0x07));
            writer.element(tag(0x0D), NOTICE)?;
            writer.start(tag(0x1D));
            write_notice(&mut writer, notice)?;
            writer.end()?;
            writer.end()?;
            writer.end()?;
        }
        writer.end()?;
    }
    writer.end()?;
    writer.end()?;
    writer.finish()
}

fn write_notice(writer: &mut Writer, notice: &Notice<'_>) -> Result<(), WriteError> {
    let email = |token| Tag::new(2, token);
    let base = |token| Tag::new(17, token);
    // Strings on the wire can't hold NUL.
    let plain = |text: &str| text.replace('\0', " ");
    writer.element(email(0x16), &plain(notice.to))?;
    writer.element(email(0x18), &plain(notice.from))?;
    writer.element(email(0x14), &plain(notice.subject))?;
    writer.element(email(0x0F), notice.date)?;
    writer.element(email(0x12), "1")?;
    writer.element(email(0x15), "0")?;
    let text = plain(notice.text);
    writer.start(base(0x0A));
    writer.element(base(0x06), "1")?;
    writer.element(base(0x0C), &text.len().to_string())?;
    writer.element(base(0x0B), &text)?;
    writer.end()?;
    writer.element(email(0x13), "IPM.Note")?;
    writer.element(email(0x39), "65001")?;
    writer.element(email(0x3C), "urn:content-classes:message")?;
    writer.element(base(0x16), "1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync_keys::Collection;
    use crate::wbxml::{Limits, text};

    const NOTICE_OF_TEST: Notice<'_> = Notice {
        from: "postmaster@corp.example",
        to: "alice@corp.example",
        subject: "Your device waits",
        text: "It has to be enrolled.\nAsk the help desk.",
        date: "2026-11-22T09:00:00.000Z",
    };

    fn collection<'a>(id: &'a str, key: &'a str) -> Collection<'a> {
        Collection {
            id,
            key,
            class: None,
        }
    }

    fn shown(answer: &Answer) -> String {
        text::decode_to_xml(&answer.body, &Limits::TRAFFIC).unwrap()
    }

    #[test]
    fn a_device_begins_with_our_folders() {
        let first = shown(&folders(Some("0")));
        assert!(first.contains("<Count>6</Count>"), "{first}");
        assert!(first.contains("seg-quarantine:inbox"), "{first}");
        let again = shown(&folders(Some(TOLD)));
        assert!(again.contains("<Count>0</Count>"), "{again}");
        assert_eq!(folders(Some("{1b2c}17")), sync_keys::folders_anew());
    }

    #[test]
    fn the_inbox_holds_one_message_that_comes_once() {
        let begun = sync(&[collection(INBOX, "0")], &NOTICE_OF_TEST);
        let Synced::Answer(begun) = begun else {
            panic!("{begun:?}")
        };
        assert!(shown(&begun).contains(BEGUN));
        let told = sync(&[collection(INBOX, BEGUN)], &NOTICE_OF_TEST);
        let Synced::Answer(told) = told else {
            panic!("{told:?}")
        };
        let told = shown(&told);
        assert!(told.contains("Your device waits"), "{told}");
        assert!(
            told.contains("<SyncKey>seg-quarantine-1</SyncKey>"),
            "{told}"
        );
        assert_eq!(
            sync(&[collection(INBOX, TOLD)], &NOTICE_OF_TEST),
            Synced::Nothing
        );
        let drafts = collection("seg-quarantine:drafts", BEGUN);
        assert_eq!(sync(&[drafts], &NOTICE_OF_TEST), Synced::Nothing);
    }

    #[test]
    fn what_the_device_had_before_is_taken_back() {
        let before = [collection("5", "{x}2"), collection(INBOX, "0")];
        assert_eq!(
            sync(&before, &NOTICE_OF_TEST),
            Synced::Answer(sync_keys::sync_folders_first())
        );
    }

    #[test]
    fn settings_are_noted() {
        let noted = shown(&settings());
        assert!(noted.contains("DeviceInformation"), "{noted}");
    }
}
