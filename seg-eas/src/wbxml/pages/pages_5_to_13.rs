//! Code pages 5 to 13 of MS-ASWBXML 2.1.2.1, one token a line: 5 Move, 6 GetItemEstimate, 7 FolderHierarchy, 8 MeetingResponse, 9 Tasks, 10 ResolveRecipients, 11 ValidateCert, 12 Contacts2, 13 Ping.
//!
//! The columns are explained in the parent module.

use super::Kind::{Container, Mixed, Opaque, Text, Unknown};
use super::versions::{
    ALL, FROM_12_0, FROM_14_0, FROM_14_1, FROM_16_0, FROM_16_1, LEGACY, TO_12_1,
};
use super::{Page, t};

/// MS-ASWBXML 2.1.2.1.6, code page 5.
pub(super) const MOVE: Page = Page {
    number: 5,
    namespace: "Move",
    tokens: &[
        t(0x05, "MoveItems", ALL, Container).or(&["Moves"]),
        t(0x06, "Move", ALL, Container),
        t(0x07, "SrcMsgId", ALL, Text),
        t(0x08, "SrcFldId", ALL, Text),
        t(0x09, "DstFldId", ALL, Text),
        t(0x0A, "Response", ALL, Container),
        t(0x0B, "Status", ALL, Text),
        t(0x0C, "DstMsgId", ALL, Text),
    ],
};

/// MS-ASWBXML 2.1.2.1.7, code page 6.
pub(super) const GET_ITEM_ESTIMATE: Page = Page {
    number: 6,
    namespace: "GetItemEstimate",
    tokens: &[
        t(0x05, "GetItemEstimate", ALL, Container),
        t(0x06, "Version", LEGACY, Unknown),
        t(0x07, "Collections", ALL, Container).or(&["Folders"]),
        t(0x08, "Collection", ALL, Container).or(&["Folder"]),
        t(0x09, "Class", TO_12_1, Unknown).or(&["FolderType"]),
        t(0x0A, "CollectionId", ALL, Text).or(&["FolderId"]),
        t(0x0B, "DateTime", LEGACY, Unknown),
        t(0x0C, "Estimate", ALL, Text),
        t(0x0D, "Response", ALL, Container),
        t(0x0E, "Status", ALL, Text),
    ],
};

/// MS-ASWBXML 2.1.2.1.8, code page 7.
pub(super) const FOLDER_HIERARCHY: Page = Page {
    number: 7,
    namespace: "FolderHierarchy",
    tokens: &[
        t(0x05, "Folders", TO_12_1, Container),
        t(0x06, "Folder", TO_12_1, Container),
        t(0x07, "DisplayName", ALL, Text),
        t(0x08, "ServerId", ALL, Text).or(&["ServerEntryId"]),
        t(0x09, "ParentId", ALL, Text),
        t(0x0A, "Type", ALL, Text),
        t(0x0B, "Response", LEGACY, Unknown),
        t(0x0C, "Status", ALL, Text),
        t(0x0D, "ContentClass", LEGACY, Unknown),
        t(0x0E, "Changes", ALL, Container),
        t(0x0F, "Add", ALL, Container),
        t(0x10, "Delete", ALL, Container).or(&["Remove"]),
        t(0x11, "Update", ALL, Container),
        t(0x12, "SyncKey", ALL, Text),
        t(0x13, "FolderCreate", ALL, Container),
        t(0x14, "FolderDelete", ALL, Container),
        t(0x15, "FolderUpdate", ALL, Container),
        t(0x16, "FolderSync", ALL, Container),
        t(0x17, "Count", ALL, Text),
        t(0x18, "Version", LEGACY, Unknown),
    ],
};

/// MS-ASWBXML 2.1.2.1.9, code page 8.
pub(super) const MEETING_RESPONSE: Page = Page {
    number: 8,
    namespace: "MeetingResponse",
    tokens: &[
        t(0x05, "CalendarId", ALL, Text),
        t(0x06, "CollectionId", ALL, Text).or(&["FolderId"]),
        t(0x07, "MeetingResponse", ALL, Container),
        t(0x08, "RequestId", ALL, Text),
        t(0x09, "Request", ALL, Container),
        t(0x0A, "Result", ALL, Container),
        t(0x0B, "Status", ALL, Text),
        t(0x0C, "UserResponse", ALL, Text),
        t(0x0D, "Version", LEGACY, Unknown),
        t(0x0E, "InstanceId", FROM_14_1, Text),
        t(0x10, "ProposedStartTime", FROM_16_1, Text),
        t(0x11, "ProposedEndTime", FROM_16_1, Text),
        t(0x12, "SendResponse", FROM_16_0, Unknown),
    ],
};

