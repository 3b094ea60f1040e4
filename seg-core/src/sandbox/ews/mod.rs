//! Exchange Web Services: what each operation is answered, as literal XML.
//!
//! Enough for exchangelib and DavMail to log in, look at the folders, read the mail and send some.
//! Sent and saved items are counted, not kept: the mailbox never changes.

mod envelope;
mod mailbox;
pub(super) mod push;
mod reading;
pub(super) mod subscriptions;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::answer::{Answer, Framing};
use super::connection::Shared;
use super::ledger::Sent;
use super::site::{Reply, Request};
use envelope::{answer, error, escaped, fault, of, of_messages, success, unescaped};
use mailbox::{CHANGE_KEY, FOLDERS, Folder, MAILS, Mail, Shape, folder_id, item_id, mailbox_xml};
pub(super) use reading::operation;
use reading::{ids, ids_in, tags, text};
use subscriptions::{Subscriptions, Way, notification};

/// How often an open stream says that it is alive.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(45);
/// The elements that name a folder.
const FOLDER_IDS: [&str; 2] = ["FolderId", "DistinguishedFolderId"];
/// The state of a synchronisation that is complete.
const SYNC_STATE: &str = "H4sIAAsandbox=";

/// What the EWS part remembers.
#[derive(Debug, Default)]
pub(super) struct State {
    next_id: AtomicU64,
    pub(super) subscriptions: Subscriptions,
}

