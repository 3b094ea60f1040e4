//! Content policies (`[[content]]` of policies.toml) on the way of a request and of its answer.
//!
//! Which rules hold is known before the first byte is forwarded. Where none does, nothing of this
//! is in the way: requests and answers pass byte for byte. Where one does, mail that is sent and
//! answers that hold mail are held whole, up to `content.buffer.limit.bytes`.

use std::future::poll_fn;
use std::io::Read as _;
use std::sync::OnceLock;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, IF_RANGE, RANGE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use seg_compliance::{Ask, DeviceKey, Engine, UserKey};
use seg_eas::Command;
use seg_eas::answer::Status;
use seg_eas::content::{self, Done, ItemId, Rule, Subject, TooLarge, Whole, Widened};

use super::folders::FolderRules;
use super::whole::Further;
use super::{Stop, Walk};
use crate::decide::{Admitted, Key};
use crate::filter::ChallengeRule;
use crate::forward::{Errand, Held};
use crate::message::Reply;
use crate::protocol::{Call, EasCall};
use crate::respond;
use crate::runtime::{Signal, Snapshot};
use crate::telemetry::metrics::Outcome;
use crate::upstream::{Exchange, UpstreamBody};

const WBXML: &[u8] = b"application/vnd.ms-sync";
const MULTIPART: &[u8] = b"application/vnd.ms-sync.multipart";
/// What a WBXML message begins with: version 1.3.
const WBXML_VERSION: u8 = 3;

/// The rules that hold for a request, by their places in the snapshot.
#[derive(Debug)]
pub(super) struct Rules {
    content: Vec<usize>,
    /// Whose mailbox it is.
    owner: Box<str>,
    pub(super) folders: Option<FolderRules>,
    /// What a device has asked for of attachments, where the server was asked for more.
    asked: OnceLock<Vec<Widened>>,
    /// How mail is asked for whole, where a rule may want that.
    further: OnceLock<Option<Box<Further>>>,
}

impl Rules {
    fn of<'s>(&self, snapshot: &'s Snapshot) -> Vec<&'s Rule> {
        let rules = self.content.iter();
        rules.filter_map(|at| snapshot.content.get(*at)).collect()
    }

    /// As what an attachment is remembered.
    fn key(&self, reference: &str) -> Key {
        let reference = content::canonical_reference(reference);
        (self.owner.clone(), reference.into())
    }

    /// Keeps what is needed to ask for more in the device's name.
    pub(super) fn keep(&self, snapshot: &Snapshot, errand: &Errand, login: Option<&UserKey>) {
        if content::may_want_whole(&self.of(snapshot)) {
            let _first = self.further.set(Further::of(errand, login));
        }
    }

    /// Whether an answer that can't be looked into passes.
    fn pass(&self, found: &[&Rule]) -> bool {
        self.folders.is_none() && passes(found)
    }
}

/// Why a body that was to be held is not there.
pub(super) enum Missing {
    /// A block or a drain came first.
    Signalled(Signal),
    /// It is larger than is held.
    TooLarge,
    /// The server broke it off.
    Broken(String),
}

