//! Which ways to authenticate a client is offered: the `WWW-Authenticate` filter.
//!
//! NTLM authenticates a TCP connection and Negotiate may fall back to it; through a proxy that
//! shares upstream connections both hand one user's session to the next. So NTLM is always taken
//! out, and Negotiate (with `Nego2` and `Kerberos`, which mean the same) unless the gateway itself
//! can speak Kerberos for a user whose name is proven.

mod grammar;

pub use grammar::MAX_LINE_BYTES;

/// Why a challenge, or a whole line, is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RemovedKind {
    /// NTLM.
    Ntlm,
    /// Negotiate, Nego2 or Kerberos.
    Negotiate,
    /// A line that does not follow RFC 9110 section 11.6.1. Nobody can say what a client would
    /// read in it, so all of it goes.
    Unparseable,
}

impl RemovedKind {
    /// The label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ntlm => "ntlm",
            Self::Negotiate => "negotiate",
            Self::Unparseable => "unparseable",
        }
    }
}

/// Something taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed<'h> {
    /// Why.
    pub kind: RemovedKind,
    /// The challenge, or the whole line where it is unparseable.
    pub text: &'h [u8],
}

/// The outcome of filtering.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filtered<'h> {
    /// The challenges that remain, in order, each to be sent as a line of its own: clients exist
    /// that understand several challenges on one line not at all.
    pub kept: Vec<&'h [u8]>,
    /// What is gone, in order.
    pub removed: Vec<Removed<'h>>,
}

impl Filtered<'_> {
    /// Whether there were challenges and none is left, so that the 401 needs another answer
    /// (a 401 must carry at least one challenge).
    pub fn is_emptied(&self) -> bool {
        self.kept.is_empty() && !self.removed.is_empty()
    }
}

/// Filters the values of all `WWW-Authenticate` (or `Proxy-Authenticate`) lines of a response.
///
/// `upn_proven` says that a verified client certificate or a validated token named the user, so
/// that Negotiate may stay. A line that can't be parsed is dropped whole.
pub fn filter<'h>(lines: impl Iterator<Item = &'h [u8]>, upn_proven: bool) -> Filtered<'h> {
    filter_for(lines, upn_proven, false)
}

/// As [`filter`], but NTLM stays where `ntlm_pinned`: the client's connection has one of its own to
/// the server, which nobody shares.
pub fn filter_for<'h>(
    lines: impl Iterator<Item = &'h [u8]>,
    upn_proven: bool,
    ntlm_pinned: bool,
) -> Filtered<'h> {
    let mut filtered = Filtered::default();
    for line in lines {
        let Some(challenges) = grammar::challenges(line) else {
            filtered.removed.push(Removed {
                kind: RemovedKind::Unparseable,
                text: line,
            });
            continue;
        };
        for challenge in challenges {
            let removal = removal(challenge.scheme, upn_proven)
                .filter(|kind| !(ntlm_pinned && *kind == RemovedKind::Ntlm));
            match removal {
                Some(kind) => filtered.removed.push(Removed {
                    kind,
                    text: challenge.text,
                }),
                None => filtered.kept.push(challenge.text),
            }
        }
    }
    filtered
}

