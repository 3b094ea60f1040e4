//! What the clocks and calendars of a zone show at a time: `now.getHours('Europe/Berlin') < 7`.

use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::clock::from_millisecond;

/// A part of a timestamp. CEL counts months, and the days of [`Self::DayOfMonth`] and
/// [`Self::DayOfYear`], from 0, and those of a week from Sunday, which is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Year,
    Month,
    Date,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hours,
    Minutes,
}

static PARTS: [(&str, Part); 8] = [
    ("getFullYear", Part::Year),
    ("getMonth", Part::Month),
    ("getDate", Part::Date),
    ("getDayOfMonth", Part::DayOfMonth),
    ("getDayOfWeek", Part::DayOfWeek),
    ("getDayOfYear", Part::DayOfYear),
    ("getHours", Part::Hours),
    ("getMinutes", Part::Minutes),
];

/// Milliseconds of the shortest part.
const MINUTE: i64 = 60_000;

/// The part that a method's name asks for.
pub(super) fn part(name: &str) -> Option<Part> {
    let found = PARTS.iter().find(|(known, _)| *known == name);
    found.map(|(_, part)| *part)
}

impl Part {
    /// It at a time, in milliseconds since 1970.
    pub(super) fn of(self, at: i64, zone: &TimeZone) -> i64 {
        let time = Zoned::new(from_millisecond(at), zone.clone());
        match self {
            Self::Year => time.year().into(),
            Self::Month => i64::from(time.month()) - 1,
            Self::Date => time.day().into(),
            Self::DayOfMonth => i64::from(time.day()) - 1,
            Self::DayOfWeek => time.weekday().to_sunday_zero_offset().into(),
            Self::DayOfYear => i64::from(time.day_of_year()) - 1,
            Self::Hours => time.hour().into(),
            Self::Minutes => time.minute().into(),
        }
    }
}

/// How many milliseconds no part of `at` becomes another, in any zone, where it moves by `moves` with
/// each: zones are set by whole minutes. `None`: it stands still.
pub(super) fn stands_for(at: i64, moves: i64) -> Option<i64> {
    let into = at.rem_euclid(MINUTE);
    let rest = if moves > 0 { MINUTE - into } else { into + 1 };
    Some(rest.checked_div(moves.checked_abs()?)?.max(1))
}
