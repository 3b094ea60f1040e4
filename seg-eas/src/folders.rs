//! Folders that a device does not see, or can't change: `[[eas.folders]]` of policies.toml.
//!
//! ActiveSync names a folder by an id of the server's, and says what it is in the answer to
//! FolderSync alone. So the answers are read ([`listed`]): folders that are to be hidden are left out,
//! and what the others are is told, to be remembered for the requests that name them ([`judge`]).

use serde::Deserialize;

use crate::Command;
use crate::content::{Scope, Subject};
use crate::wbxml::{Edits, Limits, Outline, OutlineError, Place, Tag};

/// The types of folders (MS-ASCMD "Type (FolderSync)"): number, name, class.
const TYPES: [(u8, &str, &str); 19] = [
    (1, "user", "email"),
    (2, "inbox", "email"),
    (3, "drafts", "email"),
    (4, "deleted", "email"),
    (5, "sent", "email"),
    (6, "outbox", "email"),
    (7, "tasks", "tasks"),
    (8, "calendar", "calendar"),
    (9, "contacts", "contacts"),
    (10, "notes", "notes"),
    (11, "journal", "journal"),
    (12, "user-mail", "email"),
    (13, "user-calendar", "calendar"),
    (14, "user-contacts", "contacts"),
    (15, "user-tasks", "tasks"),
    (16, "user-journal", "journal"),
    (17, "user-notes", "notes"),
    (18, "unknown", "unknown"),
    (19, "recipient-cache", "contacts"),
];

/// One `[[eas.folders]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderRule {
    /// Its name, for people and logs.
    pub id: String,
    /// What becomes of the folders.
    pub action: FolderAction,
    /// Which ones, by type.
    #[serde(default)]
    pub types: Vec<FolderType>,
    /// And by class: all types of it.
    #[serde(default)]
    pub classes: Vec<FolderClass>,
    /// For whom it holds. Every condition that is given must hold.
    #[serde(default)]
    pub scope: Scope,
    /// For whom it does not hold. One condition that holds is enough.
    #[serde(default)]
    pub except: Scope,
}

/// What becomes of folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FolderAction {
    /// The device does not know of them.
    Hide,
    /// The device sees them and can't change what is in them.
    ReadOnly,
}

/// A type by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FolderType(u8);

impl TryFrom<String> for FolderType {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let found = TYPES.iter().find(|(_, known, _)| *known == name);
        found.map(|(number, ..)| Self(*number)).ok_or_else(|| {
            let known = TYPES.map(|(_, name, _)| name).join(", ");
            format!("`{name}` is no type of folder; there are {known}")
        })
    }
}

/// A class by its name: the number of the first type of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FolderClass(u8);

impl TryFrom<String> for FolderClass {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let found = TYPES.iter().find(|(.., class)| *class == name);
        found.map(|(number, ..)| Self(*number)).ok_or_else(|| {
            format!(
                "`{name}` is no class of folders; there are email, calendar, contacts, tasks, notes, \
                 journal, unknown"
            )
        })
    }
}

impl FolderAction {
    /// As it is written in a rule.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hide => "hide",
            Self::ReadOnly => "read-only",
        }
    }
}

impl FolderRule {
    /// What is wrong with it, beyond what its types say.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        if self.id.is_empty() {
            return Err("a rule about folders needs an id".to_owned());
        }
        if self.types.is_empty() && self.classes.is_empty() {
            return Err(format!(
                "folders \"{}\" is about none; give it types, classes or both",
                self.id
            ));
        }
        Ok(())
    }

    /// Whether it holds for somebody.
    #[must_use]
    pub fn holds_for(&self, subject: &Subject<'_>) -> bool {
        Scope::holds(&self.scope, &self.except, subject)
    }

    fn is_about(&self, kind: u8) -> bool {
        let class_of = |kind: u8| {
            let found = TYPES.iter().find(|(number, ..)| *number == kind);
            found.map(|(.., class)| *class)
        };
        let is_of = |listed: &FolderClass| class_of(listed.0) == class_of(kind);
        self.types.contains(&FolderType(kind))
            || class_of(kind).is_some() && self.classes.iter().any(is_of)
    }
}

