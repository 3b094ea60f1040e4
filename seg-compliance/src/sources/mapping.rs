//! From a system's own words to a record: which member is which fact, and what its values mean.

use serde_json::{Map, Value};

use super::json_path::JsonPath;
use crate::DeviceKey;
use crate::key::DEVICE_KEY_MAX;
use crate::record::{APPS_MAX, FIELDS, GROUPS_MAX, LINE_MAX, TEXT_MAX};

/// Which fact is found where.
#[derive(Clone, Debug)]
pub(super) struct Mapping(Vec<(&'static str, Vec<JsonPath>)>);

impl Mapping {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Names the places of a fact, the first that holds something counts.
    pub(super) fn set(&mut self, field: &str, paths: Vec<JsonPath>) -> Result<(), String> {
        let known = FIELDS.iter().find(|known| **known == field);
        let field = known
            .ok_or_else(|| format!("{field:?} is no fact; known are {}", FIELDS.join(", ")))?;
        self.0.retain(|(held, _)| held != field);
        self.0.push((field, paths));
        Ok(())
    }

    pub(super) fn has_device(&self) -> bool {
        self.0.iter().any(|(field, _)| *field == "device_id")
    }

    /// The records of one item: one for each of its DeviceIds. Each is a line that an import takes; of
    /// apps and groups, no more than such a line holds.
    pub(super) fn records(&self, item: &Value) -> Vec<Map<String, Value>> {
        let mut record = Map::new();
        let mut devices = Vec::new();
        for (field, paths) in &self.0 {
            if *field == "device_id" {
                let ids = paths.iter().map(|path| device_ids(&path.all(item)));
                devices = ids
                    .into_iter()
                    .find(|ids| !ids.is_empty())
                    .unwrap_or_default();
            } else if let Some(value) = told(field, paths, item) {
                record.insert((*field).to_owned(), value);
            }
        }
        fit(&mut record);
        devices
            .into_iter()
            .map(|device| {
                let mut record = record.clone();
                record.insert("device_id".to_owned(), device.into());
                record
            })
            .collect()
    }
}

/// What an item says of a fact; `None`: nothing. Null where it says something that is no fact, such as
/// `unknown`: what it said before holds no longer. A name that can't be understood takes none back, for
/// without one a device would be anybody's.
fn told(field: &str, paths: &[JsonPath], item: &Value) -> Option<Value> {
    let found: Vec<Vec<&Value>> = paths.iter().map(|path| path.all(item)).collect();
    if let Some(value) = found.iter().find_map(|found| fact(field, found)) {
        return Some(value);
    }
    match field {
        "user" => None,
        // An empty list says that there is nothing in it.
        "groups" | "apps" => {
            let mut paths = paths.iter();
            let is_empty = paths.any(|path| path.leads_through_a_list(item));
            is_empty.then(|| Value::Array(Vec::new()))
        }
        _ => found
            .iter()
            .any(|found| !found.is_empty())
            .then_some(Value::Null),
    }
}

/// What can be a DeviceId. Systems write all kinds of words where they know of none.
fn device_ids(found: &[&Value]) -> Vec<String> {
    let ids = found.iter().filter_map(|value| text(value));
    let mut ids: Vec<String> = ids.filter(|id| DeviceKey::new(id).is_ok()).collect();
    ids.dedup();
    ids
}

/// Leaves away the end of the longest list until the record is a line.
fn fit(record: &mut Map<String, Value>) {
    let room = LINE_MAX - DEVICE_KEY_MAX * 2;
    let length = |value: &Value| serde_json::to_string(value).map_or(0, |text| text.len());
    while record.values().map(length).sum::<usize>() + FIELDS.len() * 16 > room {
        let lists = record.values_mut().filter(|value| value.is_array());
        let Some(Value::Array(longest)) = lists.max_by_key(|value| length(value)) else {
            return;
        };
        longest.truncate(longest.len() / 2);
    }
}

/// The value of a fact; `None`: nothing is said.
pub(super) fn fact(field: &str, found: &[&Value]) -> Option<Value> {
    let first = *found.first()?;
    match field {
        "managed" | "compliant" | "compromised" | "encrypted" | "profile" | "passcode"
        | "attested" | "revoked" => truth(first).map(Value::Bool),
        "last_seen" | "updated" => time(&text(first)?).map(Value::String),
        "groups" | "apps" => {
            let most = if field == "groups" {
                GROUPS_MAX
            } else {
                APPS_MAX
            };
            let flat = found.iter().flat_map(|value| match value {
                Value::Array(list) => list.iter().collect(),
                other => vec![*other],
            });
            Some(
                flat.filter_map(text)
                    .take(most)
                    .map(Value::String)
                    .collect(),
            )
        }
        "platform" => Some(platform(&text(first)?).into()),
        "ownership" => Some(ownership(&text(first)?).into()),
        "verdict" => verdict(&text(first)?).map(Into::into),
        _ => text(first).filter(|text| !text.is_empty()).map(Into::into),
    }
}

/// A text within the limit of a fact, without control characters.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => return None,
    };
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    let mut end = clean.len().min(TEXT_MAX);
    while !clean.is_char_boundary(end) {
        end -= 1;
    }
    clean.get(..end).map(str::to_owned)
}

