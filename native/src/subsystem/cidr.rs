//! Networks in CIDR notation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

/// A network, for example `10.9.0.0/24`. Host bits may be set; they are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// The text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be a network in CIDR notation, like 10.9.0.0/24, not `{0}`")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.chars().take(64).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(error)?;
        let address: IpAddr = address.parse().map_err(|_| error())?;
        if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        let prefix: u8 = prefix.parse().map_err(|_| error())?;
        let prefix_max = if address.is_ipv4() { 32 } else { 128 };
        if prefix > prefix_max {
            return Err(error());
        }
        Ok(Self { address, prefix })
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl Cidr {
    /// Whether the address lies in the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                (Ipv4Addr::to_bits(network) ^ Ipv4Addr::to_bits(address)) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                (Ipv6Addr::to_bits(network) ^ Ipv6Addr::to_bits(address)) & mask == 0
            }
            _ => false,
        }
    }

    /// Whether this is an IPv4 network.
    #[must_use]
    pub const fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        assert!(cidr("10.9.0.7/24").contains("10.9.0.255".parse().unwrap()));
        assert!(!cidr("10.9.0.0/24").contains("10.9.1.0".parse().unwrap()));
        assert!(cidr("0.0.0.0/0").contains("255.1.2.3".parse().unwrap()));
        assert!(cidr("10.9.0.1/32").contains("10.9.0.1".parse().unwrap()));
        assert!(cidr("fd00::/64").contains("fd00::1".parse().unwrap()));
        assert!(cidr("::/0").contains("fd00::1".parse().unwrap()));
        assert!(!cidr("fd00::/64").contains("10.9.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_not_a_network_is_refused() {
        for text in [
            "",
            "10.9.0.0",
            "10.9.0.0/33",
            "10.9.0.0/",
            "10.9.0.0/-1",
            "10.9.0.0/+8",
            "fd00::/129",
            "a/8",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
