//! Mail is asked for whole, where a rule looks for words in it and an answer shows the beginning only:
//! one more request in the name of the device, with the headers of its own.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use seg_compliance::UserKey;
use seg_eas::content::{self, ItemId, Rule, Whole};
use seg_eas::{Command, request_line};

use super::Walk;
use super::content::{Missing, decoded, gathered};
use super::login::proves_itself;
use crate::decide::Admitted;
use crate::forward::{self, Errand, Held};
use crate::identify::CredentialDigest;
use crate::protocol::Plan;
use crate::runtime::Signal;
use crate::servers::{Choice, Leg};
use crate::transform::Inward;

/// Mails of one request.
const BATCH: usize = 32;
/// Mails of one answer that are asked for: the largest window of a Sync (MS-ASCMD, "WindowSize").
const MOST: usize = 512;

const MULTIPART: HeaderName = HeaderName::from_static("ms-asacceptmultipart");
const WBXML: HeaderValue = HeaderValue::from_static("application/vnd.ms-sync.wbxml");

/// What a further request of the device is made of.
#[derive(Debug)]
pub(super) struct Further {
    leg: Arc<Leg>,
    choice: Choice,
    path: PathAndQuery,
    inward: Inward,
    private: Option<CredentialDigest>,
    stays: bool,
    plan: Plan,
    /// Who is logged in by Kerberos, whose messages serve one request each.
    login: Option<UserKey>,
}

impl Further {
    /// As the device would send an ItemOperations; `None` where its query can't be turned into one.
    pub(super) fn of(errand: &Errand, login: Option<&UserKey>) -> Option<Box<Self>> {
        let query = request_line::as_command(errand.path.query()?, Command::ItemOperations)?;
        let path = format!("{}?{query}", errand.path.path());
        let mut inward = errand.inward.clone();
        inward.headers.remove(MULTIPART);
        inward.headers.insert(CONTENT_TYPE, WBXML);
        let identity = HeaderValue::from_static("identity");
        inward.headers.insert(ACCEPT_ENCODING, identity);
        Some(Box::new(Self {
            leg: Arc::clone(&errand.leg),
            choice: errand.choice,
            path: path.parse().ok()?,
            inward,
            private: errand.private,
            stays: errand.stays,
            plan: Plan {
                head_within: errand.leg.response_within,
                body_idle: errand.leg.response_within,
                replay: true,
                detached: false,
                poll: false,
            },
            login: login.cloned(),
        }))
    }

    fn errand(&self, body: Vec<u8>) -> Errand {
        Errand {
            leg: Arc::clone(&self.leg),
            choice: self.choice,
            method: Method::POST,
            path: self.path.clone(),
            inward: self.inward.clone(),
            held: Held {
                bytes: Bytes::from(body),
                rest: None,
            },
            expects: false,
            private: self.private,
            stays: self.stays,
            plan: self.plan,
        }
    }
}

impl Walk<'_> {
    /// What the whole texts of an answer's mails say, as far as the server gives them.
    ///
    /// # Errors
    /// A block or a drain came first.
    pub(super) async fn whole_texts(
        &self,
        further: Option<&Further>,
        rules: &[&Rule],
        ids: &[ItemId],
        admitted: Option<&Admitted>,
    ) -> Result<Vec<(ItemId, Whole)>, Signal> {
        let mut told = Vec::new();
        let Some(further) = further else {
            return Ok(told);
        };
        let limit = self.snapshot.config.content_buffer;
        for batch in ids
            .get(..ids.len().min(MOST))
            .unwrap_or_default()
            .chunks(BATCH)
        {
            let mut errand = further.errand(content::asks(rules, batch));
            let login = match &further.login {
                Some(user) => match self.log_in_again(user, &mut errand).await {
                    Some(login) => Some(login),
                    None => break,
                },
                None => None,
            };
            let Some(mut going) = forward::start(&self.connection.core, errand) else {
                break;
            };
            let mut exchange = match going.watched(admitted).await {
                forward::Went::Answered(exchange) => exchange,
                forward::Went::Signalled(signal) => return Err(signal),
                forward::Went::Failed(_) => continue,
            };
            let is_ours = login.is_none_or(|login| proves_itself(*login, &exchange.headers));
            if exchange.status != StatusCode::OK || !is_ours {
                continue;
            }
            let body = match gathered(&mut exchange.body, limit, admitted).await {
                Ok(body) => body,
                Err(Missing::Signalled(signal)) => return Err(signal),
                Err(Missing::TooLarge | Missing::Broken(_)) => continue,
            };
            let body = decoded(&exchange.headers, body, limit).unwrap_or_default();
            told.extend(content::whole(rules, &body).unwrap_or_default());
        }
        let metrics = &self.connection.core.shared.metrics;
        metrics.content("fetched_whole", told.len());
        Ok(told)
    }
}
