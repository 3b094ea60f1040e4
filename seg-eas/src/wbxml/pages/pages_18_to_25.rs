//! Code pages 18 to 25 of MS-ASWBXML 2.1.2.1, one token a line: 18 Settings, 19 DocumentLibrary, 20 ItemOperations, 21 ComposeMail, 22 Email2, 23 Notes, 24 RightsManagement, 25 Find.
//!
//! The columns are explained in the parent module.

use super::Kind::{Container, MaybeOpaque, Opaque, Text, Unknown};
use super::versions::{FROM_12_0, FROM_12_1, FROM_14_0, FROM_14_1, FROM_16_0, FROM_16_1, LEGACY};
use super::{Page, t};

/// MS-ASWBXML 2.1.2.1.19, code page 18.
pub(super) const SETTINGS: Page = Page {
    number: 18,
    namespace: "Settings",
    tokens: &[
        t(0x05, "Settings", FROM_12_0, Container),
        t(0x06, "Status", FROM_12_0, Text),
        t(0x07, "Get", FROM_12_0, Container),
        t(0x08, "Set", FROM_12_0, Container),
        t(0x09, "Oof", FROM_12_0, Container),
        t(0x0A, "OofState", FROM_12_0, Text),
        t(0x0B, "StartTime", FROM_12_0, Text),
        t(0x0C, "EndTime", FROM_12_0, Text),
        t(0x0D, "OofMessage", FROM_12_0, Container),
        t(0x0E, "AppliesToInternal", FROM_12_0, Unknown),
        t(0x0F, "AppliesToExternalKnown", FROM_12_0, Unknown),
        t(0x10, "AppliesToExternalUnknown", FROM_12_0, Unknown),
        t(0x11, "Enabled", FROM_12_0, Text),
        t(0x12, "ReplyMessage", FROM_12_0, Text),
        t(0x13, "BodyType", FROM_12_0, Text),
        t(0x14, "DevicePassword", FROM_12_0, Container),
        t(0x15, "Password", FROM_12_0, Text),
        t(0x16, "DeviceInformation", FROM_12_0, Container),
        t(0x17, "Model", FROM_12_0, Text),
        t(0x18, "IMEI", FROM_12_0, Text),
        t(0x19, "FriendlyName", FROM_12_0, Text),
        t(0x1A, "OS", FROM_12_0, Text),
        t(0x1B, "OSLanguage", FROM_12_0, Text),
        t(0x1C, "PhoneNumber", FROM_12_0, Text),
        t(0x1D, "UserInformation", FROM_12_0, Container),
        t(0x1E, "EmailAddresses", FROM_12_0, Container),
        t(0x1F, "SMTPAddress", FROM_12_0, Text).or(&["SmtpAddress"]),
        t(0x20, "UserAgent", FROM_12_1, Text),
        t(0x21, "EnableOutboundSMS", FROM_14_0, Text),
        t(0x22, "MobileOperator", FROM_14_0, Text),
        t(0x23, "PrimarySmtpAddress", FROM_14_1, Text),
        t(0x24, "Accounts", FROM_14_1, Container),
        t(0x25, "Account", FROM_14_1, Container),
        t(0x26, "AccountId", FROM_14_1, Text),
        t(0x27, "AccountName", FROM_14_1, Text),
        t(0x28, "UserDisplayName", FROM_14_1, Text),
        t(0x29, "SendDisabled", FROM_14_1, Text),
        t(0x2B, "RightsManagementInformation", FROM_14_1, Container)
            .or(&["ihsManagementInformation"]),
    ],
};

/// MS-ASWBXML 2.1.2.1.20, code page 19.
pub(super) const DOCUMENT_LIBRARY: Page = Page {
    number: 19,
    namespace: "DocumentLibrary",
    tokens: &[
        t(0x05, "LinkId", FROM_12_0, Text),
        t(0x06, "DisplayName", FROM_12_0, Text),
        t(0x07, "IsFolder", FROM_12_0, Text),
        t(0x08, "CreationDate", FROM_12_0, Text),
        t(0x09, "LastModifiedDate", FROM_12_0, Text),
        t(0x0A, "IsHidden", FROM_12_0, Text),
        t(0x0B, "ContentLength", FROM_12_0, Text),
        t(0x0C, "ContentType", FROM_12_0, Text),
    ],
};

