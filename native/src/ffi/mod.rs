//! The C ABI, version 1. Every call returns at once; strings are UTF-8 with explicit lengths; no caller's memory is
//! kept; no panic crosses.
//!
//! | code | means |
//! |---|---|
//! | 0 | done |
//! | -1 | not JSON |
//! | -2 | JSON, but not what was expected: the message names the field |
//! | -3 | not in this state, or a pointer is missing, or a buffer is too short |
//! | -4 | the system refused |
//! | -5 | a panic was caught |

use std::ffi::c_char;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::backend::host::HostBackend;
use crate::engine::control::events::Event;
use crate::link::Monitor;
use crate::provider::verbs::VerbsProvider;
use crate::runtime::{Core, CoreOptions, ExitProcess};
use crate::soft_device::{self, ByNotes, KernelLinks};
use crate::subsystem::spec::DesiredState;
use crate::subsystem::validate::SpecError;

/// Version of this ABI; raised by every change that a caller could notice.
const ABI_VERSION: u32 = 1;

/// Longest text a caller may hand over.
const INPUT_BYTES_MAX: u64 = 64 << 20;

/// Bytes of the event ring when the options do not say.
const EVENT_RING_BYTES_DEFAULT: usize = 1 << 20;

/// Most bytes of the event ring.
const EVENT_RING_BYTES_MAX: usize = 256 << 20;

/// Longest drain.
const DRAIN_MAX: Duration = Duration::from_secs(3600);

/// Why a call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    code: i32,
    message: String,
}

impl Failure {
    const NOT_JSON: i32 = -1;
    const INVALID: i32 = -2;
    const WRONG_STATE: i32 = -3;
    const SYSTEM: i32 = -4;
    const PANIC: i32 = -5;

    fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct OpenOptions {
    /// For people who look at a core dump; the desired state carries its own.
    #[serde(default)]
    #[expect(dead_code, reason = "part of the ABI; the core does not need it yet")]
    node_name: String,
    #[serde(default = "default_event_ring_bytes")]
    event_ring_bytes: usize,
    /// Processors to pin pollers to, round and round.
    #[serde(default)]
    poller_processors: Vec<usize>,
    /// Where notes for the next process are kept.
    #[serde(default)]
    state_directory: Option<PathBuf>,
    /// Where keys of hosts are, as kubelet mounts Secrets.
    #[serde(default)]
    secrets_directory: Option<PathBuf>,
}

fn default_event_ring_bytes() -> usize {
    EVENT_RING_BYTES_DEFAULT
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DrainOptions {
    timeout_milliseconds: u64,
}

/// The version of this ABI.
#[unsafe(no_mangle)]
pub extern "C" fn weir_abi_version() -> u32 {
    ABI_VERSION
}

/// Opens a core that serves nothing yet. Options: `{"nodeName": "…", "eventRingBytes": 1048576, "stateDirectory":
/// "…"}`, all optional. Without a state directory, one that outlives the process, no soft RDMA device is made anew.
/// With one, what the process before asked for is done first: that takes up to 30 s, once.
///
/// # Safety
/// `options` names `options_len` readable bytes, `core` a writable pointer, `error` `error_capacity` writable bytes or
/// is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weir_open(
    options: *const c_char,
    options_len: u64,
    core: *mut *mut Core,
    error: *mut u8,
    error_capacity: u64,
) -> i32 {
    // SAFETY: promised by the caller.
    let (options, mut error) = unsafe { (input(options, options_len), ErrorText::new(error, error_capacity)) };
    error.report(|| {
        if core.is_null() {
            return Err(Failure::new(Failure::WRONG_STATE, "core must not be null"));
        }
        let opened = Box::new(open(options?)?);
        // SAFETY: not null, and writable as promised by the caller.
        unsafe { core.write(Box::into_raw(opened)) };
        Ok(())
    })
}

fn open(options: &[u8]) -> Result<Core, Failure> {
    let options: OpenOptions = parse(options)?;
    if options.event_ring_bytes > EVENT_RING_BYTES_MAX {
        let message = format!("eventRingBytes: must be at most {EVENT_RING_BYTES_MAX}");
        return Err(Failure::new(Failure::INVALID, message));
    }
    let system = |error: std::io::Error| Failure::new(Failure::SYSTEM, error.to_string());
    let links = Monitor::open().map_err(system)?;
    let directory = options.state_directory.as_deref();
    let recreated = directory.map(|directory| soft_device::carry_out(directory, &KernelLinks));
    let options = CoreOptions {
        event_ring_bytes: options.event_ring_bytes,
        poller_processors: options.poller_processors,
        exit: Arc::new(ExitProcess),
        recreation: directory.map(|directory| Box::new(ByNotes::new(directory, KernelLinks)) as _),
        reports: recreated.into_iter().flatten().map(recreation_report).collect(),
        secrets_directory: options.secrets_directory,
    };
    Core::start(VerbsProvider::new(), HostBackend::new(), Box::new(links), options).map_err(system)
}

fn recreation_report(outcome: soft_device::Outcome) -> Event {
    let (result, message) = match outcome.error {
        None => ("succeeded", "the device was deleted and added".to_owned()),
        Some(error) => ("failed", error),
    };
    Event::SoftDeviceRecreation {
        device: outcome.device.device,
        netdev: outcome.device.netdev,
        result,
        message,
    }
}

/// Takes over `{"generation": N, "spec": {…}}`. Schema and bounds are checked here; a refused one changes nothing. The
/// rest is told by events and statistics.
///
/// # Safety
/// `core` is from [`weir_open`] and not closed; `json` names `len` readable bytes, `error` `error_capacity` writable
/// bytes or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weir_apply(
    core: *mut Core,
    json: *const c_char,
    len: u64,
    error: *mut u8,
    error_capacity: u64,
) -> i32 {
    // SAFETY: promised by the caller.
    let (core, json, mut error) = unsafe { (core.as_ref(), input(json, len), ErrorText::new(error, error_capacity)) };
    error.report(|| {
        let core = core.ok_or_else(not_open)?;
        let desired = DesiredState::from_json(json?).map_err(|error| match error {
            SpecError::NotJson(_) => Failure::new(Failure::NOT_JSON, error.to_string()),
            SpecError::Invalid(_) => Failure::new(Failure::INVALID, error.to_string()),
        })?;
        core.apply(desired)
            .map_err(|error| Failure::new(Failure::WRONG_STATE, error.to_string()))
    })
}

