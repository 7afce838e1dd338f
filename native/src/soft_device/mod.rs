//! Making a soft RDMA device anew whose management queue pair is dead: the only cure there is.
//!
//! The kernel waits with deleting a device until every descriptor on it is closed, and the connection manager library
//! keeps one open for the life of the process. So the process that finds the device dead leaves a note, drains and ends;
//! the next one reads the note before it opens any device, deletes and adds the device, and crosses the note out. The
//! note keeps a count, so that a device that dies again and again does not restart the process for ever.
//!
//! | file | concern |
//! |---|---|
//! | `notes` | the notes, in a directory that outlives the process |
//! | `message` | RDMA netlink's messages |
//! | `kernel` | asking the kernel |

use std::fmt;
use std::path::Path;
use std::time::Duration;

mod kernel;
mod message;
mod notes;

pub use kernel::KernelLinks;
pub use notes::Notes;

/// Longest wait for the kernel to let go of the device.
const DELETE_MAX: Duration = Duration::from_secs(30);

/// A soft RDMA device and the interface it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoftDevice {
    /// Device, for example `rxe0`.
    pub device: String,
    /// Interface, for example `eth1`.
    pub netdev: String,
}

/// What can be asked of the system about RDMA links.
pub trait RdmaLinks: fmt::Debug + Send + Sync + 'static {
    /// Whether the device is a soft RoCE device.
    ///
    /// # Errors
    /// Why it cannot be said, in words.
    fn is_soft(&self, device: &str) -> Result<bool, String>;
    /// Whether this process may delete and add devices.
    fn may_change(&self) -> bool;
    /// User contexts that are open on the device, by any process.
    ///
    /// # Errors
    /// As above.
    fn contexts(&self, device: &str) -> Result<u64, String>;
    /// Deletes the device. Returns when the kernel is done.
    ///
    /// # Errors
    /// As above.
    fn delete(&self, device: &str) -> Result<(), String>;
    /// Adds a soft RoCE device.
    ///
    /// # Errors
    /// As above.
    fn add(&self, device: &SoftDevice) -> Result<(), String>;
}

/// Where the control loop asks for a device to be made anew.
pub trait Recreation: fmt::Debug + Send {
    /// Leaves a note for the next process. The caller then ends this one.
    ///
    /// # Errors
    /// Why that is no use, in words, with the way out.
    fn request(&mut self, device: &SoftDevice, now_unix_ms: u64) -> Result<(), String>;
}

/// [`Recreation`] by notes in a directory.
#[derive(Debug)]
pub struct ByNotes<L: RdmaLinks> {
    notes: Notes,
    links: L,
}

impl<L: RdmaLinks> ByNotes<L> {
    /// Notes are kept in `directory`, which the next process must see.
    pub fn new(directory: &Path, links: L) -> Self {
        Self {
            notes: Notes::new(directory),
            links,
        }
    }
}

impl<L: RdmaLinks> Recreation for ByNotes<L> {
    fn request(&mut self, device: &SoftDevice, now_unix_ms: u64) -> Result<(), String> {
        let name = &device.device;
        if !self.links.is_soft(name)? {
            return Err(format!("{name} is no soft RDMA device (rxe): Weir deletes no other"));
        }
        if !self.links.may_change() {
            return Err("the process has no CAP_NET_ADMIN, without which no device can be made anew".to_owned());
        }
        self.notes.request(device, now_unix_ms)
    }
}

/// How making a device anew went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The device.
    pub device: SoftDevice,
    /// Why it failed, in words.
    pub error: Option<String>,
}

/// Makes every device anew that a note asks for. Comes before anything in this process opens a device. Each note is
/// carried out once, whatever comes of it.
pub fn carry_out<L: RdmaLinks + Clone>(directory: &Path, links: &L) -> Vec<Outcome> {
    let notes = Notes::new(directory);
    let pending = notes.take_pending();
    let outcomes = pending.into_iter().map(|device| Outcome {
        error: recreate(&device, links).err(),
        device,
    });
    outcomes.collect()
}

fn recreate<L: RdmaLinks + Clone>(device: &SoftDevice, links: &L) -> Result<(), String> {
    let name = &device.device;
    // The process before this one may have left the device deleted and not added.
    if let Ok(soft) = links.is_soft(name) {
        if !soft {
            return Err(format!("{name} is no soft RDMA device (rxe): Weir deletes no other"));
        }
        let open = links.contexts(name)?;
        if open > 0 {
            return Err(format!(
                "{open} user contexts are open on {name}, by other processes of this machine: the kernel would wait for \
                 them to end; stop them, or re-create the device by hand"
            ));
        }
        delete_in_time(name, links)?;
    }
    links.add(device)
}

