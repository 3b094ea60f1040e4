//! What it costs to choose among several mail servers, each device its own: the gateway before eight
//! of them beside the gateway before one, in turns.

use std::net::{Ipv4Addr, SocketAddr};

use seg_bench::Failure;

use crate::load::Pressure;
use crate::measure::{self, Asked, Small};
use crate::proxy::Stage;
use crate::requests::Bodies;

/// Mail servers of the second gateway.
pub(crate) const MANY: u8 = 8;

/// The load before one server and before [`MANY`].
pub(crate) struct Spread {
    pub(crate) one: Small,
    pub(crate) many: Small,
}

/// Starts the server and both gateways, and loads these in turns.
pub(crate) async fn spread(
    stage: &Stage,
    bodies: &Bodies,
    rounds: usize,
    pressure: Pressure,
) -> Result<Spread, Failure> {
    // One process at eight addresses: whatever the two gateways differ in is their own.
    let (_server, address) = stage.server("spread", Ipv4Addr::UNSPECIFIED).await?;
    let at = |last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), address.port()));
    let all: Vec<_> = (1..=MANY).map(at).collect();
    let gateways = [
        stage.gateway_before("one", &[at(1)], "").await?,
        stage.gateway_before("many", &all, "").await?,
    ];
    for gateway in &gateways {
        measure::introduce(gateway, pressure.connections.max(8)).await?;
    }
    let asked = Asked::Sync(bodies);
    let measured = measure::small(&gateways, asked, rounds, pressure).await?;
    let mut measured = measured.into_iter().map(|(_, small)| small);
    let (Some(one), Some(many)) = (measured.next(), measured.next()) else {
        return Err("two gateways were measured".into());
    };
    Ok(Spread { one, many })
}
