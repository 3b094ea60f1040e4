//! What a device is told to do, beside or instead of its mail: the orders of administrators (wipe,
//! resync, reprovision), and the quarantine.
//!
//! Nobody is told anything without a password: who is not proven is probed first, as for every
//! refusal. Orders come before the verdict, because a device that is blocked can be wiped all the
//! same.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use seg_compliance::{Ask, Decision, Order, OrderKind, OrderState, Verdict};
use seg_eas::answer::{self, Status};
use seg_eas::poll::{self, PollAsk};
use seg_eas::provision::{self, Said, Wipe};
use seg_eas::quarantine::{self, Notice, Synced};
use seg_eas::{Command, ProtocolVersion, sync_keys};
use tokio::time::Instant;

use super::{Body, Stop, Walk};
use crate::forward::Held;
use crate::identify::Known;
use crate::message::Reply;
use crate::protocol::{Call, EasCall, Protocol as _, eas_reply};
use crate::route::Route;
use crate::telemetry::metrics::Outcome;

/// How often a poll that we hold ourselves looks whether its device is still in quarantine.
const LOOK: Duration = Duration::from_secs(1);

/// How long a poll is held that does not say how long it waits.
const UNSAID: u32 = 300;

/// What became of a request that was looked at here.
pub(super) enum Told {
    /// It is answered.
    Answered(Reply),
    /// It goes on, with what was read of its body.
    GoesOn(Body),
}

/// An answer, and what it changes about the order.
struct Telling {
    /// `None`: the request goes on.
    reply: Option<Reply>,
    became: Option<OrderState>,
}

impl Telling {
    fn reply(reply: Reply) -> Self {
        Self {
            reply: Some(reply),
            became: None,
        }
    }

    fn answer(answer: answer::Answer) -> Self {
        Self::reply(eas_reply(answer))
    }

    fn goes_on() -> Self {
        Self {
            reply: None,
            became: None,
        }
    }

    fn becomes(self, state: OrderState) -> Self {
        Self {
            became: Some(state),
            ..self
        }
    }
}

