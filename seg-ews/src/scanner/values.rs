//! Which values of a request body a policy wants to know, by where they stand.

use crate::operation::Operation;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// The name of a mailbox.
    Mailbox,
    /// Where to push notifications.
    PushUrl,
    /// A subscription.
    SubscriptionId,
    /// Minutes to listen.
    ConnectionTimeout,
}

/// One place.
struct Place {
    /// Local names from the operation's child, or from anywhere, down to the element.
    path: &'static [&'static str],
    /// Whether the first name of the path is a child of the operation.
    from_operation: bool,
    /// The operations for which the place counts; empty for all but [`Self::but`].
    only: &'static [&'static str],
    /// The operations for which it does not.
    but: &'static [&'static str],
    value: Value,
}

const fn under(path: &'static [&'static str], value: Value) -> Place {
    Place {
        path,
        from_operation: true,
        only: &[],
        but: &[],
        value,
    }
}

/// Every place, found in `messages.xsd` and `types.xsd` by the types `EmailAddressType`,
/// `DistinguishedFolderIdType` and by name. `AlternateId/@Mailbox` is not among them: ConvertId
/// opens no mailbox, and clients probe the server's version with made-up names there.
static PLACES: &[Place] = &[
    Place {
        path: &["DistinguishedFolderId", "Mailbox", "EmailAddress"],
        from_operation: false,
        only: &[],
        but: &[],
        value: Value::Mailbox,
    },
    // Delegates and managed folders; what ExpandDL calls a mailbox is a distribution list.
    Place {
        path: &["Mailbox", "EmailAddress"],
        from_operation: true,
        only: &[],
        but: &["ExpandDL"],
        value: Value::Mailbox,
    },
    // Out-of-office settings.
    under(&["Mailbox", "Address"], Value::Mailbox),
    // Inbox rules, password expiry.
    under(&["MailboxSmtpAddress"], Value::Mailbox),
    under(&["ActingAs", "EmailAddress"], Value::Mailbox),
    Place {
        path: &["SmtpAddress"],
        from_operation: true,
        only: &["GetSharingFolder"],
        but: &[],
        value: Value::Mailbox,
    },
    Place {
        path: &["EmailAddress", "EmailAddress"],
        from_operation: true,
        only: &["SetTeamMailbox", "UnpinTeamMailbox"],
        but: &[],
        value: Value::Mailbox,
    },
    // Discovery searches and holds.
    Place {
        path: &["MailboxSearchScope", "Mailbox"],
        from_operation: false,
        only: &[],
        but: &[],
        value: Value::Mailbox,
    },
    under(&["Mailboxes", "String"], Value::Mailbox),
    under(&["Mailboxes", "LegacyDN"], Value::Mailbox),
    under(&["PushSubscriptionRequest", "URL"], Value::PushUrl),
    under(&["SubscriptionId"], Value::SubscriptionId),
    under(
        &["SubscriptionIds", "SubscriptionId"],
        Value::SubscriptionId,
    ),
    under(&["ConnectionTimeout"], Value::ConnectionTimeout),
];

/// The name of an element if it is on any path above. Everything else is one to the table, so
/// that most elements cost one look here and no more.
pub(super) fn known(local: &str) -> Option<&'static str> {
    let first = local.bytes().next()?;
    if !matches!(
        first,
        b'A' | b'C' | b'D' | b'E' | b'L' | b'M' | b'P' | b'S' | b'U'
    ) {
        return None;
    }
    NAMES.iter().copied().find(|name| *name == local)
}

static NAMES: &[&str] = &[
    "DistinguishedFolderId",
    "Mailbox",
    "EmailAddress",
    "Address",
    "MailboxSmtpAddress",
    "ActingAs",
    "SmtpAddress",
    "MailboxSearchScope",
    "Mailboxes",
    "String",
    "LegacyDN",
    "PushSubscriptionRequest",
    "URL",
    "SubscriptionId",
    "SubscriptionIds",
    "ConnectionTimeout",
];

/// What the element is whose path from the operation's child is given by [`known`] names.
pub(super) fn find(operation: Operation, path: &[Option<&'static str>]) -> Option<Value> {
    // The innermost name decides nearly always.
    let innermost = (*path.last()?)?;
    PLACES
        .iter()
        .find(|place| {
            place.path.last() == Some(&innermost)
                && (!place.from_operation || place.path.len() == path.len())
                && ends_with(path, place.path)
                && (place.only.is_empty() || place.only.contains(&operation.name()))
                && !place.but.contains(&operation.name())
        })
        .map(|place| place.value)
}

fn ends_with(path: &[Option<&'static str>], end: &[&'static str]) -> bool {
    path.len() >= end.len()
        && path
            .iter()
            .rev()
            .zip(end.iter().rev())
            .all(|(have, want)| *have == Some(*want))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(operation: &str, path: &[&str]) -> Option<Value> {
        let path: Vec<_> = path.iter().map(|local| known(local)).collect();
        find(Operation::from_name(operation).expect("known"), &path)
    }

    #[test]
    fn every_name_on_a_path_is_known() {
        for place in PLACES {
            for name in place.path {
                assert_eq!(known(name), Some(*name));
            }
            for name in place.only.iter().chain(place.but) {
                assert!(Operation::from_name(name).is_some(), "{name}");
            }
        }
    }

    #[test]
    fn mailboxes_count_where_they_give_access_and_nowhere_else() {
        let mailbox = Some(Value::Mailbox);
        let folder = [
            "FolderIds",
            "DistinguishedFolderId",
            "Mailbox",
            "EmailAddress",
        ];
        assert_eq!(at("GetFolder", &folder), mailbox);
        assert_eq!(at("AddDelegate", &["Mailbox", "EmailAddress"]), mailbox);
        assert_eq!(at("ExpandDL", &["Mailbox", "EmailAddress"]), None);
        assert_eq!(at("GetUserOofSettings", &["Mailbox", "Address"]), mailbox);
        let recipient = [
            "Items",
            "Message",
            "ToRecipients",
            "Mailbox",
            "EmailAddress",
        ];
        assert_eq!(at("CreateItem", &recipient), None);
        let attendee = ["MailboxDataArray", "MailboxData", "Email", "Address"];
        assert_eq!(at("GetUserAvailability", &attendee), None);
        assert_eq!(
            at("SetTeamMailbox", &["EmailAddress", "EmailAddress"]),
            mailbox
        );
        assert_eq!(at("GetPersona", &["EmailAddress", "EmailAddress"]), None);
        assert_eq!(at("GetRooms", &["RoomList", "EmailAddress"]), None);
        assert_eq!(
            at("Subscribe", &["PushSubscriptionRequest", "URL"]),
            Some(Value::PushUrl)
        );
    }
}
