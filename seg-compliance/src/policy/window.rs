//! Times of the day and days of the week: `{ days = ["mon-fri"], from = "08:00", to = "18:00",
//! zone = "Europe/Berlin" }`.

use jiff::civil::{Time, Weekday};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

use super::read::{Problem, Table};
use super::subject::Moment;

/// A part of each of some days. One that ends before it begins runs over midnight and belongs to
/// the day on which it begins.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// From Monday on.
    days: [bool; 7],
    from: Time,
    /// `None`: to the end of the day.
    to: Option<Time>,
    zone: TimeZone,
}

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

impl Window {
    pub(super) fn read(mut table: Table<'_>) -> Result<Self, Problem> {
        let mut days = [true; 7];
        if let Some(value) = table.take("days") {
            days = [false; 7];
            for word in value.texts()? {
                for day in range(word.text).map_err(|why| word.problem(why))? {
                    if let Some(day) = days.get_mut(day) {
                        *day = true;
                    }
                }
            }
        }
        let mut time = |name: &'static str| {
            let Some(value) = table.take(name) else {
                return Ok(None);
            };
            let word = value.text()?;
            if name == "to" && word.text == "24:00" {
                return Ok(None);
            }
            let read = word.text.parse::<Time>();
            read.map(Some)
                .map_err(|_| word.problem(format!("{name} must be a time of day, \"08:00\"")))
        };
        let from = time("from")?.unwrap_or(Time::midnight());
        let to = time("to")?;
        let zone = match table.take("zone") {
            None => TimeZone::UTC,
            Some(value) => {
                let word = value.text()?;
                zone(word.text).map_err(|why| word.problem(why))?
            }
        };
        table.end(&["days", "from", "to", "zone"])?;
        Ok(Self {
            days,
            from,
            to: to.filter(|to| *to != Time::midnight()),
            zone,
        })
    }

    /// Whether it is open; notes when that changes, or might.
    pub(super) fn is_open(&self, moment: &Moment<'_>) -> bool {
        let now = moment.timestamp().to_zoned(self.zone.clone());
        let day = |zoned: &Zoned| {
            let at = zoned.weekday().to_monday_zero_offset();
            let days = usize::try_from(at).ok().and_then(|at| self.days.get(at));
            days.copied().unwrap_or(false)
        };
        let (time, today) = (now.time(), day(&now));
        let yesterday = now.yesterday().is_ok_and(|yesterday| day(&yesterday));
        let open = match self.to {
            None => today && time >= self.from,
            Some(to) if self.from < to => today && time >= self.from && time < to,
            Some(to) => today && time >= self.from || yesterday && time < to,
        };
        let tomorrow = now.tomorrow().and_then(|day| day.start_of_day());
        let turns = [Some(self.from), self.to]
            .into_iter()
            .flatten()
            .filter_map(|turn| now.with().time(turn).build().ok());
        for turn in turns.chain(tomorrow) {
            moment.note(turn.timestamp().as_millisecond());
        }
        // Where a clock is set, a time of the day comes twice or not at all.
        if let Some(set) = self.zone.following(moment.timestamp()).next() {
            moment.note(set.timestamp().as_millisecond());
        }
        open
    }
}

/// `mon`, or `mon-fri`; days counted from Monday.
fn range(text: &str) -> Result<Vec<usize>, String> {
    let find = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        DAYS.iter()
            .position(|(short, _)| name == *short)
            .ok_or_else(|| format!("{text:?} is no day; write mon, tue, … or mon-fri"))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (find(first)?, find(last)?),
        None => (find(text)?, find(text)?),
    };
    let length = (last + 7 - first) % 7;
    Ok((0..=length).map(|step| (first + step) % 7).collect())
}

/// A zone by its IANA name, `UTC`, or `+02:00`.
/// A time zone: `UTC`, an offset or a name.
pub(super) fn zone(text: &str) -> Result<TimeZone, String> {
    if text.eq_ignore_ascii_case("utc") {
        return Ok(TimeZone::UTC);
    }
    let fixed = text
        .strip_prefix('+')
        .map(|rest| (1, rest))
        .or_else(|| text.strip_prefix('-').map(|rest| (-1, rest)));
    if let Some((sign, rest)) = fixed {
        let time: Option<Time> = rest.parse().ok();
        let offset = time.and_then(|time| {
            let seconds = i32::from(time.hour()) * 3_600 + i32::from(time.minute()) * 60;
            Offset::from_seconds(sign * seconds).ok()
        });
        let offset = offset.ok_or_else(|| format!("{text:?} is no offset; write +02:00"))?;
        return Ok(TimeZone::fixed(offset));
    }
    TimeZone::get(text).map_err(|_| {
        format!(
            "{text:?} is no time zone of this system; write UTC, +02:00 or a name such as \
             Europe/Berlin, which needs the package tzdata"
        )
    })
}

