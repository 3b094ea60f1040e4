//! Lengths of time as people write them: `90s`, `36h`, `1h30m`, `7d`.

/// Milliseconds of a text such as `36h`.
pub(crate) fn milliseconds(text: &str) -> Result<i64, String> {
    let refuse = || format!("{text:?} is no length of time; write 90s, 15m, 36h, 7d or 1h30m");
    let mut rest = text.trim();
    let mut sum = 0_i64;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(refuse)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters).ok_or_else(refuse)?;
        let number: i64 = number.parse().map_err(|_| refuse())?;
        let unit = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(refuse()),
        };
        let part = number.checked_mul(unit).ok_or_else(refuse)?;
        sum = sum.checked_add(part).ok_or_else(refuse)?;
        rest = after;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read() {
        for (text, expected) in [
            ("90s", 90_000),
            ("36h", 129_600_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("250ms", 250),
        ] {
            assert_eq!(milliseconds(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "7",
            "d",
            "7 d",
            "-1h",
            "9999999999999999999d",
            "999999999999999d",
        ] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
    }
}
