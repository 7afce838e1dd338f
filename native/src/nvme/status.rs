//! Completion statuses (NVMe base 2.0, figures "Status Code" by type; Fabrics statuses in the 0x180 range).

/// Do Not Retry, bit 14 of the 15-bit status field.
const DO_NOT_RETRY: u16 = 1 << 14;
/// Command Retry Delay, bits 12:11: wait for CRDT1 of Identify Controller before the next try.
const RETRY_DELAY_1: u16 = 1 << 11;
const RETRY_DELAY: u16 = 3 << 11;

macro_rules! status_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// Status code type (bits 10:8) and status code (bits 7:0) in one number, as hosts print it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum StatusCode {
            $($(#[$doc])* $name = $value,)*
        }

        impl StatusCode {
            /// Every status this target can send, in the order of [`StatusCode::index`].
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// CamelCase name, the label of the error counters.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The status with this number, if this target knows it.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<Self> {
                match number {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

status_codes! {
    /// Successful completion.
    Success = 0x000,
    /// Opcode not known on this queue.
    InvalidOpcode = 0x001,
    /// A field of the command is reserved or unsupported.
    InvalidField = 0x002,
    /// Data transfer failed.
    DataTransferError = 0x004,
    /// Something failed inside the target.
    InternalError = 0x006,
    /// Aborted by an Abort command.
    AbortRequested = 0x007,
    /// Aborted because its queue was closed.
    AbortedQueueDeleted = 0x008,
    /// No such namespace, or the id's format is wrong.
    InvalidNamespace = 0x00b,
    /// Not now: before Connect, before enable, or a queue id in use.
    CommandSequenceError = 0x00c,
    /// Data SGL's length does not match the command's.
    DataSglLengthInvalid = 0x00f,
    /// The SGL's type is not one a queue may use.
    SglDescriptorTypeInvalid = 0x011,
    /// Operation denied.
    OperationDenied = 0x015,
    /// In-capsule data lies outside of the capsule.
    SglOffsetInvalid = 0x016,
    /// Host identifier is not consistent with the host's other associations.
    HostIdInconsistent = 0x018,
    /// Keep-alive timer ran out.
    KeepAliveTimeoutExpired = 0x019,
    /// Keep-alive timeout value is not valid.
    KeepAliveTimeoutInvalid = 0x01a,
    /// Namespace is write protected.
    NamespaceWriteProtected = 0x020,
    /// The command may be sent again.
    TransientTransportError = 0x022,
    /// Blocks beyond the end of the namespace.
    LbaOutOfRange = 0x080,
    /// The backing has no space left.
    CapacityExceeded = 0x081,
    /// The namespace cannot be used yet.
    NamespaceNotReady = 0x082,
    /// More Async Event Requests than AERL allows.
    AsyncEventRequestLimitExceeded = 0x105,
    /// Log page not known.
    InvalidLogPage = 0x109,
    /// Feature cannot be saved.
    FeatureNotSaveable = 0x10d,
    /// Feature cannot be set.
    FeatureNotChangeable = 0x10e,
    /// Connect: record format not supported.
    ConnectIncompatibleFormat = 0x180,
    /// Connect: no controller to be had now.
    ConnectControllerBusy = 0x181,
    /// Connect: invalid parameter; the result names its offset.
    ConnectInvalidParameters = 0x182,
    /// Connect: restart discovery.
    ConnectRestartDiscovery = 0x183,
    /// Connect: this host may not.
    ConnectInvalidHost = 0x184,
    /// The queue's type does not take this command.
    InvalidQueueType = 0x185,
    /// The discovery log changed: read it anew.
    DiscoverRestart = 0x190,
    /// Authentication is required first.
    AuthenticationRequired = 0x191,
    /// The backing failed to write.
    WriteFault = 0x280,
    /// The backing failed to read.
    UnrecoveredReadError = 0x281,
    /// Compare found a difference.
    CompareFailure = 0x285,
    /// Access denied by the backing.
    AccessDenied = 0x286,
    /// Path: internal error of the controller.
    InternalPathError = 0x300,
    /// Path: namespaces of this ANA group cannot be reached over this controller.
    AsymmetricAccessInaccessible = 0x302,
    /// Path: the ANA group changes its state now.
    AsymmetricAccessTransition = 0x303,
    /// Path: the target detected a path error.
    ControllerPathingError = 0x360,
    /// Path: the host's side detected a path error.
    HostPathingError = 0x370,
}

impl StatusCode {
    /// Position in [`StatusCode::ALL`], for arrays of counters.
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL
            .binary_search(&self)
            .expect("every code is in ALL, which ascends")
    }

    /// This status, and the host may try again.
    #[must_use]
    pub const fn retryable(self) -> Status {
        Status {
            code: self,
            do_not_retry: false,
            delayed: false,
        }
    }

    /// This status, with Do Not Retry: the same command will never succeed.
    #[must_use]
    pub const fn permanent(self) -> Status {
        Status {
            code: self,
            do_not_retry: true,
            delayed: false,
        }
    }
}

/// What a command ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status {
    /// Type and code.
    pub code: StatusCode,
    /// DNR: the host must not send the same command again.
    pub do_not_retry: bool,
    /// CRD: the host may send it again after CRDT1 of Identify Controller; only for hosts that asked for it (ACRE).
    pub delayed: bool,
}

impl Status {
    /// Successful completion.
    pub const SUCCESS: Self = StatusCode::Success.retryable();

    /// The same with a pause before the next try, of CRDT1 of Identify Controller.
    #[must_use]
    pub const fn after_delay(self) -> Self {
        Self { delayed: true, ..self }
    }

    /// The 15-bit status field (DNR in bit 14, CRD in bits 12:11), before its shift past the phase bit.
    #[must_use]
    pub const fn field(self) -> u16 {
        self.code as u16
            | if self.do_not_retry { DO_NOT_RETRY } else { 0 }
            | if self.delayed { RETRY_DELAY_1 } else { 0 }
    }

    /// The status in a 15-bit status field, if this target knows the code.
    #[must_use]
    pub fn from_field(field: u16) -> Option<Self> {
        let code = StatusCode::from_number(field & 0x7ff)?;
        Some(Self {
            code,
            do_not_retry: field & DO_NOT_RETRY != 0,
            delayed: field & RETRY_DELAY != 0,
        })
    }

    /// Whether the command succeeded.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self.code, StatusCode::Success)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} (0x{:03x}", self.code.name(), self.code as u16)?;
        formatter.write_str(if self.do_not_retry { ", do not retry)" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_so_that_index_finds_each() {
        for (index, code) in StatusCode::ALL.iter().enumerate() {
            assert_eq!(code.index(), index);
            assert_eq!(StatusCode::from_number(*code as u16), Some(*code));
        }
    }

    #[test]
    fn do_not_retry_is_bit_14_of_the_field() {
        assert_eq!(StatusCode::InvalidField.permanent().field(), 0x4002);
        assert_eq!(StatusCode::AsymmetricAccessInaccessible.retryable().field(), 0x302);
        assert_eq!(Status::from_field(0x4002), Some(StatusCode::InvalidField.permanent()));
        assert_eq!(Status::from_field(0x07ff), None);
    }

    #[test]
    fn a_delay_before_the_next_try_is_in_bits_12_and_11_of_the_field() {
        let delayed = StatusCode::AsymmetricAccessInaccessible.retryable().after_delay();
        assert_eq!(delayed.field(), 0xb02);
        assert_eq!(Status::from_field(0xb02), Some(delayed));
    }

    #[test]
    fn display_names_code_and_number() {
        assert_eq!(
            StatusCode::InvalidField.permanent().to_string(),
            "InvalidField (0x002, do not retry)"
        );
    }
}