/// MS-ASWBXML 2.1.2.1.21, code page 20.
pub(super) const ITEM_OPERATIONS: Page = Page {
    number: 20,
    namespace: "ItemOperations",
    tokens: &[
        t(0x05, "ItemOperations", FROM_12_0, Container),
        t(0x06, "Fetch", FROM_12_0, Container),
        t(0x07, "Store", FROM_12_0, Text),
        t(0x08, "Options", FROM_12_0, Container),
        t(0x09, "Range", FROM_12_0, Text),
        t(0x0A, "Total", FROM_12_0, Text),
        t(0x0B, "Properties", FROM_12_0, Container),
        t(0x0C, "Data", FROM_12_0, MaybeOpaque),
        t(0x0D, "Status", FROM_12_0, Text),
        t(0x0E, "Response", FROM_12_0, Container),
        t(0x0F, "Version", FROM_12_0, Text),
        t(0x10, "Schema", FROM_12_0, Container),
        t(0x11, "Part", FROM_12_0, Text),
        t(0x12, "EmptyFolderContents", FROM_12_0, Container).or(&["EmptyFolderContent"]),
        t(0x13, "DeleteSubFolders", FROM_12_0, Unknown),
        t(0x14, "UserName", FROM_12_1, Text),
        t(0x15, "Password", FROM_12_1, Text),
        t(0x16, "Move", FROM_14_0, Container),
        t(0x17, "DstFldId", FROM_14_0, Text),
        t(0x18, "ConversationId", FROM_14_0, Opaque),
        t(0x19, "MoveAlways", FROM_14_0, Unknown),
    ],
};

/// MS-ASWBXML 2.1.2.1.22, code page 21.
pub(super) const COMPOSE_MAIL: Page = Page {
    number: 21,
    namespace: "ComposeMail",
    tokens: &[
        t(0x05, "SendMail", FROM_14_0, Container),
        t(0x06, "SmartForward", FROM_14_0, Container),
        t(0x07, "SmartReply", FROM_14_0, Container),
        t(0x08, "SaveInSentItems", FROM_14_0, Unknown),
        t(0x09, "ReplaceMime", FROM_14_0, Unknown),
        t(0x0A, "Type", LEGACY, Unknown),
        t(0x0B, "Source", FROM_14_0, Container),
        t(0x0C, "FolderId", FROM_14_0, Text),
        t(0x0D, "ItemId", FROM_14_0, Text),
        t(0x0E, "LongId", FROM_14_0, Text),
        t(0x0F, "InstanceId", FROM_14_0, Text),
        t(0x10, "Mime", FROM_14_0, Opaque).or(&["MIME"]),
        t(0x11, "ClientId", FROM_14_0, Text),
        t(0x12, "Status", FROM_14_0, Text),
        t(0x13, "AccountId", FROM_14_1, Text),
        t(0x15, "Forwardees", FROM_16_0, Container),
        t(0x16, "Forwardee", FROM_16_0, Container),
        t(0x17, "Name", FROM_16_0, Unknown).or(&["ForwardeeName"]),
        t(0x18, "Email", FROM_16_0, Unknown).or(&["ForwardeeEmail"]),
    ],
};

/// MS-ASWBXML 2.1.2.1.23, code page 22.
pub(super) const EMAIL2: Page = Page {
    number: 22,
    namespace: "Email2",
    tokens: &[
        t(0x05, "UmCallerID", FROM_14_0, Text).or(&["UmCallerId"]),
        t(0x06, "UmUserNotes", FROM_14_0, Text),
        t(0x07, "UmAttDuration", FROM_14_0, Text),
        t(0x08, "UmAttOrder", FROM_14_0, Text),
        t(0x09, "ConversationId", FROM_14_0, Opaque),
        t(0x0A, "ConversationIndex", FROM_14_0, Opaque),
        t(0x0B, "LastVerbExecuted", FROM_14_0, Text),
        t(0x0C, "LastVerbExecutionTime", FROM_14_0, Text),
        t(0x0D, "ReceivedAsBcc", FROM_14_0, Text),
        t(0x0E, "Sender", FROM_14_0, Text),
        t(0x0F, "CalendarType", FROM_14_0, Text),
        t(0x10, "IsLeapMonth", FROM_14_0, Text),
        t(0x11, "AccountId", FROM_14_1, Text),
        t(0x12, "FirstDayOfWeek", FROM_14_1, Text),
        t(0x13, "MeetingMessageType", FROM_14_1, Text),
        t(0x15, "IsDraft", FROM_16_0, Text),
        t(0x16, "Bcc", FROM_16_0, Text),
        t(0x17, "Send", FROM_16_0, Unknown),
    ],
};