/// What the first rule that is about a type of folder makes of it.
#[must_use]
pub fn action(rules: &[&FolderRule], kind: u8) -> Option<FolderAction> {
    decides(rules, kind).map(|rule| rule.action)
}

/// The rule that decides about a folder of a type: the first one that is about it.
#[must_use]
pub fn decides<'r>(rules: &[&'r FolderRule], kind: u8) -> Option<&'r FolderRule> {
    rules.iter().copied().find(|rule| rule.is_about(kind))
}

const SYNC_COLLECTION: Tag = Tag::new(0, 0x0F);
const COLLECTION_ID: Tag = Tag::new(0, 0x12);
const SYNC_COMMANDS: Tag = Tag::new(0, 0x16);
const ADD: Tag = Tag::new(0, 0x07);
const CHANGE: Tag = Tag::new(0, 0x08);
const DELETE: Tag = Tag::new(0, 0x09);
const APPLICATION_DATA: Tag = Tag::new(0, 0x1D);
const READ: Tag = Tag::new(2, 0x15);
const SOURCE_FOLDER: Tag = Tag::new(5, 0x08);
const TARGET_FOLDER: Tag = Tag::new(5, 0x09);
const ESTIMATE_FOLDER: Tag = Tag::new(6, 0x0A);
const FOLDER: Tag = Tag::new(7, 0x08);
const PARENT: Tag = Tag::new(7, 0x09);
const KIND: Tag = Tag::new(7, 0x0A);
const STATUS: Tag = Tag::new(7, 0x0C);
const CHANGES: Tag = Tag::new(7, 0x0E);
const FOLDER_ADD: Tag = Tag::new(7, 0x0F);
const FOLDER_DELETE: Tag = Tag::new(7, 0x10);
const FOLDER_UPDATE: Tag = Tag::new(7, 0x11);
const COUNT: Tag = Tag::new(7, 0x17);
const MEETING_FOLDER: Tag = Tag::new(8, 0x06);
const PING_FOLDER: Tag = Tag::new(13, 0x0B);
const EMPTY_CONTENTS: Tag = Tag::new(20, 0x12);
const REPLY_FOLDER: Tag = Tag::new(21, 0x0C);
const SEARCH_RESULT: Tag = Tag::new(15, 0x0E);
const FIND_RESULT: Tag = Tag::new(25, 0x12);

/// Elements that hold the id of a folder.
const NAMES: [Tag; 9] = [
    COLLECTION_ID,
    SOURCE_FOLDER,
    TARGET_FOLDER,
    ESTIMATE_FOLDER,
    FOLDER,
    PARENT,
    MEETING_FOLDER,
    PING_FOLDER,
    REPLY_FOLDER,
];

/// What an answer to FolderSync says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// The answer without what is hidden; `None`: it stays as it is.
    pub body: Option<Vec<u8>>,
    /// Folders that there are, and their types.
    pub there: Vec<(String, u8)>,
    /// Folders that there are no more.
    pub gone: Vec<String>,
    /// How many were left out.
    pub hidden: usize,
}

