//! Opening files and block devices: what is checked, what is created, and what a user is told when it cannot be done.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{BackingFacts, OpenError};

/// Logical block size of files as a power of two: what every filesystem's direct I/O can do.
const FILE_BLOCK_SHIFT: u8 = 12;

/// Alignment asked of memory when the kernel does not tell (before 6.1): enough for any device.
const MEMORY_ALIGNMENT_DEFAULT: u32 = 4096;

/// Sizes in the desired state are multiples of this.
pub(super) const SIZE_GRANULE_BYTES: u64 = 4096;

// <linux/fs.h>; libc has no names for them on this target.
const BLKROGET: libc::c_ulong = 0x125e;
const BLKSSZGET: libc::c_ulong = 0x1268;
const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    BlockDevice,
}

/// An open file or block device.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    path: String,
    kind: Kind,
    size_bytes: AtomicU64,
    block_shift: u8,
    /// What the file asks of memory addresses; 1 when I/O is buffered.
    memory_alignment: u32,
    read_only: bool,
}

impl Disk {
    /// Opens a block device; writers claim it, so that no filesystem and no second writer can.
    pub(super) fn open_block_device(path: &str, read_only: bool) -> Result<Self, OpenError> {
        check_path(path)?;
        let metadata = std::fs::metadata(path).map_err(|e| device_error(path, &e, read_only))?;
        let kind = metadata.file_type();
        if !kind.is_block_device() {
            let what = if kind.is_dir() {
                "is a directory"
            } else if kind.is_file() {
                "is a regular file"
            } else {
                "is no block device"
            };
            return Err(error(
                "NotABlockDevice",
                format!("{path} {what}: name a block device, or use backend.file for a file"),
            ));
        }
        let mut options = OpenOptions::new();
        let claim = if read_only { 0 } else { libc::O_EXCL };
        options
            .read(true)
            .write(!read_only)
            .custom_flags(libc::O_DIRECT | claim);
        let file = options.open(path).map_err(|e| device_error(path, &e, read_only))?;
        if !read_only && integer_ioctl(&file, BLKROGET).is_ok_and(|flag| flag != 0) {
            return Err(device_error(
                path,
                &io::Error::from_raw_os_error(libc::EROFS),
                read_only,
            ));
        }
        let block_bytes = integer_ioctl(&file, BLKSSZGET).map_err(|e| device_error(path, &e, read_only))?;
        let block_shift = match block_bytes {
            512 => 9,
            4096 => 12,
            other => {
                return Err(error(
                    "UnsupportedBlockSize",
                    format!("{path} has logical blocks of {other} bytes; only 512 and 4096 are supported"),
                ));
            }
        };
        let size_bytes = device_size(&file).map_err(|e| device_error(path, &e, read_only))?;
        if size_bytes == 0 {
            return Err(error(
                "InvalidSize",
                format!("{path} has no capacity: attach its medium or image first"),
            ));
        }
        let memory_alignment = direct_alignment(&file).map_or(MEMORY_ALIGNMENT_DEFAULT, |found| found.memory);
        Ok(Self {
            file,
            path: path.to_owned(),
            kind: Kind::BlockDevice,
            size_bytes: AtomicU64::new(size_bytes),
            block_shift,
            memory_alignment,
            read_only,
        })
    }

