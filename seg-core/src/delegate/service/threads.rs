//! The library's calls block: they run on threads of which there are so many, and so many callers wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::runtime::Handle;
use tokio::task::JoinError;

use super::Delegation;
use crate::delegate::refusal::Refusal;

/// Callers that may wait for a thread.
const MAX_WAITING: usize = 512;

impl Delegation {
    /// Runs blocking work on a thread of the pool, of which there are `kerberos.threads`.
    pub(super) fn submit<T, W>(
        self: &Arc<Self>,
        runtime: &Handle,
        work: W,
    ) -> Result<impl Future<Output = Result<T, JoinError>> + use<T, W>, Refusal>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            return Err(Refusal::busy());
        }
        let (this, runtime) = (Arc::clone(self), runtime.clone());
        let waits = Waits::new(Arc::clone(self));
        Ok(async move {
            let permit = Arc::clone(&this.permits).acquire_owned().await;
            drop(waits);
            // A thread that hangs keeps its permit: so many may hang, and no more.
            runtime
                .spawn_blocking(move || {
                    let _permit = permit;
                    work()
                })
                .await
        })
    }
}

pub(super) type Done<T> = Result<Result<T, Refusal>, JoinError>;

pub(super) fn finished<T>(done: Done<T>) -> Result<T, Refusal> {
    done.unwrap_or_else(|_| Err(Refusal::busy()))
}

/// One who waits for a thread.
struct Waits(Arc<Delegation>);

impl Waits {
    fn new(delegation: Arc<Delegation>) -> Self {
        delegation.waiting.fetch_add(1, Ordering::Relaxed);
        Self(delegation)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use parking_lot::Mutex;

    use super::*;
    use crate::config;

    /// Threads that hang are so many and no more, and so are those who wait for one of them.
    #[tokio::test]
    async fn blocking_work_is_bounded_and_so_is_its_queue() {
        const THREADS: usize = 2;
        let text = format!(
            "kerberos.accept=true\nkerberos.principals=svc@CORP.EXAMPLE\n\
             kerberos.keytab.path=svc.keytab\nkerberos.threads={THREADS}\n"
        );
        let nothing = std::iter::empty();
        let folder = Path::new("/etc/seg");
        let (loaded, _) = config::from_text(&text, None, folder, nothing);
        let delegation = Delegation::new(&loaded.config, None).expect("asked for");
        let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let ends = Arc::new(Mutex::new(ends));
        let runtime = Handle::current();
        let hangs = || {
            let (started, ends) = (started.clone(), Arc::clone(&ends));
            delegation.submit(&runtime, move || {
                let _ = started.send(());
                let _ = ends.lock().recv();
            })
        };
        let mut all: Vec<_> = (0..MAX_WAITING)
            .map(|_| tokio::spawn(hangs().expect("room to wait")))
            .collect();
        let refused = hangs().err().map(|refusal| refusal.reason);
        assert_eq!(refused, Some(Refusal::busy().reason));
        for _ in 0..THREADS {
            starts.recv().await.expect("work begins");
        }
        // Two have a thread and wait no more: there is room for two others, and no thread.
        all.extend((0..THREADS).map(|_| tokio::spawn(hangs().expect("room to wait"))));
        tokio::task::yield_now().await;
        assert!(hangs().is_err(), "no more than {MAX_WAITING} wait");
        assert!(starts.try_recv().is_err(), "no more than {THREADS} run");
        drop(end);
        for work in all {
            work.await.expect("joined").expect("done");
        }
    }
}
