//! What the folders of a device are. ActiveSync tells it once, in the answer to FolderSync; the rules
//! about folders need it with every request that names one.
//!
//! Kept in a file, a line for each change, because a device that is asked to begin with its folders
//! anew does so with everything in them: after a restart that would be all devices at once. What is
//! lost of the file costs that device a new beginning and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use seg_compliance::{DeviceKey, UserKey};
use seg_eas::folders::{Listed, UNTOLD};
use serde::{Deserialize, Serialize};

use super::Generations;
use crate::line_file::{self, LineFile};

/// The file in `data.dir`.
const FILE: &str = "folders.ndjson";
/// Devices that are remembered at least.
const REMEMBERED: usize = 200_000;
/// The most folders of one device; what is beyond is of an untold type.
const FOLDERS_MAX: usize = 5_000;
/// The longest id of a folder, in bytes; MS-ASCMD has 64 characters.
const ID_MAX: usize = 256;
const LINES: line_file::Kind = line_file::Kind {
    name: "folders",
    waiting: 1_024,
    longest: 2 * 1024 * 1024,
};

/// Whose folders they are.
pub type FolderKey = (DeviceKey, UserKey);

/// The folders of one device by their ids, and their types.
pub type FolderKinds = BTreeMap<Box<str>, u8>;

/// What is known of all devices' folders.
#[derive(Debug)]
pub struct Folders {
    known: Generations<FolderKey, Arc<FolderKinds>>,
    path: PathBuf,
    /// Begun once something was learned.
    file: OnceLock<LineFile>,
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
            file: OnceLock::new(),
        };
        if let Err(error) = folders.read() {
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
            if now.len() < FOLDERS_MAX && id.len() <= ID_MAX {
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
        let begin = || LineFile::start_behind(&self.path, LINES);
        self.file.get_or_init(begin).write(&line);
    }

    /// Reads the file, and writes it anew where most of it no longer counts.
    fn read(&self) -> io::Result<()> {
        let mut last = HashMap::new();
        let read = line_file::read(&self.path, LINES, |line: Line| {
            if let (Ok(device), Ok(user)) = (DeviceKey::new(&line.device), UserKey::new(&line.user))
            {
                last.insert((device, user), line);
            }
        })?;
        if read.is_worth_rewriting(last.len()) {
            line_file::rewrite(&self.path, last.values().map(line_file::encode))?;
        }
        for (key, line) in last {
            self.known.insert(key, Arc::new(line.folders));
        }
        Ok(())
    }
}

/// What a folder is, of the folders of a device. One that they don't name is of an untold type.
pub fn kind(folders: &FolderKinds, id: &str) -> u8 {
    folders.get(id).copied().unwrap_or(UNTOLD)
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        // Nothing new is nothing to write.
        folders.learn(key(), &listed(&[("9", 9)], &[]), false);
        folders.learn(key(), &listed(&[("5", 2), ("9", 9)], &[]), true);
        // What waits is written at the end.
        drop(folders);
        let path = data.path().join(FILE);
        let mut text = fs::read_to_string(&path).expect("a file");
        let lines = |text: &str| text.lines().filter(|line| !line.is_empty()).count();
        assert_eq!(lines(&text), 2);
        text.push_str("{\"device\":\"D2\",\"us");
        fs::write(&path, text).expect("written");

        let again = Folders::load(data.path());
        let known = again.of(&key()).expect("known");
        assert_eq!((kind(&known, "5"), kind(&known, "9")), (2, 9));
        assert_eq!(kind(&known, "8"), UNTOLD);
        assert_eq!(lines(&fs::read_to_string(&path).expect("a file")), 1);
        again.learn(key(), &listed(&[("1", 1)], &[]), true);
        assert_eq!(again.of(&key()).expect("known").len(), 1);
    }
}
