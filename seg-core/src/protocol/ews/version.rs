//! The version that the EWS server names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use seg_ews::ServerVersion;

/// The version that the EWS server named last. Clients want one in every answer, so a refusal
/// carries the server's own.
#[derive(Debug)]
pub struct ServerVersionMemory {
    version: ArcSwap<ServerVersion>,
    looked: Mutex<Option<Instant>>,
}

/// How often an answer is looked into for the version.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl ServerVersionMemory {
    /// Begins with `ews.refusal.server.version`.
    pub fn new(configured: ServerVersion) -> Self {
        Self {
            version: ArcSwap::from_pointee(configured),
            looked: Mutex::default(),
        }
    }

    /// The version for an answer of our own.
    pub fn current(&self) -> Arc<ServerVersion> {
        self.version.load_full()
    }

    /// Whether the next answer should be looked into.
    pub fn due(&self) -> bool {
        self.looked
            .lock()
            .is_none_or(|at| at.elapsed() >= LOOK_EVERY)
    }

    /// Learns from the first bytes of an answer.
    pub fn learn(&self, answer: &[u8]) {
        if let Some(version) = ServerVersion::scan(answer) {
            *self.looked.lock() = Some(Instant::now());
            self.version.store(Arc::new(version));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: &[u8] = b"<s:Header><h:ServerVersionInfo MajorVersion=\"15\" MinorVersion=\"2\" \
        MajorBuildNumber=\"1544\" MinorBuildNumber=\"4\"/></s:Header>";

    fn memory() -> ServerVersionMemory {
        ServerVersionMemory::new("15.1.2507.6".parse().expect("a version"))
    }

    #[test]
    fn the_servers_own_takes_the_place_of_the_configured_one() {
        let memory = memory();
        assert_eq!(memory.current().to_string(), "15.1.2507.6");
        assert!(memory.due(), "nothing was looked into yet");
        memory.learn(NAMED);
        assert_eq!(memory.current().to_string(), "15.2.1544.4");
        assert!(!memory.due(), "not every answer is looked into");
    }

    #[test]
    fn an_answer_without_a_version_teaches_nothing() {
        let memory = memory();
        for answer in [&b""[..], b"<s:Header/>", &NAMED[..NAMED.len() / 2]] {
            memory.learn(answer);
            assert_eq!(memory.current().to_string(), "15.1.2507.6");
            assert!(memory.due(), "the next answer may name one");
        }
    }
}
