//! The commands of ActiveSync and what the gateway has to know about each.

use crate::wbxml::Tag;

/// An ActiveSync command (MS-ASHTTP 2.2.1.1.1.1.2, MS-ASCMD 2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Synchronises the items of folders; may be held open (Wait, HeartbeatInterval).
    Sync,
    /// Sends a message.
    SendMail,
    /// Forwards a message that the server completes.
    SmartForward,
    /// Answers a message that the server completes.
    SmartReply,
    /// Fetches an attachment, up to 12.1.
    GetAttachment,
    /// Lists the folders, in 2.5 and earlier.
    GetHierarchy,
    /// Creates a folder, in 2.5 and earlier.
    CreateCollection,
    /// Deletes a folder, in 2.5 and earlier.
    DeleteCollection,
    /// Moves a folder, in 2.5 and earlier.
    MoveCollection,
    /// Synchronises the folder hierarchy.
    FolderSync,
    /// Creates a folder.
    FolderCreate,
    /// Deletes a folder.
    FolderDelete,
    /// Renames or moves a folder.
    FolderUpdate,
    /// Moves items between folders.
    MoveItems,
    /// Counts the changes that a Sync would bring.
    GetItemEstimate,
    /// Accepts or declines meetings.
    MeetingResponse,
    /// Searches the mailbox, the address list or document libraries.
    Search,
    /// Reads and writes settings: out of office, device information, and more.
    Settings,
    /// Is held open until a folder changes.
    Ping,
    /// Fetches items and attachments, empties folders, moves conversations.
    ItemOperations,
    /// Negotiates policies; carries the order to wipe and its acknowledgement.
    Provision,
    /// Resolves names to recipients.
    ResolveRecipients,
    /// Has the server check a certificate.
    ValidateCert,
    /// Searches mailbox and address list, from 16.1.
    Find,
}

/// Whether a request may be sent a second time when a reused upstream connection died before it
/// gave a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replay {
    /// Never: the command changes something, and the server may have done it already.
    Never,
    /// Always: the command only reads, or a key in its body makes a repetition harmless.
    Safe,
    /// Only when the body holds nothing but Fetch; see [`crate::item_operations::fetch_only`].
    FetchOnly,
}

struct Row {
    command: Command,
    name: &'static str,
    /// The root element of the request and of the answer, where the body is WBXML.
    root: Option<Tag>,
    replay: Replay,
    finishes_detached: bool,
}

const fn row(
    command: Command,
    name: &'static str,
    root: Option<Tag>,
    replay: Replay,
    finishes_detached: bool,
) -> Row {
    Row {
        command,
        name,
        root,
        replay,
        finishes_detached,
    }
}

const fn root(page: u8, token: u8) -> Option<Tag> {
    Some(Tag::new(page, token))
}

/// One row a command, in the order of the command codes (MS-ASHTTP 2.2.1.1.1.1.2): the code is the
/// place in the table. Codes 5 to 8 are of protocol 2.5 and earlier.
#[rustfmt::skip]
static ROWS: [Row; Command::COUNT] = [
    //  command                    name                 root              replay             detached
    row(Command::Sync,             "Sync",              root(0, 0x05),    Replay::Safe,      false),
    row(Command::SendMail,         "SendMail",          root(21, 0x05),   Replay::Never,     true),
    row(Command::SmartForward,     "SmartForward",      root(21, 0x06),   Replay::Never,     true),
    row(Command::SmartReply,       "SmartReply",        root(21, 0x07),   Replay::Never,     true),
    row(Command::GetAttachment,    "GetAttachment",     None,             Replay::Never,     false),
    row(Command::GetHierarchy,     "GetHierarchy",      None,             Replay::Never,     false),
    row(Command::CreateCollection, "CreateCollection",  None,             Replay::Never,     true),
    row(Command::DeleteCollection, "DeleteCollection",  None,             Replay::Never,     true),
    row(Command::MoveCollection,   "MoveCollection",    None,             Replay::Never,     true),
    row(Command::FolderSync,       "FolderSync",        root(7, 0x16),    Replay::Safe,      false),
    row(Command::FolderCreate,     "FolderCreate",      root(7, 0x13),    Replay::Never,     true),
    row(Command::FolderDelete,     "FolderDelete",      root(7, 0x14),    Replay::Never,     true),
    row(Command::FolderUpdate,     "FolderUpdate",      root(7, 0x15),    Replay::Never,     true),
    row(Command::MoveItems,        "MoveItems",         root(5, 0x05),    Replay::Never,     true),
    row(Command::GetItemEstimate,  "GetItemEstimate",   root(6, 0x05),    Replay::Safe,      false),
    row(Command::MeetingResponse,  "MeetingResponse",   root(8, 0x07),    Replay::Never,     true),
    row(Command::Search,           "Search",            root(15, 0x05),   Replay::Safe,      false),
    row(Command::Settings,         "Settings",          root(18, 0x05),   Replay::Never,     true),
    row(Command::Ping,             "Ping",              root(13, 0x05),   Replay::Safe,      false),
    row(Command::ItemOperations,   "ItemOperations",    root(20, 0x05),   Replay::FetchOnly, false),
    row(Command::Provision,        "Provision",         root(14, 0x05),   Replay::Never,     true),
    row(Command::ResolveRecipients,"ResolveRecipients", root(10, 0x05),   Replay::Safe,      false),
    row(Command::ValidateCert,     "ValidateCert",      root(11, 0x05),   Replay::Safe,      false),
    row(Command::Find,             "Find",              root(25, 0x05),   Replay::Safe,      false),
];