impl Walk<'_> {
    /// Tells a device what an administrator has ordered, and notes what it says to that.
    pub(super) async fn obey(
        &mut self,
        order: &Order,
        route: &Route,
        known: &Known,
        headers: &HeaderMap,
        call: &EasCall,
        body: Body,
    ) -> Result<Told, Stop> {
        let held = self.held(body).await?;
        let telling = tell(order, call, held.whole().unwrap_or_default());
        let goes_on = telling.reply.is_none();
        if goes_on && telling.became.is_none() {
            return Ok(Told::GoesOn(Body::Held(held)));
        }
        if let Some(reply) = self.unproven(route, known, headers).await {
            return Ok(Told::Answered(reply));
        }
        let shared = &self.connection.core.shared;
        if let (Some(state), Some(device)) = (telling.became, call.device_key()) {
            let noted = shared
                .engine
                .order_became(device, order.kind, state, Timestamp::now())
                .await;
            if let Err(error) = noted {
                // The device is told all the same; it says the same again when it comes back.
                tracing::error!(%error, "how far an order is could not be written down");
            }
            if order.kind == OrderKind::Resync && state == OrderState::Done {
                shared.restarts.begin(device, known.user.as_str());
            }
        }
        Ok(match telling.reply {
            None => Told::GoesOn(Body::Held(held)),
            Some(reply) => {
                self.record.outcome(Outcome::Local);
                self.record.because(word(order.kind), None);
                Told::Answered(reply)
            }
        })
    }

    /// Keys that the device must give up: those of a quarantine that has ended, and those of before
    /// a resync.
    pub(super) fn stale_keys(&mut self, call: &EasCall, user: &str, held: &Held) -> Option<Reply> {
        let command = call.eas_command()?;
        if !matches!(command, Command::Sync | Command::FolderSync | Command::Ping) {
            return None;
        }
        let body = held.whole()?;
        let restarts = &self.connection.core.shared.restarts;
        let restart = restarts.any() && command == Command::Sync;
        let ours = memchr::memmem::find(body, quarantine::PREFIX.as_bytes()).is_some();
        if !ours && !restart {
            return None;
        }
        let answer = match command {
            Command::FolderSync => ours.then(sync_keys::folders_anew),
            Command::Ping => ours.then(sync_keys::ping_folders_first),
            // What can't be read is the server's to refuse.
            _ => sync_keys::collections(body).ok().and_then(|collections| {
                let device = call.device_key()?;
                let stale: Vec<_> = collections
                    .into_iter()
                    .filter(|collection| {
                        collection.key.starts_with(quarantine::PREFIX)
                            || collection.id.starts_with(quarantine::PREFIX)
                            || restart && restarts.is_stale(device, user, collection)
                    })
                    .collect();
                (!stale.is_empty()).then(|| sync_keys::sync_anew(&stale))
            }),
        }?;
        self.record.outcome(Outcome::Local);
        self.record.because("stale_keys", None);
        Some(eas_reply(answer))
    }

    /// Serves a quarantined device what it may see.
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn quarantine(
        &mut self,
        decision: &Decision,
        route: &Route,
        known: &Known,
        headers: &HeaderMap,
        call: &EasCall,
        ask: &Ask<'_>,
        body: Body,
    ) -> Result<Told, Stop> {
        let held = self.held(body).await?;
        // Policies are not mail: a device that has to wait can have them.
        if call.eas_command() == Some(Command::Provision) {
            return Ok(Told::GoesOn(Body::Held(held)));
        }
        let reply = match self.unproven(route, known, headers).await {
            Some(reply) => return Ok(Told::Answered(reply)),
            None => {
                let bytes = held.whole().unwrap_or_default();
                self.in_quarantine(decision, call, ask, bytes).await
            }
        };
        self.record.outcome(Outcome::Refused);
        self.record.because("quarantine", None);
        let engine = &self.connection.core.shared.engine;
        engine.saw(ask, reply.status.as_u16(), Timestamp::now());
        self.witness(ask);
        Ok(Told::Answered(reply))
    }

    async fn in_quarantine(
        &self,
        decision: &Decision,
        call: &EasCall,
        ask: &Ask<'_>,
        body: &[u8],
    ) -> Reply {
        let knows_bodies = call
            .version()
            .is_some_and(|version| version >= ProtocolVersion::V12_0);
        let (Some(command), true) = (call.eas_command(), knows_bodies) else {
            return call.deny(decision);
        };
        match command {
            Command::FolderSync => match sync_keys::folder_key(body) {
                Ok(key) => eas_reply(quarantine::folders(key)),
                Err(_) => call.deny(decision),
            },
            Command::Settings => eas_reply(quarantine::settings()),
            Command::Ping => self.wait(decision, call, ask, command, body).await,
            Command::Sync => {
                let Ok(collections) = sync_keys::collections(body) else {
                    return call.deny(decision);
                };
                match self.notice(decision, ask, |notice| {
                    quarantine::sync(&collections, notice)
                }) {
                    Synced::Answer(answer) => eas_reply(answer),
                    Synced::Nothing => self.wait(decision, call, ask, command, body).await,
                }
            }
            _ => call.deny(decision),
        }
    }

    /// Holds a poll for which nothing will come, until its time is up, the gateway drains, or
    /// another verdict holds.
    async fn wait(
        &self,
        decision: &Decision,
        call: &EasCall,
        ask: &Ask<'_>,
        command: Command,
        body: &[u8],
    ) -> Reply {
        let shared = &self.connection.core.shared;
        let longest = self.snapshot.config.heartbeat.max;
        let seconds = match poll::read(command, body) {
            Ok(PollAsk::Wait { seconds }) => seconds,
            Ok(PollAsk::Empty) => UNSAID,
            Ok(PollAsk::NoWait) | Err(_) => 0,
        };
        let until = Instant::now() + Duration::from_secs(seconds.into()).min(longest);
        while Instant::now() < until && !shared.is_draining() {
            tokio::time::sleep_until(until.min(Instant::now() + LOOK)).await;
            let now = shared.engine.decide(ask);
            if !now.refuses() {
                return eas_reply(match command {
                    Command::Ping => sync_keys::ping_folders_first(),
                    _ => sync_keys::sync_folders_first(),
                });
            }
            if now.verdict == Verdict::Block {
                return call.deny(decision);
            }
        }
        eas_reply(answer::idle_end(command))
    }

    fn notice<R>(
        &self,
        decision: &Decision,
        ask: &Ask<'_>,
        with: impl FnOnce(&Notice<'_>) -> R,
    ) -> R {
        let settings = self.snapshot.firewall.as_deref();
        let texts = settings.map(|settings| settings.quarantine.clone());
        let texts = texts.unwrap_or_default();
        let user = ask.user.map_or("", |user| user.as_str());
        let domain = user
            .split_once('@')
            .map_or("localhost", |(_, domain)| domain);
        let reason = decision.reason.as_deref().unwrap_or_default();
        let device = ask.device.map_or("", |device| device.as_str());
        let fill = |text: &str| {
            text.replace("{reason}", reason)
                .replace("{device}", device)
                .replace("{user}", user)
        };
        let date = Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S.000Z")
            .to_string();
        with(&Notice {
            from: &texts.from.unwrap_or_else(|| format!("postmaster@{domain}")),
            to: user,
            subject: &fill(&texts.subject),
            text: &fill(&texts.text),
            date: &date,
        })
    }

    async fn held(&mut self, body: Body) -> Result<Held, Stop> {
        match body {
            Body::Held(held) => Ok(held),
            Body::Untouched(body) => match Held::read(body).await {
                Ok(held) => Ok(held),
                Err(error) => Err(self.bad_body(&error)),
            },
        }
    }

    /// What a poll is told that is cut for an order or a quarantine; `None`: it is refused.
    pub(super) fn cut_for(&self, call: &Call, user: &str, decision: &Decision) -> Option<Reply> {
        let Call::Eas(call) = call else { return None };
        let device = call.device_key()?;
        let user = seg_compliance::UserKey::new(user).ok()?;
        let engine = &self.connection.core.shared.engine;
        if let Some(order) = engine.standing_order(device, Some(&user))
            && (order.kind.erases() || !decision.refuses())
        {
            // A wipe that waits for Provision, or Sync and Ping sent to FolderSync: nothing of the
            // request's body is needed for it.
            return tell(&order, call, b"").reply;
        }
        if decision.verdict != Verdict::Quarantine {
            return None;
        }
        match call.eas_command()? {
            Command::Ping => Some(eas_reply(sync_keys::ping_folders_first())),
            Command::Sync => Some(eas_reply(sync_keys::sync_folders_first())),
            _ => None,
        }
    }
}

