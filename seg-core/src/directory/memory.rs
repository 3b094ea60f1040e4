//! What the directory said of people and devices that came without a password: one question at a
//! time about each, and each answer believed for a while, a refusal too. Otherwise a phone whose
//! account is gone would have it asked about with every poll.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use seg_compliance::UserKey;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::decide::Generations;

/// How long a refusal is believed at most: somebody may be waiting for his new account.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// What there is, or why nothing counts; the outer error says why the directory could not be asked.
pub type Found<T> = Result<Result<T, &'static str>, String>;

/// Questions that are being asked, one at a time for each key.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<UserKey, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// The turn of a key; whoever holds its lock may ask.
    pub(super) fn of(&self, key: &UserKey) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.0.lock().entry(key.clone()).or_default())
    }

    /// Lets go of a turn that nobody waits for any more.
    pub(super) fn over(&self, key: &UserKey) {
        let mut turns = self.0.lock();
        if turns
            .get(key)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            turns.remove(key);
        }
    }
}

/// Answers by key.
pub(super) struct Memory<T> {
    known: Generations<UserKey, (Result<T, &'static str>, Instant)>,
    turns: Turns,
    cache: Duration,
}

impl<T: Clone + Send + 'static> Memory<T> {
    /// Remembers nothing yet. `cache`: how long what was found is believed.
    pub(super) fn new(kept: usize, cache: Duration) -> Self {
        Self {
            known: Generations::new(kept),
            turns: Turns::default(),
            cache,
        }
    }

    /// What is known of a key, or what `asked` finds out, within `room`.
    pub(super) async fn find(
        self: &Arc<Self>,
        runtime: &Handle,
        room: &Arc<Semaphore>,
        key: &UserKey,
        asked: impl Future<Output = Found<T>> + Send + 'static,
    ) -> Found<T> {
        if let Some(known) = self.recall(key) {
            return Ok(known);
        }
        let turn = self.turns.of(key);
        let (this, room, own) = (Arc::clone(self), Arc::clone(room), key.clone());
        // A task of its own: a client that leaves takes the answer from nobody.
        let found = runtime.spawn(async move {
            let _turn = turn.lock().await;
            if let Some(known) = this.recall(&own) {
                return Ok(known);
            }
            let _room = room.acquire().await.map_err(|_| ENDING.to_owned())?;
            let found = asked.await?;
            this.learn(own, found.clone());
            Ok(found)
        });
        let found = found.await.unwrap_or_else(|_| Err(ENDING.to_owned()));
        self.turns.over(key);
        found
    }

    fn recall(&self, key: &UserKey) -> Option<Result<T, &'static str>> {
        let (known, until) = self.known.recall(key)?;
        (until > Instant::now()).then_some(known)
    }

    fn learn(&self, key: UserKey, found: Result<T, &'static str>) {
        let holds = match found {
            Ok(_) => self.cache,
            Err(_) => self.cache.min(REFUSED_FOR),
        };
        self.known.insert(key, (found, Instant::now() + holds));
    }
}

/// The gateway is being stopped.
pub(super) const ENDING: &str = "ending";

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_question_is_asked_once_whatever_its_answer() {
        let memory = Arc::new(Memory::new(100, Duration::from_secs(60)));
        let (room, runtime) = (Arc::new(Semaphore::new(2)), Handle::current());
        let asked = Arc::new(AtomicUsize::new(0));
        let ask = |key: &str, answer: Found<u8>| {
            let (memory, asked, room) = (Arc::clone(&memory), Arc::clone(&asked), &room);
            let (key, runtime) = (UserKey::new(key).expect("a name"), &runtime);
            async move {
                let answer = async move {
                    asked.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                    answer
                };
                memory.find(runtime, room, &key, answer).await
            }
        };
        for (key, answer) in [("alice", Ok(Ok(1))), ("nobody", Ok(Err("account_unknown")))] {
            asked.store(0, Ordering::Relaxed);
            let all = (0..20).map(|_| ask(key, answer.clone()));
            for found in futures_util::future::join_all(all).await {
                assert_eq!(found, answer);
            }
            assert_eq!(asked.load(Ordering::Relaxed), 1, "{key}");
        }
        // That it could not be asked is no answer.
        asked.store(0, Ordering::Relaxed);
        for _ in 0..2 {
            assert_eq!(
                ask("bob", Err("down".to_owned())).await,
                Err("down".to_owned())
            );
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!(ask("bob", Ok(Ok(2))).await, Ok(Ok(2)));
        assert!(memory.turns.0.lock().is_empty());
    }
}
