//! Push notifications: the URL that a server calls, and what it is answered.
//!
//! A gateway that puts itself between the server and the subscriber writes another URL into the
//! `Subscribe` request ([`with_push_url`]), passes the server's `SendNotification` on, and ends the
//! subscription by an answer of its own ([`result`]): to a push subscription `Unsubscribe` does
//! not apply, `SubscriptionStatus` does.

use crate::markup::{Lexer, Sink, Unreadable};
use quick_xml::escape::escape;

/// The content type of every document made here.
pub const CONTENT_TYPE: &str = "text/xml; charset=utf-8";

const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const MESSAGES: &str = "http://schemas.microsoft.com/exchange/services/2006/messages";
const TYPES: &str = "http://schemas.microsoft.com/exchange/services/2006/types";

/// What a subscriber says to a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionStatus {
    /// Go on.
    Ok,
    /// The server shall drop the subscription.
    Unsubscribe,
}

/// The answer to a `SendNotification`.
pub fn result(status: SubscriptionStatus) -> String {
    let status = match status {
        SubscriptionStatus::Ok => "OK",
        SubscriptionStatus::Unsubscribe => "Unsubscribe",
    };
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="{SOAP}"><soap:Body><SendNotificationResult xmlns="{MESSAGES}"><SubscriptionStatus>{status}</SubscriptionStatus></SendNotificationResult></soap:Body></soap:Envelope>"#
    )
}

/// The request that ends a pull or streaming subscription.
pub fn unsubscribe(subscription_id: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="{SOAP}"><soap:Header><t:RequestServerVersion Version="Exchange2013" xmlns:t="{TYPES}"/></soap:Header><soap:Body><Unsubscribe xmlns="{MESSAGES}"><SubscriptionId>{}</SubscriptionId></Unsubscribe></soap:Body></soap:Envelope>"#,
        escape(subscription_id)
    )
}

/// The `Subscribe` request with another URL to push to; every other byte stays. `body` is a whole
/// request that [`classify`](crate::classify) has accepted as a push subscription. None where the
/// URL can't be put in: the text is UTF-16, or there is no such element.
pub fn with_push_url(body: &[u8], url: &str) -> Option<Vec<u8>> {
    let mut finding = Finding::default();
    Lexer::default().feed(body, &mut finding).ok()?;
    let (start, end) = finding.found?;
    let (before, behind) = (body.get(..start)?, body.get(end..)?);
    let url = escape(url);
    let mut changed = Vec::with_capacity(before.len() + url.len() + behind.len());
    changed.extend_from_slice(before);
    changed.extend_from_slice(url.as_bytes());
    changed.extend_from_slice(behind);
    Some(changed)
}

/// Envelope, Body, Subscribe, PushSubscriptionRequest, URL: where the elements stand. The first
/// three are so in every request that was accepted.
const REQUEST_DEPTH: usize = 4;
const URL_DEPTH: usize = 5;

/// Looks for the text of the one `URL` of a push subscription.
#[derive(Default)]
struct Finding {
    depth: usize,
    in_request: bool,
    start: Option<usize>,
    found: Option<(usize, usize)>,
}

impl Sink for Finding {
    fn other(&mut self, _bytes: &[u8]) -> Result<(), Unreadable> {
        Ok(())
    }

    fn start(
        &mut self,
        _tag: &[u8],
        local: &[u8],
        empty: bool,
        behind: usize,
    ) -> Result<(), Unreadable> {
        if empty {
            return Ok(());
        }
        self.depth += 1;
        if self.depth == REQUEST_DEPTH {
            self.in_request = local == b"PushSubscriptionRequest";
        }
        if self.depth == URL_DEPTH && self.in_request && local == b"URL" {
            self.start = Some(behind);
        }
        Ok(())
    }

    fn end(&mut self, tag: &[u8], behind: usize) -> Result<(), Unreadable> {
        if self.depth == URL_DEPTH
            && let Some(start) = self.start.take()
        {
            self.found = Some((start, behind.saturating_sub(tag.len())));
        }
        self.depth = self.depth.checked_sub(1).ok_or(Unreadable)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{self, Kind};
    use crate::{Limits, classify};
    use proptest::prelude::*;

    fn subscribe(url: &str) -> String {
        format!(
            "<?xml version='1.0'?><s:Envelope xmlns:s='{SOAP}' xmlns:t='{TYPES}'><s:Header>\
             <t:URL>not this</t:URL></s:Header><s:Body><Subscribe xmlns='{MESSAGES}'>\
             <PushSubscriptionRequest><t:EventTypes><t:EventType>URL</t:EventType></t:EventTypes>\
             <t:StatusFrequency>15</t:StatusFrequency><t:URL a='>'>{url}</t:URL>\
             </PushSubscriptionRequest></Subscribe></s:Body></s:Envelope>"
        )
    }

    #[test]
    fn the_url_changes_and_nothing_else() {
        let new = "https://gw.example/ews-callback/abc?a=1&b=<2>";
        for old in [
            "https://ens.example/notify?id=&amp;creds=QUJD",
            "<![CDATA[https://x/]]>",
        ] {
            let body = subscribe(old);
            let changed = with_push_url(body.as_bytes(), new).expect("a push subscription");
            assert_eq!(
                String::from_utf8_lossy(&changed),
                subscribe("https://gw.example/ews-callback/abc?a=1&amp;b=&lt;2&gt;")
            );
            let envelope = classify(&changed, &Limits::default()).expect("a request");
            assert_eq!(envelope.push_url.expect("a URL").expose(), new);
        }
        for other in [
            subscribe("").replace("PushSub", "PullSub"),
            subscribe("").replace("t:URL", "t:Url"),
        ] {
            assert_eq!(with_push_url(other.as_bytes(), new), None);
        }
    }

    #[test]
    fn what_is_made_here_is_what_it_should_be() {
        for status in [SubscriptionStatus::Ok, SubscriptionStatus::Unsubscribe] {
            let text = result(status);
            let document = document::classify(text.as_bytes(), &Limits::default());
            assert_eq!(document.expect("a document").kind, Kind::CallbackResponse);
        }
        let text = unsubscribe("a<b&c");
        let envelope = classify(text.as_bytes(), &Limits::default()).expect("a request");
        assert_eq!(envelope.operation.name(), "Unsubscribe");
        assert_eq!(envelope.subscription_ids, ["a<b&c"]);
    }

    proptest! {
        #[test]
        fn any_readable_push_subscription_takes_another_url(
            url in "[ -~]{0,40}",
            noise in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            crate::fuzz::push_url(subscribe(&url).as_bytes());
            crate::fuzz::push_url(subscribe(&escape(&url)).as_bytes());
            crate::fuzz::push_url(&noise);
        }
    }
}
