//! Asynchronous events (NVMe base 2.0 section 5.2) that this target has: notices.

use super::log_page::log;

/// Type of all of them: notice.
const NOTICE: u32 = 2;

/// A notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Namespaces were added, removed or changed.
    NamespaceAttributeChanged,
    /// ANA states or groups changed.
    AsymmetricAccessChanged,
    /// The discovery log changed.
    DiscoveryLogChanged,
}

impl Notice {
    /// All of them, in the order they are reported.
    pub const ALL: [Self; 3] = [
        Self::NamespaceAttributeChanged,
        Self::AsymmetricAccessChanged,
        Self::DiscoveryLogChanged,
    ];

    /// Log page whose reading clears the notice.
    #[must_use]
    pub const fn log(self) -> u8 {
        match self {
            Self::NamespaceAttributeChanged => log::CHANGED_NAMESPACES,
            Self::AsymmetricAccessChanged => log::ASYMMETRIC_NAMESPACE_ACCESS,
            Self::DiscoveryLogChanged => log::DISCOVERY,
        }
    }

    /// Bit in OAES (Identify Controller) and in the Async Event Configuration feature.
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << match self {
            Self::NamespaceAttributeChanged => 8,
            Self::AsymmetricAccessChanged => 11,
            Self::DiscoveryLogChanged => 31,
        }
    }

    /// Result of the Async Event Request: type, information, log page.
    #[must_use]
    pub const fn result(self) -> u64 {
        let information: u32 = match self {
            Self::NamespaceAttributeChanged => 0x00,
            Self::AsymmetricAccessChanged => 0x03,
            Self::DiscoveryLogChanged => 0xf0,
        };
        (NOTICE | information << 8 | (self.log() as u32) << 16) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_what_hosts_match() {
        assert_eq!(Notice::NamespaceAttributeChanged.result(), 0x04_0002);
        assert_eq!(Notice::AsymmetricAccessChanged.result(), 0x0c_0302);
        assert_eq!(Notice::DiscoveryLogChanged.result(), 0x70_f002);
        assert_eq!(Notice::DiscoveryLogChanged.bit(), 0x8000_0000);
    }
}
