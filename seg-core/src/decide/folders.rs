//! What the folders of a device are. ActiveSync tells it once, in the answer to FolderSync; the rules
//! about folders need it with every request that names one.
//!
//! Kept in a file, a line for each change, because a device that is asked to begin with its folders
//! anew does so with everything in them: after a restart that would be all devices at once. What is
//! lost of the file costs that device a new beginning and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use seg_compliance::{DeviceKey, UserKey};
use seg_eas::folders::{Listed, UNTOLD};
use serde::{Deserialize, Serialize};

use super::Generations;

/// The file in `data.dir`.
const FILE: &str = "folders.ndjson";
/// Devices that are remembered at least.
const REMEMBERED: usize = 200_000;
/// The most folders of one device; what is beyond is of an untold type.
const FOLDERS_MAX: usize = 5_000;

/// Whose folders they are.
pub type FolderKey = (DeviceKey, UserKey);

/// The folders of one device by their ids, and their types.
pub type FolderKinds = BTreeMap<Box<str>, u8>;

/// What is known of all devices' folders.
#[derive(Debug)]
pub struct Folders {
    known: Generations<FolderKey, Arc<FolderKinds>>,
    path: PathBuf,
    /// Open once something was learned.
    file: Mutex<Option<File>>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    device: String,
    user: String,
    folders: FolderKinds,
}

impl Folders {
    /// What the file in `data` holds; a file that is not there, or can't be read, holds nothing.
    pub fn load(data: &Path) -> Self {
        let folders = Self {
            known: Generations::new(REMEMBERED),
            path: data.join(FILE),
            file: Mutex::new(None),
        };
        if let Err(error) = folders.read()
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "what is known of folders can't be read; devices begin with theirs anew");
        }
        folders
    }

    /// The folders of a device, where it has told of them.
    pub fn of(&self, key: &FolderKey) -> Option<Arc<FolderKinds>> {
        self.known.recall(key)
    }

    /// Learns from an answer; `anew`: it tells of all folders, not of changes.
    pub fn learn(&self, key: FolderKey, listed: &Listed, anew: bool) {
        let before = self.known.recall(&key);
        let kept = before.as_deref().filter(|_| !anew);
        let mut now: FolderKinds = kept.cloned().unwrap_or_default();
        for id in &listed.gone {
            now.remove(id.as_str());
        }
        for (id, kind) in &listed.there {
            if now.len() < FOLDERS_MAX {
                now.insert(id.as_str().into(), *kind);
            }
        }
        // Also where a device begins anew: one that does so in a loop must not fill the disk.
        if before.as_deref() == Some(&now) {
            return;
        }
        let line = Line {
            device: key.0.as_str().to_owned(),
            user: key.1.as_str().to_owned(),
            folders: now.clone(),
        };
        self.known.insert(key, Arc::new(now));
        if let Err(error) = self.append(&line) {
            tracing::warn!(%error, "what was learned of folders is not kept beyond a restart");
        }
    }

    fn append(&self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut file = self.file.lock();
        let file = match &mut *file {
            Some(file) => file,
            none => none.insert(private().append(true).open(&self.path)?),
        };
        file.write_all(&text)
    }

    /// Reads the file, and writes it anew with the last line of each device.
    fn read(&self) -> io::Result<()> {
        let mut last = HashMap::new();
        for line in BufReader::new(File::open(&self.path)?).split(b'\n') {
            // The end of the process may have cut the last one off.
            let Ok(line) = serde_json::from_slice::<Line>(&line?) else {
                continue;
            };
            if let (Ok(device), Ok(user)) = (DeviceKey::new(&line.device), UserKey::new(&line.user))
            {
                last.insert((device, user), line);
            }
        }
        let fresh = self.path.with_extension("new");
        let mut file = BufWriter::new(private().truncate(true).open(&fresh)?);
        for (key, line) in last {
            serde_json::to_writer(&mut file, &line)?;
            file.write_all(b"\n")?;
            self.known.insert(key, Arc::new(line.folders));
        }
        file.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        fs::rename(fresh, &self.path)
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

/// What a folder is, of the folders of a device. One that they don't name is of an untold type.
pub fn kind(folders: &FolderKinds, id: &str) -> u8 {
    folders.get(id).copied().unwrap_or(UNTOLD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(there: &[(&str, u8)], gone: &[&str]) -> Listed {
        Listed {
            there: there
                .iter()
                .map(|(id, kind)| ((*id).to_owned(), *kind))
                .collect(),
            gone: gone.iter().map(|id| (*id).to_owned()).collect(),
            ..Listed::default()
        }
    }

    #[test]
    fn what_was_learned_is_known_after_a_restart() {
        let data = tempfile::tempdir().expect("a folder");
        let key = || {
            let device = DeviceKey::new("D1").expect("a device");
            (device, UserKey::new("alice@corp.example").expect("a user"))
        };
        let folders = Folders::load(data.path());
        assert!(folders.of(&key()).is_none());
        folders.learn(key(), &listed(&[("5", 2), ("8", 8)], &[]), true);
        folders.learn(key(), &listed(&[("9", 9)], &["8"]), false);
        let path = data.path().join(FILE);
        let mut text = fs::read_to_string(&path).expect("a file");
        assert_eq!(text.lines().count(), 2);
        // Nothing new is nothing to write.
        folders.learn(key(), &listed(&[("9", 9)], &[]), false);
        folders.learn(key(), &listed(&[("5", 2), ("9", 9)], &[]), true);
        assert_eq!(fs::read_to_string(&path).expect("a file"), text);
        text.push_str("{\"device\":\"D2\",\"us");
        fs::write(&path, text).expect("written");

        let again = Folders::load(data.path());
        let known = again.of(&key()).expect("known");
        assert_eq!((kind(&known, "5"), kind(&known, "9")), (2, 9));
        assert_eq!(kind(&known, "8"), UNTOLD);
        assert_eq!(
            fs::read_to_string(&path).expect("a file").lines().count(),
            1
        );
        again.learn(key(), &listed(&[("1", 1)], &[]), true);
        assert_eq!(again.of(&key()).expect("known").len(), 1);
    }
}
