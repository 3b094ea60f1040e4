//! The keys of Sync and FolderSync, and the answers that take them back.
//!
//! A key names what a device has. A server that answers Status 3 (Sync) or 9 (FolderSync) says that
//! it knows nothing of the kind: the device begins anew with key 0 (MS-ASCMD, "Status (Sync)",
//! "Status (FolderSync)").

use std::borrow::Cow;

use crate::answer::Answer;
use crate::wbxml::{Error, Event, Limits, Reader, Tag, WriteError, Writer};

const SYNC: Tag = Tag::new(0, 0x05);
const CLASS: Tag = Tag::new(0, 0x10);
const SYNC_KEY: Tag = Tag::new(0, 0x0B);
const STATUS: Tag = Tag::new(0, 0x0E);
const COLLECTION: Tag = Tag::new(0, 0x0F);
const COLLECTION_ID: Tag = Tag::new(0, 0x12);
const COLLECTIONS: Tag = Tag::new(0, 0x1C);
const FOLDER_SYNC: Tag = Tag::new(7, 0x16);
const FOLDER_SYNC_KEY: Tag = Tag::new(7, 0x12);
const FOLDER_STATUS: Tag = Tag::new(7, 0x0C);

/// The key with which a device begins.
pub const FIRST: &str = "0";

/// The most collections that are read of one Sync: ten times what phones have.
const MAX_COLLECTIONS: usize = 1_000;

/// A collection of a Sync request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collection<'a> {
    /// Its folder.
    pub id: &'a str,
    /// What the device has of it; empty where it does not say.
    pub key: &'a str,
    /// Its class; stands there up to version 12.1.
    pub class: Option<&'a str>,
}

/// The collections of a Sync request. An empty body names none.
///
/// # Errors
/// When the body is no well-formed message.
pub fn collections(body: &[u8]) -> Result<Vec<Collection<'_>>, Error> {
    let mut found = Vec::new();
    if body.is_empty() {
        return Ok(found);
    }
    let mut reader = Reader::new(body, Limits::TRAFFIC)?;
    let mut path = Vec::new();
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Start(tag) => {
                path.push(tag);
                if path == [SYNC, COLLECTIONS, COLLECTION] && found.len() < MAX_COLLECTIONS {
                    found.push(Collection::default());
                }
            }
            Event::End => {
                path.pop();
            }
            Event::Text(text) => {
                let [SYNC, COLLECTIONS, COLLECTION, tag] = path.as_slice() else {
                    continue;
                };
                let Some(collection) = found.last_mut() else {
                    continue;
                };
                match *tag {
                    SYNC_KEY => collection.key = text,
                    COLLECTION_ID => collection.id = text,
                    CLASS => collection.class = Some(text),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The key of a FolderSync request.
///
/// # Errors
/// When the body is no well-formed message.
pub fn folder_key(body: &[u8]) -> Result<Option<&str>, Error> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(body, Limits::TRAFFIC)?;
    let (mut key, mut path) = (None, Vec::new());
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Start(tag) => path.push(tag),
            Event::End => {
                path.pop();
            }
            Event::Text(text) if path == [FOLDER_SYNC, FOLDER_SYNC_KEY] => key = Some(text),
            _ => {}
        }
    }
    Ok(key)
}

/// The answer that takes the keys of these collections back: Status 3 in each.
#[must_use]
pub fn sync_anew(collections: &[Collection<'_>]) -> Answer {
    let write = || -> Result<Vec<u8>, WriteError> {
        let mut writer = Writer::message();
        writer.start(SYNC);
        if collections.is_empty() {
            writer.element(STATUS, "3")?;
        } else {
            writer.start(COLLECTIONS);
            for collection in collections {
                writer.start(COLLECTION);
                if let Some(class) = collection.class {
                    writer.element(CLASS, class)?;
                }
                writer.element(SYNC_KEY, FIRST)?;
                writer.element(COLLECTION_ID, collection.id)?;
                writer.element(STATUS, "3")?;
                writer.end()?;
            }
            writer.end()?;
        }
        writer.end()?;
        writer.finish()
    };
    Answer::message(Cow::Owned(write().unwrap_or_default()))
}

/// The answer to a Sync that sends the device to FolderSync first: Status 12, the folder hierarchy
/// has changed.
#[must_use]
pub const fn sync_folders_first() -> Answer {
    Answer::message(Cow::Borrowed(b"\x03\x01\x6a\x00\x45\x4e\x0312\x00\x01\x01"))
}

/// The answer to a Ping that sends the device to FolderSync first: Status 7, folder hierarchy sync
/// required.
#[must_use]
pub const fn ping_folders_first() -> Answer {
    Answer::message(Cow::Borrowed(
        b"\x03\x01\x6a\x00\x00\x0d\x45\x47\x037\x00\x01\x01",
    ))
}

/// The answer that takes the key of the folders back: Status 9.
#[must_use]
pub fn folders_anew() -> Answer {
    let write = || -> Result<Vec<u8>, WriteError> {
        let mut writer = Writer::message();
        writer.start(FOLDER_SYNC);
        writer.element(FOLDER_STATUS, "9")?;
        writer.end()?;
        writer.finish()
    };
    Answer::message(Cow::Owned(write().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC_OF_TWO: &[u8] = b"\x03\x01\x6a\x00\x45\x5c\x4f\x50\x03Email\x00\x01\x4b\x0317\x00\x01\
        \x52\x03a\x00\x01\x56\x47\x4c\x031\x00\x01\x01\x01\x01\x4f\x4b\x030\x00\x01\x52\x03b\x00\x01\x01\x01\x01";

    #[test]
    fn collections_have_their_keys() {
        let found = collections(SYNC_OF_TWO).unwrap();
        let expected = [
            Collection {
                id: "a",
                key: "17",
                class: Some("Email"),
            },
            Collection {
                id: "b",
                key: "0",
                class: None,
            },
        ];
        assert_eq!(found, expected);
        assert_eq!(collections(b""), Ok(Vec::new()));
        assert!(collections(b"\x03\x01\x6a\x00\x45").is_err());
    }

    #[test]
    fn keys_are_taken_back() {
        let found = collections(SYNC_OF_TWO).unwrap();
        assert_eq!(
            &sync_anew(&found[..1]).body[..],
            b"\x03\x01\x6a\x00\x45\x5c\x4f\x50\x03Email\x00\x01\x4b\x030\x00\x01\x52\x03a\x00\x01\
              \x4e\x033\x00\x01\x01\x01\x01"
        );
        assert_eq!(
            &sync_anew(&[]).body[..],
            b"\x03\x01\x6a\x00\x45\x4e\x033\x00\x01\x01"
        );
        assert_eq!(
            &folders_anew().body[..],
            b"\x03\x01\x6a\x00\x00\x07\x56\x4c\x039\x00\x01\x01"
        );
    }

    #[test]
    fn a_folder_sync_has_one_key() {
        let body = b"\x03\x01\x6a\x00\x00\x07\x56\x52\x030\x00\x01\x01";
        assert_eq!(folder_key(body), Ok(Some("0")));
        assert_eq!(folder_key(b""), Ok(None));
    }
}
