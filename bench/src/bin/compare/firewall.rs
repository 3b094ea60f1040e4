//! What the firewall for ActiveSync costs: a gateway with `[eas]` beside one without, in turns.

use std::net::Ipv4Addr;

use seg_bench::Failure;

use crate::load::Pressure;
use crate::measure::{self, Asked, Small};
use crate::proxy::Stage;
use crate::requests::Bodies;

/// Every check that there is, as an administrator would switch it on, and bounds that the load does
/// not reach.
const POLICIES: &str = "[eas]\n\
    commands = ['Sync', 'FolderSync', 'Ping', 'Provision', 'Settings', 'SendMail', 'ItemOperations']\n\
    versions = ['14.1', '16.0', '16.1']\n\
    max_pings = 4\n\
    requests_per_minute = 100000000\n\
    [eas.body_max_bytes]\n\
    default = 1000000\n";

/// The load without and with the firewall.
pub(crate) struct Firewalled {
    pub(crate) off: Small,
    pub(crate) on: Small,
}

/// Starts a server and both gateways, and loads these in turns.
pub(crate) async fn firewall(
    stage: &Stage,
    bodies: &Bodies,
    rounds: usize,
    pressure: Pressure,
) -> Result<Firewalled, Failure> {
    let (_server, address) = stage.server("firewall", Ipv4Addr::LOCALHOST).await?;
    let gateways = [
        stage.gateway_before("off", &[address], "").await?,
        stage.gateway_before("on", &[address], POLICIES).await?,
    ];
    for gateway in &gateways {
        measure::introduce(gateway, pressure.connections.max(8)).await?;
    }
    let asked = Asked::Sync(bodies);
    let measured = measure::small(&gateways, asked, rounds, pressure).await?;
    let mut measured = measured.into_iter().map(|(_, small)| small);
    let (Some(off), Some(on)) = (measured.next(), measured.next()) else {
        return Err("two gateways were measured".into());
    };
    Ok(Firewalled { off, on })
}