/// Begins a graceful drain, `{"timeoutMilliseconds": N}`; it ends with the event `drained`.
///
/// # Safety
/// As [`weir_apply`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weir_drain(
    core: *mut Core,
    json: *const c_char,
    len: u64,
    error: *mut u8,
    error_capacity: u64,
) -> i32 {
    // SAFETY: promised by the caller.
    let (core, json, mut error) = unsafe { (core.as_ref(), input(json, len), ErrorText::new(error, error_capacity)) };
    error.report(|| {
        let core = core.ok_or_else(not_open)?;
        let options: DrainOptions = parse(json?)?;
        core.drain(Duration::from_millis(options.timeout_milliseconds).min(DRAIN_MAX));
        Ok(())
    })
}

/// Readable end of a non-blocking socket pair: one byte or more means that there are events. It belongs to the core;
/// whoever wants to close it duplicates it first. Negative: a code.
///
/// # Safety
/// `core` is from [`weir_open`] and not closed, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weir_event_fd(core: *mut Core) -> RawFd {
    // SAFETY: promised by the caller.
    let core = unsafe { core.as_ref() };
    catch_unwind(AssertUnwindSafe(|| core.map_or(Failure::WRONG_STATE, Core::event_fd))).unwrap_or(Failure::PANIC)
}

/// Takes events: whole JSON lines, oldest first, as many as fit; the bytes written, 0 for none. Negative: a code; -3
/// also when not even one line fits (64 KiB always do).
///
/// # Safety
/// `core` is from [`weir_open`] and not closed, or null; `buffer` names `capacity` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weir_take_events(core: *mut Core, buffer: *mut u8, capacity: u64) -> i64 {
    // SAFETY: promised by the caller.
    let (core, buffer) = unsafe { (core.as_ref(), output(buffer, capacity)) };
    let take = || match (core, buffer) {
        (Some(core), Some(buffer)) => match core.take_events(buffer) {
            Ok(written) => i64::try_from(written).unwrap_or(i64::MAX),
            Err(_) => Failure::WRONG_STATE.into(),
        },
        _ => Failure::WRONG_STATE.into(),
    };
    catch_unwind(AssertUnwindSafe(take)).unwrap_or(Failure::PANIC.into())
}

