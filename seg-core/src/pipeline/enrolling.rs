//! `/eas`: somebody fetches his mail profile.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use seg_compliance::{Ask, Protocol, Step, Via};

use super::{Stop, Walk, person, refusing};
use crate::enrolment::{Enrolment, Found, MEDIA_TYPE, Recipient};
use crate::identify::{Caller, Known};
use crate::message::Reply;
use crate::route::NoRoute;
use crate::telemetry::metrics::Outcome;

/// A request for a profile, as it came.
pub(super) struct Wish {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// The name of a profile in the user's own folder.
    pub(super) file: Option<String>,
}

impl Walk<'_> {
    /// Serves a request for a profile. Nobody but the gateway itself looks at who asks: there is no
    /// mail server whose check could make up for ours.
    pub(super) async fn enrol(
        &mut self,
        enrolment: &Arc<Enrolment>,
        wish: Wish,
        caller: Caller,
    ) -> Result<Reply, Stop> {
        let Wish {
            method,
            uri,
            headers,
            file,
        } = wish;
        self.record.command("Enrol");
        if method != Method::GET && method != Method::HEAD {
            return Err(self.bad("enrolment_method", "", StatusCode::METHOD_NOT_ALLOWED));
        }
        let Caller::Known(mut known) = caller else {
            return Err(self.ask_again(person::ASK_PASSWORD));
        };
        self.check_caller(&mut known, &headers, &uri).await?;
        self.check_certificate_person(&known).await?;
        if !known.proven {
            // A password that nobody here has checked, a token that nobody has signed.
            self.record.because("enrolment_unproven", None);
            return Err(self.ask_again(person::ASK_PASSWORD));
        }
        self.check_override(&known)?;
        let recipient = self.recipient(&known);
        let (service, runtime) = (
            Arc::clone(enrolment),
            self.connection.core.shared.outbound.runtime(),
        );
        let found = runtime
            .spawn_blocking(move || service.find(&recipient, file.as_deref()))
            .await;
        match found {
            Ok(Ok(Found::Profile(profile))) => Ok(self.profile(profile)),
            Ok(Ok(Found::Choice(names))) => Ok(self.choice(&names)),
            Ok(Ok(Found::Nothing)) => Err(self.no_route(NoRoute::NotFound)),
            Ok(Err(error)) => {
                tracing::error!("a profile can't be given: {error}");
                self.record.outcome(Outcome::UpstreamFailed);
                self.record
                    .because("enrolment_failed", Some(error.to_string()));
                Err(Reply::unavailable().into())
            }
            Err(_) => Err(Reply::unavailable().into()),
        }
    }

    /// Who is blocked by an administrator gets no new profile. A device is not asked for: it is
    /// about to become one.
    fn check_override(&mut self, known: &Known) -> Result<(), Stop> {
        let decision = self.connection.core.shared.engine.decide(&Ask {
            device: None,
            user: Some(&known.user),
            agent: "",
            device_type: "",
            protocol: Protocol::Eas,
            command: "Enrol",
            via: Via::default(),
        });
        if decision.refuses() && decision.step == Step::Override {
            self.record.decision(&decision);
            self.record.outcome(Outcome::Refused);
            let text = "Access to mail is blocked for this user.\n";
            let mut reply = Reply::text(StatusCode::FORBIDDEN, text);
            refusing::close(&mut reply);
            return Err(reply.into());
        }
        Ok(())
    }

    fn recipient(&self, known: &Known) -> Recipient {
        let user = known.user.as_str();
        let bare = user.split('@').next().unwrap_or(user);
        let person = known.person.as_deref();
        Recipient {
            user: known.user.clone(),
            account: person.map_or(bare, |person| &person.account).to_owned(),
            mail: person
                .and_then(|person| person.mail.as_deref())
                .unwrap_or(user)
                .to_owned(),
            name: person
                .and_then(|person| person.name.as_deref())
                .unwrap_or(bare)
                .to_owned(),
        }
    }

    fn profile(&mut self, profile: Vec<u8>) -> Reply {
        self.record.outcome(Outcome::Local);
        let mut reply = Reply::full(StatusCode::OK, MEDIA_TYPE, profile);
        let name = HeaderValue::from_static("attachment; filename=\"mail.mobileconfig\"");
        reply.headers.insert(CONTENT_DISPOSITION, name);
        private(&mut reply);
        reply
    }

    fn choice(&mut self, names: &[String]) -> Reply {
        self.record.outcome(Outcome::Local);
        // Letters, digits, dots and dashes: there is nothing in them to escape.
        let rows: String = names
            .iter()
            .map(|name| format!("<li><a href=\"/eas/{name}\">{name}</a></li>"))
            .collect();
        let page = format!(
            "<!doctype html><meta name=\"viewport\" content=\"width=device-width\"><title>Mail profiles</title><ul>{rows}</ul>"
        );
        let mut reply = Reply::full(StatusCode::OK, "text/html; charset=utf-8", page);
        private(&mut reply);
        reply
    }
}

/// It holds somebody's key: nobody else keeps it.
fn private(reply: &mut Reply) {
    let headers = &mut reply.headers;
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
