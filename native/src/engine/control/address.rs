//! From a listener's `addressFrom` to an address of this machine and the RDMA device behind it.

use std::net::IpAddr;

use super::port::{Endpoint, Reason};
use crate::link::{Link, LinkView};
use crate::provider::DeviceInfo;
use crate::subsystem::spec::{AddressFamily, AddressFromSpec};

/// Resolves against what links and devices are now. An address that still fits is kept (`current`), so that a second
/// address on the interface does not move the listener. Whether the link is up does not matter here.
///
/// # Errors
/// Why nothing fits, and what to change.
pub fn resolve(
    from: &AddressFromSpec,
    family: AddressFamily,
    current: Option<IpAddr>,
    view: &LinkView,
    devices: &[DeviceInfo],
) -> Result<Endpoint, Reason> {
    let candidates = candidates(from, family, view, devices)?;
    let with_device = |(ip, link): &(IpAddr, &Link)| {
        let device = device_of(*ip, link, from.rdma_device.as_deref(), devices)?;
        Some(Endpoint {
            ip: *ip,
            netdev: link.name.clone(),
            device: device.name.clone(),
        })
    };
    let endpoints: Vec<Endpoint> = candidates.iter().filter_map(with_device).collect();
    let kept = endpoints.iter().position(|endpoint| Some(endpoint.ip) == current);
    match endpoints.into_iter().nth(kept.unwrap_or(0)) {
        Some(endpoint) => Ok(endpoint),
        None => Err(no_device(&candidates, devices)),
    }
}

/// Addresses that the desired state allows, in the order they are preferred; at least one.
fn candidates<'a>(
    from: &AddressFromSpec,
    family: AddressFamily,
    view: &'a LinkView,
    devices: &[DeviceInfo],
) -> Result<Vec<(IpAddr, &'a Link)>, Reason> {
    let usable = |link: &'a Link| {
        let fits = move |ip: &IpAddr| family.contains(*ip) && !is_link_local(*ip);
        link.addresses
            .iter()
            .map(|address| address.ip)
            .filter(fits)
            .map(move |ip| (ip, link))
    };
    let (found, missing): (Vec<_>, String) = if let Some(ip) = from.address {
        let found = view.by_address(ip).map(|link| (ip, link)).into_iter().collect();
        (found, format!("no network interface of this node has the address {ip}"))
    } else if let Some(name) = &from.interface {
        let Some(link) = view.by_name(name) else {
            let there = names(view.links.values().map(|link| link.name.as_str()));
            let message = format!("this node has no network interface {name}; it has {there}");
            return Err(Reason::new("InterfaceNotFound", message));
        };
        (
            usable(link).collect(),
            format!("interface {name} has no {family:?} address"),
        )
    } else if let Some(name) = &from.rdma_device {
        let Some(device) = devices.iter().find(|device| device.name == *name) else {
            let there = names(devices.iter().map(|device| device.name.as_str()));
            return Err(Reason::new(
                "DeviceNotFound",
                format!("this node has no RDMA device {name}; it has {there}"),
            ));
        };
        let links = view.links.values().filter(|link| device.netdevs.contains(&link.name));
        (
            links.flat_map(usable).collect(),
            format!("the interface of RDMA device {name} has no {family:?} address"),
        )
    } else if let Some(cidr) = &from.cidr {
        let mut found: Vec<_> = view
            .links
            .values()
            .flat_map(usable)
            .filter(|(ip, _)| cidr.contains(*ip))
            .collect();
        found.sort_by_key(|(ip, _)| *ip);
        (
            found,
            format!("no network interface of this node has an {family:?} address in {cidr}"),
        )
    } else {
        return Err(Reason::new("AddressNotFound", "addressFrom names nothing"));
    };
    if found.is_empty() {
        Err(Reason::new("AddressNotFound", missing))
    } else {
        Ok(found)
    }
}

fn device_of<'a>(ip: IpAddr, link: &Link, wanted: Option<&str>, devices: &'a [DeviceInfo]) -> Option<&'a DeviceInfo> {
    let mut fitting = devices
        .iter()
        .filter(|device| wanted.is_none_or(|name| device.name == name));
    // The interface decides: a device's own list of addresses follows the system's with a delay.
    let by_link = fitting.clone().find(|device| device.netdevs.contains(&link.name));
    by_link.or_else(|| fitting.find(|device| device.addresses.contains(&ip)))
}

