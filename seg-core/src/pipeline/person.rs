//! Whether the caller is who he says, and may come in: his token checked, his password asked of the
//! directory, his account and his groups looked at. Before the verdict, and before the server sees
//! anything of it.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use seg_compliance::UserKey;
use seg_ews::authorization::{self, Credentials};

use super::{Stop, Walk, refusing};
use crate::directory::{Account, Directory, Verdict, until_told};
use crate::identify::{Known, Person, Scheme};
use crate::message::Reply;
use crate::oauth::{TokenError, Tokens};
use crate::telemetry::metrics::Outcome;

/// A password is asked for again.
pub(super) const ASK_PASSWORD: HeaderValue =
    HeaderValue::from_static("Basic realm=\"seg\", charset=\"UTF-8\"");
/// A token is (RFC 6750 section 3.1).
const ASK_TOKEN: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"seg\", error=\"invalid_token\"");

impl Walk<'_> {
    /// All that is asked of a caller before anything of his reaches a server.
    pub(super) async fn check_caller(
        &mut self,
        known: &mut Known,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<(), Stop> {
        if let Some(tokens) = &self.snapshot.tokens
            && known.scheme == Scheme::Bearer
        {
            Box::pin(self.check_token(tokens, known, headers)).await?;
        }
        if let Some(directory) = &self.snapshot.directory {
            Box::pin(self.check_person(directory, known, headers, uri)).await?;
        }
        Ok(())
    }

    /// The token's signature and claims make its user proven.
    async fn check_token(
        &mut self,
        tokens: &Arc<Tokens>,
        known: &mut Known,
        headers: &HeaderMap,
    ) -> Result<(), Stop> {
        let line = headers.get(header::AUTHORIZATION);
        let credentials = line.and_then(|line| authorization::parse(line.as_bytes()));
        let (Some(Credentials::Bearer(token)), Some(digest)) = (credentials, &known.digest) else {
            return Ok(());
        };
        let outbound = &self.connection.core.shared.outbound;
        match tokens.check(outbound, digest, token).await {
            Ok(()) => {
                known.proven = true;
                Ok(())
            }
            Err(error) => Err(self.no_token(error)),
        }
    }

    /// A token that does not count: another one is asked for, unless its application is not let in.
    pub(super) fn no_token(&mut self, error: TokenError) -> Stop {
        self.connection
            .core
            .shared
            .metrics
            .bad_request(error.reason());
        self.record.because(error.reason(), None);
        if matches!(error, TokenError::Impersonates | TokenError::Application) {
            self.record.outcome(Outcome::Refused);
            let text = "This application is not let in here.\n";
            return Reply::text(StatusCode::FORBIDDEN, text).into();
        }
        self.ask_again(ASK_TOKEN)
    }

    /// The directory knows the account; by a password it proves it, by its groups it lets it in.
    async fn check_person(
        &mut self,
        directory: &Arc<Directory>,
        known: &mut Known,
        headers: &HeaderMap,
        uri: &Uri,
    ) -> Result<(), Stop> {
        let begun = Instant::now();
        let shared = &self.connection.core.shared;
        let runtime = shared.outbound.runtime();
        let verdict = if known.scheme == Scheme::Basic {
            let line = headers.get(header::AUTHORIZATION);
            let credentials = line.and_then(|line| authorization::parse(line.as_bytes()));
            let Some(Credentials::Basic(credentials)) = credentials else {
                return Err(self.ask_again(ASK_PASSWORD));
            };
            let peer = self.connection.peer.ip();
            directory
                .check(runtime, &shared.digest_key, &known.user, credentials, peer)
                .await
        } else {
            match directory.account(runtime, &known.user).await {
                Some(verdict) => verdict,
                // Nothing to ask with: whoever came without a password is taken as he is, which is
                // allowed only where no group is asked for.
                None if directory.config.groups().next().is_none() => return Ok(()),
                None => Verdict::Refused("groups_unknown"),
            }
        };
        let account = match verdict {
            Verdict::Good(account) => account,
            Verdict::Unavailable(why) => {
                self.record.outcome(Outcome::UpstreamFailed);
                self.record.because("directory_unavailable", Some(why));
                return Err(Reply::unavailable().into());
            }
            Verdict::Refused(reason) => {
                shared.metrics.bad_request(reason);
                self.record.because(reason, None);
                // One answer after one time, whatever the reason and whoever knew it.
                tokio::time::sleep(until_told(begun.elapsed())).await;
                if known.scheme == Scheme::Basic {
                    return Err(self.ask_again(ASK_PASSWORD));
                }
                return Err(self.not_let_in());
            }
        };
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        let host = host
            .unwrap_or_default()
            .split(':')
            .next()
            .unwrap_or_default();
        if let Err(reason) = directory.admits(&account, host, uri.path()) {
            shared.metrics.bad_request(reason);
            self.record.because(reason, None);
            return Err(self.not_let_in());
        }
        self.know(directory, known, &account);
        Ok(())
    }

    /// From here on the user has the directory's name.
    fn know(&mut self, directory: &Directory, known: &mut Known, account: &Account) {
        let identity = &self.snapshot.identity;
        let login = directory.login_name(account);
        let login = identity
            .canonical(&login)
            .unwrap_or_else(|| known.user.clone());
        let named = account
            .upn
            .as_deref()
            .and_then(|upn| identity.canonical(upn));
        let asked: UserKey = known.user.clone();
        known.user = named.unwrap_or_else(|| login.clone());
        // A name that was looked up is no proof: only a password that was checked is one.
        known.proven |= known.scheme == Scheme::Basic;
        known.person = Some(Box::new(Person {
            asked,
            login,
            dn: account.dn.clone(),
            account: account.name.clone(),
            mail: account.mail.clone(),
            name: account.display_name.clone(),
            sensitive: account.sensitive,
        }));
        self.record.user(&known.user);
    }

    /// Certificate and credentials must name one person. Under different names they still may: the
    /// directory, where it was asked, knows whose they are.
    pub(super) async fn check_certificate_person(&mut self, known: &Known) -> Result<(), Stop> {
        let Some(named) = self.connection.certificate_user() else {
            return Ok(());
        };
        if *named == known.user {
            return Ok(());
        }
        if let (Some(directory), Some(person)) = (&self.snapshot.directory, &known.person) {
            if person.asked == *named {
                return Ok(());
            }
            let runtime = self.connection.core.shared.outbound.runtime();
            if let Some(Verdict::Good(account)) = directory.account(runtime, named).await
                && account.dn == person.dn
            {
                return Ok(());
            }
        }
        self.check_certificate_user(&known.user)
    }

    pub(super) fn ask_again(&mut self, challenge: HeaderValue) -> Stop {
        self.record.outcome(Outcome::Challenged);
        let mut reply = Reply::empty(StatusCode::UNAUTHORIZED);
        reply.headers.insert(header::WWW_AUTHENTICATE, challenge);
        // Nothing of the body has been read.
        refusing::close(&mut reply);
        reply.into()
    }

    fn not_let_in(&mut self) -> Stop {
        self.record.outcome(Outcome::Refused);
        let mut reply = Reply::text(StatusCode::FORBIDDEN, "Mail is not open to this account.\n");
        refusing::close(&mut reply);
        reply.into()
    }
}
