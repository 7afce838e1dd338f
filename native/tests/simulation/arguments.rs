//! The command line.

use std::time::Duration;

use weir_core::simulation::deliberate_fault::DeliberateFault;

/// Text of `--help`.
pub const HELP: &str = "\
The production engine on a simulated machine, by seeds.

  --seeds N            so many seeds (default: the fixed ones and a fresh one)
  --seed S             the first seed; alone: only this one
  --steps N            steps of trouble in each run
  --report FILE        writes what happened as JSON
  --threads N          default: as many as there are processors
  --stimuli LIST       of what went wrong in the whole run only these, by number: what shrinking left
  --stop-after N       the trouble ends after so many steps
  --sooner N           what is left of what went wrong comes so many steps earlier
  --schedule N         another order of turns than the seed's: what shrinking found it with
  --without-hosts LIST hosts that do nothing, by number
  --shrink-seconds N   time to spend on making a failing run shorter (default 60; 0: none)
  --fault NAME         builds in a deliberate fault; the first failure ends the run
  --check              what `npm test` does: default seeds, coverage, the simulator's own tests";

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments {
    pub help: bool,
    pub check: bool,
    pub seeds: Option<u64>,
    pub seed: Option<u64>,
    pub steps: Option<u64>,
    pub report: Option<String>,
    pub threads: Option<usize>,
    pub stimuli: Option<Vec<usize>>,
    pub stop_after: Option<u64>,
    pub sooner: u64,
    pub schedule: u64,
    pub without_hosts: Vec<usize>,
    pub shrinking: Option<Duration>,
    pub fault: Option<DeliberateFault>,
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{name} {text}: a natural number is expected"))
}

fn list(name: &str, text: &str) -> Result<Vec<usize>, String> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| number(name, part))
        .collect()
}

/// Parses it.
///
/// # Errors
/// What is wrong.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed = Arguments::default();
    let mut arguments = arguments.peekable();
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--help" | "-h" => {
                parsed.help = true;
                continue;
            }
            "--check" => {
                parsed.check = true;
                continue;
            }
            _ => {}
        }
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--seeds" => parsed.seeds = Some(number(&name, &value)?),
            "--seed" => parsed.seed = Some(number(&name, &value)?),
            "--steps" => parsed.steps = Some(number(&name, &value)?),
            "--report" => parsed.report = Some(value),
            "--threads" => parsed.threads = Some(number(&name, &value)?),
            "--stimuli" => parsed.stimuli = Some(list(&name, &value)?),
            "--stop-after" => parsed.stop_after = Some(number(&name, &value)?),
            "--sooner" => parsed.sooner = number(&name, &value)?,
            "--schedule" => parsed.schedule = number(&name, &value)?,
            "--without-hosts" => parsed.without_hosts = list(&name, &value)?,
            "--shrink-seconds" => parsed.shrinking = Some(Duration::from_secs(number(&name, &value)?)),
            "--fault" => {
                let known = DeliberateFault::ALL
                    .into_iter()
                    .find(|fault| format!("{fault:?}") == value);
                parsed.fault =
                    Some(known.ok_or_else(|| format!("no fault {value}; there are {:?}", DeliberateFault::ALL))?);
            }
            _ => return Err(format!("{name} is not an option")),
        }
    }
    Ok(parsed)
}
