//! Pause between attempts.

use std::time::Duration;

use super::{BACKOFF_FIRST, Settings};

/// Pause after the `attempt`th failure in a row (from 1): doubles from [`BACKOFF_FIRST`] up to `backoff_max`, of which
/// a deterministic jitter takes away up to half.
#[must_use]
pub fn backoff(settings: &Settings, epoch: u64, attempt: u32) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let full = (BACKOFF_FIRST * (1 << doublings)).min(settings.backoff_max.max(BACKOFF_FIRST));
    let half_us = u64::try_from(full.as_micros() / 2).unwrap_or(u64::MAX);
    let draw = mix(settings.seed ^ mix(mix(epoch) ^ u64::from(attempt)));
    full - Duration::from_micros(if half_us == 0 { 0 } else { draw % half_us })
}

/// SplitMix64's finaliser: spreads neighbouring inputs over all 64 bits.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn settings(seed: u64) -> Settings {
        Settings {
            hold: Duration::ZERO,
            drain_timeout: Duration::ZERO,
            up_stabilization: Duration::ZERO,
            backoff_max: Duration::from_secs(30),
            seed,
        }
    }

    #[test]
    fn pauses_double_up_to_the_limit_and_never_shrink_below_half() {
        for attempt in 1..40 {
            let full = (BACKOFF_FIRST * (1 << (attempt - 1).min(16))).min(Duration::from_secs(30));
            let pause = backoff(&settings(7), 3, attempt);
            assert!(
                pause <= full && pause >= full / 2,
                "attempt {attempt}: {pause:?} of {full:?}"
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_pause_and_ports_do_not_retry_in_step() {
        assert_eq!(backoff(&settings(1), 2, 5), backoff(&settings(1), 2, 5));
        assert_ne!(backoff(&settings(1), 2, 5), backoff(&settings(2), 2, 5));
    }

    #[test]
    fn a_limit_below_the_first_pause_does_not_make_a_busy_loop() {
        let tight = Settings {
            backoff_max: Duration::ZERO,
            ..settings(1)
        };
        assert!(backoff(&tight, 1, 1) >= BACKOFF_FIRST / 2);
    }

    #[test]
    fn the_mixing_is_that_of_splitmix64() {
        // The first output of the generator for this seed, as its authors' implementation gives it.
        assert_eq!(mix(1_234_567), 6_457_827_717_110_365_317);
    }

    #[test]
    fn pauses_differ_by_epoch_and_by_attempt_whatever_the_seed() {
        for seed in [0, 7, u64::MAX] {
            let longest = |epoch, attempt| backoff(&settings(seed), epoch, attempt);
            let by_epoch: BTreeSet<Duration> = (1..=20).map(|epoch| longest(epoch, 12)).collect();
            let by_attempt: BTreeSet<Duration> = (12..32).map(|attempt| longest(3, attempt)).collect();
            assert_eq!((by_epoch.len(), by_attempt.len()), (20, 20), "seed {seed}");
        }
    }
}
