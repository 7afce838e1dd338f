//! Real files, real memory, both engines.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::provider::Arena;

const MIB: u64 = 1 << 20;
const ID: BackingId = BackingId(7);

/// A directory on a real disk: what direct I/O is tried on.
fn directory() -> TempDir {
    tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target"))
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn file_spec(path: &Path, size_bytes: u64) -> BackingSpec {
    BackingSpec::File {
        path: path.to_str().unwrap().to_owned(),
        size_bytes,
        read_only: false,
    }
}

fn engines() -> Vec<HostBackend> {
    let mut all = vec![HostBackend::with_engine(DiskEngine::Threads)];
    if Uring::new(1, &Notifier::new().unwrap()).is_ok() {
        all.push(HostBackend::with_engine(DiskEngine::Uring));
    } else {
        eprintln!("io_uring is not permitted here: tested with threads only");
    }
    all
}

/// A queue with one backing, and page-aligned memory.
struct Bench {
    queue: HostQueue,
    memory: Arena,
    next: u64,
}

impl Bench {
    fn new(backend: &HostBackend, backing: &Arc<HostBacking>) -> Self {
        let mut queue = backend.queue(32).unwrap();
        queue.attach(ID, Arc::clone(backing));
        Self {
            queue,
            memory: Arena::allocate(4 * MIB as usize).unwrap(),
            next: 0,
        }
    }

    #[allow(clippy::mut_from_ref)]
    fn bytes(&self, at: usize, length: usize) -> &mut [u8] {
        // SAFETY: tests touch memory only between completions.
        unsafe { self.memory.slice(at, length) }
    }

    fn push(&mut self, operation: IoOperation, offset: u64, length: u64, at: usize) -> u64 {
        self.next += 1;
        let request = IoRequest {
            token: self.next,
            backing: ID,
            operation,
            offset,
            length,
            memory: self.memory.address(at),
        };
        self.queue.push(&request).unwrap();
        self.next
    }

    fn wait(&mut self, count: usize) -> Vec<IoCompletion> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut all = Vec::new();
        let mut some = [IoCompletion::EMPTY; 4];
        self.queue.submit();
        while all.len() < count {
            assert!(Instant::now() < deadline, "I/O did not finish");
            let taken = self.queue.poll(&mut some);
            all.extend_from_slice(&some[..taken]);
        }
        all
    }

    fn run(&mut self, operation: IoOperation, offset: u64, length: u64, at: usize) -> i32 {
        let token = self.push(operation, offset, length, at);
        let done = self.wait(1);
        assert_eq!(done[0].token, token);
        assert_eq!(self.queue.in_flight(), 0);
        done[0].errno
    }
}

const READ: IoOperation = IoOperation::Read;
const WRITE: IoOperation = IoOperation::Write { durable: false };
const DURABLE: IoOperation = IoOperation::Write { durable: true };

fn write_read_zero_deallocate(backend: &HostBackend, spec: &BackingSpec) {
    let backing = backend.open(spec).unwrap();
    let mut bench = Bench::new(backend, &backing);
    bench
        .bytes(0, 131_072)
        .iter_mut()
        .zip(0u32..)
        .for_each(|(byte, i)| *byte = (i * 7 + i / 251) as u8);
    assert_eq!(bench.run(DURABLE, 8192, 131_072, 0), 0);
    assert_eq!(bench.run(READ, 8192, 131_072, MIB as usize), 0);
    assert_eq!(bench.bytes(0, 131_072), bench.bytes(MIB as usize, 131_072));
    assert_eq!(bench.run(IoOperation::Flush, 0, 0, 0), 0);
    for deallocate in [false, true] {
        assert_eq!(bench.run(WRITE, 8192, 131_072, 0), 0);
        assert_eq!(bench.run(IoOperation::WriteZeroes { deallocate }, 12_288, 98_304, 0), 0);
        assert_eq!(bench.run(READ, 8192, 131_072, MIB as usize), 0);
        let now = bench.bytes(MIB as usize, 131_072);
        assert_eq!(now[..4096], bench.bytes(0, 131_072)[..4096]);
        assert!(now[4096..4096 + 98_304].iter().all(|byte| *byte == 0));
        assert_eq!(now[4096 + 98_304..], bench.bytes(0, 131_072)[4096 + 98_304..]);
    }
    assert_eq!(bench.run(IoOperation::Deallocate, 8192, 131_072, 0), 0);
    assert_eq!(bench.run(READ, 8192 + 131_072, 4096, 0), 0, "neighbours are untouched");
}

