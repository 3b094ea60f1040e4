//! What an exchange costs while it waits: bounds that a change must not cross unseen.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::server::*;
use crate::upstream::connection::Connection;
use crate::upstream::{Exchange, NoBody, Sending, UpstreamBody};

#[test]
fn futures_stay_small() {
    let sizes = [
        ("Sending", size_of::<Sending<NoBody>>(), 312),
        ("UpstreamBody", size_of::<UpstreamBody>(), 128),
        ("Exchange", size_of::<Exchange>(), 264),
        // One per connection, boxed; nearly all of it is the state of TLS.
        ("Connection", size_of::<Connection>(), 1320),
    ];
    for (name, size, bound) in sizes {
        assert!(
            size <= bound,
            "{name} takes {size} bytes, more than {bound}"
        );
    }
}

#[test]
fn futures_may_move_between_threads() {
    fn assert_send<T: Send>() {}
    assert_send::<Sending<NoBody>>();
    assert_send::<Exchange>();
    assert_send::<UpstreamBody>();
}

struct Silent;

impl Wake for Silent {
    fn wake(self: Arc<Self>) {}
}

#[tokio::test]
async fn an_idle_connection_holds_neither_task_nor_buffer() {
    let server = Server::plain().await;
    let pool = pool();
    let task = Arc::new(Silent);
    let waker = Waker::from(task.clone());
    let mut sending = Box::pin(go(&pool, &server, get()));
    let mut peer = None;
    let exchange = loop {
        if let Poll::Ready(done) = sending.as_mut().poll(&mut Context::from_waker(&waker)) {
            break done.unwrap();
        }
        match peer {
            None => {
                let mut accepted = server.accept().await;
                accepted.write(OK).await;
                peer = Some(accepted);
            }
            Some(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(pool.stats().idle, 1);
    drop((exchange, sending, waker));
    assert_eq!(
        Arc::strong_count(&task),
        1,
        "the idle connection keeps the task alive"
    );
}
