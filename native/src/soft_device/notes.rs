//! Notes from one process to the next: one small JSON file for each device, in a directory that outlives the process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SoftDevice;

/// A device is made anew at most so often within [`WINDOW_MS`].
pub const ATTEMPTS_MAX: u32 = 3;

/// After this time without being asked for, a device's count begins anew (1 h).
pub const WINDOW_MS: u64 = 3_600_000;

const PREFIX: &str = "recreate-";
const SUFFIX: &str = ".json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Note {
    device: String,
    netdev: String,
    /// To be carried out.
    pending: bool,
    /// Times it was asked for within the window.
    attempts: u32,
    /// Unix milliseconds of the last time.
    asked_ms: u64,
}

/// The notes in a directory.
#[derive(Debug, Clone)]
pub struct Notes {
    directory: PathBuf,
}

impl Notes {
    /// Those of this directory.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// Writes a note.
    ///
    /// # Errors
    /// In words: it was asked for too often, or the directory cannot be written.
    pub fn request(&self, device: &SoftDevice, now_unix_ms: u64) -> Result<(), String> {
        let path = self.path(&device.device)?;
        let before = read(&path).filter(|note| now_unix_ms.saturating_sub(note.asked_ms) < WINDOW_MS);
        let attempts = before.map_or(0, |note| note.attempts);
        if attempts >= ATTEMPTS_MAX {
            return Err(format!(
                "{} was made anew {attempts} times, each within an hour of the last, and does not stay alive: find out \
                 who sends connection manager messages while its link is down; {} resets the count when it is removed",
                device.device,
                path.display()
            ));
        }
        let note = Note {
            device: device.device.clone(),
            netdev: device.netdev.clone(),
            pending: true,
            attempts: attempts + 1,
            asked_ms: now_unix_ms,
        };
        write(&path, &note).map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }

    /// What is to be carried out. From now on it is not any more: a note that could not be crossed out is not given, or
    /// it would be carried out again and again.
    pub fn take_pending(&self) -> Vec<SoftDevice> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_note(path)).collect();
        paths.sort();
        let mut devices = Vec::new();
        for path in paths {
            let Some(mut note) = read(&path).filter(|note| note.pending) else {
                continue;
            };
            note.pending = false;
            if is_name(&note.device) && is_name(&note.netdev) && write(&path, &note).is_ok() {
                devices.push(SoftDevice {
                    device: note.device,
                    netdev: note.netdev,
                });
            }
        }
        devices
    }

    fn path(&self, device: &str) -> Result<PathBuf, String> {
        if !is_name(device) {
            return Err(format!("{device:?} is no device name that a file can be named after"));
        }
        Ok(self.directory.join(format!("{PREFIX}{device}{SUFFIX}")))
    }
}

/// Letters, digits, and what else names of devices and interfaces have.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'@');
    !name.is_empty() && name.len() < 64 && !name.starts_with('.') && name.bytes().all(plain)
}

fn is_note(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

fn read(path: &Path) -> Option<Note> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Replaces the file at once, or not at all: a process may end at any moment.
fn write(path: &Path, note: &Note) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let file = fs::File::create(&draft)?;
    serde_json::to_writer(&file, note)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> SoftDevice {
        SoftDevice {
            device: name.to_owned(),
            netdev: "eth1".to_owned(),
        }
    }

    #[test]
    fn a_note_is_taken_once_and_each_device_has_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let notes = Notes::new(directory.path());
        notes.request(&device("rxe1"), 5).unwrap();
        notes.request(&device("rxe0"), 5).unwrap();
        assert_eq!(notes.take_pending(), [device("rxe0"), device("rxe1")]);
        assert_eq!(notes.take_pending(), []);
    }

    #[test]
    fn a_device_that_dies_again_and_again_is_given_up_and_tried_anew_after_an_hour() {
        let directory = tempfile::tempdir().unwrap();
        let notes = Notes::new(directory.path());
        for attempt in 0..u64::from(ATTEMPTS_MAX) {
            notes.request(&device("rxe0"), attempt * (WINDOW_MS - 1)).unwrap();
            notes.take_pending();
        }
        let last = u64::from(ATTEMPTS_MAX - 1) * (WINDOW_MS - 1);
        let refusal = notes.request(&device("rxe0"), last + WINDOW_MS - 1).unwrap_err();
        assert!(refusal.contains("3 times"), "{refusal}");
        assert_eq!(notes.take_pending(), [], "a refused request leaves no note");
        notes.request(&device("rxe1"), last).unwrap();
        notes.request(&device("rxe0"), last + WINDOW_MS).unwrap();
        assert_eq!(notes.take_pending().len(), 2);
    }

    #[test]
    fn what_is_no_note_is_not_carried_out() {
        let directory = tempfile::tempdir().unwrap();
        let notes = Notes::new(directory.path());
        fs::write(directory.path().join("recreate-rxe0.json"), "{\"device\": \"rxe0\"").unwrap();
        fs::write(directory.path().join("other.json"), "{}").unwrap();
        let hostile = Note {
            device: "../rxe0".to_owned(),
            netdev: "eth1".to_owned(),
            pending: true,
            attempts: 1,
            asked_ms: 0,
        };
        write(&directory.path().join("recreate-x.json"), &hostile).unwrap();
        assert_eq!(notes.take_pending(), []);
        assert!(notes.request(&device("../rxe0"), 0).is_err());
        assert!(Notes::new(Path::new("/nowhere")).request(&device("rxe0"), 0).is_err());
        assert_eq!(Notes::new(Path::new("/nowhere")).take_pending(), []);
    }
}