#[test]
fn files_and_memory_do_every_operation_with_every_engine() {
    let directory = directory();
    for (index, backend) in engines().iter().enumerate() {
        write_read_zero_deallocate(backend, &file_spec(&directory.path().join(index.to_string()), 4 * MIB));
        write_read_zero_deallocate(backend, &BackingSpec::Memory { size_bytes: 4 * MIB });
    }
}

#[test]
fn files_on_tmpfs_do_every_operation() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("no /dev/shm here: not tested");
        return;
    };
    for (index, backend) in engines().iter().enumerate() {
        write_read_zero_deallocate(backend, &file_spec(&directory.path().join(index.to_string()), 4 * MIB));
    }
}

#[test]
fn a_new_file_is_sparse_private_and_has_its_size() {
    let directory = directory();
    let path = directory.path().join("new");
    let backend = HostBackend::new();
    let backing = backend.open(&file_spec(&path, 64 * MIB)).unwrap();
    assert_eq!(
        backend.facts(&backing),
        BackingFacts {
            size_bytes: 64 * MIB,
            block_shift: 12,
            volatile: false,
            read_only: false,
            write_cache: true
        }
    );
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 64 * MIB);
    assert!(metadata.blocks() * 512 < MIB, "a new file takes no space");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_existing_file_is_grown_but_never_shrunk_and_keeps_its_content() {
    let directory = directory();
    let path = directory.path().join("old");
    std::fs::write(&path, vec![0xa5; 8192 + 100]).unwrap();
    let backend = HostBackend::new();
    let backing = backend.open(&file_spec(&path, 4096)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 8292, "longer: left as it is");
    assert_eq!(backend.facts(&backing).size_bytes, 4096);
    drop(backing);
    let backing = backend.open(&file_spec(&path, MIB)).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), MIB);
    let mut bench = Bench::new(&backend, &backing);
    assert_eq!(bench.run(READ, 0, 12_288, 0), 0);
    let bytes = bench.bytes(0, 12_288);
    assert!(bytes[..8292].iter().all(|byte| *byte == 0xa5));
    assert!(bytes[8292..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_file_grows_in_place_under_its_queue() {
    let directory = directory();
    let path = directory.path().join("grow");
    let backend = HostBackend::new();
    let backing = backend.open(&file_spec(&path, MIB)).unwrap();
    let mut bench = Bench::new(&backend, &backing);
    assert_eq!(bench.run(WRITE, MIB, 4096, 0), libc::EINVAL);
    assert_eq!(
        backend.grow(&backing, &file_spec(&path, 2 * MIB)).unwrap().size_bytes,
        2 * MIB
    );
    assert_eq!(bench.run(WRITE, MIB, 4096, 0), 0);
    let refusal = backend.grow(&backing, &file_spec(&path, MIB)).unwrap_err();
    assert_eq!(refusal.reason, "ShrinkRefused");
    assert_eq!(
        backend
            .grow(&backing, &file_spec(&path.with_extension("other"), 4 * MIB))
            .unwrap_err()
            .reason,
        "ResizeRefused"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * MIB);
}

#[test]
fn deallocate_gives_the_space_of_a_file_back() {
    let directory = directory();
    let path = directory.path().join("space");
    let backend = HostBackend::new();
    let backing = backend.open(&file_spec(&path, 8 * MIB)).unwrap();
    let mut bench = Bench::new(&backend, &backing);
    assert_eq!(bench.run(DURABLE, 0, 4 * MIB, 0), 0);
    let before = std::fs::metadata(&path).unwrap().blocks() * 512;
    assert_eq!(bench.run(IoOperation::Deallocate, 0, 4 * MIB, 0), 0);
    let after = std::fs::metadata(&path).unwrap().blocks() * 512;
    assert!(before >= 4 * MIB && after < MIB, "{before} bytes before, {after} after");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 8 * MIB);
}

#[test]
fn memory_that_direct_io_refuses_is_bounced() {
    let directory = directory();
    for (index, backend) in engines().iter().enumerate() {
        let backing = backend
            .open(&file_spec(&directory.path().join(index.to_string()), MIB))
            .unwrap();
        let mut bench = Bench::new(backend, &backing);
        let length = 65_536;
        bench
            .bytes(65, length)
            .iter_mut()
            .zip(0u32..)
            .for_each(|(byte, i)| *byte = (i * 13 + i / 256) as u8);
        assert_eq!(bench.run(WRITE, 4096, length as u64, 65), 0);
        assert_eq!(bench.run(READ, 4096, length as u64, MIB as usize + 3), 0);
        assert_eq!(bench.bytes(65, length), bench.bytes(MIB as usize + 3, length));
    }
}

#[test]
fn concurrent_overlapping_writes_never_mix_within_a_block() {
    let directory = directory();
    for (index, backend) in engines().iter().enumerate() {
        for spec in [
            file_spec(&directory.path().join(index.to_string()), MIB),
            BackingSpec::Memory { size_bytes: MIB },
        ] {
            let backing = backend.open(&spec).unwrap();
            let mut bench = Bench::new(backend, &backing);
            for writer in 0..32usize {
                bench.bytes(writer * 8192, 8192).fill(writer as u8 + 1);
                bench.push(WRITE, (writer % 2 * 4096) as u64, 8192, writer * 8192);
            }
            assert!(bench.wait(32).iter().all(|done| done.errno == 0));
            assert_eq!(bench.run(READ, 0, 12_288, MIB as usize), 0);
            for block in bench.bytes(MIB as usize, 12_288).chunks(4096) {
                assert!((1..=32).contains(&block[0]), "one of the writers");
                assert!(block.iter().all(|byte| *byte == block[0]), "a block of one writer only");
            }
        }
    }
}

#[test]
fn a_full_queue_is_back_pressure_and_drains() {
    let directory = directory();
    for (index, backend) in engines().iter().enumerate() {
        let backing = backend
            .open(&file_spec(&directory.path().join(index.to_string()), MIB))
            .unwrap();
        let mut bench = Bench::new(backend, &backing);
        for io in 0..32 {
            bench.push(READ, 0, 4096, io * 4096);
        }
        let one_more = IoRequest {
            token: 99,
            backing: ID,
            operation: READ,
            offset: 0,
            length: 4096,
            memory: bench.memory.address(0),
        };
        assert_eq!(bench.queue.push(&one_more), Err(QueueFull));
        assert_eq!(bench.queue.in_flight(), 32);
        bench.wait(32);
        assert_eq!(bench.queue.in_flight(), 0);
        assert_eq!(bench.queue.push(&one_more), Ok(()));
        bench.wait(1);
    }
}

fn readable(fd: RawFd, timeout_ms: i32) -> bool {
    let mut watch = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&raw mut watch, 1, timeout_ms) > 0 }
}

