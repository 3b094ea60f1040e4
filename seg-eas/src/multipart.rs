//! The multipart answer of ItemOperations (MS-ASCMD, "Delivery of Content Requested by Fetch"):
//! `application/vnd.ms-sync.multipart`.
//!
//! ```text
//! u32le count | count x { u32le offset, u32le length } | the parts
//! ```
//!
//! Offsets count from the start of the body. Part 0 is the WBXML answer; the others are the content
//! that its Part elements name.

use std::borrow::Cow;

use thiserror::Error;

/// The bytes of a number.
const NUMBER: usize = size_of::<u32>();
/// The bytes of an entry in the table: offset and length.
const ENTRY: usize = 2 * NUMBER;

/// A multipart body, its table checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multipart<'a> {
    body: &'a [u8],
    table: &'a [u8],
}

/// Why a body is no multipart answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MultipartError {
    /// The body ends before its table does.
    #[error("a table of {count} parts, but the body has {length} bytes")]
    Truncated {
        /// How many parts the body announces; 0 where it is too short to say.
        count: u32,
        /// The length of the body in bytes.
        length: usize,
    },
    /// There is no part, and so no answer.
    #[error("the multipart body has no part; part 0 must be the WBXML answer")]
    NoPart,
    /// A part that reaches beyond the body.
    #[error("part {part} begins at byte {offset} with {part_length} bytes, the body has {length}")]
    BeyondEnd {
        /// Which part.
        part: usize,
        /// Where it begins.
        offset: u32,
        /// How long it is.
        part_length: u32,
        /// The length of the body in bytes.
        length: usize,
    },
    /// A part that begins before the one before it ends, or inside of the table.
    #[error("part {part} begins at byte {offset}, inside of what stands before it")]
    Overlap {
        /// Which part.
        part: usize,
        /// Where it begins.
        offset: u32,
    },
}

impl<'a> Multipart<'a> {
    /// Reads the table of a body. Allocates nothing.
    ///
    /// # Errors
    /// When the table is cut off or empty, or a part does not lie inside of the body, behind the
    /// table and the parts before it. Bytes between the parts are let through.
    pub fn parse(body: &'a [u8]) -> Result<Self, MultipartError> {
        let length = body.len();
        let cut_off = MultipartError::Truncated { count: 0, length };
        let (count, rest) = body.split_first_chunk::<NUMBER>().ok_or(cut_off)?;
        let count = u32::from_le_bytes(*count);
        if count == 0 {
            return Err(MultipartError::NoPart);
        }
        let table = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(ENTRY))
            .and_then(|bytes| rest.get(..bytes))
            .ok_or(MultipartError::Truncated { count, length })?;
        let multipart = Self { body, table };
        multipart.check()?;
        Ok(multipart)
    }

    /// How many parts there are; at least one.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.table.len() / ENTRY
    }

    /// The bytes of a part.
    #[must_use]
    pub fn part(&self, part: usize) -> Option<&'a [u8]> {
        let (offset, length) = self.entries().nth(part)?;
        slice(self.body, offset, length)
    }

    /// The WBXML answer, part 0.
    #[must_use]
    pub fn answer(&self) -> &'a [u8] {
        self.part(0).unwrap_or_default()
    }

    /// The bytes of every part, in order.
    pub fn parts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let body = self.body;
        self.entries()
            .filter_map(move |(offset, length)| slice(body, offset, length))
    }

    /// The body that holds these parts, one behind the other, with its table.
    #[must_use]
    pub fn written(parts: &[Cow<'_, [u8]>]) -> Vec<u8> {
        // What is held in memory is far below 4 GiB, and so are its parts.
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let mut offset = NUMBER + parts.len() * ENTRY;
        let mut body =
            Vec::with_capacity(offset + parts.iter().map(|part| part.len()).sum::<usize>());
        body.extend(number(parts.len()));
        for part in parts {
            body.extend(number(offset));
            body.extend(number(part.len()));
            offset += part.len();
        }
        for part in parts {
            body.extend_from_slice(part);
        }
        body
    }

    fn check(&self) -> Result<(), MultipartError> {
        let mut free = NUMBER + self.table.len();
        for (part, (offset, part_length)) in self.entries().enumerate() {
            let Some(bytes) = slice(self.body, offset, part_length) else {
                let length = self.body.len();
                return Err(MultipartError::BeyondEnd {
                    part,
                    offset,
                    part_length,
                    length,
                });
            };
            let begin = usize::try_from(offset).unwrap_or(usize::MAX);
            if begin < free {
                return Err(MultipartError::Overlap { part, offset });
            }
            free = begin + bytes.len();
        }
        Ok(())
    }

    fn entries(&self) -> impl Iterator<Item = (u32, u32)> + use<'a> {
        let (numbers, _) = self.table.as_chunks::<NUMBER>();
        let (pairs, _) = numbers.as_chunks::<2>();
        pairs
            .iter()
            .map(|&[offset, length]| (u32::from_le_bytes(offset), u32::from_le_bytes(length)))
    }
}