fn removal(scheme: &[u8], upn_proven: bool) -> Option<RemovedKind> {
    let is = |name: &[u8]| scheme.eq_ignore_ascii_case(name);
    if is(b"NTLM") {
        Some(RemovedKind::Ntlm)
    } else if !upn_proven && (is(b"Negotiate") || is(b"Nego2") || is(b"Kerberos")) {
        Some(RemovedKind::Negotiate)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    const VECTORS: &str = include_str!("../../fixtures/ews-www-authenticate-vectors.json");

    fn strings(value: &Value) -> Vec<&str> {
        value
            .as_array()
            .expect("array")
            .iter()
            .map(|v| v.as_str().expect("string"))
            .collect()
    }

    fn check(name: &str, lines: &[&str], expected: &Value, upn_proven: bool) {
        let filtered = filter(lines.iter().map(|line| line.as_bytes()), upn_proven);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        let kept: Vec<String> = filtered.kept.iter().map(|kept| text(kept)).collect();
        let of = |unparseable: bool| -> Vec<String> {
            let chosen = filtered
                .removed
                .iter()
                .filter(|removed| (removed.kind == RemovedKind::Unparseable) == unparseable);
            chosen.map(|removed| text(removed.text)).collect()
        };
        assert_eq!(kept, strings(&expected["kept_one_per_line"]), "{name}");
        assert_eq!(of(false), strings(&expected["removed"]), "{name}");
        assert_eq!(of(true), strings(&expected["unparseable_lines"]), "{name}");
        assert_eq!(
            Some(filtered.is_emptied()),
            expected["empty_after_strip"].as_bool(),
            "{name}"
        );
    }

    #[test]
    fn all_vectors() {
        let vectors: Value = serde_json::from_str(VECTORS).expect("JSON");
        let vectors = vectors["vectors"].as_array().expect("array");
        for vector in vectors {
            let name = vector["name"].as_str().expect("name");
            let lines = strings(&vector["input_header_lines"]);
            check(name, &lines, &vector["upn_null"], false);
            check(name, &lines, &vector["upn_present"], true);
        }
        println!("{} challenge vectors", vectors.len());
        assert_eq!(vectors.len(), 23);
    }

    #[test]
    fn kerberos_under_other_names_goes_with_negotiate() {
        let line: &[u8] = b"Nego2, KERBEROS abc=, Basic realm=x";
        let filtered = filter([line].into_iter(), false);
        assert_eq!(filtered.kept, [&b"Basic realm=x"[..]]);
        assert_eq!(filtered.removed.len(), 2);
        assert_eq!(filter([line].into_iter(), true).kept.len(), 3);
    }

    #[test]
    fn no_lines_are_not_an_emptied_answer() {
        assert!(!filter(std::iter::empty(), false).is_emptied());
        assert!(!filter([&b""[..], b" , ,"].into_iter(), false).is_emptied());
    }

    /// What a reader sees who takes any word at the start of a line or behind a comma for a
    /// scheme, if no `=` follows it.
    fn naive_schemes(line: &[u8]) -> Vec<Vec<u8>> {
        line.split(|&byte| byte == b',')
            .filter_map(|part| {
                let part = part.trim_ascii();
                let end = part
                    .iter()
                    .position(|byte| matches!(byte, b' ' | b'\t' | b'='));
                let (word, rest) = part.split_at(end.unwrap_or(part.len()));
                (!rest.trim_ascii_start().starts_with(b"=")).then(|| word.to_vec())
            })
            .collect()
    }

    proptest! {
        #[test]
        fn no_ntlm_scheme_passes(
            line in "([nN][tT][lL][mM]|Negotiate|Basic|a|\"|,|=| |\t|\\\\|realm=\"x\"|TlRM==){0,12}",
            upn_proven: bool,
        ) {
            let filtered = filter([line.as_bytes()].into_iter(), upn_proven);
            for kept in &filtered.kept {
                let again = grammar::challenges(kept).expect("what is kept parses");
                prop_assert_eq!(again.len(), 1);
                prop_assert!(!again[0].scheme.eq_ignore_ascii_case(b"ntlm"));
                // Outside of quotes there is nothing a simpler reader could take for it either.
                if !kept.contains(&b'"') {
                    let ntlm = naive_schemes(kept).iter().any(|s| s.eq_ignore_ascii_case(b"ntlm"));
                    prop_assert!(!ntlm, "{:?}", String::from_utf8_lossy(kept));
                }
            }
        }

        #[test]
        fn any_bytes_are_sorted_without_loss_of_balance(
            lines in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4),
        ) {
            crate::fuzz::challenge_lines(&lines.join(&b'\n'));
        }
    }
}
