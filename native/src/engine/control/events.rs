//! What the control loop reports: one JSON line each, in the order things happened.

use std::net::SocketAddr;

use serde::Serialize;

use crate::engine::messages::CloseReason;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Normal course of things.
    Info,
    /// Something a person may want to look at.
    Warning,
    /// Something is broken.
    Error,
}

/// An event with its time and weight; the ring adds the sequence number.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Unix time in milliseconds.
    pub time_ms: u64,
    /// Weight.
    pub level: Level,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. Serialised with `type` and camelCase fields; absent options are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// A desired state is in force.
    Applied {
        /// Its generation.
        generation: u64,
    },
    /// A part of a desired state could not be put in force.
    ApplyProblem {
        /// Its generation.
        generation: u64,
        /// Path of the field in the desired state.
        field: String,
        /// CamelCase.
        reason: &'static str,
        /// What is wrong and what to change.
        message: String,
    },
    /// Hosts may use the paths through this node, or must not, or all know that they must not.
    PathsChanged {
        /// Before: `Accessible`, `Leaving` or `Inaccessible`.
        from: &'static str,
        /// Now.
        to: &'static str,
    },
    /// A port changed its phase.
    PortPhase {
        /// Listener's name.
        listener: String,
        /// Resolved address.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// RDMA device.
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<String>,
        /// Network interface.
        #[serde(skip_serializing_if = "Option::is_none")]
        netdev: Option<String>,
        /// Phase before.
        from: &'static str,
        /// Phase now.
        to: &'static str,
        /// Epoch being armed, served or left.
        epoch: u64,
        /// CamelCase.
        reason: &'static str,
        /// In words.
        message: String,
    },
    /// A port's link came up or went down.
    LinkState {
        /// Listener's name.
        listener: String,
        /// Network interface.
        netdev: String,
        /// Up.
        up: bool,
    },
    /// An association began.
    HostConnected(HostFields),
    /// An association ended.
    HostDisconnected(HostFields),
    /// A connect was refused, by the connection manager or by the Connect command.
    ConnectRejected {
        /// CamelCase.
        reason: &'static str,
        /// Host's address.
        source: SocketAddr,
        /// Host's NQN, where it was given.
        #[serde(skip_serializing_if = "Option::is_none")]
        host_nqn: Option<String>,
        /// Subsystem's NQN, where it was given.
        #[serde(skip_serializing_if = "Option::is_none")]
        subsystem: Option<String>,
    },
    /// A namespace changed its state.
    NamespaceState {
        /// Subsystem's NQN.
        subsystem: String,
        /// Namespace id.
        nsid: u32,
        /// `Ready`, `Failed`, `Removing` or `Removed`.
        state: &'static str,
        /// CamelCase; empty when there is nothing to say.
        reason: &'static str,
        /// In words.
        message: String,
        /// Its UUID.
        uuid: String,
        /// Capacity in bytes; 0 while not known.
        size_bytes: u64,
    },
    /// How registering a port's memory went.
    MemoryRegistration {
        /// Listener's name.
        listener: String,
        /// `failed`, `partial` or `succeeded`.
        result: &'static str,
        /// How much, and why not more.
        message: String,
    },
    /// A port's drain ended.
    DrainFinished {
        /// Listener's name.
        listener: String,
        /// Epoch that was drained.
        epoch: u64,
        /// `completed` or `timedOut`.
        result: &'static str,
        /// How long it took.
        duration_ms: u64,
        /// Queue pairs it began with.
        queue_pairs: u64,
    },
    /// A device reported a fatal error or went away.
    DeviceFatal {
        /// Device.
        device: String,
        /// In words, with the way out.
        message: String,
    },
    /// A queue pair that was closed by itself did not give everything back in time.
    QueuePairQuarantined {
        /// Listener's name.
        listener: String,
        /// Host's address.
        source: SocketAddr,
        /// Queue id; 0: admin.
        queue_id: u16,
        /// Work requests that the device has.
        work_requests: u32,
        /// I/Os that the backend has.
        backend_ios: u32,
        /// In words.
        message: String,
    },
    /// A soft RDMA device is to be made anew, or was, or could not be.
    SoftDeviceRecreation {
        /// Device.
        device: String,
        /// Its interface.
        netdev: String,
        /// `requested`, `refused`, `succeeded` or `failed`.
        result: &'static str,
        /// In words.
        message: String,
    },
    /// A backend I/O failed.
    BackendError {
        /// Subsystem's NQN.
        subsystem: String,
        /// Namespace id.
        nsid: u32,
        /// errno.
        errno: i32,
    },
    /// The drain of the whole process ended.
    Drained {
        /// `completed` or `timedOut`.
        result: &'static str,
    },
    /// The process ends.
    Fatal {
        /// Why.
        message: String,
        /// Exit code of the process.
        exit_code: i32,
    },
}