impl Walk<'_> {
    /// The rules that hold for who asks; `None`: none, or the request has nothing to do with
    /// content.
    pub(super) fn content_rules(&self, call: &EasCall, ask: &Ask<'_>) -> Option<Box<Rules>> {
        let (command, device) = (call.eas_command()?, ask.device?);
        let engine = &self.connection.core.shared.engine;
        let content = if holds_content(command) {
            rules_for(self.snapshot, engine, device, ask.user)
        } else {
            Vec::new()
        };
        let folders = self.folder_rules(command, device, ask.user);
        (!content.is_empty() || folders.is_some()).then(|| {
            Box::new(Rules {
                content,
                owner: ask.user.map_or(device.as_str(), UserKey::as_str).into(),
                folders,
                asked: OnceLock::new(),
                further: OnceLock::new(),
            })
        })
    }

    /// What the rules do with a request: an answer instead of it, or the request as it goes on.
    pub(super) async fn content_up(
        &mut self,
        rules: &Rules,
        call: &EasCall,
        held: Held,
        headers: &mut HeaderMap,
    ) -> Result<Held, Stop> {
        // What is compressed would have to be undone: the server is asked for it as it is.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // A piece of an answer could not be looked into (RFC 9110 14).
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
        let held = match &rules.folders {
            Some(folders) => self.folders_up(folders, call, held).await?,
            None => held,
        };
        if rules.content.is_empty() {
            return Ok(held);
        }
        let found = rules.of(self.snapshot);
        match call.eas_command() {
            Some(Command::GetAttachment) => {
                let name = call.attachment().unwrap_or_default();
                match self.withheld(rules, &found, name) {
                    Some(rule) => Err(self.attachment_refused(&rule).into()),
                    None => Ok(held),
                }
            }
            Some(Command::SendMail | Command::SmartReply | Command::SmartForward) => {
                self.mail_up(&found, call, held).await
            }
            Some(Command::Sync) if call.has_wbxml() => self.mail_up(&found, call, held).await,
            Some(Command::ItemOperations) if call.has_wbxml() => {
                self.pieces_up(rules, &found, call, held).await
            }
            _ => Ok(held),
        }
    }

    /// Pieces of attachments are asked for with what stands before them, where a rule must see it.
    async fn pieces_up(
        &mut self,
        rules: &Rules,
        found: &[&Rule],
        call: &EasCall,
        held: Held,
    ) -> Result<Held, Stop> {
        let limit = self.snapshot.config.content_buffer;
        let mut held = match held.whole_within(limit).await {
            Ok(held) => held,
            Err(error) => return Err(self.bad_body(&error)),
        };
        let known = |reference: &str| self.is_looked_at(rules, reference);
        let widened = match held.whole() {
            Some(body) => content::widened(found, body, &known).map_err(|why| why.to_string()),
            None => Err("it is larger than is held".to_owned()),
        };
        match widened {
            Ok(None) => Ok(held),
            Ok(Some(wider)) => {
                held.bytes = wider.body.into();
                let _first = rules.asked.set(wider.asked);
                Ok(held)
            }
            Err(_) if passes(found) => Ok(held),
            Err(why) => {
                self.record.bad_request("content_unreadable", Some(why));
                Err(call.common(Status::ServerError).into())
            }
        }
    }

    async fn mail_up(&mut self, rules: &[&Rule], call: &EasCall, held: Held) -> Result<Held, Stop> {
        let limit = self.snapshot.config.content_buffer;
        let mut held = match held.whole_within(limit).await {
            Ok(held) => held,
            Err(error) => return Err(self.bad_body(&error)),
        };
        if held.rest.is_some() {
            if passes(rules) {
                return Ok(held);
            }
            self.record.bad_request("content_too_large", None);
            return Err(call.common(Status::AttachmentRefused).into());
        }
        // A server may go by the version instead of the media type; no mail begins like WBXML.
        let looked = if call.has_wbxml() || held.bytes.first() == Some(&WBXML_VERSION) {
            content::sent(rules, &held.bytes)
        } else {
            content::mail(rules, &held.bytes)
        };
        let sent = match looked {
            Ok(sent) => sent,
            Err(_) if passes(rules) => return Ok(held),
            Err(why) => {
                let why = Some(why.to_string());
                self.record.bad_request("content_unreadable", why);
                return Err(call.common(Status::AttachmentRefused).into());
            }
        };
        self.note(&sent.done);
        if sent.refused.is_some() {
            self.record.outcome(Outcome::Refused);
            return Err(call.common(Status::AttachmentRefused).into());
        }
        if let Some(body) = sent.body {
            held.bytes = body.into();
        }
        Ok(held)
    }

    /// What the rules make of an answer. `Err`: it is none of theirs, and as it was.
    pub(super) async fn content_down(
        &mut self,
        rules: &Rules,
        call: &Call,
        user: &str,
        mut exchange: Box<Exchange>,
        admitted: Option<&Admitted>,
        challenge: ChallengeRule<'_>,
    ) -> Result<Reply, Box<Exchange>> {
        let Call::Eas(eas) = call else {
            return Err(exchange);
        };
        let kind = exchange
            .headers
            .get(CONTENT_TYPE)
            .map_or([].as_slice(), HeaderValue::as_bytes);
        let attachment = eas.eas_command() == Some(Command::GetAttachment);
        let begins = |with: &[u8]| {
            let begin = kind.trim_ascii_start().get(..with.len());
            begin.is_some_and(|begin| begin.eq_ignore_ascii_case(with))
        };
        // Without a type it is what the command is answered with.
        let (wbxml, multipart) = (begins(WBXML) || kind.is_empty(), begins(MULTIPART));
        if !exchange.status.is_success() || !(wbxml || attachment) || exchange.body.is_end() {
            return Err(exchange);
        }
        let snapshot = self.snapshot;
        let limit = snapshot.config.content_buffer;
        let found = rules.of(snapshot);
        let announced = exchange.body.remaining();
        if announced.is_some_and(|length| length > limit as u64) && rules.pass(&found) {
            return Err(exchange);
        }
        let body = match gathered(&mut exchange.body, limit, admitted).await {
            Ok(body) => body,
            Err(Missing::Signalled(signal)) => return Ok(self.interrupted(&signal, call, user)),
            Err(Missing::TooLarge) if rules.pass(&found) => return Err(exchange),
            Err(Missing::TooLarge) => return Ok(self.unreadable(eas, "content_too_large", None)),
            Err(Missing::Broken(why)) => {
                self.record.outcome(Outcome::UpstreamFailed);
                self.record.because("content_broken_off", Some(why));
                return Ok(Reply::unavailable());
            }
        };
        let Exchange {
            status,
            mut headers,
            ..
        } = *exchange;
        let Some(body) = decoded(&headers, body, limit) else {
            return Ok(self.unreadable(eas, "content_encoding", None));
        };
        self.record.outcome(Outcome::Forwarded);
        let body = match &rules.folders {
            Some(folders) => match self.folders_down(folders, eas, body) {
                Ok(body) => body,
                Err(error) => {
                    let why = Some(error.to_string());
                    return Ok(self.unreadable(eas, "content_unreadable", why));
                }
            },
            None => body,
        };
        let new = if found.is_empty() {
            None
        } else if attachment {
            let declared = headers.get(CONTENT_TYPE);
            let declared = declared.and_then(|declared| declared.to_str().ok());
            if let Some(rule) = content::attachment(&found, declared, &body) {
                return Ok(self.attachment_refused(rule));
            }
            None
        } else {
            // What can't be read is told below.
            let ids = content::unseen(&found, &body, multipart).unwrap_or_default();
            let told = if ids.is_empty() {
                Vec::new()
            } else {
                let further = rules.further.get().and_then(Option::as_deref);
                match Box::pin(self.whole_texts(further, &found, &ids, admitted)).await {
                    Ok(told) => told,
                    Err(signal) => return Ok(self.interrupted(&signal, call, user)),
                }
            };
            let whole = |id: &ItemId| {
                let found = told.iter().find(|(told, _)| told == id);
                found.map_or(Whole::Unseen, |(_, whole)| whole.clone())
            };
            let known = |reference: &str| self.withheld(rules, &found, reference);
            match content::answered(&found, &body, multipart, &known, &whole) {
                Ok(answered) => {
                    for (reference, rule) in &answered.withheld {
                        self.withhold(rules, reference, rule);
                    }
                    for reference in &answered.passed {
                        self.looked_at(rules, reference);
                    }
                    self.note(&answered.done);
                    answered.body
                }
                Err(_) if passes(&found) => None,
                Err(error) => {
                    let why = Some(error.to_string());
                    return Ok(self.unreadable(eas, "content_unreadable", why));
                }
            }
        };
        let mut body = new.map_or(body, Bytes::from);
        if let Some(asked) = rules.asked.get() {
            match content::cut(&body, multipart, asked) {
                Ok(Some(cut)) => body = cut.into(),
                Ok(None) => {}
                Err(error) => {
                    let why = Some(error.to_string());
                    return Ok(self.unreadable(eas, "content_unreadable", why));
                }
            }
        }
        headers.remove(CONTENT_LENGTH);
        headers.remove(CONTENT_ENCODING);
        let metrics = &self.connection.core.shared.metrics;
        Ok(respond::held(status, headers, body, challenge, metrics))
    }

    /// An answer that can't be looked into, where the rules don't let it pass.
    fn unreadable(&mut self, call: &EasCall, reason: &'static str, why: Option<String>) -> Reply {
        self.record.outcome(Outcome::Refused);
        self.record.because(reason, why);
        let metrics = &self.connection.core.shared.metrics;
        metrics.content("answer_withheld", 1);
        call.common(Status::ServerError)
    }

    fn attachment_refused(&mut self, rule: &str) -> Reply {
        self.note(&Done {
            blocked: 1,
            rules: vec![rule.to_owned()],
            ..Done::default()
        });
        self.record.outcome(Outcome::Refused);
        Reply::empty(StatusCode::FORBIDDEN)
    }

    /// What was done stands in the request's event and in the metrics.
    fn note(&mut self, done: &Done) {
        if done.is_nothing() {
            return;
        }
        self.record.because("content", Some(done.to_string()));
        let metrics = &self.connection.core.shared.metrics;
        for (action, count) in [
            ("attachment_removed", done.removed),
            ("attachment_blocked", done.blocked),
            ("link", done.links),
            ("mail_withheld", done.withheld),
        ] {
            metrics.content(action, count);
        }
    }

    fn withhold(&self, rules: &Rules, reference: &str, rule: &str) {
        let withheld = &self.connection.core.shared.withheld;
        withheld.insert(rules.key(reference), rule);
    }

    /// Remembers that an attachment was looked at, by the rules that hold now, and passes.
    fn looked_at(&self, rules: &Rules, reference: &str) {
        let by = (self.snapshot.generation, rules.content.clone().into());
        let withheld = &self.connection.core.shared.withheld;
        withheld.pass(rules.key(reference), by);
    }

    fn is_looked_at(&self, rules: &Rules, reference: &str) -> bool {
        let withheld = &self.connection.core.shared.withheld;
        let by = withheld.passed(&rules.key(reference));
        by.is_some_and(|(generation, places)| {
            generation == self.snapshot.generation && *places == *rules.content
        })
    }

    /// The rule that has withheld a reference, if there still is such a rule for who asks.
    fn withheld(&self, rules: &Rules, found: &[&Rule], reference: &str) -> Option<String> {
        let known = &self.connection.core.shared.withheld;
        let known = known.recall(&rules.key(reference))?;
        let mut known = known.lines();
        let holds = |known: &&str| found.iter().any(|rule| rule.id == **known);
        known.find(holds).map(str::to_owned)
    }
}

