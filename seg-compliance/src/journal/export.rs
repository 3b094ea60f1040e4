//! Exports: the live state in a file of its own, complete or not there.
//!
//! `"SEGX", version`, then each batch behind its length, then a length of 0, the last revision, the
//! number of changes, and a checksum of everything before it; numbers little-endian. Written to a
//! temporary name, flushed, renamed, and the folder flushed.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::{Batch, Store, StoreError, compact};

/// Exports kept.
const KEEP: usize = 3;
const MAGIC: [u8; 5] = *b"SEGX\x01";
const PREFIX: &str = "export-";
const SUFFIX: &str = ".seg";
/// Longest batch in an export: a batch is compressed, so that it stays far below.
const FRAME_MAX: u32 = 256 * 1024 * 1024;

/// Writes an export of `store` into `folder` and deletes those older than the newest three.
pub(super) fn write(store: &dyn Store, folder: &Path) -> Result<PathBuf, StoreError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |error: std::io::Error| StoreError::file(&path, &error)
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    let unfinished = folder.join("export.tmp");
    let file = File::create(&unfinished).map_err(failed(&unfinished))?;
    let mut out = Summed {
        out: BufWriter::new(file),
        sum: 0,
    };
    out.put(&MAGIC).map_err(failed(&unfinished))?;
    let live = compact::live(store, &mut |batches| {
        for (_, frame) in batches {
            let length = u32::try_from(frame.len())
                .map_err(|_| StoreError::Failed("a batch is too long".to_owned()))?;
            out.put(&length.to_le_bytes())
                .and_then(|()| out.put(frame))
                .map_err(failed(&unfinished))?;
        }
        Ok(())
    })?;
    let mut end = vec![0; 4];
    end.extend_from_slice(&live.revision.to_le_bytes());
    end.extend_from_slice(&live.count.to_le_bytes());
    out.put(&end).map_err(failed(&unfinished))?;
    let sum = out.sum;
    out.put(&sum.to_le_bytes()).map_err(failed(&unfinished))?;
    let file = out
        .out
        .into_inner()
        .map_err(|error| failed(&unfinished)(error.into_error()))?;
    file.sync_all().map_err(failed(&unfinished))?;
    let path = folder.join(format!("{PREFIX}{:020}{SUFFIX}", live.revision));
    fs::rename(&unfinished, &path).map_err(failed(&path))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed(folder))?;
    for old in newest_first(folder).into_iter().skip(KEEP) {
        fs::remove_file(&old).map_err(failed(&old))?;
    }
    Ok(path)
}

/// The exports of `folder`, the newest first.
pub(super) fn newest_first(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

/// Reads an export whole and checks it: its last revision and its batches.
pub(super) fn read(path: &Path) -> Result<(u64, Vec<Batch>), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut input = Summed {
        out: BufReader::new(file),
        sum: 0,
    };
    let mut magic = [0; MAGIC.len()];
    input.fill(&mut magic)?;
    if magic != MAGIC {
        return Err("it does not begin like an export".to_owned());
    }
    let mut batches = Vec::new();
    let mut found = 0_u64;
    loop {
        let mut length = [0; 4];
        input.fill(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length == 0 {
            break;
        }
        if length > FRAME_MAX {
            return Err(format!("it announces a batch of {length} bytes"));
        }
        // Grows with what is there, not with what is announced.
        let mut frame = Vec::new();
        input.take(u64::from(length), &mut frame)?;
        let raw = super::frame::open(&frame).map_err(|error| error.to_string())?;
        let mut last = 0;
        let count = super::frame::each(&raw, |change| {
            last = last.max(change.revision);
            Ok(())
        });
        found += count.map_err(|error| error.to_string())? as u64;
        batches.push((last, frame));
    }
    let (mut revision, mut count, mut sum) = ([0; 8], [0; 8], [0; 4]);
    input.fill(&mut revision)?;
    input.fill(&mut count)?;
    let expected = input.sum;
    input.fill(&mut sum)?;
    if u32::from_le_bytes(sum) != expected || u64::from_le_bytes(count) != found {
        return Err("its checksum or count does not fit".to_owned());
    }
    Ok((u64::from_le_bytes(revision), batches))
}

/// A file with the checksum of what has passed.
struct Summed<F> {
    out: F,
    sum: u32,
}

impl<F: Write> Summed<F> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        self.out.write_all(bytes)
    }
}

impl<F: Read> Summed<F> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        self.out
            .read_exact(bytes)
            .map_err(|error| error.to_string())?;
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        Ok(())
    }

    fn take(&mut self, length: u64, bytes: &mut Vec<u8>) -> Result<(), String> {
        let read = self.out.by_ref().take(length).read_to_end(bytes);
        if read.map_err(|error| error.to_string())? as u64 != length {
            return Err("it ends inside a batch".to_owned());
        }
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        Ok(())
    }
}
