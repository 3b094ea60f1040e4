//! Just enough DER (X.690) to walk through what others say, and to write a request: OCSP, Kerberos.

/// One value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'d> {
    /// Its identifier octet; high tag numbers are not read.
    pub(crate) tag: u8,
    /// Its content.
    pub(crate) content: &'d [u8],
    /// Header and content.
    pub(crate) whole: &'d [u8],
}

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;

/// Reads values one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'d>(pub(crate) &'d [u8]);

impl<'d> Reader<'d> {
    /// The next value, whatever it is.
    pub(crate) fn any(&mut self) -> Option<Value<'d>> {
        let (&tag, rest) = self.0.split_first()?;
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, body) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            // At most four bytes, and as few as possible: DER has one form for each length.
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) {
                return None;
            }
            let (bytes, body) = rest.split_at_checked(count)?;
            let length = bytes
                .iter()
                .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
            if length < 0x80 || bytes.first() == Some(&0) {
                return None;
            }
            (length, body)
        };
        let (content, after) = body.split_at_checked(length)?;
        let whole = self.0.get(..self.0.len() - after.len())?;
        self.0 = after;
        Some(Value {
            tag,
            content,
            whole,
        })
    }

    /// The next value, which must have this tag.
    pub(crate) fn take(&mut self, tag: u8) -> Option<Value<'d>> {
        let mut ahead = *self;
        let value = ahead.any().filter(|value| value.tag == tag)?;
        *self = ahead;
        Some(value)
    }
}

impl<'d> Value<'d> {
    /// A reader of what is inside.
    pub(crate) fn inside(self) -> Reader<'d> {
        Reader(self.content)
    }
}

/// A value written out; `parts` are its content.
pub(crate) fn write(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let used = bytes.get(zeros..).unwrap_or_default();
            out.push(0x80 | u8::try_from(used.len()).unwrap_or(4));
            out.extend_from_slice(used);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0_usize, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let bytes = write(SEQUENCE, &[&content]);
            let mut reader = Reader(&bytes);
            let value = reader.take(SEQUENCE).expect("a value");
            assert_eq!(
                (value.content.len(), value.whole.len()),
                (length, bytes.len())
            );
            assert!(reader.any().is_none());
        }
    }

    #[test]
    fn other_lengths_are_refused() {
        for bytes in [
            &[0x30_u8, 0x81, 0x05][..],
            &[0x30, 0x80],
            &[0x30, 0x02, 0],
            &[0x3f, 0, 0],
        ] {
            assert!(Reader(bytes).any().is_none(), "{bytes:?}");
        }
    }
}
