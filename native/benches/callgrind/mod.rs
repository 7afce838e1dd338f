//! Instructions by where they were executed, as valgrind (callgrind) counts them: they do not depend on the machine's
//! load.

#![allow(dead_code)] // Each benchmark uses its part.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// What a profile says about parts of a program.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// Instructions of each function with all it called: caller, callee, instructions.
    calls: Vec<(String, String, u64)>,
    /// All instructions.
    pub all: u64,
}

impl Profile {
    /// Runs this program with these arguments under callgrind, and collects inside of functions whose names match
    /// `inside` (with `*`) only.
    ///
    /// # Errors
    /// Why there is no profile.
    pub fn collect(inside: &str, arguments: &[&str]) -> Result<Self, String> {
        Self::run(inside, arguments, &[])
    }

    /// The same for a program that says itself from when on it is watched, by [`start`]: what comes before costs a
    /// tenth of the time.
    ///
    /// # Errors
    /// Why there is no profile.
    pub fn collect_from_start(inside: &str, arguments: &[&str]) -> Result<Self, String> {
        Self::run(inside, arguments, &["--instr-atstart=no"])
    }

    fn run(inside: &str, arguments: &[&str], options: &[&str]) -> Result<Self, String> {
        let this = std::env::current_exe().map_err(|e| format!("this program's path: {e}"))?;
        let name = format!("weir-{}-{}.callgrind", std::process::id(), arguments.join("-"));
        let out = std::env::temp_dir().join(name);
        let result = Command::new("valgrind")
            .args(["--tool=callgrind", &format!("--toggle-collect={inside}")])
            .args(options)
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(this)
            .args(arguments)
            .output()
            .map_err(|e| format!("valgrind cannot be started ({e}): install it"))?;
        if !result.status.success() {
            return Err(format!("valgrind failed:\n{}", String::from_utf8_lossy(&result.stderr)));
        }
        Self::read(&out)
    }

    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let _ = std::fs::remove_file(path);
        Ok(Self::parse(&text))
    }

    /// Takes in what callgrind wrote: lines of costs below `fn=`, and calls (`cfn=`, `calls=`) whose next line is the
    /// callee's cost with all it called.
    fn parse(text: &str) -> Self {
        let mut names: HashMap<String, String> = HashMap::new();
        let mut name_of = |value: &str| match value.split_once(' ') {
            // A name is written once, with its number; then only the number.
            Some((number, name)) => {
                names.insert(number.to_owned(), name.to_owned());
                name.to_owned()
            }
            None => names.get(value).cloned().unwrap_or_default(),
        };
        let mut profile = Self::default();
        let (mut caller, mut callee, mut is_call) = (String::new(), String::new(), false);
        for line in text.lines() {
            if let Some(value) = line.strip_prefix("fn=") {
                caller = name_of(value);
            } else if let Some(value) = line.strip_prefix("cfn=") {
                callee = name_of(value);
            } else if line.starts_with("calls=") {
                is_call = true;
            } else if line.starts_with(['+', '-', '*']) || line.starts_with(|first: char| first.is_ascii_digit()) {
                let cost: u64 = line.split(' ').nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
                if is_call {
                    profile.calls.push((caller.clone(), callee.clone(), cost));
                } else {
                    profile.all += cost;
                }
                is_call = false;
            }
        }
        profile
    }

    /// Instructions of calls, with all they called in turn, that `is` says yes to: caller's and callee's name.
    pub fn calls(&self, is: impl Fn(&str, &str) -> bool) -> u64 {
        let found = self.calls.iter().filter(|(caller, callee, _)| is(caller, callee));
        found.map(|(_, _, cost)| cost).sum()
    }

    /// Instructions of calls into functions that `is` says yes to, from functions that it says no to.
    pub fn entered(&self, is: impl Fn(&str) -> bool) -> u64 {
        self.calls(|caller, callee| is(callee) && !is(caller))
    }
}

/// Tells callgrind to watch the program from here on; nothing happens where it does not run.
#[cfg(target_arch = "x86_64")]
pub fn start() {
    /// `CALLGRIND_START_INSTRUMENTATION` of valgrind's callgrind.h.
    const START_INSTRUMENTATION: u64 = 0x4354_0004;
    let request = [START_INSTRUMENTATION, 0, 0, 0, 0, 0];
    // SAFETY: valgrind's client request (valgrind.h): rotations of rdi by 128 bits altogether and an exchange of rbx with
    // itself change nothing where valgrind does not run; where it does, it reads the request that rax points to and
    // puts its answer into rdx.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") request.as_ptr(),
            inout("rdx") 0_u64 => _,
        );
    }
}

/// Tells callgrind to watch the program from here on.
#[cfg(not(target_arch = "x86_64"))]
pub fn start() {
    panic!("callgrind can be told so on x86-64 only");
}

/// A call of the simulated provider, through the meter around it or when one of its objects is dropped.
pub fn is_provider(name: &str) -> bool {
    name.contains("Metered") || (name.contains("provider::sim::") && !name.contains("engine::"))
}