/// What a request is told of an order.
fn tell(order: &Order, call: &EasCall, body: &[u8]) -> Telling {
    let Some(command) = call.eas_command() else {
        return Telling::goes_on();
    };
    match order.kind {
        OrderKind::Wipe => tell_to_wipe(order, Wipe::Device, call, command, body),
        OrderKind::WipeAccount => {
            // Who does not know the directive would take it for nothing, or for a wipe of
            // everything: the order waits for a version that has it.
            let knows = call
                .version()
                .is_some_and(|version| version >= ProtocolVersion::V16_1);
            if knows {
                tell_to_wipe(order, Wipe::Account, call, command, body)
            } else {
                Telling::goes_on()
            }
        }
        OrderKind::Resync => match command {
            Command::FolderSync => match sync_keys::folder_key(body) {
                Ok(None | Some(sync_keys::FIRST)) => Telling::goes_on().becomes(OrderState::Done),
                Ok(Some(_)) => {
                    Telling::answer(sync_keys::folders_anew()).becomes(OrderState::Given)
                }
                Err(_) => Telling::goes_on(),
            },
            Command::Sync => Telling::answer(sync_keys::sync_folders_first()),
            Command::Ping => Telling::answer(sync_keys::ping_folders_first()),
            _ => Telling::goes_on(),
        },
        OrderKind::Reprovision => match command {
            Command::Provision => match provision::read(body) {
                Ok(Said::AgreesToPolicies) => Telling::goes_on().becomes(OrderState::Done),
                _ => Telling::goes_on().becomes(OrderState::Given),
            },
            _ => Telling::reply(call.common(Status::NotProvisioned)),
        },
    }
}

fn tell_to_wipe(
    order: &Order,
    wipe: Wipe,
    call: &EasCall,
    command: Command,
    body: &[u8],
) -> Telling {
    if command != Command::Provision {
        return Telling::reply(call.common(Status::WipeRequested));
    }
    let was_told = order.state != OrderState::Pending;
    match provision::read(body) {
        Ok(Said::Erases(erases, true)) if erases == wipe && was_told => {
            Telling::answer(provision::noted()).becomes(OrderState::Done)
        }
        Ok(Said::Erases(erases, false)) if erases == wipe && was_told => {
            Telling::answer(provision::order(wipe)).becomes(OrderState::Failed)
        }
        _ => Telling::answer(provision::order(wipe)).becomes(OrderState::Given),
    }
}

/// The word of an order in the log.
const fn word(kind: OrderKind) -> &'static str {
    match kind {
        OrderKind::Wipe => "order_wipe",
        OrderKind::WipeAccount => "order_wipe_account",
        OrderKind::Resync => "order_resync",
        OrderKind::Reprovision => "order_reprovision",
    }
}