impl State {
    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

/// A stream of envelopes in one chunked answer.
pub(super) struct Stream {
    pub(super) limit: Duration,
    pub(super) head: Bytes,
    pub(super) opening: Bytes,
    pub(super) event: Bytes,
    pub(super) keep_alive: Bytes,
    pub(super) closing: Bytes,
}

impl Stream {
    /// The stream as it would be if it ended at once, for scripts that cut an answer.
    pub(super) fn as_one_answer(&self) -> Answer {
        let whole = [self.opening.as_ref(), self.closing.as_ref()].concat();
        Answer::ok(envelope::CONTENT_TYPE, whole).framing(Framing::Chunked(64))
    }
}

/// The ordinary answer of a request with valid credentials.
pub(super) fn reply(shared: &Shared, request: &Request<'_>) -> Reply {
    let (path, _) = request.head.path_and_query();
    let path = path.to_ascii_lowercase();
    Reply::Answer(match (request.head.method.as_str(), path.as_str()) {
        ("POST", "/ews/exchange.asmx") => return soap(shared, request),
        ("GET" | "HEAD", "/ews/exchange.asmx") => Answer::ok(
            "text/html; charset=utf-8",
            "<html><body>You have a service.</body></html>",
        ),
        ("GET" | "HEAD", "/ews/services.wsdl") => Answer::ok("text/xml", WSDL),
        ("GET" | "HEAD", "/ews/messages.xsd" | "/ews/types.xsd") => Answer::ok("text/xml", XSD),
        ("GET", "/ews/exchange.asmx/s/getuserphoto") => Answer::ok("image/jpeg", PHOTO),
        _ => Answer::status(404),
    })
}

/// The smallest JPEG that is one.
const PHOTO: &[u8] = b"\xff\xd8\xff\xd9";
const WSDL: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
    <wsdl:definitions xmlns:wsdl=\"http://schemas.xmlsoap.org/wsdl/\" \
    targetNamespace=\"http://schemas.microsoft.com/exchange/services/2006/messages\"/>";
const XSD: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
    <xs:schema xmlns:xs=\"http://www.w3.org/2001/XMLSchema\"/>";

fn soap(shared: &Shared, request: &Request<'_>) -> Reply {
    let Ok(body) = std::str::from_utf8(request.body) else {
        return Reply::Answer(fault("ErrorInvalidRequest", "The request is not UTF-8."));
    };
    let user = request.seen.user.as_str();
    let operation = request.seen.name.as_str();
    let one = |inner: &str| of_messages(operation, &success(operation, inner));
    let envelope = match operation {
        "ConvertId" => one(&converted(body)),
        "GetFolder" => folders(body),
        "FindFolder" => found_folders(body),
        "SyncFolderHierarchy" => one(&synchronised_folders(body)),
        "SyncFolderItems" => one(&synchronised_items(body, user)),
        "FindItem" => found_items(body, user),
        "GetItem" => items(body, user),
        "GetAttachment" => attachments(body),
        "CreateItem" | "SendItem" => {
            let sends = operation == "SendItem"
                || tags(body).any(|tag| {
                    let disposition = tag.attribute("MessageDisposition");
                    disposition.is_some_and(|disposition| disposition.starts_with("Send"))
                });
            if sends {
                let seen = request.seen.clone();
                shared.ledger.message(Sent {
                    seen,
                    client_id: None,
                    body: request.body.clone(),
                });
            }
            if operation == "SendItem" {
                one("")
            } else {
                one(&created(shared, body))
            }
        }
        "UpdateItem" => one(&format!(
            "{}<m:ConflictResults><t:Count>0</t:Count></m:ConflictResults>",
            first_item(body)
        )),
        "MoveItem" | "CopyItem" => one(&first_item(body)),
        "DeleteItem" | "UpdateFolder" | "DeleteFolder" => one(""),
        "Unsubscribe" => {
            let id = unescaped(text(body, "SubscriptionId").unwrap_or_default());
            shared.ews.subscriptions.remove(&id);
            one("")
        }
        "ResolveNames" => one(&resolved(body, user)),
        "GetServerTimeZones" => one(TIME_ZONES),
        "Subscribe" => one(&subscribed(shared, body, user)),
        "GetEvents" => {
            let id = unescaped(text(body, "SubscriptionId").unwrap_or_default());
            match shared.ews.subscriptions.events(&id) {
                Some(events) => one(&notification(&id, &events)),
                None => of_messages(operation, &error(operation, "ErrorSubscriptionNotFound")),
            }
        }
        "GetUserPhoto" => of(
            "GetUserPhotoResponse",
            "<m:ResponseCode>NoError</m:ResponseCode><m:HasChanged>true</m:HasChanged>\
             <m:PictureData>/9j/2Q==</m:PictureData>",
        ),
        "GetStreamingEvents" => return Reply::Stream(stream(body)),
        "GetUserAvailabilityRequest" => of("GetUserAvailabilityResponse", AVAILABILITY),
        "GetUserOofSettingsRequest" => of("GetUserOofSettingsResponse", OOF),
        "SetUserOofSettingsRequest" => of(
            "SetUserOofSettingsResponse",
            "<m:ResponseMessage ResponseClass=\"Success\">\
             <m:ResponseCode>NoError</m:ResponseCode></m:ResponseMessage>",
        ),
        "GetUserConfiguration" => of_messages(operation, &error(operation, "ErrorItemNotFound")),
        _ => {
            let text = "The sandbox does not know this operation.";
            return Reply::Answer(fault("ErrorInvalidRequest", text));
        }
    };
    Reply::Answer(answer(envelope))
}

fn converted(body: &str) -> String {
    let tag = tags(body).find(|tag| tag.name == "AlternateId");
    let attribute = |name| tag.and_then(|tag| tag.attribute(name)).unwrap_or_default();
    let format = tags(body)
        .find_map(|tag| tag.attribute("DestinationFormat"))
        .unwrap_or("EwsId");
    format!(
        "<m:AlternateId xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xsi:type=\"t:AlternateIdType\" Format=\"{format}\" Id=\"{}\" Mailbox=\"{}\"/>",
        attribute("Id"),
        attribute("Mailbox")
    )
}

fn folders(body: &str) -> String {
    let wanted = wanted_properties(body);
    let message = |id: &str| match Folder::find(id) {
        None => error("GetFolder", "ErrorFolderNotFound"),
        Some(folder) => success(
            "GetFolder",
            &format!("<m:Folders>{}</m:Folders>", folder.xml(&wanted)),
        ),
    };
    let messages: String = ids(body, &FOLDER_IDS).into_iter().map(message).collect();
    of_messages("GetFolder", &messages)
}

fn found_folders(body: &str) -> String {
    let wanted = wanted_properties(body);
    let deep = tags(body).any(|tag| tag.attribute("Traversal") == Some("Deep"));
    let message = |id: &str| match Folder::find(id) {
        None => error("FindFolder", "ErrorFolderNotFound"),
        Some(parent) => {
            let below = parent.below(deep);
            let xml: String = below.iter().map(|folder| folder.xml(&wanted)).collect();
            let root = format!(
                "<m:RootFolder {}><t:Folders>{xml}</t:Folders></m:RootFolder>",
                whole_page(below.len())
            );
            success("FindFolder", &root)
        }
    };
    let parents = ids_in(body, "ParentFolderIds", &FOLDER_IDS);
    let messages: String = parents.into_iter().map(message).collect();
    of_messages("FindFolder", &messages)
}

fn synchronised_folders(body: &str) -> String {
    let known = text(body, "SyncState") == Some(SYNC_STATE);
    let shown = FOLDERS
        .iter()
        .filter(|folder| !known && folder.name != "root");
    let changes: String = shown
        .map(|folder| format!("<t:Create>{}</t:Create>", folder.xml(&[])))
        .collect();
    format!(
        "<m:SyncState>{SYNC_STATE}</m:SyncState>\
         <m:IncludesLastFolderInRange>true</m:IncludesLastFolderInRange>\
         <m:Changes>{changes}</m:Changes>"
    )
}

fn synchronised_items(body: &str, user: &str) -> String {
    let known = text(body, "SyncState") == Some(SYNC_STATE);
    let folder = ids(body, &FOLDER_IDS).into_iter().find_map(Folder::find);
    let mails = folder.map(Folder::mails).unwrap_or_default();
    let shape = shape(body, false);
    let shown = mails.iter().filter(|_| !known);
    let changes: String = shown
        .map(|mail| format!("<t:Create>{}</t:Create>", mail.xml(user, &shape)))
        .collect();
    format!(
        "<m:SyncState>{SYNC_STATE}</m:SyncState>\
         <m:IncludesLastItemInRange>true</m:IncludesLastItemInRange>\
         <m:Changes>{changes}</m:Changes>"
    )
}

fn found_items(body: &str, user: &str) -> String {
    let shape = shape(body, false);
    let offset = tags(body).find(|tag| tag.name == "IndexedPageItemView");
    let offset = offset
        .and_then(|tag| tag.attribute("Offset")?.parse().ok())
        .unwrap_or(0);
    let message = |id: &str| match Folder::find(id) {
        None => error("FindItem", "ErrorFolderNotFound"),
        Some(folder) => {
            let mails = folder.mails();
            let shown = mails.get(offset..).unwrap_or_default();
            let xml: String = shown.iter().map(|mail| mail.xml(user, &shape)).collect();
            let root = format!(
                "<m:RootFolder {}><t:Items>{xml}</t:Items></m:RootFolder>",
                whole_page(mails.len())
            );
            success("FindItem", &root)
        }
    };
    let parents = ids_in(body, "ParentFolderIds", &FOLDER_IDS);
    let messages: String = parents.into_iter().map(message).collect();
    of_messages("FindItem", &messages)
}

fn items(body: &str, user: &str) -> String {
    let shape = shape(body, true);
    let message = |id: &str| match Mail::find(id) {
        None => error("GetItem", "ErrorItemNotFound"),
        Some(mail) => success(
            "GetItem",
            &format!("<m:Items>{}</m:Items>", mail.xml(user, &shape)),
        ),
    };
    let messages: String = ids(body, &["ItemId"]).into_iter().map(message).collect();
    of_messages("GetItem", &messages)
}

fn attachments(body: &str) -> String {
    let message = |id: &str| match Mail::find_attachment(id) {
        None => error("GetAttachment", "ErrorItemNotFound"),
        Some(mail) => {
            let xml = mail.attachment_xml(true);
            success(
                "GetAttachment",
                &format!("<m:Attachments>{xml}</m:Attachments>"),
            )
        }
    };
    let messages: String = ids(body, &["AttachmentId"])
        .into_iter()
        .map(message)
        .collect();
    of_messages("GetAttachment", &messages)
}

fn created(shared: &Shared, body: &str) -> String {
    let sent_only = tags(body).any(|tag| tag.attribute("MessageDisposition") == Some("SendOnly"));
    if sent_only {
        return "<m:Items/>".to_owned();
    }
    let id = shared.ews.next_id();
    format!(
        "<m:Items><t:Message><t:ItemId Id=\"AAMkCreated-{id}=\" ChangeKey=\"{CHANGE_KEY}\"/>\
         </t:Message></m:Items>"
    )
}

fn first_item(body: &str) -> String {
    let id = ids(body, &["ItemId"])
        .into_iter()
        .next()
        .unwrap_or_default();
    format!(
        "<m:Items><t:Message><t:ItemId Id=\"{id}\" ChangeKey=\"{CHANGE_KEY}\"/></t:Message>\
         </m:Items>"
    )
}

fn resolved(body: &str, user: &str) -> String {
    let entry = text(body, "UnresolvedEntry").unwrap_or_default();
    let (name, address) = if entry.to_ascii_lowercase().contains("bob") {
        ("Bob Builder", "bob@sandbox.example")
    } else {
        (user, user)
    };
    format!(
        "<m:ResolutionSet {}><t:Resolution>{}<t:Contact><t:DisplayName>{}</t:DisplayName>\
         <t:EmailAddresses><t:Entry Key=\"EmailAddress1\">SMTP:{address}</t:Entry>\
         </t:EmailAddresses></t:Contact></t:Resolution></m:ResolutionSet>",
        whole_page(1),
        mailbox_xml(&escaped(name), address),
        escaped(name)
    )
}

fn subscribed(shared: &Shared, body: &str, user: &str) -> String {
    let id = format!("sandbox-{}", shared.ews.next_id());
    let way = shared.ews.subscriptions.add(id.clone(), user, body);
    let watermark = if way == Way::Stream {
        ""
    } else {
        "<m:Watermark>AQAA</m:Watermark>"
    };
    format!("<m:SubscriptionId>{id}</m:SubscriptionId>{watermark}")
}

fn stream(body: &str) -> Stream {
    let minutes = text(body, "ConnectionTimeout").and_then(|minutes| minutes.parse().ok());
    let subscription = text(body, "SubscriptionId").unwrap_or_default();
    let envelope = |inner: &str| {
        let message = success("GetStreamingEvents", inner);
        Bytes::from(of_messages("GetStreamingEvents", &message))
    };
    let notification = |event: &str| {
        envelope(&format!(
            "<m:Notifications><m:Notification><t:SubscriptionId>{subscription}</t:SubscriptionId>\
             {event}</m:Notification></m:Notifications>"
        ))
    };
    let status = |status: &str| {
        envelope(&format!(
            "<m:ConnectionStatus>{status}</m:ConnectionStatus>"
        ))
    };
    let head = Answer::status(200)
        .header("Cache-Control", "private")
        .header("Content-Type", envelope::CONTENT_TYPE)
        .framing(Framing::Chunked(1));
    Stream {
        limit: Duration::from_secs(minutes.unwrap_or(30_u64).saturating_mul(60)),
        head: head.head_bytes(),
        opening: status("OK"),
        event: notification(&format!(
            "<t:NewMailEvent><t:TimeStamp>2026-11-22T06:00:00Z</t:TimeStamp>\
             <t:ItemId Id=\"{item}\" ChangeKey=\"{CHANGE_KEY}\"/>\
             <t:ParentFolderId Id=\"{inbox}\" ChangeKey=\"{CHANGE_KEY}\"/></t:NewMailEvent>",
            item = item_id(u32::try_from(MAILS.len()).unwrap_or(1)),
            inbox = folder_id("inbox"),
        )),
        keep_alive: notification("<t:StatusEvent/>"),
        closing: status("Closed"),
    }
}

/// The attributes of a result that is complete.
fn whole_page(total: usize) -> String {
    format!(
        "IndexedPagingOffset=\"{total}\" TotalItemsInView=\"{total}\" \
         IncludesLastItemInRange=\"true\""
    )
}

fn shape(body: &str, content: bool) -> Shape {
    Shape {
        content,
        mime: content
            && (text(body, "IncludeMimeContent") == Some("true")
                || tags(body).any(|tag| tag.attribute("FieldURI") == Some("item:MimeContent"))),
        properties: wanted_properties(body),
    }
}

/// The extended properties that a request names by their tags.
fn wanted_properties(body: &str) -> Vec<u32> {
    tags(body)
        .filter(|tag| tag.name == "ExtendedFieldURI")
        .filter_map(|tag| tag.attribute("PropertyTag"))
        .filter_map(
            |id| match id.strip_prefix("0x").or_else(|| id.strip_prefix("0X")) {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => id.parse().ok(),
            },
        )
        .collect()
}

const TIME_ZONES: &str = "<m:TimeZoneDefinitions>\
    <t:TimeZoneDefinition Id=\"UTC\" Name=\"(UTC) Coordinated Universal Time\"><t:Periods>\
    <t:Period Bias=\"PT0S\" Name=\"Standard\" Id=\"trule:Microsoft/Registry/UTC/1-Standard\"/>\
    </t:Periods><t:TransitionsGroups><t:TransitionsGroup Id=\"0\"><t:Transition>\
    <t:To Kind=\"Period\">trule:Microsoft/Registry/UTC/1-Standard</t:To></t:Transition>\
    </t:TransitionsGroup></t:TransitionsGroups><t:Transitions><t:Transition>\
    <t:To Kind=\"Group\">0</t:To></t:Transition></t:Transitions></t:TimeZoneDefinition>\
    </m:TimeZoneDefinitions>";

const AVAILABILITY: &str = "<m:FreeBusyResponseArray><m:FreeBusyResponse>\
    <m:ResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>\
    </m:ResponseMessage><m:FreeBusyView><t:FreeBusyViewType>MergedOnly</t:FreeBusyViewType>\
    <t:MergedFreeBusy>0000</t:MergedFreeBusy></m:FreeBusyView></m:FreeBusyResponse>\
    </m:FreeBusyResponseArray>";

const OOF: &str = "<m:ResponseMessage ResponseClass=\"Success\">\
    <m:ResponseCode>NoError</m:ResponseCode></m:ResponseMessage>\
    <t:OofSettings><t:OofState>Disabled</t:OofState>\
    <t:ExternalAudience>None</t:ExternalAudience><t:Duration>\
    <t:StartTime>2026-11-22T00:00:00Z</t:StartTime><t:EndTime>2026-11-23T00:00:00Z</t:EndTime>\
    </t:Duration><t:InternalReply><t:Message/></t:InternalReply>\
    <t:ExternalReply><t:Message/></t:ExternalReply></t:OofSettings>\
    <m:AllowExternalOof>All</m:AllowExternalOof>";
