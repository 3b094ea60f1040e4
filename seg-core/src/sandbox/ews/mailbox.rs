//! The folders and mails that every user has.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::eas::ATTACHMENT;
use super::envelope::escaped;

/// A folder: its distinguished name, the element that shows it, FolderClass, DisplayName, parent.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) name: &'static str,
    element: &'static str,
    class: &'static str,
    display: &'static str,
    parent: &'static str,
}

const fn folder(
    name: &'static str,
    element: &'static str,
    class: &'static str,
    display: &'static str,
    parent: &'static str,
) -> Folder {
    Folder {
        name,
        element,
        class,
        display,
        parent,
    }
}

pub(super) const FOLDERS: [Folder; 11] = [
    folder("root", "Folder", "", "", "root"),
    folder(
        "msgfolderroot",
        "Folder",
        "IPF.Note",
        "Top of Information Store",
        "root",
    ),
    folder("inbox", "Folder", "IPF.Note", "Inbox", "msgfolderroot"),
    folder("drafts", "Folder", "IPF.Note", "Drafts", "msgfolderroot"),
    folder("outbox", "Folder", "IPF.Note", "Outbox", "msgfolderroot"),
    folder(
        "sentitems",
        "Folder",
        "IPF.Note",
        "Sent Items",
        "msgfolderroot",
    ),
    folder(
        "deleteditems",
        "Folder",
        "IPF.Note",
        "Deleted Items",
        "msgfolderroot",
    ),
    folder(
        "junkemail",
        "Folder",
        "IPF.Note",
        "Junk Email",
        "msgfolderroot",
    ),
    folder(
        "calendar",
        "CalendarFolder",
        "IPF.Appointment",
        "Calendar",
        "msgfolderroot",
    ),
    folder(
        "contacts",
        "ContactsFolder",
        "IPF.Contact",
        "Contacts",
        "msgfolderroot",
    ),
    folder("tasks", "TasksFolder", "IPF.Task", "Tasks", "msgfolderroot"),
];

impl Folder {
    /// By its distinguished name or its id.
    pub(super) fn find(id: &str) -> Option<&'static Self> {
        FOLDERS
            .iter()
            .find(|folder| folder.name == id || folder_id(folder.name) == id)
    }

    /// The folders in it, at any depth or right below.
    pub(super) fn below(&self, deep: bool) -> Vec<&'static Self> {
        let is_below = |folder: &Self| {
            let parent = Self::find(folder.parent);
            let direct = folder.parent == self.name;
            direct || (deep && parent.is_some_and(|parent| parent.parent == self.name))
        };
        FOLDERS
            .iter()
            .filter(|folder| folder.name != "root" && is_below(folder))
            .collect()
    }

    /// The mails in it.
    pub(super) fn mails(&self) -> &'static [Mail] {
        if self.name == "inbox" { &MAILS } else { &[] }
    }

    /// The folder as XML; `wanted` are the extended properties that the client asks for.
    pub(super) fn xml(&self, wanted: &[u32]) -> String {
        let Self {
            name,
            element,
            class,
            display,
            parent,
        } = self;
        let mut xml = format!(
            "<t:{element}><t:FolderId Id=\"{id}\" ChangeKey=\"{CHANGE_KEY}\"/>\
             <t:ParentFolderId Id=\"{parent}\" ChangeKey=\"{CHANGE_KEY}\"/>\
             <t:FolderClass>{class}</t:FolderClass><t:DisplayName>{display}</t:DisplayName>\
             <t:TotalCount>{total}</t:TotalCount>\
             <t:ChildFolderCount>{children}</t:ChildFolderCount>",
            id = folder_id(name),
            parent = folder_id(parent),
            total = self.mails().len(),
            children = self.below(false).len(),
        );
        for property in wanted {
            let value = match *property {
                // Container class; subfolders; modified; change number; content count; next UID.
                0x3613 => (*class).to_owned(),
                0x360a => (!self.below(false).is_empty()).to_string(),
                0x3008 => "2026-11-22T06:00:00Z".to_owned(),
                0x3602 => self.mails().len().to_string(),
                0x3603 => self
                    .mails()
                    .iter()
                    .filter(|mail| mail.unread())
                    .count()
                    .to_string(),
                0x6751 => "10".to_owned(),
                _ => continue,
            };
            push_property(&mut xml, *property, &value);
        }
        // CalendarFolder and ContactsFolder have no UnreadCount in the schema.
        if matches!(*element, "Folder" | "TasksFolder") {
            let unread = self.mails().iter().filter(|mail| mail.unread()).count();
            let _infallible = write!(xml, "<t:UnreadCount>{unread}</t:UnreadCount>");
        }
        let _infallible = write!(xml, "</t:{element}>");
        xml
    }
}

