//! Timestamps of log events: RFC 3339, UTC, microseconds. The text up to the second is kept per
//! thread, since thousands of events share it.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Length of `2026-11-22T09:00:00`.
const TO_THE_SECOND: usize = 19;

thread_local! {
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
}

/// Appends the time now, `2026-11-22T09:00:00.123456Z`.
pub(super) fn append_now(out: &mut String) {
    // A clock before 1970 shows as 1970: an event must not be lost for it.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    append(out, now.as_secs(), now.subsec_micros());
}

fn append(out: &mut String, second: u64, micros: u32) {
    let kept = SECOND.try_with(|kept| {
        let Ok(mut kept) = kept.try_borrow_mut() else {
            return false;
        };
        if kept.0 != second {
            *kept = (second, to_the_second(second));
        }
        out.push_str(&kept.1);
        true
    });
    if !matches!(kept, Ok(true)) {
        out.push_str(&to_the_second(second));
    }
    let mut fraction = *b".000000Z";
    let mut left = micros;
    for digit in fraction.iter_mut().skip(1).take(6).rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out.push_str(std::str::from_utf8(&fraction).unwrap_or_default());
}

fn to_the_second(second: u64) -> String {
    let timestamp = i64::try_from(second)
        .ok()
        .and_then(|second| Timestamp::from_second(second).ok())
        .unwrap_or(Timestamp::MAX);
    let mut text = timestamp.to_string();
    text.truncate(TO_THE_SECOND);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_kept_and_micros_padded() {
        let mut out = String::new();
        append(&mut out, 1_795_338_000, 7);
        append(&mut out, 1_795_338_000, 999_999);
        append(&mut out, 1_795_338_001, 120_000);
        append(&mut out, 0, 0);
        assert_eq!(
            out,
            "2026-11-22T09:00:00.000007Z2026-11-22T09:00:00.999999Z\
             2026-11-22T09:00:01.120000Z1970-01-01T00:00:00.000000Z"
        );
    }

    #[test]
    fn now_is_what_the_clock_says() {
        let before = Timestamp::now();
        let mut out = String::new();
        append_now(&mut out);
        let shown: Timestamp = out.parse().unwrap();
        assert!(shown.as_second() >= before.as_second());
        assert!(shown <= Timestamp::now());
    }
}
