//! Records as CSV (RFC 4180) with a header line of the same names as the JSON fields.
//!
//! An empty cell says nothing, like a missing field; the word `null` takes the fact back; groups and
//! apps are separated by `;`. Line numbers are those of the file: a record whose quoted cell holds line
//! breaks has the number of its first line.

use super::given::{BadLine, LINE_MAX, Line};
use super::{FIELDS, Patch};
use crate::DeviceKey;

/// Splits a stream into records and reads each. Memory is bounded by [`LINE_MAX`].
#[derive(Debug, Default)]
pub struct Reader {
    held: Vec<u8>,
    /// Inside quotes, where a line feed ends nothing.
    quoted: bool,
    /// The record in hand is over the limit: skip to its end.
    skipping: bool,
    /// Line feeds seen, and those before the record in hand.
    lines: u64,
    begun: u64,
    /// The columns, each with its index in [`FIELDS`].
    header: Option<Vec<usize>>,
    /// The header was bad: nothing after it can be read.
    refused: bool,
}

impl Reader {
    /// A reader at the header.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream and hands every record that ends in them to `each`. A bad
    /// header is reported once, and nothing after it is read.
    pub fn feed(&mut self, bytes: &[u8], each: &mut dyn FnMut(Line)) {
        for byte in bytes {
            match byte {
                b'\n' => {
                    self.lines += 1;
                    if self.quoted && !self.skipping {
                        self.hold(b'\n');
                    } else {
                        self.end_record(each);
                    }
                }
                b'"' => {
                    self.quoted = !self.quoted;
                    self.hold(b'"');
                }
                byte => self.hold(*byte),
            }
        }
    }

    /// The stream has ended; a last record without its line feed counts.
    pub fn finish(mut self, each: &mut dyn FnMut(Line)) {
        let open = self.quoted;
        self.lines += 1;
        if open && !self.skipping {
            each(Err(self.bad("a quote is not closed".to_owned(), None)));
        } else if self.skipping || !self.held.is_empty() {
            self.end_record(each);
        }
        if self.header.is_none() && !self.refused && !open {
            each(Err(BadLine {
                line: 1,
                message: "the header line is missing".to_owned(),
                device: None,
            }));
        }
    }

    fn hold(&mut self, byte: u8) {
        if self.held.len() >= LINE_MAX {
            self.skipping = true;
        } else {
            self.held.push(byte);
        }
    }

    fn end_record(&mut self, each: &mut dyn FnMut(Line)) {
        let held = std::mem::take(&mut self.held);
        if std::mem::take(&mut self.skipping) {
            self.refused |= self.header.is_none();
            each(Err(self.bad(format!("longer than {LINE_MAX} bytes"), None)));
        } else {
            let text = held.strip_suffix(b"\r").unwrap_or(&held);
            if !self.refused && !text.iter().all(u8::is_ascii_whitespace) {
                self.read(text, each);
            }
        }
        self.quoted = false;
        self.begun = self.lines;
        self.held = held;
        self.held.clear();
    }

    fn read(&mut self, text: &[u8], each: &mut dyn FnMut(Line)) {
        let cells = match cells(text) {
            Ok(cells) => cells,
            Err(message) => {
                self.refused |= self.header.is_none();
                return each(Err(self.bad(message, None)));
            }
        };
        let Some(header) = &self.header else {
            match columns(&cells) {
                Ok(columns) => self.header = Some(columns),
                Err(message) => {
                    self.refused = true;
                    each(Err(self.bad(message, None)));
                }
            }
            return;
        };
        let record = record(header, &cells);
        each(record.map_err(|(message, device)| self.bad(message, device)));
    }

    fn bad(&self, message: String, device: Option<DeviceKey>) -> BadLine {
        BadLine {
            line: self.begun + 1,
            message,
            device,
        }
    }
}