/// What systems say for yes and no, letters only.
const YES: [&str; 17] = [
    "true",
    "yes",
    "y",
    "1",
    "compliant",
    "ingraceperiod",
    "enrolled",
    "managed",
    "compromised",
    "encrypted",
    "jailbroken",
    "rooted",
    "enabled",
    "installed",
    "present",
    "verified",
    "on",
];
const NO: [&str; 20] = [
    "false",
    "no",
    "n",
    "0",
    "noncompliant",
    "notcompliant",
    "conflict",
    "error",
    "unenrolled",
    "notenrolled",
    "unmanaged",
    "discovered",
    "notcompromised",
    "uncompromised",
    "notencrypted",
    "unencrypted",
    "disabled",
    "notinstalled",
    "none",
    "off",
];

/// Yes or no; anything else, such as `unknown`, says nothing.
fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Value::String(text) => {
            let word: String = text
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .map(|c| c.to_ascii_lowercase())
                .collect();
            if YES.contains(&word.as_str()) {
                Some(true)
            } else {
                NO.contains(&word.as_str()).then_some(false)
            }
        }
        _ => None,
    }
}

/// A time as a record takes it. Without an offset it is UTC; the year 1 stands for never.
pub(super) fn time(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with("0001-") {
        return None;
    }
    let local = |text: &str| {
        let time: jiff::civil::DateTime = text.parse().ok()?;
        Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    let american = |text: &str| {
        [
            "%m/%d/%Y %I:%M:%S %p",
            "%m/%d/%Y %I:%M %p",
            "%m/%d/%Y %H:%M:%S",
        ]
        .iter()
        .find_map(|form| jiff::civil::DateTime::strptime(form, text).ok())
        .and_then(|time| Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp()))
    };
    let time = text
        .parse::<jiff::Timestamp>()
        .ok()
        .or_else(|| local(text))
        .or_else(|| american(text))?;
    Some(time.to_string())
}

/// Systems call one platform by many names.
fn platform(text: &str) -> String {
    let word = text.to_ascii_lowercase();
    let known = [
        ("applewatch", "watchos"),
        ("appleosx", "macos"),
        ("macos", "macos"),
        ("mac os", "macos"),
        ("appletv", "tvos"),
        ("tvos", "tvos"),
        ("apple", "ios"),
        ("ipados", "ios"),
        ("ios", "ios"),
        ("android", "android"),
        ("win", "windows"),
        ("chrome", "chromeos"),
    ];
    let known = known.iter().find(|(begins, _)| word.starts_with(begins));
    match known {
        Some((_, name)) => (*name).to_owned(),
        None => word,
    }
}