    /// Opens a file: created sparse if absent, grown if shorter, never shrunk. Direct I/O unless the filesystem refuses.
    pub(super) fn open_file(path: &str, size_bytes: u64, read_only: bool) -> Result<Self, OpenError> {
        check_path(path)?;
        check_size(path, size_bytes)?;
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(error(
                    "IsDirectory",
                    format!("{path} is a directory: name a file in it, for example {path}/namespace-1.img"),
                ));
            }
            Ok(metadata) if !metadata.is_file() => {
                return Err(error(
                    "NotAFile",
                    format!("{path} is no regular file: use backend.blockDevice for a block device"),
                ));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound && !read_only => {}
            Err(e) => return Err(file_error(path, &e)),
        }
        let (file, created) = open_or_create(path, read_only)?;
        let direct = match direct_alignment(&file) {
            Some(found) => found.offset != 0 && found.offset <= SIZE_GRANULE_BYTES,
            None => true,
        } && set_direct(&file).is_ok();
        let memory_alignment = if direct {
            direct_alignment(&file).map_or(MEMORY_ALIGNMENT_DEFAULT, |found| found.memory)
        } else {
            1
        };
        lock(&file, path, read_only)?;
        let disk = Self {
            file,
            path: path.to_owned(),
            kind: Kind::File,
            size_bytes: AtomicU64::new(size_bytes),
            block_shift: FILE_BLOCK_SHIFT,
            memory_alignment,
            read_only,
        };
        if let Err(e) = disk.lengthen(size_bytes) {
            if created {
                // Ours, empty and useless: leave no litter. Failing to remove it changes nothing for the caller.
                let _ = std::fs::remove_file(path);
            }
            return Err(e);
        }
        if created {
            // The name must survive a crash as surely as the data that Flush makes durable.
            if let Some(parent) = Path::new(path).parent() {
                File::open(parent)
                    .and_then(|directory| directory.sync_all())
                    .map_err(|e| file_error(path, &e))?;
            }
        }
        Ok(disk)
    }

    /// Grows a file to `size_bytes` while it is in use.
    pub(super) fn grow_file(&self, size_bytes: u64) -> Result<(), OpenError> {
        check_size(&self.path, size_bytes)?;
        let now = self.size_bytes();
        if size_bytes < now {
            return Err(error(
                "ShrinkRefused",
                format!(
                    "{} is served with {now} bytes and is never shrunk to {size_bytes}: ask for at least {now}, or remove \
                     the namespace and add another",
                    self.path
                ),
            ));
        }
        self.lengthen(size_bytes)?;
        self.size_bytes.fetch_max(size_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn lengthen(&self, size_bytes: u64) -> Result<(), OpenError> {
        let path = &self.path;
        let length = self.file.metadata().map_err(|e| file_error(path, &e))?.len();
        if length >= size_bytes {
            return Ok(());
        }
        if self.read_only {
            return Err(error(
                "InvalidSize",
                format!(
                    "{path} has {length} bytes but {size_bytes} are asked for, and a read-only file is not grown: correct \
                     the size"
                ),
            ));
        }
        self.file
            .set_len(size_bytes)
            .and_then(|()| self.file.sync_all())
            .map_err(|e| file_error(path, &e))
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind == Kind::File
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub(super) fn read_only(&self) -> bool {
        self.read_only
    }

    pub(super) fn memory_alignment(&self) -> u32 {
        self.memory_alignment
    }

    /// Size at the last look.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }

    /// Facts; a block device's size is read anew.
    pub(super) fn facts(&self) -> BackingFacts {
        if self.kind == Kind::BlockDevice {
            if let Ok(size_bytes) = device_size(&self.file) {
                self.size_bytes.store(size_bytes, Ordering::Relaxed);
            }
        }
        BackingFacts {
            size_bytes: self.size_bytes(),
            block_shift: self.block_shift,
            volatile: false,
            read_only: self.read_only,
            // A device that writes through costs a host no more than an empty flush; a file always has the
            // filesystem's metadata to make durable.
            write_cache: true,
        }
    }
}

/// Refuses what is no absolute path.
fn check_path(path: &str) -> Result<(), OpenError> {
    if !path.starts_with('/') || path.contains('\0') {
        return Err(error(
            "InvalidPath",
            format!("{path:?} is no absolute path: begin it with /"),
        ));
    }
    Ok(())
}

/// Refuses sizes that no namespace can have.
pub(super) fn check_size(name: &str, size_bytes: u64) -> Result<(), OpenError> {
    if size_bytes == 0 || size_bytes % SIZE_GRANULE_BYTES != 0 || i64::try_from(size_bytes).is_err() {
        return Err(error(
            "InvalidSize",
            format!(
                "{name}: a size of {size_bytes} bytes cannot be served: give a multiple of {SIZE_GRANULE_BYTES} that is \
                 greater than 0"
            ),
        ));
    }
    Ok(())
}

fn open_or_create(path: &str, read_only: bool) -> Result<(File, bool), OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(!read_only);
    match options.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !read_only => {
            let file = options
                .create_new(true)
                .mode(0o600)
                .open(path)
                .map_err(|e| file_error(path, &e))?;
            Ok((file, true))
        }
        Err(e) => Err(file_error(path, &e)),
        Ok(file) => Ok((file, false)),
    }
}

/// Keeps a second writer away: another process, another pod on the same node, another namespace of ours. Filesystems
/// without locks are left as they are.
fn lock(file: &File, path: &str, read_only: bool) -> Result<(), OpenError> {
    let kind = if read_only { libc::LOCK_SH } else { libc::LOCK_EX };
    // SAFETY: an open descriptor; no memory is involved.
    if unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EWOULDBLOCK) => Err(error(
            "BackendBusy",
            format!("{path} is in use by another namespace or process: stop that, or name another file"),
        )),
        _ => Ok(()),
    }
}

#[derive(Debug, Clone, Copy)]
struct DirectAlignment {
    memory: u32,
    /// 0: direct I/O is not supported.
    offset: u64,
}

/// `statx(STATX_DIOALIGN)`; `None` when the kernel or the filesystem does not tell.
fn direct_alignment(file: &File) -> Option<DirectAlignment> {
    // SAFETY: `statx` is plain data for which all-zero is a value.
    let mut facts: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: an open descriptor, an empty NUL-terminated path, and a writable result.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            &raw mut facts,
        )
    };
    (result == 0 && facts.stx_mask & libc::STATX_DIOALIGN != 0).then(|| DirectAlignment {
        memory: facts.stx_dio_mem_align.next_power_of_two(),
        offset: u64::from(facts.stx_dio_offset_align),
    })
}

