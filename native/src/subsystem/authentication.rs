//! How a host authenticates itself: the part of the desired state that names keys, and the keys once they are loaded.

use std::sync::Arc;

use serde::Deserialize;

use super::spec::NodeSpec;

use crate::authentication::Credentials;
use crate::authentication::group::Group;
use crate::authentication::hash::Hash;

/// In-band authentication by DH-HMAC-CHAP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DhchapSpec {
    /// Where the keys are.
    pub secret_ref: SecretRefSpec,
    /// Hash of challenges and responses.
    #[serde(default)]
    pub hash: HashName,
    /// Group of the Diffie-Hellman exchange.
    #[serde(default)]
    pub dh_group: GroupName,
    /// We have a key too, and prove who we are to a host that asks.
    #[serde(default)]
    pub bidirectional: bool,
    /// The keys themselves: never part of the text.
    #[serde(skip)]
    pub keys: LoadedKeys,
}

/// A Secret: a directory of that name, with the files `hostKey` and `controllerKey`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SecretRefSpec {
    /// Name of the Secret.
    pub name: String,
}

/// A hash by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HashName {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl From<HashName> for Hash {
    fn from(name: HashName) -> Self {
        match name {
            HashName::Sha256 => Self::Sha256,
            HashName::Sha384 => Self::Sha384,
            HashName::Sha512 => Self::Sha512,
        }
    }
}

/// A group by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum GroupName {
    /// No Diffie-Hellman exchange.
    None,
    /// ffdhe2048.
    #[default]
    #[serde(rename = "FFDHE2048")]
    Ffdhe2048,
    /// ffdhe3072.
    #[serde(rename = "FFDHE3072")]
    Ffdhe3072,
    /// ffdhe4096.
    #[serde(rename = "FFDHE4096")]
    Ffdhe4096,
    /// ffdhe6144.
    #[serde(rename = "FFDHE6144")]
    Ffdhe6144,
    /// ffdhe8192.
    #[serde(rename = "FFDHE8192")]
    Ffdhe8192,
}

impl GroupName {
    /// The group, if it is one.
    #[must_use]
    pub const fn group(self) -> Option<Group> {
        match self {
            Self::None => None,
            Self::Ffdhe2048 => Some(Group::Ffdhe2048),
            Self::Ffdhe3072 => Some(Group::Ffdhe3072),
            Self::Ffdhe4096 => Some(Group::Ffdhe4096),
            Self::Ffdhe6144 => Some(Group::Ffdhe6144),
            Self::Ffdhe8192 => Some(Group::Ffdhe8192),
        }
    }
}

/// Keys of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LoadedKeys {
    /// Nobody looked for them.
    #[default]
    NotLoaded,
    /// They can be used.
    Loaded(Arc<Credentials>),
    /// They cannot: what is wrong and what to do, without anything of them.
    Unusable(String),
}

/// A host whose keys cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyProblem<'a> {
    /// Subsystem's NQN.
    pub subsystem: &'a str,
    /// Host's NQN.
    pub host_nqn: &'a str,
    /// What is wrong and what to do.
    pub message: &'a str,
}

impl NodeSpec {
    /// Hosts that are refused because their keys cannot be used.
    pub fn key_problems(&self) -> impl Iterator<Item = KeyProblem<'_>> {
        let hosts = self.subsystems.iter().flat_map(|subsystem| {
            let hosts = subsystem.access.hosts.iter();
            hosts.map(move |host| (subsystem.nqn.as_str(), host))
        });
        hosts.filter_map(|(subsystem, host)| match &host.dhchap.as_ref()?.keys {
            LoadedKeys::Unusable(message) => Some(KeyProblem {
                subsystem,
                host_nqn: &host.nqn,
                message,
            }),
            LoadedKeys::NotLoaded | LoadedKeys::Loaded(_) => None,
        })
    }
}