/// MS-ASWBXML 2.1.2.1.10, code page 9.
pub(super) const TASKS: Page = Page {
    number: 9,
    namespace: "Tasks",
    tokens: &[
        t(0x05, "Body", LEGACY, Text),
        t(0x06, "BodySize", LEGACY, Text),
        t(0x07, "BodyTruncated", LEGACY, Text),
        t(0x08, "Categories", ALL, Container),
        t(0x09, "Category", ALL, Text),
        t(0x0A, "Complete", ALL, Text),
        t(0x0B, "DateCompleted", ALL, Text),
        t(0x0C, "DueDate", ALL, Text),
        t(0x0D, "UtcDueDate", ALL, Text).or(&["UTCDueDate"]),
        t(0x0E, "Importance", ALL, Text),
        t(0x0F, "Recurrence", ALL, Container),
        t(0x10, "Type", ALL, Text).or(&["Recurrence_Type"]),
        t(0x11, "Start", ALL, Text).or(&["Recurrence_Start"]),
        t(0x12, "Until", ALL, Text).or(&["Recurrence_Until"]),
        t(0x13, "Occurrences", ALL, Text).or(&["Recurrence_Occurrences"]),
        t(0x14, "Interval", ALL, Text).or(&["Recurrence_Interval"]),
        t(0x15, "DayOfMonth", ALL, Text).or(&["Recurrence_DayOfMonth"]),
        t(0x16, "DayOfWeek", ALL, Text).or(&["Recurrence_DayOfWeek"]),
        t(0x17, "WeekOfMonth", ALL, Text).or(&["Recurrence_WeekOfMonth"]),
        t(0x18, "MonthOfYear", ALL, Text).or(&["Recurrence_MonthOfYear"]),
        t(0x19, "Regenerate", ALL, Text).or(&["Recurrence_Regenerate"]),
        t(0x1A, "DeadOccur", ALL, Text).or(&["Recurrence_DeadOccur"]),
        t(0x1B, "ReminderSet", ALL, Text),
        t(0x1C, "ReminderTime", ALL, Text),
        t(0x1D, "Sensitivity", ALL, Text),
        t(0x1E, "StartDate", ALL, Text),
        t(0x1F, "UtcStartDate", ALL, Text).or(&["UTCStartDate"]),
        t(0x20, "Subject", ALL, Text),
        t(0x21, "CompressedRTF", LEGACY, Unknown).or(&["Rtf"]),
        t(0x22, "OrdinalDate", FROM_12_0, Text),
        t(0x23, "SubOrdinalDate", FROM_12_0, Text),
        t(0x24, "CalendarType", FROM_14_0, Text),
        t(0x25, "IsLeapMonth", FROM_14_0, Text),
        t(0x26, "FirstDayOfWeek", FROM_14_1, Text),
    ],
};

/// MS-ASWBXML 2.1.2.1.11, code page 10.
pub(super) const RESOLVE_RECIPIENTS: Page = Page {
    number: 10,
    namespace: "ResolveRecipients",
    tokens: &[
        t(0x05, "ResolveRecipients", ALL, Container),
        t(0x06, "Response", ALL, Container),
        t(0x07, "Status", ALL, Text),
        t(0x08, "Type", ALL, Text),
        t(0x09, "Recipient", ALL, Container),
        t(0x0A, "DisplayName", ALL, Text),
        t(0x0B, "EmailAddress", ALL, Text),
        t(0x0C, "Certificates", ALL, Container),
        t(0x0D, "Certificate", ALL, Text),
        t(0x0E, "MiniCertificate", ALL, Text),
        t(0x0F, "Options", ALL, Container),
        t(0x10, "To", ALL, Text),
        t(0x11, "CertificateRetrieval", ALL, Text),
        t(0x12, "RecipientCount", ALL, Text),
        t(0x13, "MaxCertificates", ALL, Text),
        t(0x14, "MaxAmbiguousRecipients", ALL, Text),
        t(0x15, "CertificateCount", ALL, Text),
        t(0x16, "Availability", FROM_14_0, Container),
        t(0x17, "StartTime", FROM_14_0, Text),
        t(0x18, "EndTime", FROM_14_0, Text),
        t(0x19, "MergedFreeBusy", FROM_14_0, Text),
        t(0x1A, "Picture", FROM_14_1, Container),
        t(0x1B, "MaxSize", FROM_14_1, Text),
        t(0x1C, "Data", FROM_14_1, Opaque),
        t(0x1D, "MaxPictures", FROM_14_1, Text),
    ],
};

/// MS-ASWBXML 2.1.2.1.12, code page 11.
pub(super) const VALIDATE_CERT: Page = Page {
    number: 11,
    namespace: "ValidateCert",
    tokens: &[
        t(0x05, "ValidateCert", ALL, Container),
        t(0x06, "Certificates", ALL, Container),
        t(0x07, "Certificate", ALL, Mixed),
        t(0x08, "CertificateChain", ALL, Container),
        t(0x09, "CheckCRL", ALL, Unknown).or(&["CheckCrl"]),
        t(0x0A, "Status", ALL, Text),
    ],
};

/// MS-ASWBXML 2.1.2.1.13, code page 12.
pub(super) const CONTACTS2: Page = Page {
    number: 12,
    namespace: "Contacts2",
    tokens: &[
        t(0x05, "CustomerId", ALL, Text),
        t(0x06, "GovernmentId", ALL, Text),
        t(0x07, "IMAddress", ALL, Text),
        t(0x08, "IMAddress2", ALL, Text),
        t(0x09, "IMAddress3", ALL, Text),
        t(0x0A, "ManagerName", ALL, Text),
        t(0x0B, "CompanyMainPhone", ALL, Text),
        t(0x0C, "AccountName", ALL, Text),
        t(0x0D, "NickName", ALL, Text),
        t(0x0E, "MMS", ALL, Text),
    ],
};

/// MS-ASWBXML 2.1.2.1.14, code page 13.
pub(super) const PING: Page = Page {
    number: 13,
    namespace: "Ping",
    tokens: &[
        t(0x05, "Ping", ALL, Container),
        t(0x06, "AutdState", LEGACY, Unknown),
        t(0x07, "Status", ALL, Text),
        t(0x08, "HeartbeatInterval", ALL, Text).or(&["LifeTime"]),
        t(0x09, "Folders", ALL, Container),
        t(0x0A, "Folder", ALL, Mixed),
        t(0x0B, "Id", ALL, Text).or(&["ServerEntryId"]),
        t(0x0C, "Class", ALL, Text).or(&["FolderType"]),
        t(0x0D, "MaxFolders", ALL, Text),
        t(0x0E, "Version", LEGACY, Unknown),
    ],
};
