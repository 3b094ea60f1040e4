//! Records as NDJSON: one JSON object a line.

use super::given::{self, BadLine, LINE_MAX, Line};

/// Splits a stream into lines and reads each. Memory is bounded by [`LINE_MAX`].
#[derive(Debug, Default)]
pub struct Reader {
    held: Vec<u8>,
    line: u64,
    /// The line in hand is over the limit: skip to its end.
    skipping: bool,
}

impl Reader {
    /// A reader at line 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream and hands every line that ends in them to `each`. Empty
    /// lines are counted, not read.
    pub fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Line)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.held.is_empty() && !self.skipping && line.len() <= LINE_MAX {
                self.line += 1;
                self.read(line, each);
            } else {
                self.hold(line);
                self.end_line(each);
            }
        }
        self.hold(bytes);
    }

    /// The stream has ended; a last line without its line feed counts.
    pub fn finish(mut self, each: &mut dyn FnMut(Line)) {
        if self.skipping || !self.held.is_empty() {
            self.end_line(each);
        }
    }

    fn hold(&mut self, part: &[u8]) {
        if self.held.len() + part.len() > LINE_MAX {
            self.skipping = true;
        }
        if !self.skipping {
            self.held.extend_from_slice(part);
        }
    }

    fn end_line(&mut self, each: &mut dyn FnMut(Line)) {
        self.line += 1;
        let held = std::mem::take(&mut self.held);
        if std::mem::take(&mut self.skipping) {
            each(Err(BadLine {
                line: self.line,
                message: format!("longer than {LINE_MAX} bytes"),
                device: None,
            }));
        } else {
            self.read(&held, each);
        }
        self.held = held;
        self.held.clear();
    }

    fn read(&self, line: &[u8], each: &mut dyn FnMut(Line)) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = if self.line == 1 {
            line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line)
        } else {
            line
        };
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let bad = |message: String| BadLine {
            line: self.line,
            message,
            device: given::device_of(line),
        };
        each(match given::from_json(line) {
            Ok((Some(device), patch)) => Ok((device, patch)),
            Ok((None, _)) => Err(bad("device_id is missing".to_owned())),
            Err(message) => Err(bad(message.replace(" at line 1 column ", " at column "))),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(text: &[u8], step: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut reader = Reader::new();
        for part in text.chunks(step.max(1)) {
            reader.feed(part, &mut |line| lines.push(line));
        }
        reader.finish(&mut |line| lines.push(line));
        lines
    }

    #[test]
    fn a_bad_line_has_its_number_and_the_rest_goes_on() {
        let text = "{\"device_id\":\"a\",\"compliant\":true}\r\n\n{\"device_id\":\"b\",\"complaint\":true}\n[]\n{\"user\":\"x\"}\n{\"device_id\":\"c\",\"managed\":\"yes\"}\n{\"device_id\":\"d\"}";
        let read = lines(text.as_bytes(), 7);
        let names: Vec<_> = read
            .iter()
            .map(|line| match line {
                Ok((device, _)) => device.to_string(),
                Err(bad) => bad.to_string(),
            })
            .collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert_eq!(names[0], "A");
        assert!(
            names[1].starts_with("line 3: unknown field `complaint`"),
            "{}",
            names[1]
        );
        assert!(names[2].starts_with("line 4: "), "{}", names[2]);
        assert_eq!(names[3], "line 5: device_id is missing");
        assert!(
            names[4].starts_with("line 6: invalid type: string \"yes\""),
            "{}",
            names[4]
        );
        assert_eq!(names[5], "D");
        assert!(matches!(&read[1], Err(BadLine { device: Some(d), .. }) if d.as_str() == "B"));
        assert!(matches!(&read[2], Err(BadLine { device: None, .. })));
    }

    #[test]
    fn an_endless_line_is_skipped_within_bounds() {
        let mut text = vec![b'x'; LINE_MAX * 3];
        text.extend_from_slice(b"\n{\"device_id\":\"a\"}\n");
        for step in [1_000, usize::MAX] {
            let read = lines(&text, step);
            assert_eq!(read.len(), 2);
            assert!(read[0].is_err() && read[1].is_ok());
        }
    }

    proptest! {
        #[test]
        fn how_the_stream_is_cut_makes_no_difference(
            text in r#"(\{"device_id":"[a-z]{0,3}"(,"managed":(true|null|1))?\}|x|)(\n|\r\n){0,2}.{0,3}"#,
            step in 1_usize..20,
        ) {
            prop_assert_eq!(lines(text.as_bytes(), step), lines(text.as_bytes(), usize::MAX));
        }
    }
}