impl Command {
    /// How many commands there are; [`Command::index`] is below it.
    pub const COUNT: usize = 24;

    /// Every command, in the order of the command codes.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Sync,
        Self::SendMail,
        Self::SmartForward,
        Self::SmartReply,
        Self::GetAttachment,
        Self::GetHierarchy,
        Self::CreateCollection,
        Self::DeleteCollection,
        Self::MoveCollection,
        Self::FolderSync,
        Self::FolderCreate,
        Self::FolderDelete,
        Self::FolderUpdate,
        Self::MoveItems,
        Self::GetItemEstimate,
        Self::MeetingResponse,
        Self::Search,
        Self::Settings,
        Self::Ping,
        Self::ItemOperations,
        Self::Provision,
        Self::ResolveRecipients,
        Self::ValidateCert,
        Self::Find,
    ];

    /// The command of a `Cmd` parameter, compared without ASCII case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        ROWS.iter()
            .find(|row| row.name.len() == name.len() && row.name.eq_ignore_ascii_case(name))
            .map(|row| row.command)
    }

    /// The command of the base64 query's second byte.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        ROWS.get(usize::from(code)).map(|row| row.command)
    }

    /// The name as the specification spells it, for metrics, logs and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// A small number for tables that are kept per command; it is the command code.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The root element of the command's WBXML request and answer. `None` for GetAttachment, whose
    /// answer is the attachment itself, and for the four commands of protocol 2.5.
    #[must_use]
    pub const fn root(self) -> Option<Tag> {
        self.row().root
    }

    /// Whether a request may be held open by the server until something happens: Ping always, Sync
    /// when its body asks for it; see [`crate::poll`].
    #[must_use]
    pub const fn is_poll(self) -> bool {
        matches!(self, Self::Ping | Self::Sync)
    }

    /// Whether the request may be sent again after a dead upstream connection.
    #[must_use]
    pub const fn replay(self) -> Replay {
        self.row().replay
    }

    /// Whether the request is carried through to its end when the client leaves after its body has
    /// arrived whole: the commands that send mail, and all others that only write.
    ///
    /// ItemOperations says `false` because it is mostly a download; a body that is not
    /// [`crate::item_operations::fetch_only`] deserves to be finished all the same.
    #[must_use]
    pub const fn finishes_detached(self) -> bool {
        self.row().finishes_detached
    }

    const fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_stands_in_the_order_of_the_codes() {
        for (code, command) in Command::ALL.into_iter().enumerate() {
            assert_eq!(command.index(), code);
            assert_eq!(command.row().command, command);
            assert_eq!(
                Command::from_code(u8::try_from(code).unwrap()),
                Some(command)
            );
            assert_eq!(
                Command::from_name(&command.name().to_ascii_lowercase()),
                Some(command)
            );
            assert_eq!(format!("{command:?}"), command.name());
        }
        assert_eq!(Command::from_code(24), None);
        assert_eq!(Command::from_code(255), None);
        assert_eq!(Command::from_name("Autodiscover"), None);
    }

    #[test]
    fn the_root_is_the_element_of_the_commands_name() {
        for command in Command::ALL {
            if let Some(root) = command.root() {
                assert_eq!(root.definition().unwrap().name(), command.name());
            }
        }
    }

    #[test]
    fn exactly_the_reading_commands_are_replayed() {
        let safe: Vec<_> = Command::ALL
            .into_iter()
            .filter(|command| command.replay() == Replay::Safe)
            .collect();
        assert_eq!(
            safe,
            [
                Command::Sync,
                Command::FolderSync,
                Command::GetItemEstimate,
                Command::Search,
                Command::Ping,
                Command::ResolveRecipients,
                Command::ValidateCert,
                Command::Find,
            ]
        );
        assert_eq!(Command::ItemOperations.replay(), Replay::FetchOnly);
    }

    #[test]
    fn what_finishes_detached_is_never_replayed() {
        for command in Command::ALL {
            assert!(!command.finishes_detached() || command.replay() == Replay::Never);
        }
        assert!(Command::SendMail.finishes_detached());
        assert!(!Command::Ping.finishes_detached());
    }
}