/// The cells of one record.
fn cells(text: &[u8]) -> Result<Vec<String>, String> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text);
    let mut record = csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(_) => Ok(record.iter().map(|cell| cell.trim().to_owned()).collect()),
        Err(_) => Err("it is not UTF-8".to_owned()),
    }
}

fn columns(names: &[String]) -> Result<Vec<usize>, String> {
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let name = name.trim_start_matches('\u{feff}');
        let column = FIELDS
            .iter()
            .position(|field| *field == name)
            .ok_or_else(|| format!("unknown column {name:?}; known are {}", FIELDS.join(", ")))?;
        if columns.contains(&column) {
            return Err(format!("the column {name:?} is there twice"));
        }
        columns.push(column);
    }
    if columns.contains(&0) {
        Ok(columns)
    } else {
        Err("the column device_id is missing".into())
    }
}

type BadRecord = (String, Option<DeviceKey>);

fn record(header: &[usize], cells: &[String]) -> Result<(DeviceKey, Patch), BadRecord> {
    let device = header
        .iter()
        .position(|column| *column == 0)
        .and_then(|at| cells.get(at))
        .filter(|cell| !cell.is_empty())
        .ok_or_else(|| ("device_id is missing".to_owned(), None))?;
    let device = DeviceKey::new(device).map_err(|error| (error.to_string(), None))?;
    let refuse = |message: String| (message, Some(device.clone()));
    if cells.len() != header.len() {
        let counts = format!("{} cells, the header has {}", cells.len(), header.len());
        return Err(refuse(counts));
    }
    let mut patch = Patch::default();
    for (column, cell) in header.iter().zip(cells) {
        let name = FIELDS.get(*column).copied().unwrap_or_default();
        if !cell.is_empty() {
            let said = (cell != "null").then_some(cell.as_str());
            put(&mut patch, name, said).map_err(|why| refuse(format!("{name}: {why}")))?;
        }
    }
    patch.check().map_err(refuse)?;
    Ok((device, patch))
}

/// Puts one cell into its field; `None` takes the fact back.
fn put(patch: &mut Patch, name: &str, said: Option<&str>) -> Result<(), String> {
    let text = |said: Option<&str>| Some(said.map(str::to_owned));
    match name {
        "user" => patch.user = parsed(said)?,
        "managed" => patch.managed = flag(said)?,
        "compliant" => patch.compliant = flag(said)?,
        "compromised" => patch.compromised = flag(said)?,
        "encrypted" => patch.encrypted = flag(said)?,
        "profile" => patch.profile = flag(said)?,
        "platform" => patch.platform = text(said),
        "model" => patch.model = text(said),
        "os_version" => patch.os_version = text(said),
        "ownership" => patch.ownership = text(said),
        "reason" => patch.reason = text(said),
        "last_seen" => patch.last_seen = parsed(said)?,
        "updated" => patch.updated = parsed(said)?,
        "verdict" => patch.verdict = parsed(said)?,
        "passcode" => patch.passcode = flag(said)?,
        "attested" => patch.attested = flag(said)?,
        "revoked" => patch.revoked = flag(said)?,
        "groups" => patch.groups = Some(said.map(list)),
        "apps" => patch.apps = Some(said.map(list)),
        // The device id, which has been read.
        _ => {}
    }
    Ok(())
}

fn parsed<T: std::str::FromStr>(said: Option<&str>) -> Result<Option<Option<T>>, String>
where
    T::Err: std::fmt::Display,
{
    said.map(|text| text.parse().map_err(|error: T::Err| error.to_string()))
        .transpose()
        .map(Some)
}

