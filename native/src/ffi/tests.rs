use std::ptr;
use std::sync::Mutex;
use std::time::Instant;

use serde_json::Value;

use super::*;

/// Descriptors and threads are counted: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

const SPEC: &str = r#"{"generation": 3, "spec": {
    "nodeName": "node-a", "target": "storage/fast",
    "listeners": [{"name": "storage", "addressFrom": {"interface": "weir-none0"}}],
    "subsystems": [{"nqn": "nqn.2026-11.dev.weir:fast", "namespaces": [
        {"nsid": 1, "backend": {"memory": {"sizeBytes": 1048576}}},
        {"nsid": 2, "backend": {"blockDevice": {"path": "/dev/weir-no-such-device"}}}
    ]}]
}}"#;

fn open_core(options: &str) -> Result<*mut Core, (i32, String)> {
    let mut core = ptr::null_mut();
    let mut error = [0_u8; 512];
    // SAFETY: everything lives in this frame.
    let code = unsafe {
        weir_open(
            options.as_ptr().cast(),
            options.len() as u64,
            &raw mut core,
            error.as_mut_ptr(),
            error.len() as u64,
        )
    };
    if code == 0 {
        Ok(core)
    } else {
        Err((code, text_of(&error)))
    }
}

fn text_of(error: &[u8]) -> String {
    let end = error.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(error[..end].to_vec()).unwrap()
}

fn apply(core: *mut Core, json: &str) -> (i32, String) {
    let mut error = [0_u8; 512];
    // SAFETY: everything lives in this frame; the core is open.
    let code = unsafe {
        weir_apply(
            core,
            json.as_ptr().cast(),
            json.len() as u64,
            error.as_mut_ptr(),
            error.len() as u64,
        )
    };
    (code, text_of(&error))
}

fn statistics(core: *mut Core) -> Value {
    let mut buffer = vec![0; 64];
    loop {
        // SAFETY: the core is open; the buffer lives in this frame.
        let needed = unsafe { weir_stats(core, buffer.as_mut_ptr(), buffer.len() as u64) };
        let needed = usize::try_from(needed).unwrap();
        if needed <= buffer.len() {
            return serde_json::from_slice(&buffer[..needed]).unwrap();
        }
        // It may have grown again by the next call.
        buffer.resize(needed + 4096, 0);
    }
}