/// The id of a folder, opaque to clients.
pub(super) fn folder_id(name: &str) -> String {
    format!("AAMkFolder-{name}=")
}

/// The version of everything: nothing ever changes here.
pub(super) const CHANGE_KEY: &str = "CQAAABYAAAA=";

/// A mail in the inbox.
#[derive(Debug)]
pub(super) struct Mail {
    number: u32,
    subject: &'static str,
    from: (&'static str, &'static str),
    date: &'static str,
    rfc_date: &'static str,
    text: &'static str,
    attached: bool,
}

const BOB: (&str, &str) = ("Bob Builder", "bob@sandbox.example");

pub(super) const MAILS: [Mail; 3] = [
    Mail {
        number: 1,
        subject: "Welcome to the sandbox",
        from: BOB,
        date: "2026-11-20T08:00:00Z",
        rfc_date: "Fri, 20 Nov 2026 08:00:00 +0000",
        text: "This mail server only exists to be talked to.\r\n",
        attached: false,
    },
    Mail {
        number: 2,
        subject: "The invoice",
        from: ("Carol Clerk", "carol@sandbox.example"),
        date: "2026-11-20T09:30:00Z",
        rfc_date: "Fri, 20 Nov 2026 09:30:00 +0000",
        text: "The invoice is attached.\r\n",
        attached: true,
    },
    Mail {
        number: 3,
        subject: "Lunch & more",
        from: BOB,
        date: "2026-11-21T17:45:00Z",
        rfc_date: "Sat, 21 Nov 2026 17:45:00 +0000",
        text: "See https://sandbox.example/menu for lunch.\r\n",
        attached: false,
    },
];

