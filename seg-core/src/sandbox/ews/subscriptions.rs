//! Who wants to be told of changes: subscriptions to pull and to push.

use parking_lot::Mutex;

use super::envelope::{escaped, unescaped};
use super::mailbox::{CHANGE_KEY, folder_id, item_id};
use super::reading::{tags, text};

/// How a subscriber is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// It asks (GetEvents).
    Pull,
    /// It listens (GetStreamingEvents).
    Stream,
    /// It is called (SendNotification).
    Push,
}

/// A subscription.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subscription {
    /// Its id.
    pub id: String,
    /// The address of whose mailbox it watches.
    pub user: String,
    /// How the subscriber is told.
    pub way: Way,
    /// Where a push goes; empty for the others.
    pub url: String,
    /// StatusFrequency of a push, in minutes.
    pub status_frequency: u32,
    /// Mails that the subscriber was not told of yet.
    pub(super) pending: usize,
}

/// Every subscription.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Subscriptions(Mutex<Vec<Subscription>>);

impl Subscriptions {
    /// Makes one out of a `Subscribe`.
    pub(super) fn add(&self, id: String, user: &str, body: &str) -> Way {
        let has = |name: &str| tags(body).any(|tag| tag.name == name);
        let way = if has("PushSubscriptionRequest") {
            Way::Push
        } else if has("StreamingSubscriptionRequest") {
            Way::Stream
        } else {
            Way::Pull
        };
        self.0.lock().push(Subscription {
            id,
            user: user.to_owned(),
            way,
            url: unescaped(text(body, "URL").unwrap_or_default()),
            status_frequency: text(body, "StatusFrequency")
                .and_then(|minutes| minutes.parse().ok())
                .unwrap_or(30),
            pending: 0,
        });
        way
    }

    pub(in crate::sandbox) fn all(&self) -> Vec<Subscription> {
        self.0.lock().clone()
    }

    pub(in crate::sandbox) fn remove(&self, id: &str) {
        self.0.lock().retain(|known| known.id != id);
    }

    /// A new mail for `user`: those who ask will hear of it.
    pub(in crate::sandbox) fn new_mail(&self, user: &str) {
        let mut all = self.0.lock();
        for known in all.iter_mut().filter(|known| known.user == user) {
            known.pending += 1;
        }
    }

    /// The events of a subscription since it was asked last; `None`: there is no such one.
    pub(super) fn events(&self, id: &str) -> Option<String> {
        let mut all = self.0.lock();
        let known = all.iter_mut().find(|known| known.id == id)?;
        Some(match std::mem::take(&mut known.pending) {
            0 => STATUS_EVENT.to_owned(),
            mails => new_mail_event().repeat(mails),
        })
    }
}

pub(super) const STATUS_EVENT: &str =
    "<t:StatusEvent><t:Watermark>AQAA</t:Watermark></t:StatusEvent>";

/// A mail that came into the inbox.
pub(super) fn new_mail_event() -> String {
    format!(
        "<t:NewMailEvent><t:Watermark>AQAB</t:Watermark>\
         <t:TimeStamp>2026-11-22T06:00:00Z</t:TimeStamp>\
         <t:ItemId Id=\"{item}\" ChangeKey=\"{CHANGE_KEY}\"/>\
         <t:ParentFolderId Id=\"{inbox}\" ChangeKey=\"{CHANGE_KEY}\"/></t:NewMailEvent>",
        item = item_id(1),
        inbox = folder_id("inbox"),
    )
}

/// One notification about a subscription.
pub(super) fn notification(id: &str, events: &str) -> String {
    format!(
        "<m:Notification><t:SubscriptionId>{}</t:SubscriptionId>\
         <t:PreviousWatermark>AQAA</t:PreviousWatermark><t:MoreEvents>false</t:MoreEvents>\
         {events}</m:Notification>",
        escaped(id)
    )
}