/// Deletes on a thread of its own: if a process that could not be seen keeps the device open, the kernel waits for it,
/// and nothing can interrupt that.
fn delete_in_time<L: RdmaLinks + Clone>(name: &str, links: &L) -> Result<(), String> {
    let (tell, told) = std::sync::mpsc::channel();
    let (name, links) = (name.to_owned(), links.clone());
    let spawned = std::thread::Builder::new()
        .name("weir-rdma-link".to_owned())
        .spawn(move || {
            let _ = tell.send(links.delete(&name));
        });
    spawned.map_err(|error| error.to_string())?;
    told.recv_timeout(DELETE_MAX).unwrap_or_else(|_| {
        Err(format!(
            "the kernel did not delete the device within {} s: another process keeps it open",
            DELETE_MAX.as_secs()
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Debug, Clone)]
    struct Script {
        soft: Result<bool, String>,
        may_change: bool,
        contexts: u64,
        done: Arc<Mutex<Vec<String>>>,
    }

    impl Script {
        fn new() -> Self {
            Self {
                soft: Ok(true),
                may_change: true,
                contexts: 0,
                done: Arc::default(),
            }
        }
    }

    impl RdmaLinks for Script {
        fn is_soft(&self, _: &str) -> Result<bool, String> {
            self.soft.clone()
        }
        fn may_change(&self) -> bool {
            self.may_change
        }
        fn contexts(&self, _: &str) -> Result<u64, String> {
            Ok(self.contexts)
        }
        fn delete(&self, device: &str) -> Result<(), String> {
            self.done.lock().unwrap().push(format!("delete {device}"));
            Ok(())
        }
        fn add(&self, device: &SoftDevice) -> Result<(), String> {
            let text = format!("add {} on {}", device.device, device.netdev);
            self.done.lock().unwrap().push(text);
            Ok(())
        }
    }

    fn rxe0() -> SoftDevice {
        SoftDevice {
            device: "rxe0".to_owned(),
            netdev: "eth1".to_owned(),
        }
    }

    #[test]
    fn a_device_asked_for_is_made_anew_by_the_next_process_and_only_once() {
        let directory = tempfile::tempdir().unwrap();
        let links = Script::new();
        ByNotes::new(directory.path(), links.clone())
            .request(&rxe0(), 1000)
            .unwrap();
        let outcome = Outcome {
            device: rxe0(),
            error: None,
        };
        assert_eq!(carry_out(directory.path(), &links), [outcome]);
        assert_eq!(*links.done.lock().unwrap(), ["delete rxe0", "add rxe0 on eth1"]);
        assert_eq!(carry_out(directory.path(), &links), []);
    }

    #[test]
    fn only_soft_devices_are_touched_and_only_with_the_right_to() {
        let directory = tempfile::tempdir().unwrap();
        let refusal = |links: Script| ByNotes::new(directory.path(), links).request(&rxe0(), 1).unwrap_err();
        let hard = Script {
            soft: Ok(false),
            ..Script::new()
        };
        assert!(refusal(hard.clone()).contains("no soft RDMA device"));
        let plain = Script {
            may_change: false,
            ..Script::new()
        };
        assert!(refusal(plain).contains("CAP_NET_ADMIN"));
        assert_eq!(carry_out(directory.path(), &Script::new()), []);
        // It became another device meanwhile.
        ByNotes::new(directory.path(), Script::new())
            .request(&rxe0(), 1)
            .unwrap();
        let outcomes = carry_out(directory.path(), &hard);
        assert!(outcomes[0].error.as_ref().unwrap().contains("no soft RDMA device"));
        assert!(hard.done.lock().unwrap().is_empty());
    }

    #[test]
    fn a_device_that_others_have_open_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let links = Script {
            contexts: 2,
            ..Script::new()
        };
        ByNotes::new(directory.path(), links.clone())
            .request(&rxe0(), 1)
            .unwrap();
        let error = carry_out(directory.path(), &links).remove(0).error.unwrap();
        assert!(error.contains("2 user contexts"), "{error}");
        assert!(links.done.lock().unwrap().is_empty());
    }

    #[test]
    fn a_device_that_is_deleted_already_is_only_added() {
        let directory = tempfile::tempdir().unwrap();
        ByNotes::new(directory.path(), Script::new())
            .request(&rxe0(), 1)
            .unwrap();
        let links = Script {
            soft: Err("no RDMA device named rxe0".to_owned()),
            ..Script::new()
        };
        assert_eq!(carry_out(directory.path(), &links)[0].error, None);
        assert_eq!(*links.done.lock().unwrap(), ["add rxe0 on eth1"]);
    }
}
