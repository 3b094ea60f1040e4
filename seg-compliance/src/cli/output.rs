//! What the program prints: results on standard output, findings and failures on standard error.

use std::io::Write;

use serde_json::Value;

use super::failure::Failure;

/// The two streams, and the form that was asked for.
pub(super) struct Output<'w> {
    out: &'w mut dyn Write,
    err: &'w mut dyn Write,
    json: bool,
}

impl<'w> Output<'w> {
    pub(super) fn new(out: &'w mut dyn Write, err: &'w mut dyn Write, json: bool) -> Self {
        Self { out, err, json }
    }

    /// `--json`: the admin API's own words.
    pub(super) fn json(&self) -> bool {
        self.json
    }

    /// One line of the result.
    pub(super) fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        writeln!(self.out, "{text}").map_err(Failure::Output)
    }

    /// Bytes of the result as they are.
    pub(super) fn raw(&mut self) -> &mut dyn Write {
        self.out
    }

    /// Makes what was printed visible.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::Output)
    }

    /// A finding or a failure.
    pub(super) fn complain(&mut self, text: &str) {
        // What was printed before comes first where both streams are one terminal.
        let _ = self.out.flush();
        // Nobody is left to be told when this fails.
        let _ = writeln!(self.err, "sync-compliance: {}", printable(text));
    }
}

/// A decision as a sentence: `block, by override: lost phone (revision 12)`.
pub(super) fn decision(decision: &Value) -> String {
    let mut sentence = word(decision, "verdict").unwrap_or("no verdict").to_owned();
    if let Some(step) = word(decision, "step") {
        sentence.push_str(&format!(", by {step}"));
    }
    if let Some(rule) = word(decision, "rule") {
        sentence.push_str(&format!(" {rule}"));
    }
    if let Some(reason) = word(decision, "reason") {
        sentence.push_str(&format!(": {reason}"));
    }
    if let Some(trial) = decision.get("trial") {
        let (rule, verdict) = (word(trial, "rule"), word(trial, "verdict"));
        if let (Some(rule), Some(verdict)) = (rule, verdict) {
            sentence.push_str(&format!("; {rule} (only tried) would {verdict}"));
        }
    }
    match decision.get("revision").and_then(Value::as_u64) {
        None | Some(0) => {}
        Some(revision) => sentence.push_str(&format!(" (revision {revision})")),
    }
    if decision.get("enforced") == Some(&Value::Bool(false)) {
        sentence.push_str("; observe mode, nobody is refused");
    }
    printable(&sentence)
}

/// Whether a decision lets requests through.
pub(super) fn allows(decision: &Value) -> bool {
    word(decision, "verdict") == Some("allow")
}

/// A text member of an object.
pub(super) fn word<'v>(object: &'v Value, name: &str) -> Option<&'v str> {
    object.get(name).and_then(Value::as_str)
}

/// A value for people: text without its quotes, lists with commas, `yes` and `no`.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => printable(&other.to_string()),
    }
}

/// Text that may have come from a device: no control character of it reaches the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn decisions_read_as_sentences() {
        assert_eq!(
            decision(&json!({"verdict":"block","step":"override","rule":null,
                "reason":"lost\u{1b}[2J","revision":12,"enforced":true})),
            "block, by override: lost\u{fffd}[2J (revision 12)"
        );
        assert_eq!(
            decision(
                &json!({"verdict":"quarantine","step":"policy","rule":"ios-min",
                "reason":null,"revision":0,"enforced":false})
            ),
            "quarantine, by policy ios-min; observe mode, nobody is refused"
        );
    }

    #[test]
    fn values_read_as_words() {
        assert_eq!(plain(&json!(["a", "b"])), "a, b");
        assert_eq!(plain(&json!(true)), "yes");
        assert_eq!(plain(&json!("x\ty")), "x\u{fffd}y");
        assert_eq!(plain(&json!(3)), "3");
    }
}
