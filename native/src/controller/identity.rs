//! Who an association is between.

/// The parties of one association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Controller id.
    pub controller_id: u16,
    /// Subsystem's NQN.
    pub subsystem_nqn: String,
    /// Host's NQN.
    pub host_nqn: String,
    /// Host identifier.
    pub host_id: [u8; 16],
}