/// Reads an answer to FolderSync. `None` for one that tells of an error.
///
/// # Errors
/// It is malformed.
pub fn listed(rules: &[&FolderRule], answer: &[u8]) -> Result<Option<Listed>, OutlineError> {
    let outline = Outline::read(answer, Limits::TRAFFIC)?;
    let Some((root, _)) = outline.root() else {
        return Ok(None);
    };
    if outline.text_of(root, STATUS) != Some("1") {
        return Ok(None);
    }
    let mut listed = Listed::default();
    let Some(changes) = outline.child(root, CHANGES) else {
        return Ok(Some(listed));
    };
    let mut edits = Edits::new(&outline);
    for (at, tag) in outline.children(changes) {
        let id = outline.text_of(at, FOLDER).unwrap_or_default();
        if tag == FOLDER_DELETE {
            listed.gone.push(id.to_owned());
        }
        if tag != FOLDER_ADD && tag != FOLDER_UPDATE {
            continue;
        }
        let kind = outline.text_of(at, KIND).unwrap_or_default().trim();
        let kind = kind.parse().unwrap_or(UNTOLD);
        listed.there.push((id.to_owned(), kind));
        if action(rules, kind) == Some(FolderAction::Hide) {
            listed.hidden += 1;
            edits.remove(at);
        }
    }
    if listed.hidden > 0 {
        if let Some(count) = outline.child(changes, COUNT) {
            let told: usize = outline.text(count).trim().parse().unwrap_or_default();
            let told = told.saturating_sub(listed.hidden).to_string();
            edits.set(count, told.as_bytes());
        }
        listed.body = Some(edits.apply());
    }
    Ok(Some(listed))
}

/// "Unknown folder type", which stands for what a server does not tell.
pub const UNTOLD: u8 = 18;

/// What a request does that a rule forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forbidden {
    /// It names a hidden folder.
    Hidden,
    /// It changes what is in these folders, which it may read: their ids.
    Written(Vec<String>),
    /// It names a folder of which nobody here knows what it is.
    Untold,
}

/// What is wrong with a request that names folders. `kind` knows what they are.
///
/// # Errors
/// It is malformed.
pub fn judge(
    rules: &[&FolderRule],
    command: Command,
    body: &[u8],
    kind: impl Fn(&str) -> Option<u8>,
) -> Result<Option<Forbidden>, OutlineError> {
    if body.is_empty() {
        return Ok(None);
    }
    let outline = Outline::read(body, Limits::TRAFFIC)?;
    let Some((root, _)) = outline.root() else {
        return Ok(None);
    };
    let (mut untold, mut written) = (false, Vec::new());
    for (at, tag) in outline.inside(root).filter(|(_, tag)| NAMES.contains(tag)) {
        let id = outline.text(at);
        // The root of all folders, and "none".
        if id.is_empty() || id == "0" {
            continue;
        }
        let Some(kind) = kind(id) else {
            untold = true;
            continue;
        };
        match action(rules, kind) {
            Some(FolderAction::Hide) => return Ok(Some(Forbidden::Hidden)),
            Some(FolderAction::ReadOnly) if writes(&outline, command, at, tag) => {
                written.push(id.to_owned());
            }
            Some(FolderAction::ReadOnly) | None => {}
        }
    }
    Ok(if untold {
        Some(Forbidden::Untold)
    } else {
        (!written.is_empty()).then_some(Forbidden::Written(written))
    })
}

/// Whether a request changes the folder that is named at this place.
fn writes(outline: &Outline<'_>, command: Command, at: Place, tag: Tag) -> bool {
    let parent = |tag: Tag| {
        let (root, _) = outline.root()?;
        outline
            .inside(root)
            .find(|(parent, found)| {
                *found == tag && outline.children(*parent).any(|(child, _)| child == at)
            })
            .map(|(parent, _)| parent)
    };
    match command {
        Command::Sync => parent(SYNC_COLLECTION)
            .and_then(|collection| outline.child(collection, SYNC_COMMANDS))
            .is_some_and(|commands| {
                outline
                    .children(commands)
                    .any(|(change, tag)| is_change(outline, change, tag))
            }),
        Command::MoveItems => true,
        Command::FolderCreate | Command::FolderDelete | Command::FolderUpdate => true,
        Command::ItemOperations => tag == COLLECTION_ID && parent(EMPTY_CONTENTS).is_some(),
        _ => false,
    }
}

/// Whether a command of a Sync changes more than whether something was read.
fn is_change(outline: &Outline<'_>, change: Place, tag: Tag) -> bool {
    match tag {
        ADD | DELETE => true,
        CHANGE => outline
            .child(change, APPLICATION_DATA)
            .is_none_or(|data| outline.children(data).any(|(_, field)| field != READ)),
        _ => false,
    }
}