fn no_device(candidates: &[(IpAddr, &Link)], devices: &[DeviceInfo]) -> Reason {
    let interfaces = names(candidates.iter().map(|(_, link)| link.name.as_str()));
    let there = names(devices.iter().map(|device| device.name.as_str()));
    let message = format!(
        "no RDMA device is on {interfaces}; this network namespace has {there}; for soft RDMA, which works in that of \
         the host only, load rdma_rxe and run `rdma link add rxe0 type rxe netdev INTERFACE`"
    );
    Reason::new("NoRdmaDevice", message)
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// A list for people: bounded, and never empty.
fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN_MAX: usize = 12;
    let mut all: Vec<&str> = names.collect();
    all.sort_unstable();
    all.dedup();
    let more = all.len().saturating_sub(SHOWN_MAX);
    all.truncate(SHOWN_MAX);
    match (all.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => all.join(", "),
        (false, more) => format!("{} and {more} more", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::LinkSource;
    use crate::link::scripted::ScriptedLinks;

    fn world() -> (ScriptedLinks, Vec<DeviceInfo>) {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut links = ScriptedLinks::with(&[
            ("eth0", ip("192.168.1.5"), 24),
            ("rdma0", ip("10.9.0.1"), 24),
            ("rdma1", ip("10.9.1.1"), 24),
        ]);
        links.add_address("rdma0", ip("fe80::1"), 64);
        links.add_address("rdma0", ip("fd00::1"), 64);
        links.refresh().unwrap();
        let device = |name: &str, netdev: &str| DeviceInfo {
            name: name.into(),
            driver: crate::provider::DeviceDriver::Other,
            netdevs: vec![netdev.into()],
            addresses: Vec::new(),
        };
        (links, vec![device("rxe0", "rdma0"), device("rxe1", "rdma1")])
    }

    fn resolved(from: AddressFromSpec, family: AddressFamily) -> Result<(String, String), &'static str> {
        let (links, devices) = world();
        resolve(&from, family, None, links.view(), &devices)
            .map(|endpoint| (endpoint.ip.to_string(), endpoint.device))
            .map_err(|reason| reason.code)
    }

    fn interface(name: &str) -> AddressFromSpec {
        AddressFromSpec {
            interface: Some(name.into()),
            ..AddressFromSpec::default()
        }
    }

    #[test]
    fn every_kind_of_source_finds_address_and_device() {
        let want = |ip: &str, device: &str| Ok((ip.to_owned(), device.to_owned()));
        let v4 = AddressFamily::IPv4;
        assert_eq!(resolved(interface("rdma0"), v4), want("10.9.0.1", "rxe0"));
        let address = AddressFromSpec {
            address: "10.9.1.1".parse().ok(),
            ..AddressFromSpec::default()
        };
        assert_eq!(resolved(address, v4), want("10.9.1.1", "rxe1"));
        let device = AddressFromSpec {
            rdma_device: Some("rxe1".into()),
            ..AddressFromSpec::default()
        };
        assert_eq!(resolved(device, v4), want("10.9.1.1", "rxe1"));
        let cidr = AddressFromSpec {
            cidr: "10.9.0.0/16".parse().ok(),
            ..AddressFromSpec::default()
        };
        assert_eq!(resolved(cidr, v4), want("10.9.0.1", "rxe0"));
        assert_eq!(
            resolved(interface("rdma0"), AddressFamily::IPv6),
            want("fd00::1", "rxe0"),
            "not the link-local one"
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        let v4 = AddressFamily::IPv4;
        assert_eq!(resolved(interface("eth9"), v4), Err("InterfaceNotFound"));
        assert_eq!(resolved(interface("eth0"), v4), Err("NoRdmaDevice"));
        assert_eq!(
            resolved(interface("rdma1"), AddressFamily::IPv6),
            Err("AddressNotFound")
        );
        let device = AddressFromSpec {
            rdma_device: Some("mlx5_0".into()),
            ..AddressFromSpec::default()
        };
        assert_eq!(resolved(device, v4), Err("DeviceNotFound"));
        let address = AddressFromSpec {
            address: "10.9.0.77".parse().ok(),
            ..AddressFromSpec::default()
        };
        assert_eq!(resolved(address, v4), Err("AddressNotFound"));
    }

    #[test]
    fn an_address_that_still_fits_is_kept_when_another_one_appears() {
        let (mut links, devices) = world();
        links.add_address("rdma0", "10.9.0.0".parse().unwrap(), 24);
        links.refresh().unwrap();
        let current = "10.9.0.1".parse().ok();
        let kept = resolve(
            &interface("rdma0"),
            AddressFamily::IPv4,
            current,
            links.view(),
            &devices,
        )
        .unwrap();
        assert_eq!(Some(kept.ip), current);
        links.remove_address(kept.ip);
        links.refresh().unwrap();
        let moved = resolve(
            &interface("rdma0"),
            AddressFamily::IPv4,
            current,
            links.view(),
            &devices,
        )
        .unwrap();
        assert_eq!(moved.ip.to_string(), "10.9.0.0");
    }
}
