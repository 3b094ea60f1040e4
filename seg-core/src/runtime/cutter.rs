//! From the engine to the cores.

use std::time::Instant;

use seg_compliance::{Cut, Cutter};
use tokio::sync::mpsc::UnboundedSender;

use super::core::CoreCommand;

/// Hands the engine's cuts to the cores, one command each.
#[derive(Debug)]
pub(super) struct CoreCutter(pub(super) Vec<UnboundedSender<CoreCommand>>);

impl Cutter for CoreCutter {
    fn cut(&self, core: u16, cuts: Vec<Cut>) {
        let taken = Instant::now();
        if let Some(core) = self.0.get(usize::from(core)) {
            // A core that is gone has no requests left to cut.
            let _ = core.send(CoreCommand::Cut { cuts, taken });
        }
    }
}