fn list(text: &str) -> Vec<String> {
    let names = text.split(';').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn flag(said: Option<&str>) -> Result<Option<Option<bool>>, String> {
    let Some(text) = said else {
        return Ok(Some(None));
    };
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(&["true", "yes", "1"]) {
        Ok(Some(Some(true)))
    } else if is(&["false", "no", "0"]) {
        Ok(Some(Some(false)))
    } else {
        Err(format!("{text:?} is not true or false"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;
    use proptest::prelude::*;

    fn lines(text: &str, step: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut reader = Reader::new();
        for part in text.as_bytes().chunks(step.max(1)) {
            reader.feed(part, &mut |line| lines.push(line));
        }
        reader.finish(&mut |line| lines.push(line));
        lines
    }

    #[test]
    fn cells_become_facts() {
        let text = "\u{feff}device_id,user,managed,groups,verdict,reason,last_seen\r\n\
            d1,Alice@x,TRUE,a;b,block,\"lost, \"\"stolen\"\"\nor both\",2026-11-22T09:00:00Z\r\n\
            d2,,,,null,,\n";
        // A control character in a text is refused, whatever brought it there.
        let read = lines(text, 5);
        assert_eq!(
            read[0].as_ref().unwrap_err().to_string(),
            "line 2: reason: holds the control character '\\n'"
        );
        let text = text.replace("\nor both", "");
        let read = lines(&text, 3);
        let (device, patch) = read[0].as_ref().unwrap();
        assert_eq!(device.as_str(), "D1");
        assert_eq!(
            patch.user.as_ref().unwrap().as_ref().unwrap().as_str(),
            "alice@x"
        );
        assert_eq!(patch.managed, Some(Some(true)));
        assert_eq!(
            patch.groups,
            Some(Some(vec!["a".to_owned(), "b".to_owned()]))
        );
        assert_eq!(patch.verdict, Some(Some(Verdict::Block)));
        assert_eq!(patch.reason, Some(Some("lost, \"stolen\"".to_owned())));
        let (_, patch) = read[1].as_ref().unwrap();
        assert_eq!(
            patch,
            &Patch {
                verdict: Some(None),
                ..Patch::default()
            }
        );
    }

    #[test]
    fn a_bad_line_has_its_number_and_the_rest_goes_on() {
        let read = lines("device_id,managed\nd1,maybe\n\n,true\nd2\nd3,no\n\"d4\n", 1);
        let told: Vec<_> = read
            .iter()
            .map(|line| {
                line.as_ref()
                    .map(|(d, _)| d.to_string())
                    .unwrap_or_else(|b| b.to_string())
            })
            .collect();
        assert_eq!(
            told,
            [
                "line 2: managed: \"maybe\" is not true or false",
                "line 4: device_id is missing",
                "line 5: 1 cells, the header has 2",
                "D3",
                "line 7: a quote is not closed",
            ]
        );
        assert!(read[0].as_ref().unwrap_err().device.is_some());
    }

    #[test]
    fn a_bad_header_is_reported_once() {
        for (header, message) in [
            (
                "device_id,complaint",
                "line 1: unknown column \"complaint\"; known are device_id, ",
            ),
            ("user", "line 1: the column device_id is missing"),
            (
                "device_id,user,user",
                "line 1: the column \"user\" is there twice",
            ),
            ("", "line 1: the header line is missing"),
        ] {
            let read = lines(&format!("{header}\nd1,x\nd2,y\n"), 9);
            if header.is_empty() {
                continue;
            }
            assert_eq!(read.len(), 1, "{header}");
            let told = read[0].as_ref().unwrap_err().to_string();
            assert!(told.starts_with(message), "{told}");
        }
        assert_eq!(
            lines("", 1)[0].as_ref().unwrap_err().message,
            "the header line is missing"
        );
    }

    proptest! {
        #[test]
        fn how_the_stream_is_cut_makes_no_difference(text in r#"device_id,reason\n([a"\n,\r]|x){0,30}"#, step in 1_usize..9) {
            prop_assert_eq!(lines(&text, step), lines(&text, usize::MAX));
        }

        #[test]
        fn any_bytes_are_read_in_bounds(bytes: Vec<u8>) {
            crate::fuzz::record_csv(&bytes);
            crate::fuzz::record_ndjson(&bytes);
        }
    }
}