/// The rules that hold for a device and its user, by their places in the snapshot.
pub(crate) fn rules_for(
    snapshot: &Snapshot,
    engine: &Engine,
    device: &DeviceKey,
    user: Option<&UserKey>,
) -> Vec<usize> {
    with_subject(engine, device, user, |subject| {
        let rules = snapshot.content.iter().enumerate();
        rules
            .filter(|(_, rule)| rule.holds_for(subject))
            .map(|(at, _)| at)
            .collect()
    })
}

/// What is known of who asks, as the rules want it.
pub(super) fn with_subject<T>(
    engine: &Engine,
    device: &DeviceKey,
    user: Option<&UserKey>,
    ask: impl FnOnce(&Subject<'_>) -> T,
) -> T {
    // A record speaks of its own user only.
    let record = engine
        .device(device, user)
        .map(|found| found.record)
        .filter(|record| record.user.is_none() || record.user.as_ref() == user);
    let groups = record.as_ref().and_then(|record| record.groups.as_deref());
    ask(&Subject {
        user: user.map_or("", UserKey::as_str),
        device: device.as_str(),
        groups: groups.unwrap_or_default(),
        managed: record.as_ref().and_then(|record| record.managed),
    })
}

/// Whether a command's request or answer holds mail.
const fn holds_content(command: Command) -> bool {
    matches!(
        command,
        Command::Sync
            | Command::ItemOperations
            | Command::Search
            | Command::Find
            | Command::GetAttachment
            | Command::SendMail
            | Command::SmartReply
            | Command::SmartForward
    )
}

/// Whether what can't be looked into passes: only where every rule says so.
fn passes(rules: &[&Rule]) -> bool {
    rules.iter().all(|rule| rule.too_large == TooLarge::Pass)
}

/// The whole body of an answer, with the lease watched meanwhile. What is too large is given back.
pub(super) async fn gathered(
    body: &mut UpstreamBody,
    limit: usize,
    admitted: Option<&Admitted>,
) -> Result<Bytes, Missing> {
    if body.remaining().is_some_and(|length| length > limit as u64) {
        return Err(Missing::TooLarge);
    }
    let mut whole = BytesMut::new();
    loop {
        let next = poll_fn(|cx| {
            if let Some(admitted) = admitted
                && let Poll::Ready(signal) = admitted.ticket.poll_signal(cx)
            {
                return Poll::Ready(Err(Missing::Signalled(signal)));
            }
            body.poll_next(cx).map(Ok)
        })
        .await?;
        match next {
            None => return Ok(whole.freeze()),
            Some(Ok(piece)) if whole.len() + piece.len() > limit => {
                whole.extend_from_slice(&piece);
                body.give_back(whole.freeze());
                return Err(Missing::TooLarge);
            }
            Some(Ok(piece)) if whole.is_empty() && body.is_end() => return Ok(piece),
            Some(Ok(piece)) => whole.extend_from_slice(&piece),
            Some(Err(error)) => return Err(Missing::Broken(error.to_string())),
        }
    }
}

/// The body without its content coding, within `limit`. Servers were asked for none; some give
/// gzip all the same. `None`: it can't be undone.
pub(super) fn decoded(headers: &HeaderMap, body: Bytes, limit: usize) -> Option<Bytes> {
    let Some(coding) = headers.get(CONTENT_ENCODING) else {
        return Some(body);
    };
    let coding = coding.as_bytes().trim_ascii();
    if coding.eq_ignore_ascii_case(b"identity") {
        return Some(body);
    }
    if !coding.eq_ignore_ascii_case(b"gzip") && !coding.eq_ignore_ascii_case(b"x-gzip") {
        return None;
    }
    let mut plain = Vec::new();
    let within = limit as u64 + 1;
    let mut decoder = flate2::read::GzDecoder::new(&*body).take(within);
    decoder.read_to_end(&mut plain).ok()?;
    (plain.len() <= limit).then(|| plain.into())
}