#[test]
fn completions_wake_a_sleeper_only_while_armed() {
    let directory = directory();
    for (index, backend) in engines().iter().enumerate() {
        let backing = backend
            .open(&file_spec(&directory.path().join(index.to_string()), MIB))
            .unwrap();
        let mut bench = Bench::new(backend, &backing);
        let fd = bench.queue.completion_fd().unwrap();
        assert_eq!(bench.run(WRITE, 0, 4096, 0), 0);
        assert!(!readable(fd, 0), "not armed: not announced");
        bench.queue.arm(true);
        bench.push(IoOperation::Flush, 0, 0, 0);
        bench.queue.submit();
        assert!(readable(fd, 30_000), "armed: announced");
        bench.wait(1);
        bench.queue.arm(false);
        assert!(!readable(fd, 0), "disarmed: silent again");
    }
}

#[test]
fn memory_io_left_unpolled_is_announced_when_armed() {
    let backend = HostBackend::with_engine(DiskEngine::Threads);
    let backing = backend.open(&BackingSpec::Memory { size_bytes: MIB }).unwrap();
    let mut bench = Bench::new(&backend, &backing);
    bench.push(READ, 0, 4096, 0);
    bench.queue.arm(true);
    assert!(readable(bench.queue.completion_fd().unwrap(), 0));
    bench.wait(1);
}

