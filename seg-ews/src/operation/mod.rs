//! The operations of Exchange Web Services: names, risk groups, and the shape of their answers.
//!
//! An operation is recognised by the qualified name of the first child of the SOAP body, never by
//! the `SOAPAction` header, which Exchange ignores and most clients do not send. Seven operations
//! have a request element that differs from their name (`GetUserAvailabilityRequest` …); the table
//! holds both.

mod table;

use std::fmt;
use table::{OPERATIONS, OperationRow, UNKNOWN};

/// What an operation can do to a mailbox, from the point of view of a device gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Subscriptions and their events.
    Notify,
    /// Folders, settings, free/busy and other data about data.
    Metadata,
    /// The address book: people, distribution lists, photos.
    Directory,
    /// Items, attachments and conversations: the mail itself.
    Content,
    /// Creating, changing, sending, moving and deleting.
    Write,
    /// What outlives the device: delegates, inbox rules, apps, tokens, sharing.
    Persistence,
    /// Export, import, discovery searches, holds, message tracking, telephony.
    BulkAdmin,
    /// Nobody here knows: an operation that is not among the 125.
    Unknown,
}

impl Group {
    /// Every group of known operations, in the order of growing risk.
    pub const ALL: [Self; 7] = [
        Self::Notify,
        Self::Metadata,
        Self::Directory,
        Self::Content,
        Self::Write,
        Self::Persistence,
        Self::BulkAdmin,
    ];