fn events(core: *mut Core) -> Vec<Value> {
    let mut buffer = vec![0; 64 << 10];
    // SAFETY: the core is open; the buffer lives in this frame.
    let length = unsafe { weir_take_events(core, buffer.as_mut_ptr(), buffer.len() as u64) };
    let length = usize::try_from(length).unwrap();
    let lines = buffer[..length]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Waits until the statistics are as wished.
fn wait_for(core: *mut Core, wished: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let now = statistics(core);
        if wished(&now) {
            return now;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{now:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn own_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("weir-")).count()
}

#[test]
fn a_core_without_rdma_takes_a_desired_state_says_why_it_cannot_serve_and_leaves_nothing_behind() {
    let _alone = ALONE.lock();
    // The first one loads what stays loaded.
    let warm = open_core("{}").unwrap();
    // SAFETY: it is open, and not used again.
    unsafe { weir_close(warm) };
    let before = open_descriptors();
    let core = open_core(r#"{"nodeName": "node-a", "eventRingBytes": 131072}"#).unwrap();
    assert_eq!(apply(core, SPEC), (0, String::new()));
    let now = wait_for(core, |now| {
        now["generation"] == 3 && now["namespaces"][0]["state"] == "Ready" && now["namespaces"][1]["state"] == "Failed"
    });
    assert_eq!(now["state"], "Running");
    let listener = &now["listeners"][0];
    assert_eq!(
        (&listener["phase"], &listener["reason"]),
        (&"Down".into(), &"InterfaceNotFound".into())
    );
    assert_eq!(now["namespaces"][0]["sizeBytes"], 1_048_576);
    assert_eq!(now["namespaces"][0]["volatile"], true);
    assert!(!now["namespaces"][1]["message"].as_str().unwrap().is_empty());
    assert_eq!(now["pollers"].as_array().unwrap().len(), 1);
    assert_eq!(own_threads(), 2);
    let types: Vec<String> = events(core)
        .iter()
        .map(|event| event["type"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        types.contains(&"applied".to_owned()) && types.contains(&"namespaceState".to_owned()),
        "{types:?}"
    );
    // SAFETY: it is open, and not used again.
    unsafe { weir_close(core) };
    assert_eq!(own_threads(), 0);
    assert_eq!(open_descriptors(), before);
}

#[test]
fn a_refused_desired_state_is_named_by_its_field_and_changes_nothing() {
    let _alone = ALONE.lock();
    let core = open_core("{}").unwrap();
    assert_eq!(apply(core, SPEC).0, 0);
    wait_for(core, |now| now["generation"] == 3);
    assert_eq!(apply(core, "{").0, -1);
    let (code, message) = apply(core, &SPEC.replace("1048576", "1048577").replace("3,", "4,"));
    assert_eq!(code, -2);
    assert!(message.contains("sizeBytes"), "{message}");
    let (code, message) = apply(core, &SPEC.replace("\"target\"", "\"traget\""));
    assert_eq!(code, -2);
    assert!(message.contains("traget"), "{message}");
    assert_eq!(statistics(core)["generation"], 3);
    // SAFETY: it is open, and not used again.
    unsafe { weir_close(core) };
}

#[test]
fn a_drain_ends_with_its_event_and_no_desired_state_is_taken_afterwards() {
    let _alone = ALONE.lock();
    let core = open_core("{}").unwrap();
    assert_eq!(apply(core, SPEC).0, 0);
    wait_for(core, |now| now["namespaces"][0]["state"] == "Ready");
    let options = r#"{"timeoutMilliseconds": 5000}"#;
    let mut error = [0_u8; 64];
    // SAFETY: everything lives in this frame; the core is open.
    let code = unsafe {
        weir_drain(
            core,
            options.as_ptr().cast(),
            options.len() as u64,
            error.as_mut_ptr(),
            error.len() as u64,
        )
    };
    assert_eq!(code, 0);
    wait_for(core, |now| now["state"] == "Drained");
    let last = events(core).pop().unwrap();
    assert_eq!(
        (&last["type"], &last["result"]),
        (&"drained".into(), &"completed".into())
    );
    assert_eq!(apply(core, SPEC).0, -3);
    // SAFETY: it is open, and not used again.
    unsafe { weir_close(core) };
}

#[test]
fn hostile_arguments_get_a_code_and_nothing_else() {
    assert_eq!(weir_abi_version(), 1);
    assert_eq!(open_core("[").unwrap_err().0, -1);
    let (code, message) = open_core(r#"{"eventRingBytes": "many"}"#).unwrap_err();
    assert_eq!(code, -2);
    assert!(message.contains("invalid type"), "{message}");
    assert_eq!(open_core(r#"{"eventRingBytes": 99999999999}"#).unwrap_err().0, -2);
    // SAFETY: null pointers are what is tested.
    unsafe {
        assert_eq!(weir_open(ptr::null(), 0, ptr::null_mut(), ptr::null_mut(), 0), -3);
        assert_eq!(weir_apply(ptr::null_mut(), ptr::null(), 0, ptr::null_mut(), 0), -3);
        assert_eq!(weir_event_fd(ptr::null_mut()), -3);
        assert_eq!(weir_take_events(ptr::null_mut(), ptr::null_mut(), 0), -3);
        assert_eq!(weir_stats(ptr::null_mut(), ptr::null_mut(), 0), -3);
        weir_close(ptr::null_mut());
    }
}

#[test]
fn error_messages_are_cut_at_a_character_and_always_ended() {
    let mut buffer = [0xff_u8; 8];
    ErrorText(Some(&mut buffer)).write("abcdefä");
    assert_eq!(&buffer[..7], b"abcdef\0");
    let mut none: [u8; 0] = [];
    ErrorText(Some(&mut none)).write("x");
    ErrorText(None).write("x");
}