/// An answer to Search or Find without what was found in hidden folders; `None`: it stays.
///
/// # Errors
/// It is malformed.
pub fn found(
    rules: &[&FolderRule],
    answer: &[u8],
    kind: impl Fn(&str) -> Option<u8>,
) -> Result<Option<Vec<u8>>, OutlineError> {
    if answer.is_empty() {
        return Ok(None);
    }
    let outline = Outline::read(answer, Limits::TRAFFIC)?;
    let Some((root, _)) = outline.root() else {
        return Ok(None);
    };
    let mut edits = Edits::new(&outline);
    let results = |tag: Tag| tag == SEARCH_RESULT || tag == FIND_RESULT;
    for (at, _) in outline.inside(root).filter(|(_, tag)| results(*tag)) {
        let hidden = outline
            .inside(at)
            .filter(|(_, tag)| *tag == COLLECTION_ID)
            .any(|(id, _)| {
                kind(outline.text(id))
                    .is_some_and(|kind| action(rules, kind) == Some(FolderAction::Hide))
            });
        if hidden {
            edits.remove(at);
        }
    }
    Ok((!edits.is_empty()).then(|| edits.apply()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wbxml::Writer;
    use proptest::prelude::*;

    fn rules() -> Vec<FolderRule> {
        #[derive(Deserialize)]
        struct File {
            folders: Vec<FolderRule>,
        }
        let text = "[[folders]]\nid = 'no-notes'\naction = 'hide'\nclasses = ['notes']\n\
                    [[folders]]\nid = 'look'\naction = 'read-only'\ntypes = ['calendar', 'sent']\n";
        toml::from_str::<File>(text).unwrap().folders
    }

    fn hierarchy(folders: &[(&str, &str)], count: &str) -> Vec<u8> {
        let mut writer = Writer::message();
        writer.start(Tag::new(7, 0x16));
        writer.element(STATUS, "1").unwrap();
        writer.element(Tag::new(7, 0x12), "{1}1").unwrap();
        writer.start(CHANGES);
        writer.element(COUNT, count).unwrap();
        for (id, kind) in folders {
            writer.start(FOLDER_ADD);
            writer.element(FOLDER, id).unwrap();
            writer.element(PARENT, "0").unwrap();
            writer.element(KIND, kind).unwrap();
            writer.end().unwrap();
        }
        writer.end().unwrap();
        writer.end().unwrap();
        writer.finish().unwrap()
    }

    fn kind(id: &str) -> Option<u8> {
        match id {
            "5" => Some(2),
            "8" => Some(8),
            "10" | "17" => Some(10),
            _ => None,
        }
    }

    #[test]
    fn hidden_folders_are_left_out_and_all_are_told() {
        let rules = rules();
        let rules: Vec<_> = rules.iter().collect();
        let given = hierarchy(&[("5", "2"), ("10", "10"), ("8", "8"), ("17", "17")], "4");
        let listed = listed(&rules, &given).unwrap().unwrap();
        assert_eq!(listed.body, Some(hierarchy(&[("5", "2"), ("8", "8")], "2")));
        assert_eq!(listed.hidden, 2);
        assert_eq!(listed.there.len(), 4);
        let plain = hierarchy(&[("5", "2")], "1");
        assert_eq!(super::listed(&rules, &plain).unwrap().unwrap().body, None);
        let refused = b"\x03\x01\x6a\x00\x00\x07\x56\x4c\x039\x00\x01\x01";
        assert_eq!(super::listed(&rules, refused), Ok(None));
    }

    /// A Sync of one collection with one command in it.
    fn sync(id: &str, command: Option<(Tag, Option<Tag>)>) -> Vec<u8> {
        let mut writer = Writer::message();
        for open in [0x05, 0x1C, 0x0F] {
            writer.start(Tag::new(0, open));
        }
        writer.element(Tag::new(0, 0x0B), "1").unwrap();
        writer.element(COLLECTION_ID, id).unwrap();
        if let Some((command, field)) = command {
            writer.start(SYNC_COMMANDS);
            writer.start(command);
            writer.element(Tag::new(0, 0x0D), "8:1").unwrap();
            if let Some(field) = field {
                writer.start(APPLICATION_DATA);
                writer.element(field, "1").unwrap();
                writer.end().unwrap();
            }
            writer.end().unwrap();
            writer.end().unwrap();
        }
        for _ in 0..3 {
            writer.end().unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn what_a_request_may_not_do_is_told() {
        let rules = rules();
        let rules: Vec<_> = rules.iter().collect();
        let judged =
            |command, body: &[u8]| judge(&rules, command, body, kind).expect("well-formed");
        let written = || Some(Forbidden::Written(vec!["8".to_owned()]));
        let of_sync = |id, command| judged(Command::Sync, &sync(id, command));
        let subject = Tag::new(4, 0x26);
        assert_eq!(of_sync("5", Some((ADD, Some(subject)))), None);
        assert_eq!(of_sync("8", None), None);
        assert_eq!(of_sync("8", Some((CHANGE, Some(READ)))), None);
        assert_eq!(of_sync("8", Some((CHANGE, Some(subject)))), written());
        assert_eq!(of_sync("8", Some((DELETE, None))), written());
        assert_eq!(of_sync("10", None), Some(Forbidden::Hidden));
        assert_eq!(of_sync("99", None), Some(Forbidden::Untold));
        assert_eq!(judged(Command::Sync, b""), None);

        let moved = |from: &str, to: &str| {
            let mut writer = Writer::message();
            writer.start(Tag::new(5, 0x05));
            writer.start(Tag::new(5, 0x06));
            writer.element(Tag::new(5, 0x07), "5:1").unwrap();
            writer.element(SOURCE_FOLDER, from).unwrap();
            writer.element(TARGET_FOLDER, to).unwrap();
            writer.end().unwrap();
            writer.end().unwrap();
            judged(Command::MoveItems, &writer.finish().unwrap())
        };
        assert_eq!(moved("5", "5"), None);
        assert_eq!(moved("5", "8"), written());
        assert_eq!(moved("10", "5"), Some(Forbidden::Hidden));
    }

    #[test]
    fn what_was_found_in_a_hidden_folder_is_left_out() {
        let rules = rules();
        let rules: Vec<_> = rules.iter().collect();
        let answer = |ids: &[&str]| {
            let mut writer = Writer::message();
            writer.start(Tag::new(15, 0x05));
            for id in ids {
                writer.start(SEARCH_RESULT);
                writer.element(COLLECTION_ID, id).unwrap();
                writer.end().unwrap();
            }
            writer.end().unwrap();
            writer.finish().unwrap()
        };
        let left = found(&rules, &answer(&["5", "10"]), kind).unwrap();
        let outline_of = |body: &[u8]| {
            let outline = Outline::read(body, Limits::TRAFFIC).unwrap();
            let (root, _) = outline.root().unwrap();
            let ids = outline
                .inside(root)
                .filter(|(_, tag)| *tag == COLLECTION_ID);
            ids.map(|(at, _)| outline.text(at).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(outline_of(&left.unwrap()), ["5"]);
        assert_eq!(found(&rules, &answer(&["5", "99"]), kind), Ok(None));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for bad in [
            "id = 'x'\naction = 'hide'\ntypes = ['note']\n",
            "id = 'x'\naction = 'hide'\nclasses = ['mail']\n",
            "id = 'x'\naction = 'remove'\n",
        ] {
            assert!(toml::from_str::<FolderRule>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_return(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            crate::fuzz::folders(&data);
            crate::fuzz::folders(&[&[3, 1, 0x6A, 0][..], &data].concat());
        }
    }
}
