//! Paths into JSON: the part of JSONPath (RFC 9535) that names members and walks lists: `$.a.b`,
//! `$['@odata.nextLink']`, `$.list[0]`, `$.list[*].name`. No filters and no descent, so that a path
//! costs what it visits.

use serde_json::Value;

/// Longest path, in bytes.
const LENGTH_MAX: usize = 512;
/// Most values that one path gives.
const FOUND_MAX: usize = 4_096;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Member(String),
    Index(usize),
    All,
}

/// A path that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonPath(Vec<Segment>);

impl JsonPath {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let refuse =
            |why: &str| format!("{text:?} is no path: {why}; write $.name or $['name'][0]");
        if text.len() > LENGTH_MAX {
            return Err(refuse("it is too long"));
        }
        let mut rest = text
            .strip_prefix('$')
            .ok_or_else(|| refuse("it must begin with $"))?;
        let mut segments = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                let (name, after) = after.split_at(end);
                segments.push(match name {
                    "" => return Err(refuse("a name is missing")),
                    "*" => Segment::All,
                    name => Segment::Member(name.to_owned()),
                });
                rest = after;
                continue;
            }
            let inside = rest
                .strip_prefix('[')
                .ok_or_else(|| refuse("a . or [ is missing"))?;
            let quote = inside.chars().next().filter(|c| matches!(c, '\'' | '"'));
            if let Some(quote) = quote {
                let inside = inside.get(1..).unwrap_or_default();
                let (name, after) = inside
                    .split_once(quote)
                    .ok_or_else(|| refuse("a quote is not closed"))?;
                rest = after
                    .strip_prefix(']')
                    .ok_or_else(|| refuse("a ] is missing"))?;
                segments.push(Segment::Member(name.to_owned()));
                continue;
            }
            let (index, after) = inside
                .split_once(']')
                .ok_or_else(|| refuse("a ] is missing"))?;
            rest = after;
            segments.push(match index {
                "*" => Segment::All,
                index => {
                    Segment::Index(index.parse().map_err(|_| refuse("an index is no number"))?)
                }
            });
        }
        Ok(Self(segments))
    }

    /// Every value that the path leads to; null is none.
    pub(super) fn all<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for segment in &self.0 {
            found = found
                .into_iter()
                .flat_map(|value| -> Vec<&'v Value> {
                    match (segment, value) {
                        (Segment::Member(name), Value::Object(map)) => {
                            map.get(name).into_iter().collect()
                        }
                        (Segment::Index(index), Value::Array(list)) => {
                            list.get(*index).into_iter().collect()
                        }
                        (Segment::All, Value::Array(list)) => list.iter().collect(),
                        (Segment::All, Value::Object(map)) => map.values().collect(),
                        _ => Vec::new(),
                    }
                })
                .take(FOUND_MAX)
                .collect();
        }
        found.retain(|value| !value.is_null());
        found
    }

    /// Whether there is a list, empty or not, where the path first asks for all of one.
    pub(super) fn leads_through_a_list(&self, value: &Value) -> bool {
        let mut at = value;
        for segment in &self.0 {
            let next = match segment {
                Segment::Member(name) => at.get(name),
                Segment::Index(index) => at.get(index),
                Segment::All => return at.is_array(),
            };
            match next {
                Some(next) => at = next,
                None => return false,
            }
        }
        at.is_array()
    }

    /// The first value that the path leads to.
    pub(super) fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.all(value).into_iter().next()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_values() {
        let value = json!({"a": {"b": [{"n": 1}, {"n": null}, {"n": 3}]}, "@odata.nextLink": "x"});
        for (path, expected) in [
            ("$.a.b[0].n", vec![json!(1)]),
            ("$.a.b[*].n", vec![json!(1), json!(3)]),
            ("$['@odata.nextLink']", vec![json!("x")]),
            ("$[\"a\"]['b'][2]", vec![json!({"n": 3})]),
            ("$.a.c", vec![]),
            ("$.a.b[9]", vec![]),
        ] {
            let path = JsonPath::parse(path).unwrap();
            let found: Vec<_> = path.all(&value).into_iter().cloned().collect();
            assert_eq!(found, expected, "{path:?}");
        }
        for wrong in ["a.b", "$.", "$[", "$['a", "$['a'", "$[x]", "$..a", "$a"] {
            assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
        }
    }
}
