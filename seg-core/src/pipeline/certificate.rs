//! What a client certificate has a say in: who may come without one, with whom it must agree, and
//! what the server is told of it.

use http::{HeaderMap, StatusCode, Uri};
use seg_compliance::{DeviceKey, UserKey};

use super::{Stop, Walk, refusing};
use crate::config::{ClientAuth, UserMismatch};
use crate::identify::ClientCertificate;
use crate::message::Reply;
use crate::protocol::Call;
use crate::route;
use crate::servers::Leg;
use crate::telemetry::metrics::Outcome;
use crate::transform::Inward;

impl<'w> Walk<'w> {
    /// A host name that requires a certificate is not served on a connection that was opened
    /// under another name without one: 421, and the client opens a new one (RFC 9110 15.5.20).
    pub(super) fn check_certificate_of_host(
        &mut self,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Stop> {
        if self.connection.certificate.is_some() {
            return Ok(());
        }
        let host = match route::host(uri, headers) {
            Ok(host) => host,
            Err(none) => return Err(self.no_route(none)),
        };
        let tls = &self.snapshot.config.server.tls;
        let named = |host: &str| {
            let rule = tls
                .client_auth_hosts
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(host));
            rule.is_some_and(|(_, rule)| *rule == ClientAuth::Required)
        };
        if named(host) {
            return Err(self.bad(
                "certificate_required",
                "the host requires a client certificate",
                StatusCode::MISDIRECTED_REQUEST,
            ));
        }
        Ok(())
    }

    /// Nothing is served with a certificate of which the directory should say more and does not. The
    /// connection closes: on the next one it is asked again.
    pub(super) fn check_certificate_open(
        &mut self,
        certificate: &ClientCertificate,
    ) -> Result<(), Stop> {
        let Some(closed) = &certificate.closed else {
            return Ok(());
        };
        self.record.because(closed.reason, closed.detail.clone());
        let mut reply = if closed.later {
            self.record.outcome(Outcome::UpstreamFailed);
            Reply::unavailable()
        } else {
            let metrics = &self.connection.core.shared.metrics;
            metrics.bad_request(closed.reason);
            self.record.outcome(Outcome::Refused);
            let text = "Mail is not open to this certificate.\n";
            Reply::text(StatusCode::FORBIDDEN, text)
        };
        refusing::close(&mut reply);
        Err(reply.into())
    }

    /// Certificate and credentials must name one person.
    pub(super) fn check_certificate_user(&mut self, user: &UserKey) -> Result<(), Stop> {
        match self.connection.certificate_user() {
            Some(named) if named != user => self.certificate_mismatch(
                "certificate_user_mismatch",
                "The certificate names somebody else than the credentials.\n",
            ),
            _ => Ok(()),
        }
    }

    /// The device that asks: the request's own; where it names none, the certificate's. Where both
    /// name one, they must agree.
    pub(super) fn device_of<'d>(&mut self, call: &'d Call) -> Result<Option<&'d DeviceKey>, Stop>
    where
        'w: 'd,
    {
        let certificate = self.connection.certificate.as_ref();
        let certified = certificate.and_then(|certificate| certificate.device.as_ref());
        match (call.device(), certified) {
            (Some(asked), Some(certified)) if asked != certified => {
                self.certificate_mismatch(
                    "certificate_device_mismatch",
                    "The certificate belongs to another device.\n",
                )?;
                Ok(Some(asked))
            }
            (Some(asked), _) => Ok(Some(asked)),
            (None, certified) => Ok(certified),
        }
    }

    fn certificate_mismatch(
        &mut self,
        reason: &'static str,
        text: &'static str,
    ) -> Result<(), Stop> {
        self.connection.core.shared.metrics.bad_request(reason);
        self.record.because(reason, None);
        let rule = self.snapshot.config.identity.certificate.mismatch;
        if rule == UserMismatch::Refuse {
            self.record.outcome(Outcome::Refused);
            return Err(Reply::text(StatusCode::FORBIDDEN, text).into());
        }
        Ok(())
    }

    /// Tells the server of the certificate, in the form that it wants.
    pub(super) fn tell_certificate(&self, inward: &mut Inward, leg: &Leg) {
        if let Some(certificate) = &self.connection.certificate {
            certificate.tell(inward, leg.certificate_header);
        }
    }
}
