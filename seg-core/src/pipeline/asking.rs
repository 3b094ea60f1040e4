//! Others that have a say: a source that may know an unknown device, and a decision service of
//! somebody else's.

use http::{HeaderMap, Uri};
use seg_compliance::{Ask, Decision, DeviceKey, Protocol};

use super::Walk;
use crate::config::ComplianceMode;
use crate::decide::{self, Admitted, misses};
use crate::identify::Known;
use crate::message::Reply;
use crate::route::Route;

impl Walk<'_> {
    /// What others make of an admission. Called where one of them is configured.
    ///
    /// # Errors
    /// The answer to somebody whose password is not right: no source is asked on his behalf.
    pub(super) async fn others(
        &mut self,
        admitted: Result<Admitted, Decision>,
        ask: &Ask<'_>,
        uri: &Uri,
        route: &Route,
        known: &Known,
        headers: &HeaderMap,
    ) -> Result<Result<Admitted, Decision>, Reply> {
        let (core, snapshot) = (&self.connection.core, self.snapshot);
        let shared = &core.shared;
        let admitted = match admitted {
            Err(decision) => {
                let asks = |device: &&DeviceKey| {
                    ask.protocol == Protocol::Eas && shared.misses.is_new(&decision, device)
                };
                let Some(device) = ask.device.filter(asks) else {
                    return Ok(Err(decision));
                };
                if let Some(reply) = self.unproven(route, known, headers).await {
                    return Err(reply);
                }
                if !misses::ask(shared, device).await {
                    return Ok(Err(decision));
                }
                match decide::admit(&shared.engine, &core.slots, core.id, ask) {
                    Ok(admitted) => admitted,
                    Err(decision) => return Ok(Err(decision)),
                }
            }
            Ok(admitted) => admitted,
        };
        let Some(callout) = &snapshot.config.callout else {
            return Ok(Ok(admitted));
        };
        let refusal = callout.refuses(ask, uri, &shared.outbound, &shared.callouts);
        Ok(match refusal.await {
            None => Ok(admitted),
            // What it would have refused is told, as of the engine's own verdicts.
            Some(decision) if snapshot.config.compliance.mode == ComplianceMode::Observe => {
                Ok(Admitted {
                    decision: Decision {
                        enforced: false,
                        ..decision
                    },
                    ..admitted
                })
            }
            Some(decision) => Err(decision),
        })
    }
}
