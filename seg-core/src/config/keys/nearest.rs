//! The known key that a mistyped one was most likely meant to be.

use super::{ROUTE_KEYS, all};

/// A written key is compared up to this many characters; the longest known key has 55.
const MAX_COMPARED: usize = 80;

/// What the rest of a name counts when only its start was written.
const REST: usize = 2;

/// The name or alias with the smallest edit distance to what was written; a name that merely goes
/// on where the written one ends is near too.
pub(in crate::config) fn nearest(written: &str) -> &'static str {
    let written: Vec<char> = written
        .chars()
        .take(MAX_COMPARED)
        .flat_map(char::to_lowercase)
        .collect();
    let start: String = written.iter().chain(&['.']).collect();
    all()
        .chain(ROUTE_KEYS)
        .flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied()))
        .min_by_key(|name| {
            let cut = name.starts_with(&start);
            distance(&written, name).min(if cut { REST } else { usize::MAX })
        })
        .unwrap_or_default()
}

/// Levenshtein's distance: insertions, deletions and substitutions, one each.
fn distance(written: &[char], known: &str) -> usize {
    let mut row: Vec<usize> = (0..=written.len()).collect();
    for (line, known) in known.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (cell, written) in row.iter_mut().skip(1).zip(written) {
            let substituted = diagonal + usize::from(*written != known.to_ascii_lowercase());
            diagonal = *cell;
            left = substituted.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (written, known, wanted) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("abc", "", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(
                distance(&written.chars().collect::<Vec<_>>(), known),
                wanted,
                "{written} {known}"
            );
        }
    }

    #[test]
    fn typing_errors_find_their_key() {
        for (written, wanted) in [
            ("server.lisen", "server.listen"),
            ("email.server.host", "email.server.host.and.port"),
            ("email.server.hostandport", "email.server.host.and.port"),
            ("Enable.Boxer.ENS.EWS.proxy", "enable.boxer.ens.ews.proxy"),
            ("ignoreSslErrorWithExch", "ignoreSslErrorsWithExch"),
        ] {
            assert_eq!(nearest(written), wanted, "{written}");
        }
    }
}