/// Switches an open file to direct I/O; refused by filesystems that cannot.
fn set_direct(file: &File) -> io::Result<()> {
    // SAFETY: an open descriptor; the call reads and sets flags only.
    let result = unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        if flags < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_DIRECT)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn integer_ioctl(file: &File, request: libc::c_ulong) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    // SAFETY: both requests this is used for write one `int`.
    if unsafe { libc::ioctl(file.as_raw_fd(), request as _, &raw mut value) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value)
}

fn device_size(file: &File) -> io::Result<u64> {
    let mut value: u64 = 0;
    // SAFETY: BLKGETSIZE64 writes one `u64`.
    if unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64 as _, &raw mut value) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(value)
}

fn error(reason: &'static str, message: String) -> OpenError {
    OpenError { reason, message }
}

/// What is the same for files and devices.
fn common_error(path: &str, e: &io::Error) -> OpenError {
    match e.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => error(
            "PermissionDenied",
            format!(
                "{path}: permission denied: let user {} read and write it",
                effective_user()
            ),
        ),
        Some(libc::ENOTDIR) => error("BackendNotFound", format!("{path}: a part of the path is no directory")),
        Some(libc::ELOOP) => error("BackendNotFound", format!("{path}: too many symbolic links")),
        Some(libc::ENAMETOOLONG) => error("InvalidPath", format!("{path}: the name is too long")),
        Some(libc::EMFILE | libc::ENFILE) => error(
            "TooManyOpenFiles",
            format!("{path}: too many open files: raise the limit (ulimit -n)"),
        ),
        _ => error("OpenFailed", format!("{path}: {e}")),
    }
}

fn device_error(path: &str, e: &io::Error, read_only: bool) -> OpenError {
    match e.raw_os_error() {
        Some(libc::ENOENT) => error(
            "BackendNotFound",
            format!("{path} does not exist: attach the device, or correct the path"),
        ),
        Some(libc::ENXIO | libc::ENODEV | libc::ENOMEDIUM) => error(
            "BackendNotFound",
            format!("{path} has no device behind it: attach it, or correct the path"),
        ),
        Some(libc::EBUSY) => error(
            "BackendBusy",
            format!("{path} is in use (mounted, or claimed by another namespace or process): release it there first"),
        ),
        Some(libc::EROFS) => read_only_device(path),
        Some(libc::EACCES) if !read_only && opens_for_reading_only(path) => read_only_device(path),
        _ => common_error(path, e),
    }
}

fn read_only_device(path: &str) -> OpenError {
    error(
        "ReadOnlyBackend",
        format!("{path} is a read-only device: make it writable, or set readOnly: true"),
    )
}

/// Linux answers a writer of a read-only block device with `EACCES`; this tells it from missing permission.
fn opens_for_reading_only(path: &str) -> bool {
    File::open(path).is_ok_and(|file| integer_ioctl(&file, BLKROGET).is_ok_and(|flag| flag != 0))
}

fn file_error(path: &str, e: &io::Error) -> OpenError {
    match e.raw_os_error() {
        Some(libc::ENOENT) => {
            let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
            if parent.is_dir() {
                error(
                    "BackendNotFound",
                    format!("{path} does not exist: create it, or correct the path"),
                )
            } else {
                error(
                    "BackendNotFound",
                    format!(
                        "{path}: the directory {} does not exist: create or mount it, or correct the path",
                        parent.display()
                    ),
                )
            }
        }
        Some(libc::ENOSPC | libc::EDQUOT) => error(
            "NoSpace",
            format!("{path}: no space left on the filesystem or quota: free some, or ask for less"),
        ),
        Some(libc::EFBIG | libc::EINVAL) => error(
            "InvalidSize",
            format!("{path}: the filesystem cannot hold a file of this size: ask for less"),
        ),
        Some(libc::EROFS) => error(
            "ReadOnlyBackend",
            format!(
                "{path}: the filesystem is read-only: remount it writable, or set readOnly: true on an existing file"
            ),
        ),
        Some(libc::ETXTBSY) => error("BackendBusy", format!("{path} is being executed: name another file")),
        _ => common_error(path, e),
    }
}

fn effective_user() -> u32 {
    // SAFETY: never fails, no preconditions.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
impl Disk {
    /// A disk around any open file, for what no real disk does on demand.
    pub(super) fn of_file(file: File, size_bytes: u64) -> Self {
        Self {
            file,
            path: "test".to_owned(),
            kind: Kind::File,
            size_bytes: AtomicU64::new(size_bytes),
            block_shift: FILE_BLOCK_SHIFT,
            memory_alignment: 1,
            read_only: false,
        }
    }
}
