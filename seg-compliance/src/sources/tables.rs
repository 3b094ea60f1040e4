//! Exports that people make by hand, as CSV: Exchange's list of mobile devices, and the list view
//! of Workspace ONE UEM's email dashboard, which shows what SEG V2 knows.
//!
//! - `exchange`: `Get-MobileDevice -ResultSize Unlimited | Export-Csv devices.csv` (or
//!   `Get-MobileDeviceStatistics`, learn.microsoft.com/powershell/module/exchange). The user is not
//!   in it; add him:
//!   `Select-Object *,@{n="User";e={(Get-Mailbox $_.UserDisplayName).UserPrincipalName}}`.
//!   `IsManaged` and `IsCompliant` are what Intune has told Exchange, and False where nobody has told
//!   anything: so they count where `IsManaged` is True. When the object of a device was last changed
//!   (`WhenChangedUTC`) says nothing about when the device was last seen.
//! - `seg-v2`: Email > List View > Export in the UEM console: the columns that SEG V2 reports.

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::{Map, Value, json};

use super::mapping;
use crate::DeviceKey;

/// Longest line that is looked at before the header.
const HEAD_MAX: u64 = 64 * 1024;

/// Which columns are which facts; the first that is there and filled counts.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    name: &'static str,
    columns: &'static [(&'static str, &'static [&'static str])],
}

/// Exchange's list of mobile devices.
pub const EXCHANGE: Table = Table {
    name: "Get-MobileDevice",
    columns: &[
        ("device_id", &["DeviceId", "DeviceID"]),
        (
            "user",
            &[
                "User",
                "UserPrincipalName",
                "PrimarySmtpAddress",
                "WindowsEmailAddress",
            ],
        ),
        ("platform", &["DeviceOS", "DeviceType"]),
        ("os_version", &["DeviceOS"]),
        ("model", &["DeviceModel", "DeviceFriendlyName"]),
        ("last_seen", &["LastSuccessSync", "LastSyncAttemptTime"]),
        ("verdict", &["DeviceAccessState"]),
        ("reason", &["DeviceAccessStateReason"]),
        ("managed", &["IsManaged"]),
        ("compliant", &["IsCompliant"]),
    ],
};

/// The list view of the email dashboard.
pub const SEG_V2: Table = Table {
    name: "the email dashboard's list view",
    columns: &[
        (
            "device_id",
            &["Identifier", "EAS Device Identifier", "EAS Device ID"],
        ),
        ("user", &["Email Address", "User", "Username"]),
        ("platform", &["Platform"]),
        ("os_version", &["OS", "Operating System"]),
        ("model", &["Model"]),
        ("last_seen", &["Last Request"]),
        ("verdict", &["Status"]),
        ("reason", &["Reason", "Reason Code"]),
    ],
};

/// Writes the records of an export as NDJSON. Answers its rows, and those without a DeviceId.
///
/// # Errors
/// It is no such export, or can't be read or written.
pub fn convert(table: Table, from: impl Read, out: &mut dyn Write) -> Result<(u64, u64), String> {
    let mut from = BufReader::new(from);
    skip_type_line(&mut from)?;
    // A row with fewer cells than the header has is one that was cut off.
    let mut reader = csv::Reader::from_reader(from);
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let places: Vec<(&str, Vec<usize>)> = table
        .columns
        .iter()
        .map(|(field, names)| {
            let find = |name: &&str| {
                header.iter().position(|column| {
                    column
                        .trim_start_matches('\u{feff}')
                        .trim()
                        .eq_ignore_ascii_case(name)
                })
            };
            (*field, names.iter().filter_map(find).collect())
        })
        .collect();
    if places
        .iter()
        .any(|(field, places)| *field == "device_id" && places.is_empty())
    {
        let (_, names) = table.columns.first().copied().unwrap_or(("", &[]));
        return Err(format!(
            "this is no export of {}: it has no column {}",
            table.name,
            names.join(" or ")
        ));
    }
    let (mut rows, mut skipped) = (0, 0);
    for row in reader.records() {
        let row = row.map_err(|error| error.to_string())?;
        rows += 1;
        match record(&places, &row) {
            Some(record) => {
                let line = Value::Object(record);
                writeln!(out, "{line}").map_err(|error| error.to_string())?;
            }
            None => skipped += 1,
        }
    }
    Ok((rows, skipped))
}