/// A host's association.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostFields {
    /// Subsystem's NQN.
    pub subsystem: String,
    /// Host's NQN.
    pub host_nqn: String,
    /// Controller id.
    pub controller_id: u16,
    /// Listener's name.
    pub listener: String,
    /// Host's address.
    pub source: SocketAddr,
    /// A discovery controller.
    pub discovery: bool,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

impl Event {
    /// Whether losing it would leave its readers wrong for good: such events have room of their own in the ring.
    #[must_use]
    pub fn is_critical(&self) -> bool {
        matches!(
            self,
            Self::Applied { .. }
                | Self::Drained { .. }
                | Self::Fatal { .. }
                | Self::DeviceFatal { .. }
                | Self::SoftDeviceRecreation { .. }
        )
    }

    /// What kinds that may come in a flood are limited by.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::ConnectRejected { .. } => "connectRejected",
            Self::BackendError { .. } => "backendError",
            Self::QueuePairQuarantined { .. } => "queuePairQuarantined",
            _ => "other",
        }
    }

    /// Its weight, where that does not depend on anything else.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Applied { .. } | Self::PathsChanged { .. } | Self::HostConnected(_) | Self::HostDisconnected(_) => {
                Level::Info
            }
            Self::LinkState { up: true, .. } => Level::Info,
            Self::LinkState { up: false, .. } | Self::ApplyProblem { .. } | Self::ConnectRejected { .. } => {
                Level::Warning
            }
            Self::PortPhase { to, .. } => match *to {
                "Failed" => Level::Error,
                "Degraded" | "Holding" | "Draining" | "Quarantined" => Level::Warning,
                _ => Level::Info,
            },
            Self::NamespaceState { state, .. } => {
                if *state == "Failed" {
                    Level::Error
                } else {
                    Level::Info
                }
            }
            Self::MemoryRegistration { result, .. } => match *result {
                "failed" => Level::Error,
                "partial" => Level::Warning,
                _ => Level::Info,
            },
            Self::DrainFinished { result, .. } | Self::Drained { result } => {
                if *result == "completed" {
                    Level::Info
                } else {
                    Level::Error
                }
            }
            Self::SoftDeviceRecreation { result, .. } => match *result {
                "succeeded" => Level::Info,
                "requested" => Level::Warning,
                _ => Level::Error,
            },
            Self::DeviceFatal { .. }
            | Self::QueuePairQuarantined { .. }
            | Self::BackendError { .. }
            | Self::Fatal { .. } => Level::Error,
        }
    }
}

/// Name of a reason in events and metrics.
#[must_use]
pub fn close_reason_name(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::HostDisconnected => "HostDisconnected",
        CloseReason::KeepAliveExpired => "KeepAliveExpired",
        CloseReason::AssociationEnded => "AssociationEnded",
        CloseReason::TransportError => "TransportError",
        CloseReason::ProtocolError => "ProtocolError",
        CloseReason::AuthenticationFailed => "AuthenticationFailed",
        CloseReason::PortDraining => "PortDraining",
        CloseReason::NotAllowed => "NotAllowed",
        CloseReason::Shutdown => "Shutdown",
        CloseReason::ConnectFailed => "ConnectFailed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_flat_json_object_with_its_type() {
        let report = Report {
            time_ms: 5,
            level: Level::Warning,
            event: Event::ConnectRejected {
                reason: "NotServing",
                source: "10.9.0.2:1234".parse().unwrap(),
                host_nqn: None,
                subsystem: None,
            },
        };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"timeMs":5,"level":"warning","type":"connectRejected","reason":"NotServing","source":"10.9.0.2:1234"}"#
        );
        let host = Event::HostConnected(HostFields {
            subsystem: "nqn.a".into(),
            host_nqn: "nqn.b".into(),
            controller_id: 1,
            listener: "storage".into(),
            source: "10.9.0.2:1234".parse().unwrap(),
            discovery: false,
            reason: None,
        });
        let text = serde_json::to_string(&host).unwrap();
        assert!(
            text.starts_with(r#"{"type":"hostConnected","subsystem":"nqn.a","hostNqn":"nqn.b","controllerId":1"#),
            "{text}"
        );
    }
}
