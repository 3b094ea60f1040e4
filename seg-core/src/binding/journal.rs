//! The book on disk: a file of lines, each the state of one device. The last line of a device
//! counts; what no longer counts is cleared away at the next start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Lines that may wait for the disk. Beyond, they are lost to a restart, not to the running
/// gateway.
const WAITING: usize = 65_536;
/// The longest line that is read, in bytes.
const LONGEST_LINE: u64 = 16 * 1024;
/// This many lines are no reason to write a file anew.
const FEW: usize = 4_096;

/// Writes lines behind the back of the requests that cause them.
#[derive(Debug)]
pub(super) struct Journal {
    lines: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

/// What was found in a file.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    lines: usize,
    /// Lines that can't be read.
    pub(super) damaged: usize,
}

impl Read {
    /// Whether most of it no longer counts.
    pub(super) fn is_worth_rewriting(self, live: usize) -> bool {
        self.damaged > 0 || self.lines > live.saturating_mul(2).saturating_add(FEW)
    }
}

/// Gives every line to `each`, oldest first. A file that is not there is an empty one.
pub(super) fn read<L: DeserializeOwned>(path: &Path, mut each: impl FnMut(L)) -> io::Result<Read> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::default()),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let mut found = Read::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = io::Read::take(&mut reader, LONGEST_LINE).read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(found);
        }
        found.lines += 1;
        match serde_json::from_slice(&line) {
            _ if line.iter().all(u8::is_ascii_whitespace) => {}
            Ok(line) => each(line),
            Err(_) => found.damaged += 1,
        }
    }
}

/// One line.
pub(super) fn encode(line: &impl Serialize) -> Vec<u8> {
    // What is written are texts and numbers: there is nothing that JSON has no form for.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Writes the file anew, whole or not at all.
pub(super) fn rewrite(path: &Path, lines: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
    let fresh = path.with_extension("fresh");
    let mut writer = BufWriter::new(create(&fresh, true)?);
    for line in lines {
        writer.write_all(&line)?;
    }
    writer.into_inner().map_err(io::Error::other)?.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_folder(path)
}

fn create(path: &Path, empty: bool) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .append(!empty)
        .truncate(empty)
        .mode(0o600)
        .open(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

impl Journal {
    /// Opens the file and starts the thread that writes to it.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = create(path, false)?;
        sync_folder(path)?;
        let (lines, waiting) = mpsc::sync_channel(WAITING);
        let name = path.display().to_string();
        let thread = std::thread::Builder::new()
            .name("seg-bindings".to_owned())
            .spawn(move || write_all(file, &name, &waiting))?;
        Ok(Self {
            lines: Some(lines),
            thread: Some(thread),
        })
    }

    /// Hands a line over. Never waits.
    pub(super) fn write(&self, line: &impl Serialize) {
        let Some(lines) = &self.lines else {
            return;
        };
        if lines.try_send(encode(line)).is_err() {
            tracing::error!("the disk is too slow for bindings: one is lost to the next restart");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Everything that waits goes out by one write and one sync.
fn write_all(mut file: File, name: &str, waiting: &Receiver<Vec<u8>>) {
    // A line that an end of power has cut is ended before the next one.
    let mut batch = b"\n".to_vec();
    while let Ok(first) = waiting.recv() {
        batch.extend_from_slice(&first);
        for line in waiting.try_iter() {
            batch.extend_from_slice(&line);
        }
        if let Err(error) = file.write_all(&batch).and_then(|()| file.sync_data()) {
            tracing::error!(file = name, %error, "bindings can't be written: they are lost to the next restart");
        }
        batch.clear();
    }
}

/// 32 bytes as text.
pub(super) mod hexadecimal {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::binding) fn text(bytes: &[u8; 32]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(in crate::binding) fn serialize<S: Serializer>(
        bytes: &[u8; 32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(bytes))
    }

    pub(in crate::binding) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        let mut pairs = text.as_bytes().chunks_exact(2);
        for byte in &mut bytes {
            let pair = pairs.next().and_then(|pair| std::str::from_utf8(pair).ok());
            *byte = pair
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(|| D::Error::custom("expected 64 hexadecimal digits"))?;
        }
        if pairs.next().is_some() {
            return Err(D::Error::custom("expected 64 hexadecimal digits"));
        }
        Ok(bytes)
    }
}