fn slice(body: &[u8], offset: u32, length: u32) -> Option<&[u8]> {
    body.get(usize::try_from(offset).ok()?..)?
        .get(..usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(table: &[(u32, u32)], rest: &[u8]) -> Vec<u8> {
        let mut body = u32::try_from(table.len()).unwrap().to_le_bytes().to_vec();
        for (offset, length) in table {
            body.extend(offset.to_le_bytes());
            body.extend(length.to_le_bytes());
        }
        body.extend(rest);
        body
    }

    #[test]
    fn parts_are_found_by_their_offsets() {
        let body = body(&[(20, 3), (24, 2)], b"abc-de");
        let multipart = Multipart::parse(&body).unwrap();
        assert_eq!(multipart.count(), 2);
        assert_eq!(multipart.answer(), b"abc");
        assert_eq!(multipart.part(1), Some(b"de".as_slice()));
        assert_eq!(multipart.part(2), None);
        assert_eq!(
            multipart.parts().collect::<Vec<_>>(),
            [b"abc".as_slice(), b"de"]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let parts = [b"abc".as_slice(), b"", b"de"].map(Cow::Borrowed);
        let body = Multipart::written(&parts);
        let read = Multipart::parse(&body).unwrap();
        assert_eq!(
            read.parts().collect::<Vec<_>>(),
            [b"abc".as_slice(), b"", b"de"]
        );
    }

    #[test]
    fn an_empty_part_is_a_part() {
        let body = body(&[(20, 1), (21, 0)], b"a");
        assert_eq!(
            Multipart::parse(&body).unwrap().part(1),
            Some(b"".as_slice())
        );
    }

    #[test]
    fn what_does_not_lie_inside_of_the_body_is_named() {
        let refused = |body: &[u8]| Multipart::parse(body).unwrap_err();
        assert_eq!(
            refused(b"\x01\x00"),
            MultipartError::Truncated {
                count: 0,
                length: 2
            }
        );
        assert_eq!(refused(&[0; 4]), MultipartError::NoPart);
        let count = u32::MAX;
        assert_eq!(
            refused(&[0xFF; 40]),
            MultipartError::Truncated { count, length: 40 }
        );
        assert_eq!(
            refused(&body(&[(12, 4)], b"abc")),
            MultipartError::BeyondEnd {
                part: 0,
                offset: 12,
                part_length: 4,
                length: 15
            }
        );
        assert_eq!(
            refused(&body(&[(u32::MAX, u32::MAX)], b"abc")),
            MultipartError::BeyondEnd {
                part: 0,
                offset: u32::MAX,
                part_length: u32::MAX,
                length: 15
            }
        );
        assert_eq!(
            refused(&body(&[(8, 4)], b"abc")),
            MultipartError::Overlap { part: 0, offset: 8 }
        );
        assert_eq!(
            refused(&body(&[(20, 3), (22, 1)], b"abc")),
            MultipartError::Overlap {
                part: 1,
                offset: 22
            }
        );
    }
}