#[test]
fn wrong_requests_are_refused_before_they_reach_the_storage() {
    let directory = directory();
    let path = directory.path().join("file");
    std::fs::write(&path, vec![1; 8192]).unwrap();
    let backend = HostBackend::new();
    let spec = BackingSpec::File {
        path: path.to_str().unwrap().to_owned(),
        size_bytes: 8192,
        read_only: true,
    };
    let backing = backend.open(&spec).unwrap();
    let mut bench = Bench::new(&backend, &backing);
    assert_eq!(bench.run(READ, 0, 8192, 0), 0);
    assert_eq!(bench.run(READ, 4096, 8192, 0), libc::EINVAL);
    assert_eq!(bench.run(READ, u64::MAX - 4095, 8192, 0), libc::EINVAL);
    assert_eq!(bench.run(WRITE, 0, 4096, 0), libc::EROFS);
    assert_eq!(bench.run(IoOperation::Deallocate, 0, 4096, 0), libc::EROFS);
    assert_eq!(bench.run(IoOperation::Flush, 0, 0, 0), 0);
    assert_eq!(bench.run(READ, 0, 0, 0), 0);
    bench.queue.detach(ID);
    assert_eq!(bench.run(READ, 0, 4096, 0), libc::ENODEV);
    assert_eq!(std::fs::read(&path).unwrap(), vec![1; 8192]);
}

#[test]
fn a_file_truncated_by_somebody_else_gives_an_error_not_a_panic() {
    let directory = directory();
    let path = directory.path().join("cut");
    for backend in engines() {
        let backing = backend.open(&file_spec(&path, MIB)).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
        let mut bench = Bench::new(&backend, &backing);
        assert_eq!(bench.run(READ, 0, 8192, 0), libc::EIO);
    }
}

#[test]
fn detach_with_io_in_flight_keeps_the_backing_until_the_last_one() {
    let directory = directory();
    for (index, backend) in engines().iter().enumerate() {
        let backing = backend
            .open(&file_spec(&directory.path().join(index.to_string()), MIB))
            .unwrap();
        let weak = Arc::downgrade(&backing);
        let mut bench = Bench::new(backend, &backing);
        drop(backing);
        bench.push(READ, 0, 4096, 0);
        bench.queue.detach(ID);
        assert!(weak.upgrade().is_some());
        bench.wait(1);
        assert!(weak.upgrade().is_none());
    }
}

#[test]
fn a_queue_dropped_under_io_waits_for_it() {
    let directory = directory();
    for (index, backend) in engines().iter().enumerate() {
        let path = directory.path().join(index.to_string());
        let backing = backend.open(&file_spec(&path, 4 * MIB)).unwrap();
        let mut bench = Bench::new(backend, &backing);
        bench.bytes(0, MIB as usize).fill(9);
        bench.push(DURABLE, 0, MIB, 0);
        bench.queue.submit();
        drop(bench);
        let mut byte = [0];
        File::open(&path).unwrap().read_at(&mut byte, 0).unwrap();
        assert!(byte[0] == 9 || byte[0] == 0);
    }
}

#[test]
fn the_null_backing_reads_zeroes_and_takes_writes() {
    let backend = HostBackend::new();
    let backing = backend.open(&BackingSpec::Null { size_bytes: MIB }).unwrap();
    let mut bench = Bench::new(&backend, &backing);
    bench.bytes(0, 4096).fill(1);
    assert_eq!(bench.run(WRITE, 0, 4096, 0), 0);
    assert_eq!(bench.run(READ, 0, 4096, 0), 0);
    assert!(bench.bytes(0, 4096).iter().all(|byte| *byte == 0));
    assert!(backend.facts(&backing).volatile);
}

#[test]
fn several_threads_share_memory_without_tearing_blocks() {
    let backend = HostBackend::with_engine(DiskEngine::Threads);
    let backing = backend.open(&BackingSpec::Memory { size_bytes: MIB }).unwrap();
    std::thread::scope(|scope| {
        for writer in 1..=2u8 {
            let mut bench = Bench::new(&backend, &backing);
            scope.spawn(move || {
                bench.bytes(0, 16_384).fill(writer);
                for _ in 0..500 {
                    assert_eq!(bench.run(WRITE, 0, 16_384, 0), 0);
                    assert_eq!(bench.run(READ, 0, 16_384, 16_384), 0);
                    for block in bench.bytes(16_384, 16_384).chunks(4096) {
                        assert!(block.iter().all(|byte| *byte == block[0]));
                    }
                }
            });
        }
    });
}

