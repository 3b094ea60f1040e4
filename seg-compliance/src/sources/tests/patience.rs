//! The pace of requests, and what is tried again.

use std::time::Instant;

use super::*;
use crate::sources::definition::From;
use crate::sources::pace::Time;
use crate::sources::pull::pull_web;

/// Time that passes when somebody waits, and only then.
struct Told {
    now: Mutex<Instant>,
    waits: Mutex<Vec<Duration>>,
}

impl Time for Told {
    fn now(&self) -> Instant {
        *self.now.lock().unwrap()
    }

    fn sleep(&self, wait: Duration) {
        *self.now.lock().unwrap() += wait;
        self.waits.lock().unwrap().push(wait);
    }
}

/// Reads a source; how long was waited, one after the other.
fn timed(source: &Definition) -> (Result<u64, SourceError>, Vec<Duration>) {
    let time = Told {
        now: Mutex::new(Instant::now()),
        waits: Mutex::default(),
    };
    let From::Web(web) = &source.from else {
        panic!("{source:?}");
    };
    let read = pull_web(web, &nowhere(), Timestamp::now(), &time, &mut Vec::new());
    let waits = time.waits.lock().unwrap().clone();
    (read.map(|pulled| pulled.items), waits)
}

fn generic(server: &StandIn, more: &str) -> Definition {
    let text = GENERIC.replace("requests_per_second=1000\n", "");
    definition(&format!("{text}url=\"{}\"\n{more}", server.url))
}

#[test]
fn a_source_is_asked_no_faster_than_it_may_be() {
    let list = |number: usize| match number {
        0 | 1 => json!({"list": [{"eas": format!("G{number}")}], "all": 3}),
        _ => json!({"list": [{"eas": "G2"}], "all": 3}),
    };
    let server = StandIn::serving(move |number, _| ok(&list(number)));
    let paged = "pages={size=1}\ntotal=\"$.all\"\n";
    let quarter = Duration::from_millis(250);
    let source = generic(&server, &format!("{paged}requests_per_second=4\n"));
    let (read, waits) = timed(&source);
    assert_eq!(read.unwrap(), 3);
    assert_eq!(waits, [quarter, quarter], "three requests");

    // The login is a request, too.
    let server = StandIn::serving(|_, head| {
        if head.starts_with("POST /token") {
            return ok(&json!({"access_token": "T"}));
        }
        ok(&json!({"list": []}))
    });
    let folder = tempfile::tempdir().unwrap();
    let login = format!(
        "requests_per_second=1\ntoken_url=\"{}/token\"\nclient_id=\"app\"\nclient_secret=\"{}\"\n",
        server.url,
        secret(&folder, "client")
    );
    let (read, waits) = timed(&generic(&server, &login));
    assert_eq!(read.unwrap(), 0);
    assert_eq!(waits, [Duration::from_secs(1)]);
}

#[test]
fn retry_after_is_obeyed_and_else_the_pause_grows() {
    let server = StandIn::serving(|number, _| match number {
        0 => answer("429 Too Many Requests", "retry-after: 7\r\n", ""),
        1 => answer("503 Service Unavailable", "retry-after: 99999\r\n", ""),
        2 => answer("500 Internal Server Error", "", ""),
        3 => answer("408 Request Timeout", "", ""),
        _ => ok(&json!({"list": [{"eas": "G1"}]})),
    });
    let (read, waits) = timed(&generic(&server, "requests_per_second=1000\n"));
    assert_eq!(read.unwrap(), 1);
    let [first, second, third, fourth] = waits[..] else {
        panic!("{waits:?}");
    };
    assert_eq!(first, Duration::from_secs(7));
    assert_eq!(
        second,
        Duration::from_secs(600),
        "no longer than ten minutes"
    );
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(3));
    assert!((least..=most).contains(&third), "{third:?}");
    assert!((2 * least..=2 * most).contains(&fourth), "{fourth:?}");
}

#[test]
fn nobody_is_asked_more_often_than_tries_says() {
    let server = StandIn::serving(|_, _| answer("503 Service Unavailable", "", ""));
    let (read, waits) = timed(&generic(&server, "tries=3\n"));
    let error = read.unwrap_err().to_string();
    assert!(
        error.contains("answers 503") && error.contains("after 3 tries"),
        "{error}"
    );
    assert_eq!((server.seen().len(), waits.len()), (3, 2));
}

#[test]
fn a_look_up_does_not_wait_for_its_turn_longer_than_its_deadline() {
    let server = StandIn::serving(|_, _| ok(&json!({"list": []})));
    let source = generic(
        &server,
        "requests_per_second=1\nlookup=\"/one?id={device}\"\non_miss=true\n",
    );
    let sessions = Sessions::default();
    let within = Duration::from_millis(500);
    assert!(lookup(&source, "A1", within, &sessions).is_ok());
    let error = lookup(&source, "A2", within, &sessions)
        .unwrap_err()
        .to_string();
    assert!(error.contains("requests_per_second"), "{error}");
    assert_eq!(server.seen().len(), 1);
}
