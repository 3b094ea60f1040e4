//! A file of lines, each the state of one device. The last line of a device counts; what no longer
//! counts is cleared away at the next start. Lines are written behind the back of the requests that
//! cause them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread::JoinHandle;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// This many lines are no reason to write a file anew.
const FEW: usize = 4_096;

/// What the lines of a file are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Their name, for logs and the writing thread.
    pub(crate) name: &'static str,
    /// Lines that may wait for the disk. Beyond, they are lost to a restart, not to the running
    /// gateway.
    pub(crate) waiting: usize,
    /// The longest line that is read, in bytes.
    pub(crate) longest: u64,
}

/// A file that is open for writing.
#[derive(Debug)]
pub(crate) struct LineFile {
    name: &'static str,
    lines: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

/// What was found in a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Read {
    lines: usize,
    /// Lines that can't be read.
    pub(crate) damaged: usize,
}

impl Read {
    /// Whether most of it no longer counts.
    pub(crate) fn is_worth_rewriting(self, live: usize) -> bool {
        self.damaged > 0 || self.lines > live.saturating_mul(2).saturating_add(FEW)
    }
}

/// Gives every line to `each`, oldest first. A file that is not there is an empty one.
pub(crate) fn read<L: DeserializeOwned>(
    path: &Path,
    kind: Kind,
    mut each: impl FnMut(L),
) -> io::Result<Read> {
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
        let length = io::Read::take(&mut reader, kind.longest).read_until(b'\n', &mut line)?;
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
pub(crate) fn encode(line: &impl Serialize) -> Vec<u8> {
    // What is written are texts and numbers: there is nothing that JSON has no form for.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
}

/// Writes the file anew, whole or not at all.
pub(crate) fn rewrite(path: &Path, lines: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
    let fresh = path.with_extension("fresh");
    let mut writer = BufWriter::new(create(&fresh, true)?);
    for line in lines {
        writer.write_all(&line)?;
    }
    writer.into_inner().map_err(io::Error::other)?.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_folder(path)
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = create(path, false)?;
    sync_folder(path)?;
    Ok(file)
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

impl LineFile {
    /// Opens the file and starts the thread that writes to it.
    pub(crate) fn start(path: &Path, kind: Kind) -> io::Result<Self> {
        let file = open(path)?;
        Self::written_by(path, kind, move || Ok(file))
    }

    /// Starts the thread, which opens the file as well: for a caller that must not wait for the disk.
    pub(crate) fn start_behind(path: &Path, kind: Kind) -> Self {
        let to_open = path.to_owned();
        Self::written_by(path, kind, move || open(&to_open)).unwrap_or_else(|error| {
            tracing::error!(%error, "no thread to write {}: they are lost to the next restart", kind.name);
            Self {
                name: kind.name,
                lines: None,
                thread: None,
            }
        })
    }

    fn written_by(
        path: &Path,
        kind: Kind,
        open: impl FnOnce() -> io::Result<File> + Send + 'static,
    ) -> io::Result<Self> {
        let (lines, waiting) = mpsc::sync_channel(kind.waiting);
        let shown = path.display().to_string();
        let thread = std::thread::Builder::new()
            .name(format!("seg-{}", kind.name))
            .spawn(move || match open() {
                Ok(file) => write_all(file, &shown, kind.name, &waiting),
                Err(error) => unwritten(&shown, kind.name, &error),
            })?;
        Ok(Self {
            name: kind.name,
            lines: Some(lines),
            thread: Some(thread),
        })
    }

    /// Hands a line over. Never waits.
    pub(crate) fn write(&self, line: &impl Serialize) {
        let Some(lines) = &self.lines else {
            return;
        };
        if let Err(TrySendError::Full(_)) = lines.try_send(encode(line)) {
            let name = self.name;
            tracing::error!("the disk is too slow for {name}: one is lost to the next restart");
        }
    }
}

impl Drop for LineFile {
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Everything that waits goes out by one write and one sync.
fn write_all(mut file: File, path: &str, name: &str, waiting: &Receiver<Vec<u8>>) {
    // A line that an end of power has cut is ended before the next one.
    let mut batch = b"\n".to_vec();
    while let Ok(first) = waiting.recv() {
        batch.extend_from_slice(&first);
        for line in waiting.try_iter() {
            batch.extend_from_slice(&line);
        }
        if let Err(error) = file.write_all(&batch).and_then(|()| file.sync_data()) {
            unwritten(path, name, &error);
        }
        batch.clear();
    }
}

fn unwritten(path: &str, name: &str, error: &io::Error) {
    tracing::error!(file = path, %error, "{name} can't be written: they are lost to the next restart");
}