mod errors {
    use super::*;

    fn refusal(spec: &BackingSpec) -> OpenError {
        HostBackend::with_engine(DiskEngine::Threads).open(spec).unwrap_err()
    }

    fn device(path: &str) -> BackingSpec {
        BackingSpec::BlockDevice {
            path: path.to_owned(),
            read_only: false,
            expected_size_bytes: None,
        }
    }

    #[test]
    fn a_missing_device_says_so() {
        let e = refusal(&device("/dev/weir-no-such-device"));
        assert_eq!(e.reason, "BackendNotFound");
        assert!(e.message.contains("/dev/weir-no-such-device"), "{}", e.message);
    }

    #[test]
    fn what_is_no_block_device_says_what_it_is() {
        let directory = directory();
        let path = directory.path().join("file");
        std::fs::write(&path, b"x").unwrap();
        let e = refusal(&device(path.to_str().unwrap()));
        assert_eq!(e.reason, "NotABlockDevice");
        assert!(
            e.message.contains("is a regular file") && e.message.contains("backend.file"),
            "{}",
            e.message
        );
        let e = refusal(&device(directory.path().to_str().unwrap()));
        assert!(e.message.contains("is a directory"), "{}", e.message);
        assert_eq!(refusal(&device("/dev/null")).reason, "NotABlockDevice");
    }

    #[test]
    fn files_that_cannot_be_tell_why() {
        let directory = directory();
        let inside = directory.path().join("missing/file");
        let e = refusal(&file_spec(&inside, MIB));
        assert_eq!(e.reason, "BackendNotFound");
        assert!(e.message.contains("missing does not exist"), "{}", e.message);
        assert_eq!(refusal(&file_spec(directory.path(), MIB)).reason, "IsDirectory");
        assert_eq!(refusal(&file_spec(Path::new("/dev/null"), MIB)).reason, "NotAFile");
        assert_eq!(
            refusal(&file_spec(Path::new("relative/file"), MIB)).reason,
            "InvalidPath"
        );
        std::fs::write(directory.path().join("plain"), b"").unwrap();
        assert_eq!(
            refusal(&file_spec(&directory.path().join("plain/x"), MIB)).reason,
            "BackendNotFound"
        );
    }

    #[test]
    fn impossible_sizes_are_refused_and_leave_no_file() {
        let directory = directory();
        let path = directory.path().join("file");
        for size_bytes in [0, 512, 4097, 1 << 63, (1 << 62) + 4096] {
            let e = refusal(&file_spec(&path, size_bytes));
            assert_eq!(e.reason, "InvalidSize", "{}", e.message);
            assert!(!path.exists());
        }
        assert_eq!(refusal(&BackingSpec::Memory { size_bytes: 0 }).reason, "InvalidSize");
        assert_eq!(refusal(&BackingSpec::Null { size_bytes: 100 }).reason, "InvalidSize");
    }