/// PowerShell writes `#TYPE …` above the header.
fn skip_type_line(from: &mut impl BufRead) -> Result<(), String> {
    let begins = from.fill_buf().map_err(|error| error.to_string())?;
    let begins = begins.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(begins);
    if begins.starts_with(b"#TYPE") {
        let mut line = Vec::new();
        let mut limited = from.take(HEAD_MAX);
        limited
            .read_until(b'\n', &mut line)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn record(places: &[(&str, Vec<usize>)], row: &csv::StringRecord) -> Option<Map<String, Value>> {
    let mut record = Map::new();
    for (field, columns) in places {
        let cells = columns.iter().filter_map(|at| row.get(*at)).map(str::trim);
        let Some(cell) = cells.into_iter().find(|cell| !cell.is_empty()) else {
            continue;
        };
        let cell = match *field {
            "os_version" => match version(cell) {
                Some(version) => version,
                None => continue,
            },
            _ => cell,
        };
        let said = json!(cell);
        let value = match *field {
            // Allowed by a rule of Exchange's is no verdict of a management system's; what it was
            // before, it is no longer.
            "verdict" => mapping::fact(field, &[&said])
                .filter(|verdict| verdict != "allow")
                .or(Some(Value::Null)),
            _ => mapping::fact(field, &[&said]),
        };
        if let Some(value) = value {
            record.insert((*field).to_owned(), value);
        }
    }
    match record.get("verdict") {
        Some(Value::Null) => drop(record.insert("reason".to_owned(), Value::Null)),
        Some(_) => {}
        None => drop(record.remove("reason")),
    }
    // Where nobody manages it, nobody has judged it either.
    if record.get("managed") != Some(&Value::Bool(true)) {
        record.remove("managed");
        record.remove("compliant");
    }
    let device = record.get("device_id").and_then(Value::as_str);
    let is_device = device.is_some_and(|device| DeviceKey::new(device).is_ok());
    is_device.then_some(record)
}

/// The version in a text such as `iOS 16.1.2 20B110` or `Android 14`.
fn version(text: &str) -> Option<&str> {
    let is_version = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    text.split_ascii_whitespace().find(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(table: Table, text: &str) -> Result<(Vec<Value>, u64, u64), String> {
        let mut out = Vec::new();
        let (rows, skipped) = convert(table, text.as_bytes(), &mut out)?;
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        Ok((lines.collect(), rows, skipped))
    }

    #[test]
    fn an_export_of_exchange_becomes_records() {
        let text = "#TYPE Deserialized.Microsoft.Exchange.Data.Directory.SystemConfiguration.MobileDevice\r\n\
            \"DeviceId\",\"DeviceOS\",\"DeviceModel\",\"DeviceAccessState\",\"DeviceAccessStateReason\",\"LastSuccessSync\",\"WhenChangedUTC\",\"User\",\"IsManaged\",\"IsCompliant\"\r\n\
            \"ApplDNQ1\",\"iOS 16.1.2 20B110\",\"iPhone15C2\",\"Allowed\",\"Global\",\"11/22/2026 9:00:00 AM\",\"1/2/2020 3:00:00 AM\",\"alice@corp.example\",\"False\",\"False\"\r\n\
            \"ANDROID2\",\"Android 14\",\"Pixel\",\"Blocked\",\"Individual\",\"\",\"1/2/2020 3:00:00 AM\",\"bob@corp.example\",\"True\",\"False\"\r\n\
            \"APPL3\",\"\",\"\",\"Quarantined\",\"DeviceRule\",\"\",\"\",\"\",\"True\",\"True\"\r\n\
            \"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\"\r\n";
        let (records, rows, skipped) = converted(EXCHANGE, text).unwrap();
        assert_eq!((rows, skipped), (4, 1));
        assert_eq!(
            records,
            [
                // Not managed is what Exchange says of every device that nobody has told it of.
                json!({"device_id":"ApplDNQ1","user":"alice@corp.example","platform":"ios",
                    "os_version":"16.1.2","model":"iPhone15C2","last_seen":"2026-11-22T09:00:00Z",
                    "verdict":null,"reason":null}),
                json!({"device_id":"ANDROID2","user":"bob@corp.example","platform":"android",
                    "os_version":"14","model":"Pixel","verdict":"block","reason":"Individual",
                    "managed":true,"compliant":false}),
                json!({"device_id":"APPL3","verdict":"quarantine","reason":"DeviceRule",
                    "managed":true,"compliant":true}),
            ]
        );
    }

    #[test]
    fn an_export_that_was_cut_off_is_none() {
        let error = converted(EXCHANGE, "DeviceId,DeviceOS\nA1,iOS 17\nA2\n").unwrap_err();
        assert!(error.contains("record 2"), "{error}");
    }

    #[test]
    fn the_list_view_of_the_dashboard_becomes_records() {
        let text = "Last Request,User,Email Address,Identifier,Mail Client,Status,Reason,Platform,Model,OS\n\
            11/22/2026 9:00 AM,alice,alice@corp.example,APPL1,Apple-iPhone,Blocked,Compromised,Apple,iPhone,17.1\n";
        let (records, _, _) = converted(SEG_V2, text).unwrap();
        assert_eq!(
            records,
            [
                json!({"device_id":"APPL1","user":"alice@corp.example","platform":"ios","model":"iPhone",
                "os_version":"17.1","verdict":"block","reason":"Compromised",
                "last_seen":"2026-11-22T09:00:00Z"})
            ]
        );
        let error = converted(SEG_V2, "a,b\n1,2\n").unwrap_err();
        assert!(error.contains("no column Identifier"), "{error}");
    }
}
