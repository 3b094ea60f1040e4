//! Admission against change, with real threads: when a block has returned, no lease that it should
//! have ended is alive without having been cut.

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::{Mode, Policies, UserMode};

/// Rounds of each race.
const ROUNDS: usize = 40;
/// Threads that admit.
const ADMITTERS: u16 = 3;

/// What was cut, by token.
#[derive(Default)]
struct Tokens(Mutex<HashSet<u64>>);

impl Cutter for Tokens {
    fn cut(&self, _: u16, cuts: Vec<Cut>) {
        self.0.lock().extend(cuts.iter().map(|cut| cut.token));
    }
}

/// Admits without pause on some threads while `block` runs; afterwards every lease that is still
/// held must have been cut, and nothing is admitted any more.
fn race(
    settings: &Settings,
    device: Option<&str>,
    block: impl Fn(&Engine),
    unblock: impl Fn(&Engine),
) {
    let engine = Engine::in_memory(*settings);
    let tokens = Arc::new(Tokens::default());
    engine.set_cutter(Arc::clone(&tokens) as Arc<_>);
    let device = device.map(key);
    let alice = user("alice");
    let patch = Patch::from_json(br#"{"user":"alice"}"#).unwrap().1;
    wait(engine.put_record(&key("d1"), &patch)).unwrap();
    let next = AtomicU64::new(0);
    for _ in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        let start = Barrier::new(usize::from(ADMITTERS) + 1);
        std::thread::scope(|scope| {
            let admit = |core: u16| {
                let mut held = Vec::new();
                let asked = ask(device.as_ref(), Some(&alice));
                start.wait();
                while !stop.load(Ordering::SeqCst) {
                    let token = next.fetch_add(1, Ordering::SeqCst);
                    let since = Timestamp::UNIX_EPOCH;
                    if let Admission::Granted(lease, _) =
                        engine.admit(&asked, core, token, since, None)
                    {
                        held.push((token, lease));
                    }
                    if held.len() > 16 {
                        held.remove(0);
                    }
                }
                held
            };
            let threads: Vec<_> = (0..ADMITTERS)
                .map(|core| scope.spawn(move || admit(core)))
                .collect();
            start.wait();
            while next.load(Ordering::SeqCst) % 7 != 3 {
                std::hint::spin_loop();
            }
            block(&engine);
            stop.store(true, Ordering::SeqCst);
            for thread in threads {
                for (token, lease) in thread.join().unwrap() {
                    assert!(
                        tokens.0.lock().contains(&token),
                        "{lease:?} survived the block"
                    );
                }
            }
        });
        let asked = ask(device.as_ref(), Some(&alice));
        let after = engine.admit(&asked, 0, u64::MAX, Timestamp::UNIX_EPOCH, None);
        assert!(matches!(after, Admission::Denied(_)));
        assert!(engine.sessions().is_empty());
        unblock(&engine);
    }
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn a_block_of_the_device() {
    race(
        &Settings::default(),
        Some("d1"),
        |engine| drop(wait(engine.override_device(&key("d1"), set(Verdict::Block))).unwrap()),
        |engine| drop(wait(engine.clear_device_override(&key("d1"))).unwrap()),
    );
}

#[test]
fn a_block_of_the_user() {
    race(
        &Settings::default(),
        Some("d1"),
        |engine| drop(wait(engine.override_user(&user("alice"), set(Verdict::Block))).unwrap()),
        |engine| drop(wait(engine.clear_user_override(&user("alice"))).unwrap()),
    );
}

#[test]
fn a_policy_load() {
    let policies = Policies::parse("[[policy]]\nid=\"all\"\naction=\"block\"").unwrap();
    race(
        &Settings::default(),
        Some("d1"),
        |engine| {
            engine.configure(Settings::default(), policies.clone(), &[]);
        },
        |engine| {
            engine.configure(Settings::default(), Policies::default(), &[]);
        },
    );
}

#[test]
fn a_change_from_observing_to_enforcing() {
    let observe = Settings {
        mode: Mode::Observe,
        ..Settings::default()
    };
    race(
        &observe,
        Some("unknown"),
        |engine| {
            engine.configure(Settings::default(), Policies::default(), &[]);
        },
        |engine| {
            engine.configure(observe, Policies::default(), &[]);
        },
    );
}

#[test]
fn a_device_that_refuses_its_users_request_without_a_device() {
    let settings = Settings {
        user_mode: UserMode::AllCompliant,
        ..Settings::default()
    };
    let record = |json: &str| Patch::from_json(json.as_bytes()).unwrap().1;
    race(
        &settings,
        None,
        |engine| {
            let patch = record(r#"{"user":"alice","compliant":false}"#);
            wait(engine.put_record(&key("d2"), &patch)).unwrap();
        },
        |engine| drop(wait(engine.forget(&key("d2"))).unwrap()),
    );
}