    #[test]
    fn a_read_only_file_is_neither_created_nor_grown() {
        let directory = directory();
        let path = directory.path().join("file");
        let spec = BackingSpec::File {
            path: path.to_str().unwrap().to_owned(),
            size_bytes: MIB,
            read_only: true,
        };
        assert_eq!(refusal(&spec).reason, "BackendNotFound");
        assert!(!path.exists());
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(refusal(&spec).reason, "InvalidSize");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 5);
    }

    #[test]
    fn a_file_in_use_is_busy_until_it_is_released() {
        let directory = directory();
        let spec = file_spec(&directory.path().join("file"), MIB);
        let backend = HostBackend::with_engine(DiskEngine::Threads);
        let first = backend.open(&spec).unwrap();
        assert_eq!(backend.open(&spec).unwrap_err().reason, "BackendBusy");
        drop(first);
        backend.open(&spec).unwrap();
    }

    #[test]
    fn a_file_of_somebody_else_is_permission_denied() {
        let directory = directory();
        let path = directory.path().join("file");
        std::fs::write(&path, b"x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        // Root may read anything: give this thread, and only it, the filesystem rights of nobody.
        std::thread::spawn(move || {
            // SAFETY: changes this thread's filesystem user id only; it ends right after.
            unsafe { libc::setfsuid(65534) };
            let e = refusal(&file_spec(&path, MIB));
            assert_eq!(e.reason, "PermissionDenied", "{}", e.message);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn memory_beyond_the_limit_is_refused_and_given_back_when_closed() {
        let mut backend = HostBackend::with_engine(DiskEngine::Threads);
        backend.memory_limit_bytes = MEMORY_RESERVE_BYTES + 8 * MIB;
        let spec = BackingSpec::Memory { size_bytes: 6 * MIB };
        let first = backend.open(&spec).unwrap();
        let e = backend.open(&spec).unwrap_err();
        assert_eq!(e.reason, "InsufficientMemory");
        assert!(e.message.contains("raise the limit"), "{}", e.message);
        drop(first);
        backend.open(&spec).unwrap();
    }

    #[test]
    fn the_tightest_control_group_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("pods/memory.max", "1000\n");
        write("pods/one/memory.max", "max\n");
        write("memory/memory.limit_in_bytes", "3000\n");
        let limits = |groups: &str| control_group_limits(root.path(), groups).min();
        assert_eq!(limits("0::/pods/one\n"), Some(1000));
        assert_eq!(limits("5:cpu,memory:/not/here\n"), Some(3000));
        assert_eq!(limits("5:cpu:/\n"), None);
    }
}

/// Seccomp filters on one thread (and the threads it starts), to see which system calls are really made.
mod system_calls {
    use super::*;

    /// `errno` that no storage gives by itself.
    const MARK: i32 = libc::EDOM;

    /// Makes `number` (when argument `flags` is given: only with these flags in its 6th argument) fail with `errno` on
    /// this thread and all it starts.
    fn forbid(number: libc::c_long, flags: Option<u32>, errno: i32) {
        const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
        /// Offset of the 6th argument in `struct seccomp_data`.
        const SIXTH: u32 = 16 + 5 * 8;
        let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let mut program = vec![
            line(LOAD, 0, 0, 0),
            line(EQUAL, 0, if flags.is_some() { 3 } else { 1 }, number as u32),
        ];
        if let Some(flags) = flags {
            program.push(line(LOAD, 0, 0, SIXTH));
            program.push(line(EQUAL, 0, 1, flags));
        }
        program.push(line(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32));
        program.push(line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
        let filter = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: a valid program that outlives the call; only this thread is concerned.
        let result = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
        };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }

    fn on_a_thread(work: impl FnOnce() + Send + 'static) {
        std::thread::spawn(work).join().unwrap();
    }

    #[test]
    fn without_io_uring_threads_serve_and_a_warning_says_so() {
        on_a_thread(|| {
            forbid(libc::SYS_io_uring_setup, None, libc::EPERM);
            let directory = directory();
            let backend = HostBackend::new();
            let warning = backend.warning().unwrap();
            assert!(warning.contains("io_uring is not permitted"), "{warning}");
            write_read_zero_deallocate(&backend, &file_spec(&directory.path().join("file"), 4 * MIB));
            let e = HostBackend::with_engine(DiskEngine::Uring).queue(8).unwrap_err();
            assert!(e.to_string().contains("io_uring is not permitted"), "{e}");
        });
    }

    #[test]
    fn flush_and_forced_unit_access_of_the_threads_are_really_issued() {
        on_a_thread(|| {
            forbid(libc::SYS_pwritev2, Some(libc::RWF_DSYNC as u32), MARK);
            let directory = directory();
            let backend = HostBackend::with_engine(DiskEngine::Threads);
            let backing = backend.open(&file_spec(&directory.path().join("file"), MIB)).unwrap();
            // After opening, which syncs too.
            forbid(libc::SYS_fsync, None, MARK);
            let mut bench = Bench::new(&backend, &backing);
            assert_eq!(bench.run(WRITE, 0, 4096, 0), 0);
            assert_eq!(bench.run(DURABLE, 0, 4096, 0), MARK);
            assert_eq!(bench.run(IoOperation::Flush, 0, 0, 0), MARK);
        });
    }

    #[test]
    fn a_filesystem_without_fallocate_still_zeroes_and_ignores_advice() {
        on_a_thread(|| {
            forbid(libc::SYS_fallocate, None, libc::EOPNOTSUPP);
            let directory = directory();
            let backend = HostBackend::with_engine(DiskEngine::Threads);
            write_read_zero_deallocate(&backend, &file_spec(&directory.path().join("file"), 4 * MIB));
        });
    }

    #[test]
    fn a_disk_that_fails_to_sync_fails_the_flush() {
        for backend in engines() {
            let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
            let socket = File::from(std::os::fd::OwnedFd::from(socket));
            let backing = Arc::new(HostBacking::from(Kind::Disk(Arc::new(Disk::of_file(socket, MIB)))));
            let mut bench = Bench::new(&backend, &backing);
            assert_eq!(
                bench.run(IoOperation::Flush, 0, 0, 0),
                libc::EINVAL,
                "a socket cannot be synced"
            );
        }
    }
}

/// On a loop device, where the system lets us have one.
mod block_device {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    /// A losetup that looks for a free device claims for a moment what another one has just got.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    struct Loop {
        path: String,
        _directory: TempDir,
        _alone: MutexGuard<'static, ()>,
    }

    impl Loop {
        fn attach(options: &[&str]) -> Option<Self> {
            let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            let directory = directory();
            let image = directory.path().join("image");
            File::create(&image).unwrap().set_len(8 * MIB).unwrap();
            let output = Command::new("losetup")
                .args(["--find", "--show"])
                .args(options)
                .arg(&image)
                .output()
                .ok()?;
            if !output.status.success() {
                eprintln!("no loop device to be had: not tested");
                return None;
            }
            let path = String::from_utf8(output.stdout).unwrap().trim().to_owned();
            Some(Self {
                path,
                _directory: directory,
                _alone: alone,
            })
        }

        fn spec(&self, read_only: bool) -> BackingSpec {
            BackingSpec::BlockDevice {
                path: self.path.clone(),
                read_only,
                expected_size_bytes: None,
            }
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
        }
    }

    #[test]
    fn a_block_device_does_every_operation_and_is_claimed() {
        let Some(device) = Loop::attach(&[]) else { return };
        for backend in engines() {
            let backing = backend.open(&device.spec(false)).unwrap();
            let facts = backend.facts(&backing);
            assert_eq!(
                (facts.size_bytes, facts.block_shift, facts.volatile),
                (8 * MIB, 9, false)
            );
            let e = backend.open(&device.spec(false)).unwrap_err();
            assert_eq!(e.reason, "BackendBusy");
            drop(backing);
            write_read_zero_deallocate(&backend, &device.spec(false));
        }
    }

    #[test]
    fn a_device_that_grows_is_announced_and_has_its_new_size_in_place() {
        let Some(device) = Loop::attach(&[]) else { return };
        let backend = HostBackend::new();
        let backing = backend.open(&device.spec(false)).unwrap();
        assert_eq!(backend.facts(&backing).size_bytes, 8 * MIB);
        backend.take_changes();
        let image = device._directory.path().join("image");
        File::options()
            .write(true)
            .open(image)
            .unwrap()
            .set_len(16 * MIB)
            .unwrap();
        let status = Command::new("losetup").args(["--set-capacity", &device.path]).status();
        assert!(status.unwrap().success());
        assert!(backend.take_changes());
        assert_eq!(backend.facts(&backing).size_bytes, 16 * MIB);
        let mut bench = Bench::new(&backend, &backing);
        assert_eq!(bench.run(WRITE, 12 * MIB, 4096, 0), 0);
    }

    #[test]
    fn a_read_only_device_is_served_only_as_read_only() {
        let Some(device) = Loop::attach(&["--read-only"]) else {
            return;
        };
        let backend = HostBackend::new();
        let e = backend.open(&device.spec(false)).unwrap_err();
        assert_eq!(e.reason, "ReadOnlyBackend", "{}", e.message);
        let backing = backend.open(&device.spec(true)).unwrap();
        let mut bench = Bench::new(&backend, &backing);
        assert_eq!(bench.run(READ, 0, 4096, 0), 0);
        assert_eq!(bench.run(WRITE, 0, 4096, 0), libc::EROFS);
    }

    #[test]
    fn a_device_with_large_blocks_says_so() {
        let Some(device) = Loop::attach(&["--sector-size", "4096"]) else {
            return;
        };
        let backend = HostBackend::new();
        let backing = backend.open(&device.spec(false)).unwrap();
        assert_eq!(backend.facts(&backing).block_shift, 12);
    }
}
