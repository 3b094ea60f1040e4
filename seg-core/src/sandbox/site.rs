//! Which part of the server a request is for, and what it answers there.

use std::time::Duration;

use bytes::Bytes;

use super::answer::Answer;
use super::connection::Shared;
use super::ledger::{Kind, Seen};
use super::polls::Release;
use super::wire::Head;
use super::{autodiscover, eas, ews, login};

/// A whole request that has been understood.
pub(super) struct Request<'r> {
    pub(super) head: &'r Head,
    pub(super) body: &'r Bytes,
    pub(super) seen: &'r Seen,
}

/// What the server does with a request.
pub(super) enum Reply {
    /// It answers.
    Answer(Answer),
    /// It waits, and then answers.
    Poll(Poll),
    /// It answers piece by piece.
    Stream(ews::Stream),
}

/// A long poll.
pub(super) struct Poll {
    pub(super) limit: Duration,
    pub(super) held: eas::Held,
}

/// What can be told from the head; the EWS operation takes the body.
pub(super) fn seen_in_head(shared: &Shared, head: &Head) -> Seen {
    let (path, query) = head.path_and_query();
    let path = path.to_ascii_lowercase();
    let user = login::user(&shared.options, head)
        .unwrap_or_default()
        .to_owned();
    let mut seen = Seen {
        user,
        name: head.method.clone(),
        ..Seen::default()
    };
    if path.ends_with("/healthcheck.htm") {
        seen.kind = Kind::Health;
    } else if path == "/microsoft-server-activesync" {
        seen.kind = Kind::Eas;
        if head.method == "POST" {
            let query = eas::query::parse(query);
            seen.name = query.command;
            seen.device = query.device;
        }
    } else if path == "/ews" || path.starts_with("/ews/") {
        seen.kind = Kind::Ews;
    } else if path.starts_with("/autodiscover/") {
        seen.kind = Kind::Autodiscover;
    }
    seen
}

/// What can be told from the whole request.
pub(super) fn seen_in_whole(mut seen: Seen, head: &Head, body: &[u8]) -> Seen {
    if seen.kind == Kind::Ews && head.method == "POST" {
        seen.name = ews::operation(body).unwrap_or("unknown").to_owned();
    }
    seen
}

/// The ordinary answer.
pub(super) fn reply(shared: &Shared, request: &Request<'_>) -> Reply {
    let seen = request.seen;
    if seen.kind == Kind::Health {
        return Reply::Answer(Answer::ok("text/html", "200 OK<br/>SANDBOX"));
    }
    if seen.user.is_empty() {
        return Reply::Answer(unauthorised(shared));
    }
    match seen.kind {
        Kind::Eas => eas::reply(shared, request),
        Kind::Ews => ews::reply(shared, request),
        Kind::Autodiscover => Reply::Answer(autodiscover::reply(request)),
        Kind::Health | Kind::Other => Reply::Answer(Answer::status(404)),
    }
}

/// The answer of a poll that ends by itself or by a release; none: the connection closes.
pub(super) fn after_poll(
    shared: &Shared,
    request: &Request<'_>,
    held: &eas::Held,
    release: Release,
) -> Option<Answer> {
    match release {
        Release::Answer(answer) => Some(*answer),
        Release::Close => None,
        Release::Changes => Some(eas::poll_answer(shared, request, held, true)),
        Release::Expire => Some(eas::poll_answer(shared, request, held, false)),
    }
}

fn unauthorised(shared: &Shared) -> Answer {
    let refusal = "401 - Unauthorized: Access is denied due to invalid credentials.";
    let mut answer = Answer::status(401)
        .header("Content-Type", "text/html")
        .body(refusal);
    for challenge in shared.challenges.lock().iter() {
        answer = answer.header("WWW-Authenticate", challenge.as_bytes());
    }
    answer
}
