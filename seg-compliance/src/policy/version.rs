//! Versions of operating systems, compared number by number.

use std::cmp::Ordering;

/// A version to compare with: numbers between dots, `17`, `10.0.19045`.
#[derive(Debug)]
pub(super) struct Version(Box<str>);

impl Version {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        match Self::order(text, text) {
            Some(_) => Ok(Self(text.into())),
            None => Err(format!("{text:?} is no version: numbers between dots are")),
        }
    }

    /// How `reported` stands to this version; `None` where it is no version, which is as good as
    /// not reported.
    pub(super) fn compare(&self, reported: &str) -> Option<Ordering> {
        Self::order(reported, &self.0)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Missing numbers are zero: 17 equals 17.0. A number may carry a suffix (`14.2-beta`, `11b`),
    /// which ends the comparison.
    pub(super) fn order(left: &str, right: &str) -> Option<Ordering> {
        let (mut left, mut right) = (Numbers(left.trim()), Numbers(right.trim()));
        let mut first = true;
        loop {
            let (l, r) = (left.next(), right.next());
            if first && (l.is_none() || r.is_none()) {
                return None;
            }
            first = false;
            if l.is_none() && r.is_none() {
                return Some(Ordering::Equal);
            }
            match l.unwrap_or(0).cmp(&r.unwrap_or(0)) {
                Ordering::Equal => {}
                unequal => return Some(unequal),
            }
        }
    }
}

struct Numbers<'t>(&'t str);

impl Iterator for Numbers<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest.strip_prefix('.').unwrap_or("");
        // Too large for a number is larger than any.
        (!number.is_empty()).then(|| number.parse().unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_not_letters_are_compared() {
        for (reported, version, expected) in [
            ("9.3", "17", Some(Ordering::Less)),
            ("17", "17.0", Some(Ordering::Equal)),
            ("17.0.1", "17", Some(Ordering::Greater)),
            ("18.1", "17", Some(Ordering::Greater)),
            ("10.0.19045", "10.0.9999", Some(Ordering::Greater)),
            ("14.2-beta", "14.2", Some(Ordering::Equal)),
            ("Tiramisu", "13", None),
            ("", "13", None),
            (" 17.2 ", "17.2", Some(Ordering::Equal)),
            ("16.5.1 (c)", "16.5.1", Some(Ordering::Equal)),
            ("17.", "17", Some(Ordering::Equal)),
            ("17..9", "17.1", Some(Ordering::Less)),
            ("017.01", "17.1", Some(Ordering::Equal)),
            ("17.10", "17.9", Some(Ordering::Greater)),
            ("17.99999999999999999999", "17.1", Some(Ordering::Greater)),
            ("99999999999999999999999", "17", Some(Ordering::Greater)),
            ("v17", "17", None),
            (".17", "17", None),
            ("-1", "17", None),
        ] {
            let version = Version::new(version).unwrap();
            assert_eq!(
                version.compare(reported),
                expected,
                "{reported} {version:?}"
            );
        }
        assert!(Version::new("new").is_err());
    }

    proptest::proptest! {
        #[test]
        fn versions_are_ordered_as_lists_of_numbers(
            left in proptest::collection::vec(0_u64..30, 1..5),
            right in proptest::collection::vec(0_u64..30, 1..5),
        ) {
            let text = |numbers: &[u64]| {
                numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
            };
            let padded = |numbers: &[u64]| {
                let mut numbers = numbers.to_vec();
                numbers.resize(4, 0);
                numbers
            };
            proptest::prop_assert_eq!(
                Version::order(&text(&left), &text(&right)),
                Some(padded(&left).cmp(&padded(&right)))
            );
        }
    }
}
