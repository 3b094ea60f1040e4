//! A batch as one value: `"SG", version, crc32c, raw length, count, zstd(changes)`, numbers
//! little-endian. The checksum covers everything after itself.

use super::codec::{self, CodecError, Raw};
use super::{BATCH_MAX, Sequenced};

const MAGIC: [u8; 2] = *b"SG";
const VERSION: u8 = 1;
/// Fast: a batch is written on the way of an acknowledgement.
const LEVEL: i32 = 1;
/// Most bytes of a batch before compression: [`BATCH_MAX`] records, each with every field at its
/// limit, stay below.
const RAW_MAX: usize = 192 * 1024 * 1024;

/// Why a value is no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("it is too short")]
    Short,
    #[error("it does not begin like a batch")]
    Magic,
    #[error("it was written by another version, {0}")]
    Version(u8),
    #[error("its checksum does not fit")]
    Checksum,
    #[error("it announces {0} bytes, more than a batch can have")]
    Length(usize),
    #[error("it can't be decompressed")]
    Compression,
    #[error("it holds {found} changes and announces {announced}")]
    Count { announced: usize, found: usize },
    #[error(transparent)]
    Change(#[from] CodecError),
}

/// Writes batches, with one compression state for all of them.
pub(crate) struct Encoder {
    raw: Vec<u8>,
    count: u32,
    last: u64,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            raw: Vec::new(),
            count: 0,
            last: 0,
        }
    }

    pub(crate) fn push(&mut self, change: &Sequenced) {
        codec::write(&mut self.raw, change);
        self.counted(change.revision);
    }

    /// Copies a change that came from another batch.
    pub(crate) fn copy(&mut self, raw: &Raw<'_>) {
        self.raw.extend_from_slice(raw.bytes);
        self.counted(raw.revision);
    }

    fn counted(&mut self, revision: u64) {
        self.count += 1;
        self.last = self.last.max(revision);
    }

    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= BATCH_MAX
    }

    /// The batch of what was pushed; `None`: nothing was.
    pub(crate) fn take(&mut self) -> Result<Option<super::Batch>, super::StoreError> {
        if self.count == 0 {
            return Ok(None);
        }
        let last = self.last;
        Ok(Some((last, self.frame()?)))
    }

    /// The frame of what was pushed, be it nothing.
    pub(crate) fn frame(&mut self) -> Result<Vec<u8>, super::StoreError> {
        let packed = zstd::bulk::compress(&self.raw, LEVEL)
            .map_err(|error| super::StoreError::Failed(format!("compression: {error}")))?;
        let raw_length = u32::try_from(self.raw.len())
            .ok()
            .filter(|length| *length as usize <= RAW_MAX)
            .ok_or_else(|| super::StoreError::Failed("a batch is too long".to_owned()))?;
        let mut rest = Vec::with_capacity(8 + packed.len());
        rest.extend_from_slice(&raw_length.to_le_bytes());
        rest.extend_from_slice(&self.count.to_le_bytes());
        rest.extend_from_slice(&packed);
        let mut frame = Vec::with_capacity(7 + rest.len());
        frame.extend_from_slice(&MAGIC);
        frame.push(VERSION);
        frame.extend_from_slice(&crc32c::crc32c(&rest).to_le_bytes());
        frame.extend_from_slice(&rest);
        *self = Self {
            raw: std::mem::take(&mut self.raw),
            ..Self::new()
        };
        self.raw.clear();
        Ok(frame)
    }
}

/// Checks and unpacks a batch into the bytes of its changes.
pub(crate) fn open(frame: &[u8]) -> Result<Vec<u8>, FrameError> {
    let (head, rest) = frame.split_first_chunk::<7>().ok_or(FrameError::Short)?;
    let [m0, m1, version, crc @ ..] = *head;
    if [m0, m1] != MAGIC {
        return Err(FrameError::Magic);
    }
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    if crc32c::crc32c(rest) != u32::from_le_bytes(crc) {
        return Err(FrameError::Checksum);
    }
    unpack(rest)
}

/// What the checksum covers.
pub(crate) fn unpack(rest: &[u8]) -> Result<Vec<u8>, FrameError> {
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(FrameError::Short)?;
    let (count, packed) = rest.split_first_chunk::<4>().ok_or(FrameError::Short)?;
    let length = u32::from_le_bytes(*length) as usize;
    let announced = u32::from_le_bytes(*count) as usize;
    if length > RAW_MAX || announced > BATCH_MAX {
        return Err(FrameError::Length(length));
    }
    let raw = zstd::bulk::decompress(packed, length).map_err(|_| FrameError::Compression)?;
    if raw.len() != length {
        return Err(FrameError::Compression);
    }
    let found = each(&raw, |_| Ok(()))?;
    if found != announced {
        return Err(FrameError::Count { announced, found });
    }
    Ok(raw)
}

/// Hands each change of an opened batch to `look`. Answers how many there were.
pub(crate) fn each(
    raw: &[u8],
    mut look: impl FnMut(&Raw<'_>) -> Result<(), CodecError>,
) -> Result<usize, FrameError> {
    let (mut rest, mut count) = (raw, 0);
    while let Some(change) = codec::read(&mut rest)? {
        look(&change)?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceKey;
    use crate::journal::Change;
    use proptest::prelude::*;

    fn frame(count: u64) -> Vec<u8> {
        let mut encoder = Encoder::new();
        for revision in 1..=count {
            let device = DeviceKey::new(&format!("d{revision}")).unwrap();
            encoder.push(&Sequenced {
                revision,
                change: Change::RecordRemoved { device },
            });
        }
        let (last, frame) = encoder.take().unwrap().unwrap();
        assert_eq!(last, count);
        frame
    }

    #[test]
    fn a_batch_comes_back() {
        let raw = open(&frame(1_024)).unwrap();
        let mut revisions = Vec::new();
        each(&raw, |change| {
            revisions.push(change.revision);
            Ok(())
        })
        .unwrap();
        assert_eq!(revisions, (1..=1_024).collect::<Vec<_>>());
    }

    #[test]
    fn an_empty_batch_comes_back() {
        let empty = Encoder::new().frame().unwrap();
        assert_eq!(open(&empty).unwrap(), b"");
    }

    proptest! {
        #[test]
        fn one_changed_byte_is_noticed(count in 1_u64..20, at: prop::sample::Index, by in 1_u8..=255) {
            let mut bytes = frame(count);
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert!(open(&bytes).is_err());
        }

        #[test]
        fn a_cut_batch_is_noticed(count in 1_u64..20, at: prop::sample::Index) {
            let bytes = frame(count);
            prop_assert!(open(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_refused_in_bounds(bytes: Vec<u8>) {
            crate::fuzz::journal_frame(&bytes);
        }
    }
}
