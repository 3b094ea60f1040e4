//! Mail of which an answer shows a part only.
//!
//! A marking may stand behind the place where a body was cut off, in a header, which only mail as MIME
//! has, or in a subject that the device has not asked for. Where a rule looks there, the mail is asked
//! for whole before the part is given away: one ItemOperations request for all such mails of an answer
//! ([`asks`]), whose answer is read here ([`read`]) and goes nowhere.

use super::Rule;
use super::answer::{FETCH, FETCH_PROPERTIES, FETCH_STATUS, walked};
use crate::wbxml::{Outline, OutlineError, Place, Tag, Writer};

const ADD: Tag = Tag::new(0, 0x07);
const CHANGE: Tag = Tag::new(0, 0x08);
const SYNC_FETCH: Tag = Tag::new(0, 0x0A);
const SERVER_ID: Tag = Tag::new(0, 0x0D);
const COLLECTION: Tag = Tag::new(0, 0x0F);
const COLLECTION_ID: Tag = Tag::new(0, 0x12);
const APPLICATION_DATA: Tag = Tag::new(0, 0x1D);
const SEARCH_RESULT: Tag = Tag::new(15, 0x0E);
const SEARCH_PROPERTIES: Tag = Tag::new(15, 0x0F);
const LONG_ID: Tag = Tag::new(15, 0x18);
const FIND_RESULT: Tag = Tag::new(25, 0x12);
const FIND_PROPERTIES: Tag = Tag::new(25, 0x13);

const ITEM_OPERATIONS: Tag = Tag::new(20, 0x05);
const STORE: Tag = Tag::new(20, 0x07);
const OPTIONS: Tag = Tag::new(20, 0x08);
const BODY_PREFERENCE: Tag = Tag::new(17, 0x05);
const BODY_TYPE: Tag = Tag::new(17, 0x06);
const TRUNCATION_SIZE: Tag = Tag::new(17, 0x07);
const MIME_SUPPORT: Tag = Tag::new(0, 0x22);

/// Bytes of a mail of which the headers alone are wanted.
const HEADERS: &str = "65536";

/// How a server knows a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemId {
    /// By its folder and its id in it.
    Server {
        /// The folder.
        collection: String,
        /// The id.
        server: String,
    },
    /// By what a search has called it.
    Long(String),
}

/// What the whole text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whole {
    /// It holds no marking.
    Unmarked,
    /// It is marked, by this rule.
    Marked(String),
    /// Nobody has seen it.
    Unseen,
}

/// What the rules must see of a mail, besides its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its headers, which only mail as MIME has.
    pub(super) headers: bool,
    /// Its text, to the end.
    pub(super) texts: bool,
}

impl Wanted {
    pub(super) fn by(rules: &[&Rule]) -> Self {
        let mut wanted = Self {
            headers: false,
            texts: false,
        };
        for classified in rules.iter().filter_map(|rule| rule.classified.as_ref()) {
            wanted.headers |= !classified.headers.is_empty();
            wanted.texts |= !classified.body.is_empty();
        }
        wanted
    }
}

/// Whether a rule looks for markings, and so may want mail whole.
#[must_use]
pub fn looks_for_marks(rules: &[&Rule]) -> bool {
    rules.iter().any(|rule| rule.classified.is_some())
}

/// The mails of an answer that must be seen whole. One that has no id can't be, and is not among them.
///
/// # Errors
/// When the answer can't be read.
pub fn unseen(rules: &[&Rule], body: &[u8], multipart: bool) -> Result<Vec<ItemId>, OutlineError> {
    if body.is_empty() || !looks_for_marks(rules) {
        return Ok(Vec::new());
    }
    let found = walked(rules, body, multipart, |walk| {
        let items = items(walk.outline).into_iter();
        items
            .filter(|(at, _)| walk.is_part_of_unmarked(*at))
            .filter_map(|(_, id)| id)
            .collect()
    })?;
    Ok(found.unwrap_or_default())
}

