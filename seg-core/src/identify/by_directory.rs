//! What a certificate does not say itself: the directory knows whose it is, and to which device it
//! belongs.
//!
//! Asked behind the handshake, so that nothing waits in it. Nothing is served with a certificate whose
//! answer is missing: to take it for one that names no device would let it through with every device.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::certificate::{Closed, device_key};
use super::{CertificateMapping, ClientCertificate, IdentityRules};
use crate::config::DeviceField;
use crate::directory::{Directory, Verdict};

impl ClientCertificate {
    /// Asks the directory for all that is open.
    pub async fn ask(
        &mut self,
        directory: &Arc<Directory>,
        runtime: &Handle,
        mapping: &CertificateMapping,
        identity: &IdentityRules,
    ) {
        let answered = self.ask_user(directory, runtime, identity).await;
        let answered = match answered {
            Ok(()) => self.ask_device(directory, runtime, mapping).await,
            failed => failed,
        };
        self.closed = answered.err().map(Box::new);
    }

    /// Whom nobody maps stays nobody: that is what a certificate without a name is.
    async fn ask_user(
        &mut self,
        directory: &Arc<Directory>,
        runtime: &Handle,
        identity: &IdentityRules,
    ) -> Result<(), Closed> {
        if !self.open.user {
            return Ok(());
        }
        let (print, forms) = (self.fingerprint_text(), self.field(DeviceField::Identity));
        let why = match directory.mapped(runtime, &print, forms).await {
            Some(Verdict::Good(account)) => {
                let name = account.upn.clone();
                let name = name.unwrap_or_else(|| directory.login_name(&account));
                self.user = identity.canonical(&name);
                self.user_name = Some(name.into());
                return Ok(());
            }
            Some(Verdict::Unavailable(why)) => return Err(unavailable(why)),
            Some(Verdict::Refused(reason)) => reason,
            None => "there is no directory.bind.user to ask with",
        };
        let serial = self.serial();
        tracing::warn!(
            serial,
            "the directory maps the certificate to nobody: {why}"
        );
        Ok(())
    }

    async fn ask_device(
        &mut self,
        directory: &Arc<Directory>,
        runtime: &Handle,
        mapping: &CertificateMapping,
    ) -> Result<(), Closed> {
        let lookup = directory.config.device.as_ref();
        let Some(lookup) = lookup.filter(|_| self.open.device) else {
            return Ok(());
        };
        let refused = |reason, detail| Closed {
            reason,
            detail,
            later: false,
        };
        let Some(filter) = lookup.filter.with(&|field| self.field(field)) else {
            let lacks = "the certificate lacks what directory.device.filter asks for";
            return Err(refused("device_unknown", Some(lacks.to_owned())));
        };
        let print = self.fingerprint_text();
        let found = directory.device(runtime, &print, filter.clone()).await;
        let text = found
            .map_err(unavailable)?
            .map_err(|reason| refused(reason, Some(filter)))?;
        let device = mapping.device_in(&text).and_then(device_key);
        let unreadable = || refused("device_unreadable", Some(text.to_string()));
        self.device = Some(device.ok_or_else(unreadable)?);
        Ok(())
    }
}

fn unavailable(why: String) -> Closed {
    Closed {
        reason: "directory_unavailable",
        detail: Some(why),
        later: true,
    }
}
