//! What is counted, as one JSON document. Every key is always there.

use std::time::Duration;

use serde_json::{Value, json};

use super::backings::State;
use super::port::Port;
use super::{Control, PollerHost};
use crate::backend::Backend;
use crate::engine::counters::{Counter, Histogram, Operation, PollerCounters, duration_bounds_seconds};
use crate::nvme::status::StatusCode;
use crate::provider::Provider;

/// Hosts that are listed; all are counted.
const HOSTS_SHOWN_MAX: usize = 256;

/// Upper bounds in seconds of how long drains and recoveries take.
const BOUNDS_SECONDS: [f64; 12] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0];

/// How long something of a port took.
#[derive(Debug, Default)]
pub struct DurationHistogram {
    counts: [u64; BOUNDS_SECONDS.len() + 1],
    sum_seconds: f64,
}

impl DurationHistogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS_SECONDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS_SECONDS.len());
        self.counts[bucket] += 1;
        self.sum_seconds += seconds;
    }

    fn shown(&self) -> Value {
        json!({
            "boundsSeconds": BOUNDS_SECONDS,
            "counts": self.counts,
            "sumSeconds": self.sum_seconds,
            "count": self.counts.iter().sum::<u64>(),
        })
    }
}

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Control<P, B, H> {
    /// The statistics now. `event_ring_dropped`: events that the runtime's ring had no room for.
    #[must_use]
    pub fn statistics(&self, event_ring_dropped: u64) -> Value {
        let listeners: Vec<Value> = self
            .ports
            .values()
            .filter(|port| !port.removed)
            .map(|port| self.listener(port))
            .collect();
        let hosts: Vec<Value> = self.hosts.iter().take(HOSTS_SHOWN_MAX).map(shown_host).collect();
        let sum = |field: fn(&PollerCounters) -> &Counter| -> u64 {
            self.pollers.all_counters().map(|counters| field(counters).get()).sum()
        };
        json!({
            "generation": self.generation,
            "state": self.state_name(),
            "paths": self.paths_phase().name(),
            "listeners": listeners,
            "namespaces": self.namespaces(),
            "hosts": hosts,
            "hostsTotal": self.hosts.len(),
            "operations": self.operations(),
            "errors": self.errors(),
            "keepAliveTimeouts": sum(|counters| &counters.keep_alive_timeouts),
            "authenticationFailures": sum(|counters| &counters.authentication_failures),
            "authenticationProblems": self.authentication_problems(),
            "pollers": self.shown_pollers(),
            "verbsObjects": {"leaked": self.provider.leaked_objects()},
            "eventRingDropped": event_ring_dropped + self.journal.dropped() + sum(|counters| &counters.events_dropped),
        })
    }

    /// Hosts whose keys cannot be used: they are refused.
    fn authentication_problems(&self) -> Vec<Value> {
        let problems = self.desired.iter().flat_map(|spec| spec.key_problems());
        problems
            .map(|problem| json!({"subsystem": problem.subsystem, "hostNqn": problem.host_nqn, "message": problem.message}))
            .collect()
    }

    fn listener(&self, port: &Port<P>) -> Value {
        let endpoint = port.endpoint.as_ref().filter(|_| port.unresolved.is_none());
        let statistics = &port.statistics;
        let gauge = |field: fn(&crate::engine::counters::PortCounters) -> &Counter| -> u64 {
            port.counters.iter().map(|counters| field(counters).get()).sum()
        };
        let queue_pairs = [
            gauge(|counters| &counters.queue_pairs_active),
            gauge(|counters| &counters.queue_pairs_draining),
            gauge(|counters| &counters.queue_pairs_quarantined),
        ];
        let shares = || port.epochs.values().flat_map(|service| &service.shares);
        let memory_regions: u64 = shares().map(|share| share.memory_regions).sum();
        let queues = shares().filter(|share| share.queues.is_some()).count();
        json!({
            "name": &*port.name,
            "address": endpoint.map(|endpoint| endpoint.ip.to_string()),
            "port": port.spec.port,
            "device": endpoint.map(|endpoint| &endpoint.device),
            "netdev": endpoint.map(|endpoint| &endpoint.netdev),
            "linkUp": port.path_usable(),
            "phase": port.state.phase.name(),
            "epoch": port.state.epoch,
            "sinceMs": port.since_unix_ms,
            "reason": port.reason.code,
            "message": port.reason.message,
            "linkTransitions": {"up": statistics.link_ups, "down": statistics.link_downs},
            "drains": {"completed": statistics.drains_completed, "timedOut": statistics.drains_timed_out},
            "drainDuration": statistics.drain_duration.shown(),
            "recoveryDuration": statistics.recovery_duration.shown(),
            "queuePairs": {"active": queue_pairs[0], "draining": queue_pairs[1], "quarantined": queue_pairs[2]},
            "memoryRegions": memory_regions,
            "memoryRegisteredBytes": shares().map(|share| share.memory_bytes).sum::<u64>(),
            "memoryRegistrations": {
                "succeeded": statistics.registrations_succeeded,
                "failed": statistics.registrations_failed,
            },
            "deviceFatal": statistics.device_fatal,
            "asyncEvents": statistics.async_events,
            "staleCompletions": gauge(|counters| &counters.stale_completions),
            "connectsRejected": statistics.connects_rejected,
            "buffers": {
                "free": gauge(|counters| &counters.buffers_free),
                "used": gauge(|counters| &counters.buffers_used),
                "quarantined": gauge(|counters| &counters.buffers_quarantined),
            },
            "verbsObjects": {
                "queuePairs": queue_pairs.iter().sum::<u64>(),
                "memoryRegions": memory_regions,
                "completionQueues": queues,
                "sharedReceiveQueues": queues,
                "protectionDomains": port.epochs.len(),
                "connectionIds": self.connections.of_port(port.id)
                    + port.management.identifiers()
                    + u64::from(port.listener.is_some()),
            },
        })
    }

    fn namespaces(&self) -> Vec<Value> {
        let shown = self.backings.entries().map(|((subsystem, nsid), entry)| {
            let (state, reason, message, size_bytes, volatile) = match &entry.state {
                State::Opening => ("Opening", "", "", 0, false),
                State::Ready { facts, .. } => {
                    let problem = entry
                        .replacement
                        .as_ref()
                        .and_then(|replacement| replacement.problem.as_ref());
                    let (reason, message) = problem.map_or(("", ""), |(reason, message)| (*reason, message.as_str()));
                    ("Ready", reason, message, facts.size_bytes, facts.volatile)
                }
                State::Failed { reason, message, .. } => ("Failed", *reason, message.as_str(), 0, false),
            };
            json!({
                "subsystem": subsystem,
                "nsid": nsid,
                "uuid": entry.uuid.to_string(),
                "state": state,
                "reason": reason,
                "message": message,
                "sizeBytes": size_bytes,
                "volatile": volatile,
            })
        });
        shown.collect()
    }

    fn operations(&self) -> Value {
        let shown = Operation::ALL.into_iter().map(|operation| {
            let of = |counters: &PollerCounters| {
                let one = &counters.operations[operation as usize];
                (one.count.get(), one.bytes.get())
            };
            let (mut count, mut bytes) = (0, 0);
            for (more_count, more_bytes) in self.pollers.all_counters().map(of) {
                count += more_count;
                bytes += more_bytes;
            }
            let histograms = self
                .pollers
                .all_counters()
                .map(|one| &one.operations[operation as usize].duration);
            let value = json!({"count": count, "bytes": bytes, "duration": shown_histogram(histograms)});
            (operation.name().to_owned(), value)
        });
        Value::Object(shown.collect())
    }

    fn errors(&self) -> Value {
        let failed = StatusCode::ALL.iter().filter(|code| **code != StatusCode::Success);
        let shown = failed.map(|code| {
            let count = |counters: &PollerCounters| counters.errors[code.index()].get();
            (
                code.name().to_owned(),
                self.pollers.all_counters().map(count).sum::<u64>().into(),
            )
        });
        Value::Object(shown.collect())
    }

    fn shown_pollers(&self) -> Vec<Value> {
        let shown = self.pollers.counters().enumerate().map(|(index, counters)| {
            let (busy, idle) = (counters.polls_busy.get(), counters.polls_idle.get());
            let polls = busy + idle;
            #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
            let ratio = if polls == 0 { 0.0 } else { busy as f64 / polls as f64 };
            json!({
                "index": index,
                "busyRatio": ratio,
                "polls": polls,
                "sleeps": counters.sleeps.get(),
                "sendWorkRequests": counters.send_work_requests.get(),
                "doorbells": counters.doorbells.get(),
            })
        });
        shown.collect()
    }
}

fn shown_host(host: &super::hosts::Host) -> Value {
    json!({
        "subsystem": host.identity.subsystem_nqn,
        "hostNqn": host.identity.host_nqn,
        "controllerId": host.identity.controller_id,
        "listener": &*host.identity.listener,
        "source": host.identity.source.to_string(),
        "queues": host.queue_pairs,
        "sinceMs": host.since_unix_ms,
        "discovery": host.identity.discovery,
    })
}

fn shown_histogram<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Value {
    let bounds = duration_bounds_seconds();
    let mut counts = vec![0_u64; bounds.len() + 1];
    let mut nanoseconds = 0_u64;
    for histogram in histograms {
        for (sum, count) in counts.iter_mut().zip(&histogram.counts) {
            *sum += count.get();
        }
        nanoseconds = nanoseconds.wrapping_add(histogram.sum_nanoseconds.get());
    }
    json!({
        "boundsSeconds": bounds,
        "sumSeconds": Duration::from_nanos(nanoseconds).as_secs_f64(),
        "count": counts.iter().sum::<u64>(),
        "counts": counts,
    })
}