impl Mail {
    /// By its id.
    pub(super) fn find(id: &str) -> Option<&'static Self> {
        MAILS.iter().find(|mail| mail.id() == id)
    }

    /// The mail whose attachment has this id.
    pub(super) fn find_attachment(id: &str) -> Option<&'static Self> {
        MAILS
            .iter()
            .find(|mail| mail.attached && mail.attachment_id() == id)
    }

    pub(super) fn id(&self) -> String {
        item_id(self.number)
    }

    fn attachment_id(&self) -> String {
        format!("AAMkAttachment-{}=", self.number)
    }

    fn unread(&self) -> bool {
        self.number != 1
    }

    /// The message as it came by SMTP.
    fn mime(&self, to: &str) -> String {
        let (name, address) = self.from;
        let head = format!(
            "From: {name} <{address}>\r\nTo: {to}\r\nSubject: {}\r\nDate: {}\r\n\
             Message-ID: <{}@sandbox.example>\r\nMIME-Version: 1.0\r\n",
            self.subject, self.rfc_date, self.number
        );
        let text = format!(
            "Content-Type: text/plain; charset=utf-8\r\n\r\n{}",
            self.text
        );
        if !self.attached {
            return format!("{head}{text}");
        }
        let attachment = STANDARD.encode(ATTACHMENT);
        format!(
            "{head}Content-Type: multipart/mixed; boundary=part\r\n\r\n--part\r\n{text}\r\n\
             --part\r\nContent-Type: application/pdf; name=invoice.pdf\r\n\
             Content-Disposition: attachment; filename=invoice.pdf\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{attachment}\r\n--part--\r\n"
        )
    }

    /// The mail as XML: everything but its content, or all of it.
    pub(super) fn xml(&self, user: &str, shape: &Shape) -> String {
        let mut xml = String::from("<t:Message>");
        if shape.mime {
            let mime = STANDARD.encode(self.mime(user));
            let _infallible = write!(
                xml,
                "<t:MimeContent CharacterSet=\"UTF-8\">{mime}</t:MimeContent>"
            );
        }
        let _infallible = write!(
            xml,
            "<t:ItemId Id=\"{id}\" ChangeKey=\"{CHANGE_KEY}\"/>\
             <t:ParentFolderId Id=\"{inbox}\" ChangeKey=\"{CHANGE_KEY}\"/>\
             <t:ItemClass>IPM.Note</t:ItemClass><t:Subject>{subject}</t:Subject>\
             <t:Sensitivity>Normal</t:Sensitivity>",
            id = self.id(),
            inbox = folder_id("inbox"),
            subject = escaped(self.subject),
        );
        if shape.content {
            let text = escaped(self.text);
            let _infallible = write!(xml, "<t:Body BodyType=\"Text\">{text}</t:Body>");
            if self.attached {
                let _infallible = write!(
                    xml,
                    "<t:Attachments>{}</t:Attachments>",
                    self.attachment_xml(false)
                );
            }
        }
        let _infallible = write!(
            xml,
            "<t:DateTimeReceived>{date}</t:DateTimeReceived><t:Size>{size}</t:Size>\
             <t:Importance>Normal</t:Importance><t:IsSubmitted>false</t:IsSubmitted>\
             <t:IsDraft>false</t:IsDraft><t:IsFromMe>false</t:IsFromMe>\
             <t:DateTimeSent>{date}</t:DateTimeSent><t:DateTimeCreated>{date}</t:DateTimeCreated>\
             <t:DisplayTo>{user}</t:DisplayTo><t:HasAttachments>{attached}</t:HasAttachments>",
            date = self.date,
            size = self.mime(user).len(),
            attached = self.attached,
        );
        for property in &shape.properties {
            if let Some(value) = self.property(*property, user) {
                push_property(&mut xml, *property, &value);
            }
        }
        let (name, address) = self.from;
        let from = mailbox_xml(name, address);
        let _infallible = write!(
            xml,
            "<t:LastModifiedTime>{date}</t:LastModifiedTime><t:Sender>{from}</t:Sender>\
             <t:ToRecipients>{to}</t:ToRecipients><t:From>{from}</t:From>\
             <t:InternetMessageId>&lt;{number}@sandbox.example&gt;</t:InternetMessageId>\
             <t:IsRead>{read}</t:IsRead></t:Message>",
            date = self.date,
            to = mailbox_xml(user, user),
            number = self.number,
            read = !self.unread(),
        );
        xml
    }

    /// A MAPI property by its id (MS-OXPROPS), for clients that think in those.
    fn property(&self, id: u32, user: &str) -> Option<String> {
        Some(match id {
            // Message size, flags (read), IMAP's UID, search key, change key, message class.
            0x0e08 => self.mime(user).len().to_string(),
            0x0e07 => u32::from(!self.unread()).to_string(),
            0x0e23 => self.number.to_string(),
            0x300b | 0x65e2 => STANDARD.encode(self.number.to_be_bytes()),
            0x001a => "IPM.Note".to_owned(),
            0x0037 => escaped(self.subject),
            0x1035 => format!("&lt;{}@sandbox.example&gt;", self.number),
            0x0e06 | 0x3007 | 0x3008 | 0x0039 => self.date.to_owned(),
            _ => return None,
        })
    }

    /// The attachment as XML, with its content or without.
    pub(super) fn attachment_xml(&self, content: bool) -> String {
        let content = if content {
            format!("<t:Content>{}</t:Content>", STANDARD.encode(ATTACHMENT))
        } else {
            String::new()
        };
        format!(
            "<t:FileAttachment><t:AttachmentId Id=\"{}\"/><t:Name>invoice.pdf</t:Name>\
             <t:ContentType>application/pdf</t:ContentType><t:Size>{}</t:Size>\
             <t:IsInline>false</t:IsInline>{content}</t:FileAttachment>",
            self.attachment_id(),
            ATTACHMENT.len()
        )
    }
}

/// What a client wants to know of a mail.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) content: bool,
    pub(super) mime: bool,
    pub(super) properties: Vec<u32>,
}

/// The id of an item, opaque to clients.
pub(super) fn item_id(number: u32) -> String {
    format!("AAMkItem-{number}=")
}

/// A Mailbox element.
pub(super) fn mailbox_xml(name: &str, address: &str) -> String {
    format!(
        "<t:Mailbox><t:Name>{name}</t:Name><t:EmailAddress>{address}</t:EmailAddress>\
         <t:RoutingType>SMTP</t:RoutingType><t:MailboxType>Mailbox</t:MailboxType></t:Mailbox>"
    )
}

fn push_property(xml: &mut String, id: u32, value: &str) {
    let kind = match id {
        0x0e08 | 0x0e07 | 0x0e23 | 0x3602 | 0x3603 | 0x6751 => "Integer",
        0x360a => "Boolean",
        0x300b | 0x65e2 => "Binary",
        0x0e06 | 0x3007 | 0x3008 | 0x0039 => "SystemTime",
        _ => "String",
    };
    let _infallible = write!(
        xml,
        "<t:ExtendedProperty><t:ExtendedFieldURI PropertyTag=\"0x{id:x}\" PropertyType=\"{kind}\"/>\
         <t:Value>{value}</t:Value></t:ExtendedProperty>"
    );
}