fn ownership(text: &str) -> String {
    let word = text.to_ascii_lowercase();
    match word.as_str() {
        "c"
        | "company"
        | "corporate"
        | "corporatededicated"
        | "institutional"
        | "corporate - dedicated" => "corporate",
        "e" | "personal" | "employee" | "employeeowned" | "employee owned" | "userenrollment" => {
            "personal"
        }
        "s" | "shared" | "corporateshared" | "corporate - shared" => "shared",
        other => other,
    }
    .to_owned()
}

fn verdict(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "block" | "blocked" | "deny" | "denied" => Some("block"),
        "allow" | "allowed" => Some("allow"),
        "quarantine" | "quarantined" => Some("quarantine"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn words_of_systems_become_facts() {
        for (field, value, expected) in [
            ("compliant", json!("Compliant"), Some(json!(true))),
            ("compliant", json!("NonCompliant"), Some(json!(false))),
            ("compliant", json!("inGracePeriod"), Some(json!(true))),
            ("compliant", json!("unknown"), None),
            ("compromised", json!("Not Compromised"), Some(json!(false))),
            ("compromised", json!("Unknown"), None),
            ("encrypted", json!(1), Some(json!(true))),
            ("platform", json!("AppleOsX"), Some(json!("macos"))),
            ("platform", json!("Apple"), Some(json!("ios"))),
            ("platform", json!("AndroidForWork"), Some(json!("android"))),
            ("ownership", json!("C"), Some(json!("corporate"))),
            ("ownership", json!("company"), Some(json!("corporate"))),
            ("verdict", json!("Quarantined"), Some(json!("quarantine"))),
            ("verdict", json!("DeviceDiscovery"), None),
            (
                "last_seen",
                json!("2026-11-22T09:00:00.123"),
                Some(json!("2026-11-22T09:00:00.123Z")),
            ),
            (
                "last_seen",
                json!("2026-11-22T09:00:00+01:00"),
                Some(json!("2026-11-22T08:00:00Z")),
            ),
            (
                "last_seen",
                json!("11/22/2026 9:00:00 AM"),
                Some(json!("2026-11-22T09:00:00Z")),
            ),
            ("last_seen", json!("0001-01-01T00:00:00"), None),
            ("groups", json!(["a", "b", 3]), Some(json!(["a", "b", "3"]))),
            ("model", json!("iPhone\u{7}15"), Some(json!("iPhone15"))),
        ] {
            assert_eq!(fact(field, &[&value]), expected, "{field} {value}");
        }
    }

    #[test]
    fn the_first_place_that_says_something_counts() {
        let mut mapping = Mapping::new();
        let path = |text: &str| JsonPath::parse(text).unwrap();
        mapping
            .set("device_id", vec![path("$.ids[*]"), path("$.id")])
            .unwrap();
        mapping
            .set("user", vec![path("$.name"), path("$.mail")])
            .unwrap();
        mapping
            .set("compliant", vec![path("$.state"), path("$.ok")])
            .unwrap();
        let item = json!({"ids": ["", "not available"], "id": "A", "name": "  ", "mail": "a@b",
            "state": "unknown", "ok": false});
        assert_eq!(
            Value::Array(
                mapping
                    .records(&item)
                    .into_iter()
                    .map(Value::Object)
                    .collect()
            ),
            json!([{"device_id": "A", "user": "a@b", "compliant": false}])
        );
        // What a system does not know any more is taken back; a user is not.
        let item = json!({"id": "A", "name": "", "mail": "", "state": "unknown"});
        assert_eq!(
            Value::Array(
                mapping
                    .records(&item)
                    .into_iter()
                    .map(Value::Object)
                    .collect()
            ),
            json!([{"device_id": "A", "compliant": null}])
        );
        // What can't be a DeviceId is no device, and no bad line either.
        for id in [
            json!("N/A N/A"),
            json!("x".repeat(200)),
            json!(null),
            json!({}),
        ] {
            assert!(mapping.records(&json!({ "id": id })).is_empty(), "{id}");
        }
    }

    #[test]
    fn an_empty_list_is_a_fact_and_no_list_is_none() {
        let mut mapping = Mapping::new();
        let path = |text: &str| JsonPath::parse(text).unwrap();
        mapping.set("device_id", vec![path("$.id")]).unwrap();
        mapping
            .set("groups", vec![path("$.of.groups[*].name")])
            .unwrap();
        for (item, groups) in [
            (
                json!({"id": "A", "of": {"groups": [{"name": "x"}]}}),
                Some(json!(["x"])),
            ),
            (json!({"id": "A", "of": {"groups": []}}), Some(json!([]))),
            (json!({"id": "A", "of": {"groups": null}}), None),
            (json!({"id": "A", "of": {}}), None),
            (json!({"id": "A"}), None),
        ] {
            let records = mapping.records(&item);
            assert_eq!(records[0].get("groups").cloned(), groups, "{item}");
        }
    }

    #[test]
    fn a_record_with_thousands_of_apps_is_still_a_line() {
        let mut mapping = Mapping::new();
        let path = |text: &str| JsonPath::parse(text).unwrap();
        for (field, at) in [
            ("device_id", "$.id"),
            ("apps", "$.apps"),
            ("groups", "$.groups"),
        ] {
            mapping.set(field, vec![path(at)]).unwrap();
        }
        let names = |count: usize| -> Vec<String> {
            (0..count)
                .map(|number| format!("{number}{}", "\"".repeat(200)))
                .collect()
        };
        let item = json!({"id": "A", "apps": names(4_000), "groups": names(10)});
        let records = mapping.records(&item);
        let line = serde_json::to_string(&records[0]).unwrap();
        assert!(line.len() <= LINE_MAX, "{}", line.len());
        assert_eq!(records[0]["groups"], json!(names(10)));
        assert!(records[0]["apps"].as_array().unwrap().len() > 50);
        assert!(crate::record::Patch::from_json(line.as_bytes()).is_ok());
    }

    proptest! {
        /// Whatever a system says, in whatever shape, each record is a line that an import takes.
        #[test]
        fn every_record_is_a_line_that_an_import_takes(
            device in "[ -~\\PC]{0,150}",
            told in proptest::collection::vec((0..FIELDS.len(), said()), 0..20),
        ) {
            let mut mapping = Mapping::new();
            for field in FIELDS {
                mapping.set(field, vec![JsonPath::parse(&format!("$.{field}")).unwrap()]).unwrap();
            }
            let mut item = json!({ "device_id": device });
            for (field, value) in told {
                item[FIELDS[field]] = value;
            }
            for record in mapping.records(&item) {
                let line = serde_json::to_string(&record).unwrap();
                prop_assert!(line.len() <= LINE_MAX);
                // A name that no user can have is told, never left away: without one the device
                // would be anybody's.
                if let Err(why) = crate::record::Patch::from_json(line.as_bytes()) {
                    prop_assert!(record.contains_key("user") && why.contains("user"), "{why}: {line}");
                }
            }
        }
    }

    fn said() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,300}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        word.prop_recursive(2, 40, 20, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                proptest::collection::hash_map("[a-z]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn an_item_with_two_device_ids_is_two_records() {
        let mut mapping = Mapping::new();
        let path = |text: &str| JsonPath::parse(text).unwrap();
        mapping
            .set("device_id", vec![path("$.ids[*]"), path("$.id")])
            .unwrap();
        mapping.set("user", vec![path("$.user")]).unwrap();
        assert!(mapping.set("jailbroken", vec![]).is_err());
        let records = mapping.records(&json!({"ids": ["A", "B"], "id": "C", "user": "alice"}));
        assert_eq!(records.len(), 2);
        assert_eq!(records[1]["device_id"], "B");
        assert_eq!(mapping.records(&json!({"id": "C"}))[0]["device_id"], "C");
        assert!(mapping.records(&json!({"user": "alice"})).is_empty());
    }
}