/// The statistics as one JSON document: the bytes needed; they are written only if they fit. Negative: a code.
///
/// # Safety
/// `core` is from [`weir_open`] and not closed, or null; `buffer` names `capacity` writable bytes, or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weir_stats(core: *mut Core, buffer: *mut u8, capacity: u64) -> i64 {
    // SAFETY: promised by the caller.
    let (core, buffer) = unsafe { (core.as_ref(), output(buffer, capacity)) };
    let read = || {
        let Some(core) = core else {
            return i64::from(Failure::WRONG_STATE);
        };
        let text = core.statistics();
        if let Some(target) = buffer.and_then(|buffer| buffer.get_mut(..text.len())) {
            target.copy_from_slice(text.as_bytes());
        }
        i64::try_from(text.len()).unwrap_or(i64::MAX)
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or(Failure::PANIC.into())
}

/// Closes a core: drains shortly if that was not done, stops its threads, closes its descriptors. Bounded in time.
///
/// # Safety
/// `core` is from [`weir_open`], or null; it is gone afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn weir_close(core: *mut Core) {
    if core.is_null() {
        return;
    }
    // SAFETY: it came from `Box::into_raw` in `weir_open`, and the caller gives it up.
    let core = unsafe { Box::from_raw(core) };
    let _ = catch_unwind(AssertUnwindSafe(|| core.close()));
}

fn not_open() -> Failure {
    Failure::new(Failure::WRONG_STATE, "the core is not open")
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| {
        let code = if error.is_data() {
            Failure::INVALID
        } else {
            Failure::NOT_JSON
        };
        Failure::new(code, error.to_string())
    })
}

/// # Safety
/// `bytes` names `length` readable bytes that outlive the result, or is null.
unsafe fn input<'a>(bytes: *const c_char, length: u64) -> Result<&'a [u8], Failure> {
    if length > INPUT_BYTES_MAX {
        return Err(Failure::new(
            Failure::INVALID,
            format!("the text is longer than {INPUT_BYTES_MAX} bytes"),
        ));
    }
    match usize::try_from(length) {
        Ok(_) if bytes.is_null() => Err(Failure::new(Failure::NOT_JSON, "there is no text")),
        // SAFETY: not null, and readable as promised by the caller.
        Ok(length) => Ok(unsafe { std::slice::from_raw_parts(bytes.cast(), length) }),
        Err(_) => Err(Failure::new(Failure::INVALID, "the text is too long")),
    }
}

/// # Safety
/// `buffer` names `capacity` writable bytes that nothing else touches while the result lives, or is null.
unsafe fn output<'a>(buffer: *mut u8, capacity: u64) -> Option<&'a mut [u8]> {
    let capacity = usize::try_from(capacity)
        .ok()
        .filter(|capacity| isize::try_from(*capacity).is_ok())?;
    if buffer.is_null() {
        return None;
    }
    // SAFETY: not null, and writable as promised by the caller.
    Some(unsafe { std::slice::from_raw_parts_mut(buffer, capacity) })
}

/// Where a call's error message goes: UTF-8, ended by a zero byte, cut to what fits.
struct ErrorText<'a>(Option<&'a mut [u8]>);

impl ErrorText<'_> {
    /// # Safety
    /// As [`output`].
    unsafe fn new(buffer: *mut u8, capacity: u64) -> Self {
        // SAFETY: promised by the caller.
        Self(unsafe { output(buffer, capacity) })
    }

    /// Runs a call; its code, with the message written.
    fn report(&mut self, call: impl FnOnce() -> Result<(), Failure>) -> i32 {
        let failure = match catch_unwind(AssertUnwindSafe(call)) {
            Ok(Ok(())) => return 0,
            Ok(Err(failure)) => failure,
            Err(payload) => Failure::new(Failure::PANIC, crate::runtime::panic_message(&*payload)),
        };
        self.write(&failure.message);
        failure.code
    }

    fn write(&mut self, message: &str) {
        let Some(buffer) = self.0.as_deref_mut().filter(|buffer| !buffer.is_empty()) else {
            return;
        };
        let mut length = message.len().min(buffer.len() - 1);
        while !message.is_char_boundary(length) {
            length -= 1;
        }
        buffer[..length].copy_from_slice(&message.as_bytes()[..length]);
        buffer[length] = 0;
    }
}

#[cfg(test)]
mod tests;
