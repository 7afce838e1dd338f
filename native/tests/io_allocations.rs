//! The way of an I/O allocates nothing: from the poller through the controller to memory, `io_uring` and the threads that
//! stand in for it. What the simulated provider allocates is left out.

mod support;

use support::allocations::{CountingAllocator, total};
use support::steady::{Pace, Steady};
use weir_core::backend::BackingSpec;
use weir_core::backend::host::{DiskEngine, HostBackend};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const ROUNDS: usize = 8;
const DEPTH: usize = 32;

fn assert_no_allocation(backend: &HostBackend, spec: &BackingSpec) {
    let mut steady = Steady::new(backend, spec);
    assert!(total() > 0, "connecting allocates, and the counter sees it");
    for pace in [Pace::Reads, Pace::InCapsuleWrites, Pace::KeyedWrites, Pace::Flushes] {
        let before = total();
        (0..ROUNDS).for_each(|_| steady.round(pace, DEPTH));
        assert_eq!(
            total() - before,
            0,
            "{pace:?} on {spec:?} in {} commands",
            ROUNDS * DEPTH
        );
    }
    // The simulator forgives nothing that is torn down out of order, and tearing down is not the subject here.
    std::mem::forget(steady);
}

#[test]
fn io_on_memory_allocates_nothing() {
    let backend = HostBackend::with_engine(DiskEngine::Threads);
    assert_no_allocation(&backend, &BackingSpec::Memory { size_bytes: 4 << 20 });
}

#[test]
fn io_on_null_allocates_nothing() {
    // Writes are discarded, so only reads of zeroes before any write are looked at by the host.
    let backend = HostBackend::with_engine(DiskEngine::Threads);
    let mut steady = Steady::reads_only(&backend, &BackingSpec::Null { size_bytes: 4 << 20 });
    let before = total();
    (0..ROUNDS).for_each(|_| steady.round(Pace::Reads, DEPTH));
    assert_eq!(total() - before, 0);
    std::mem::forget(steady);
}

#[test]
fn io_on_a_file_allocates_nothing() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    for (name, engine) in [("uring", DiskEngine::Automatic), ("threads", DiskEngine::Threads)] {
        let spec = BackingSpec::File {
            path: directory.path().join(name).to_str().expect("a plain path").to_owned(),
            size_bytes: 4 << 20,
            read_only: false,
        };
        assert_no_allocation(&HostBackend::with_engine(engine), &spec);
    }
}