    /// The name used in policies, logs and the JSON of `seg ews classify`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Metadata => "metadata",
            Self::Directory => "directory",
            Self::Content => "content",
            Self::Write => "write",
            Self::Persistence => "persistence",
            Self::BulkAdmin => "bulk_admin",
            Self::Unknown => "unknown",
        }
    }

    /// The group of that [`name`](Self::name), exactly as written there.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How an operation reports an error, which decides the form of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseShape {
    /// `<ResponseMessages>` with one message of this element name for each thing asked for.
    Batch(&'static str),
    /// As [`Batch`](Self::Batch), and the response element itself carries a result too
    /// (delegates, mail tips).
    Reported(&'static str),
    /// No `<ResponseMessages>`: the response is a single result, or a structure of its own.
    Single,
}

/// One of the 125 known operations, or [`Operation::UNKNOWN`]. Copying it costs a pointer.
#[derive(Clone, Copy)]
pub struct Operation(&'static OperationRow);

impl Operation {
    /// How many operations are known; every [`index`](Self::index) of one of them is below it.
    pub const COUNT: usize = OPERATIONS.len();

    /// Whatever is asked for by a name that is none of the known ones. Its answer has no shape that
    /// could be filled in, and what it does nobody here can tell.
    pub const UNKNOWN: Self = Self(&UNKNOWN);

    /// Every operation, by name.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        OPERATIONS.iter().map(Self)
    }

    /// The operation of that name, with its exact spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        let at = OPERATIONS
            .binary_search_by_key(&name, |row| row.name)
            .ok()?;
        OPERATIONS.get(at).map(Self)
    }

    /// The operation whose request element in the messages namespace has this local name.
    pub fn from_request_element(element: &str) -> Option<Self> {
        let name = element.strip_suffix("Request").unwrap_or(element);
        Self::from_name(name).filter(|operation| operation.0.request_element == element)
    }

    /// The operation that a response element in the messages namespace belongs to. Schema and
    /// servers disagree about some endings, so `…Response` and `…ResponseMessage` both count.
    pub fn from_response_element(element: &str) -> Option<Self> {
        let name = element
            .strip_suffix("ResponseMessage")
            .or_else(|| element.strip_suffix("Response"))?;
        Self::from_name(name)
    }

    /// The name, such as `GetUserAvailability`.
    pub const fn name(self) -> &'static str {
        self.0.name
    }

    /// The risk group.
    pub const fn group(self) -> Group {
        self.0.group
    }

    /// Local name of the request element, such as `GetUserAvailabilityRequest`.
    pub const fn request_element(self) -> &'static str {
        self.0.request_element
    }

    /// Local name of the response element, such as `GetPersonaResponseMessage`.
    pub const fn response_element(self) -> &'static str {
        self.0.response_element
    }

    /// The shape of the answer.
    pub const fn response(self) -> ResponseShape {
        self.0.response
    }

    /// The child of the request element whose children are answered one by one, such as `ItemIds`.
    /// None where a request has one answer.
    pub const fn batch_element(self) -> Option<&'static str> {
        self.0.batch_element
    }

    /// Position in the table, for sets of operations; [`COUNT`](Self::COUNT) for
    /// [`UNKNOWN`](Self::UNKNOWN).
    pub fn index(self) -> usize {
        OPERATIONS
            .binary_search_by_key(&self.0.name, |row| row.name)
            .unwrap_or(Self::COUNT)
    }

    /// Whether it is none of the known ones.
    pub const fn is_unknown(self) -> bool {
        matches!(self.0.group, Group::Unknown)
    }

    /// Whether the answer stays open for minutes (`GetStreamingEvents`).
    pub fn is_long(self) -> bool {
        self.0.name == "GetStreamingEvents"
    }

    /// Whether sending the request a second time changes nothing: the groups that only read.
    /// `GetEvents` and its kin move a watermark and are not among them.
    pub const fn replay_safe(self) -> bool {
        matches!(
            self.0.group,
            Group::Metadata | Group::Directory | Group::Content
        )
    }

    /// Whether the request is carried to its end when the client leaves after its whole body has
    /// arrived: everything that changes something.
    pub const fn finishes_detached(self) -> bool {
        matches!(
            self.0.group,
            Group::Write | Group::Persistence | Group::BulkAdmin | Group::Unknown
        )
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operation({})", self.0.name)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl PartialEq for Operation {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Operation {}

impl std::hash::Hash for Operation {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_complete_and_consistent() {
        assert_eq!(Operation::COUNT, 125);
        assert!(OPERATIONS.is_sorted_by(|a, b| a.name < b.name));
        for (at, operation) in Operation::all().enumerate() {
            assert_eq!(operation.index(), at);
            assert_eq!(Operation::from_name(operation.name()), Some(operation));
            assert_eq!(
                Operation::from_request_element(operation.request_element()),
                Some(operation)
            );
            assert_eq!(
                Operation::from_response_element(operation.response_element()),
                Some(operation)
            );
            if operation.batch_element().is_some() {
                assert_ne!(operation.response(), ResponseShape::Single, "{operation}");
            }
            if let ResponseShape::Batch(message) = operation.response() {
                assert_eq!(message, format!("{operation}ResponseMessage"));
            }
        }
    }

    #[test]
    fn each_group_has_its_known_size() {
        let sizes = Group::ALL.map(|group| {
            Operation::all()
                .filter(|operation| operation.group() == group)
                .count()
        });
        assert_eq!(sizes, [4, 24, 7, 11, 43, 21, 15]);
    }

    #[test]
    fn seven_request_elements_differ_from_their_operation() {
        let aliased: Vec<&str> = Operation::all()
            .filter(|operation| operation.name() != operation.request_element())
            .map(Operation::name)
            .collect();
        assert_eq!(
            aliased,
            [
                "CreateMeetingInstance",
                "DeleteMeetingInstance",
                "GetMeetingInstance",
                "GetUserAvailability",
                "GetUserOofSettings",
                "SetUserOofSettings",
                "UpdateMeetingInstance",
            ]
        );
        assert_eq!(Operation::from_request_element("GetUserAvailability"), None);
        assert_eq!(Operation::from_request_element("GetFolderRequest"), None);
        assert_eq!(Operation::from_request_element("getfolder"), None);
    }

    #[test]
    fn helpers_follow_the_group() {
        let named = |name| Operation::from_name(name).expect("known");
        assert!(named("GetStreamingEvents").is_long());
        assert!(!named("GetEvents").is_long());
        assert!(named("GetItem").replay_safe() && !named("GetItem").finishes_detached());
        assert!(!named("CreateItem").replay_safe() && named("CreateItem").finishes_detached());
        assert!(!named("Subscribe").replay_safe() && !named("Subscribe").finishes_detached());
        assert!(named("ExportItems").finishes_detached());
        assert_eq!(Group::from_name("bulk_admin"), Some(Group::BulkAdmin));
    }

    #[test]
    fn what_nobody_knows_is_no_operation_of_the_table() {
        let unknown = Operation::UNKNOWN;
        assert!(unknown.is_unknown() && Operation::all().all(|known| !known.is_unknown()));
        assert_eq!(unknown.index(), Operation::COUNT);
        assert!(!unknown.replay_safe() && unknown.finishes_detached() && !unknown.is_long());
        assert_eq!(Operation::from_name(unknown.name()), None);
        assert_eq!(Group::from_name("unknown"), None);
    }
}