/// MS-ASWBXML 2.1.2.1.24, code page 23.
pub(super) const NOTES: Page = Page {
    number: 23,
    namespace: "Notes",
    tokens: &[
        t(0x05, "Subject", FROM_14_0, Text),
        t(0x06, "MessageClass", FROM_14_0, Text),
        t(0x07, "LastModifiedDate", FROM_14_0, Text),
        t(0x08, "Categories", FROM_14_0, Container),
        t(0x09, "Category", FROM_14_0, Text),
    ],
};

/// MS-ASWBXML 2.1.2.1.25, code page 24.
pub(super) const RIGHTS_MANAGEMENT: Page = Page {
    number: 24,
    namespace: "RightsManagement",
    tokens: &[
        t(0x05, "RightsManagementSupport", FROM_14_1, Text),
        t(0x06, "RightsManagementTemplates", FROM_14_1, Container),
        t(0x07, "RightsManagementTemplate", FROM_14_1, Container),
        t(0x08, "RightsManagementLicense", FROM_14_1, Container),
        t(0x09, "EditAllowed", FROM_14_1, Text),
        t(0x0A, "ReplyAllowed", FROM_14_1, Text),
        t(0x0B, "ReplyAllAllowed", FROM_14_1, Text),
        t(0x0C, "ForwardAllowed", FROM_14_1, Text),
        t(0x0D, "ModifyRecipientsAllowed", FROM_14_1, Text),
        t(0x0E, "ExtractAllowed", FROM_14_1, Text),
        t(0x0F, "PrintAllowed", FROM_14_1, Text),
        t(0x10, "ExportAllowed", FROM_14_1, Text),
        t(0x11, "ProgrammaticAccessAllowed", FROM_14_1, Text),
        t(0x12, "Owner", FROM_14_1, Text).or(&["RMOwner"]),
        t(0x13, "ContentExpiryDate", FROM_14_1, Text),
        t(0x14, "TemplateID", FROM_14_1, Text).or(&["TemplateId"]),
        t(0x15, "TemplateName", FROM_14_1, Text),
        t(0x16, "TemplateDescription", FROM_14_1, Text),
        t(0x17, "ContentOwner", FROM_14_1, Text),
        t(0x18, "RemoveRightsManagementProtection", FROM_14_1, Unknown)
            .or(&["RemoveRightsManagementDistribution"]),
    ],
};

/// MS-ASWBXML 2.1.2.1.26, code page 25.
pub(super) const FIND: Page = Page {
    number: 25,
    namespace: "Find",
    tokens: &[
        t(0x05, "Find", FROM_16_1, Container),
        t(0x06, "SearchId", FROM_16_1, Unknown),
        t(0x07, "ExecuteSearch", FROM_16_1, Unknown),
        t(0x08, "MailBoxSearchCriterion", FROM_16_1, Unknown),
        t(0x09, "Query", FROM_16_1, Unknown),
        t(0x0A, "Status", FROM_16_1, Text),
        t(0x0B, "FreeText", FROM_16_1, Text),
        t(0x0C, "Options", FROM_16_1, Unknown),
        t(0x0D, "Range", FROM_16_1, Text),
        t(0x0E, "DeepTraversal", FROM_16_1, Unknown),
        t(0x11, "Response", FROM_16_1, Container),
        t(0x12, "Result", FROM_16_1, Container),
        t(0x13, "Properties", FROM_16_1, Container),
        t(0x14, "Preview", FROM_16_1, Text),
        t(0x15, "HasAttachments", FROM_16_1, Text),
        t(0x16, "Total", FROM_16_1, Text),
        t(0x17, "DisplayCc", FROM_16_1, Text),
        t(0x18, "DisplayBcc", FROM_16_1, Text),
        t(0x19, "GalSearchCriterion", FROM_16_1, Unknown).or(&["GALSearchCriterion"]),
        t(0x20, "MaxPictures", FROM_16_1, Unknown),
        t(0x21, "MaxSize", FROM_16_1, Unknown),
        t(0x22, "Picture", FROM_16_1, Unknown),
    ],
};