/// A request for as much of these mails as the rules must see.
#[must_use]
pub fn asks(rules: &[&Rule], ids: &[ItemId]) -> Vec<u8> {
    let wanted = Wanted::by(rules);
    let mut writer = Writer::message();
    writer.start(ITEM_OPERATIONS);
    for id in ids {
        // What a writer refuses is a NUL in an id, and that came out of a string.
        let _written = fetch(&mut writer, id, wanted);
    }
    let _root = writer.end();
    writer.finish().unwrap_or_default()
}

fn fetch(writer: &mut Writer, id: &ItemId, wanted: Wanted) -> Result<(), crate::wbxml::WriteError> {
    writer.start(FETCH);
    writer.element(STORE, "Mailbox")?;
    match id {
        ItemId::Server { collection, server } => {
            writer.element(COLLECTION_ID, collection)?;
            writer.element(SERVER_ID, server)?;
        }
        ItemId::Long(id) => writer.element(LONG_ID, id)?,
    }
    writer.start(OPTIONS);
    if wanted.headers {
        // For every mail, not for signed ones alone.
        writer.element(MIME_SUPPORT, "2")?;
    }
    writer.start(BODY_PREFERENCE);
    if wanted.headers {
        writer.element(BODY_TYPE, "4")?;
    } else {
        // Plain text: the server makes it of whatever the mail is written in.
        writer.element(BODY_TYPE, "1")?;
    }
    if !wanted.texts {
        writer.element(TRUNCATION_SIZE, HEADERS)?;
    }
    writer.end()?;
    writer.end()?;
    writer.end()
}

/// Reads the answer to [`asks`].
///
/// # Errors
/// When it can't be read.
pub fn read(rules: &[&Rule], body: &[u8]) -> Result<Vec<(ItemId, Whole)>, OutlineError> {
    let found = walked(rules, body, false, |walk| {
        let outline = walk.outline;
        let Some((root, _)) = outline.root() else {
            return Vec::new();
        };
        let succeeded: Vec<Place> = outline
            .inside(root)
            .filter(|(at, tag)| *tag == FETCH && outline.text_of(*at, FETCH_STATUS) == Some("1"))
            .filter_map(|(at, _)| outline.child(at, FETCH_PROPERTIES))
            .collect();
        let items = items(outline).into_iter();
        items
            .filter_map(|(at, id)| {
                let whole = succeeded.contains(&at).then(|| walk.whole(at));
                Some((id?, whole.unwrap_or(Whole::Unseen)))
            })
            .collect()
    })?;
    Ok(found.unwrap_or_default())
}

/// The items of an answer, and how the server knows each: the ids stand before an item, beside it.
pub(super) fn items(outline: &Outline<'_>) -> Vec<(Place, Option<ItemId>)> {
    let (mut collection, mut server, mut long) = (None, None, None);
    let mut items = Vec::new();
    let Some((root, _)) = outline.root() else {
        return items;
    };
    for (at, tag) in outline.inside(root) {
        match tag {
            COLLECTION | FETCH | SEARCH_RESULT | FIND_RESULT => {
                (collection, server, long) = (None, None, None);
            }
            ADD | CHANGE | SYNC_FETCH => (server, long) = (None, None),
            COLLECTION_ID => collection = Some(outline.text(at)),
            SERVER_ID => server = Some(outline.text(at)),
            LONG_ID => long = Some(outline.text(at)),
            APPLICATION_DATA | FETCH_PROPERTIES | SEARCH_PROPERTIES | FIND_PROPERTIES => {
                let by_server = collection.zip(server).map(|(collection, server)| {
                    let (collection, server) = (collection.to_owned(), server.to_owned());
                    ItemId::Server { collection, server }
                });
                let id = by_server.or_else(|| Some(ItemId::Long(long?.to_owned())));
                items.push((at, id));
            }
            _ => {}
        }
    }
    items
}