/// A time as a policy names it.
pub(super) fn timestamp(text: &str) -> Result<i64, String> {
    text.parse::<Timestamp>()
        .map(|time| time.as_millisecond())
        .map_err(|_| format!("{text:?} is no time; write 2026-12-24T18:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::policy::read;

    fn window(text: &str) -> Result<Window, String> {
        let text = format!("w = {{ {text} }}");
        let mut whole = read::parse(&text).unwrap();
        let table = whole.take("w").unwrap().table().unwrap();
        Window::read(table).map_err(|problem| problem.message)
    }

    fn at(window: &Window, time: &str) -> (bool, String) {
        let clock = ManualClock::new(time.parse().unwrap());
        let moment = Moment::new(&clock);
        let open = window.is_open(&moment);
        (
            open,
            crate::clock::from_millisecond(moment.until()).to_string(),
        )
    }

    #[test]
    fn a_window_opens_and_closes_at_its_times() {
        let office = window("days=[\"mon-fri\"], from=\"08:00\", to=\"18:00\", zone=\"+01:00\"");
        let office = office.unwrap();
        // 2026-11-23 is a Monday.
        for (time, open, until) in [
            ("2026-11-23T06:59:59Z", false, "2026-11-23T07:00:00Z"),
            ("2026-11-23T07:00:00Z", true, "2026-11-23T17:00:00Z"),
            ("2026-11-23T16:59:59Z", true, "2026-11-23T17:00:00Z"),
            ("2026-11-23T17:00:00Z", false, "2026-11-23T23:00:00Z"),
            ("2026-11-22T12:00:00Z", false, "2026-11-22T17:00:00Z"),
        ] {
            assert_eq!(at(&office, time), (open, until.to_owned()), "{time}");
        }
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = window("days=[\"fri\"], from=\"22:00\", to=\"06:00\"").unwrap();
        for (time, open) in [
            ("2026-11-27T21:59:59Z", false),
            ("2026-11-27T22:00:00Z", true),
            ("2026-11-28T05:59:59Z", true),
            ("2026-11-28T06:00:00Z", false),
            ("2026-11-28T23:00:00Z", false),
            ("2026-11-27T05:00:00Z", false),
        ] {
            assert_eq!(at(&night, time).0, open, "{time}");
        }
    }

    #[test]
    fn a_window_keeps_its_local_times_where_clocks_are_set() {
        let night = window("from=\"22:00\", to=\"02:30\", zone=\"Europe/Berlin\"").unwrap();
        let late = window("from=\"02:30\", zone=\"Europe/Berlin\"").unwrap();
        let office = window("from=\"08:00\", to=\"18:00\", zone=\"Europe/Berlin\"").unwrap();
        for (window, time, open, until) in [
            // On 2026-10-25, 03:00 in summer becomes 02:00 in winter: half past two comes twice.
            (&night, "2026-10-25T00:29:59Z", true, "2026-10-25T00:30:00Z"),
            (
                &night,
                "2026-10-25T00:30:00Z",
                false,
                "2026-10-25T01:00:00Z",
            ),
            (&night, "2026-10-25T01:00:00Z", true, "2026-10-25T01:30:00Z"),
            (
                &night,
                "2026-10-25T01:30:00Z",
                false,
                "2026-10-25T21:00:00Z",
            ),
            // On 2027-03-28, 02:00 becomes 03:00: there is no half past two.
            (&late, "2027-03-28T00:59:59Z", false, "2027-03-28T01:00:00Z"),
            (&late, "2027-03-28T01:00:00Z", true, "2027-03-28T01:30:00Z"),
            (&night, "2027-03-28T00:59:59Z", true, "2027-03-28T01:00:00Z"),
            (
                &night,
                "2027-03-28T01:00:00Z",
                false,
                "2027-03-28T01:30:00Z",
            ),
            // Eight o'clock is another time in winter and in summer.
            (
                &office,
                "2026-10-24T06:00:00Z",
                true,
                "2026-10-24T16:00:00Z",
            ),
            (
                &office,
                "2026-10-25T06:59:59Z",
                false,
                "2026-10-25T07:00:00Z",
            ),
            (
                &office,
                "2026-10-25T16:59:59Z",
                true,
                "2026-10-25T17:00:00Z",
            ),
        ] {
            assert_eq!(at(window, time), (open, until.to_owned()), "{time}");
        }
    }

    #[test]
    fn a_window_changes_only_when_it_said_that_it_might() {
        // What is remembered of a window is wrong where it changes before its time.
        for text in [
            "from=\"22:00\", to=\"02:30\", zone=\"Europe/Berlin\"",
            "from=\"02:30\", to=\"02:45\", zone=\"Europe/Berlin\"",
            "from=\"23:30\", to=\"00:30\", zone=\"America/Sao_Paulo\"",
            "from=\"00:15\", zone=\"Africa/Cairo\"",
            "days=[\"sun\"], from=\"02:00\", to=\"02:00\", zone=\"Australia/Lord_Howe\"",
        ] {
            let window = window(text).unwrap();
            // Days around the changes of clocks of these zones, among others.
            for day in [
                "2018-11-03",
                "2026-10-03",
                "2026-10-24",
                "2027-03-27",
                "2026-04-23",
            ] {
                let clock = ManualClock::new(format!("{day}T12:00:00Z").parse().unwrap());
                let look = || {
                    let moment = Moment::new(&clock);
                    (window.is_open(&moment), moment.until(), moment.now())
                };
                let (mut said, mut until, _) = look();
                for _ in 0..(36 * 4) {
                    clock.advance(15 * 60_000);
                    let (open, next, now) = look();
                    if now >= until {
                        (said, until) = (open, next);
                    }
                    assert_eq!(open, said, "{text} {day} {now}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for text in [
            "days=[\"monday\"]",
            "from=\"8 o'clock\"",
            "zone=\"Mars/Olympus\"",
            "zone=\"+99:00\"",
            "til=\"18:00\"",
            "days=1",
        ] {
            assert!(window(text).is_err(), "{text}");
        }
        assert!(window("days=[\"sat-sun\"]").is_ok());
        assert!(window("from=\"24:00\"").is_err());
        // The end of the day by three names.
        for end in ["", ", to=\"24:00\"", ", to=\"00:00\""] {
            let late = window(&format!("from=\"22:00\"{end}")).unwrap();
            for (time, open) in [
                ("2026-11-23T21:59:59Z", false),
                ("2026-11-23T23:59:59Z", true),
                ("2026-11-24T00:00:00Z", false),
            ] {
                assert_eq!(at(&late, time).0, open, "{end} {time}");
            }
        }
    }
}
