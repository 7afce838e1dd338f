//! Which devices, network interfaces and addresses there are.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::Path;
use std::ptr;

use rdma_mummy_sys as sys;

use super::error;
use crate::provider::{DeviceDriver, DeviceInfo, ProviderError};

const SYSFS: &str = "/sys/class/infiniband";

/// Every RDMA device with its interfaces and their addresses.
pub(super) fn devices() -> Result<Vec<DeviceInfo>, ProviderError> {
    error::require_libraries("ibv_get_device_list")?;
    let interfaces = interface_addresses()?;
    let names = device_names()?;
    Ok(names
        .into_iter()
        .map(|name| {
            let netdevs = netdevs(Path::new(SYSFS), &name);
            let addresses = interfaces.iter().filter(|(netdev, _)| netdevs.contains(netdev));
            let mut addresses: Vec<IpAddr> = addresses.map(|(_, address)| *address).collect();
            addresses.sort_unstable();
            addresses.dedup();
            DeviceInfo {
                driver: driver(Path::new(SYSFS), &name),
                name,
                netdevs,
                addresses,
            }
        })
        .collect())
}

fn device_names() -> Result<Vec<String>, ProviderError> {
    let mut count = 0;
    // SAFETY: `count` outlives the call; the list is freed below, after the names are copied.
    let list = unsafe { sys::ibv_get_device_list(&mut count) };
    if list.is_null() {
        return Err(error::last("ibv_get_device_list"));
    }
    let names = (0..usize::try_from(count).unwrap_or(0))
        .map(|index| {
            // SAFETY: the list has `count` valid entries until it is freed.
            unsafe { device_name(*list.add(index)) }
        })
        .collect();
    // SAFETY: came from ibv_get_device_list, and is not used again.
    unsafe { sys::ibv_free_device_list(list) };
    Ok(names)
}

/// A device's name, copied.
///
/// # Safety
/// `device` is null or a live device.
pub(super) unsafe fn device_name(device: *mut sys::ibv_device) -> String {
    if device.is_null() {
        return String::new();
    }
    // SAFETY: live by the caller's promise; the string lives as long as the device.
    unsafe {
        let name = sys::ibv_get_device_name(device);
        if name.is_null() {
            return String::new();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// Interfaces named by the device's GIDs, and by rxe's `parent` attribute.
fn netdevs(sysfs: &Path, device: &str) -> Vec<String> {
    let device = sysfs.join(device);
    let mut found = BTreeSet::new();
    let ports = fs::read_dir(device.join("ports")).into_iter().flatten().flatten();
    for port in ports {
        let entries = fs::read_dir(port.path().join("gid_attrs/ndevs"));
        for entry in entries.into_iter().flatten().flatten() {
            // Reading the entry of an unused GID fails with EINVAL: that is no error.
            found.extend(fs::read_to_string(entry.path()).ok());
        }
    }
    found.extend(fs::read_to_string(device.join("parent")).ok());
    let names: BTreeSet<String> = found.iter().map(|name| name.trim().to_owned()).collect();
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

/// Only rxe has a `parent` attribute: the interface it was added to.
fn driver(sysfs: &Path, device: &str) -> DeviceDriver {
    if sysfs.join(device).join("parent").exists() {
        DeviceDriver::SoftRoce
    } else {
        DeviceDriver::Other
    }
}

/// (interface, address) pairs of this machine.
fn interface_addresses() -> Result<Vec<(String, IpAddr)>, ProviderError> {
    let mut head = ptr::null_mut();
    // SAFETY: writes one pointer; the list is freed below.
    if unsafe { libc::getifaddrs(&mut head) } != 0 {
        return Err(error::last("getifaddrs"));
    }
    let mut found = Vec::new();
    let mut next = head;
    while !next.is_null() {
        // SAFETY: entries of the list are valid until freeifaddrs; the name is a C string.
        let entry = unsafe { &*next };
        // SAFETY: `ifa_addr` is null or a socket address of its family.
        if let Some(address) = unsafe { socket_address(entry.ifa_addr) } {
            // SAFETY: as above.
            let name = unsafe { CStr::from_ptr(entry.ifa_name) };
            found.push((name.to_string_lossy().into_owned(), address.ip()));
        }
        next = entry.ifa_next;
    }
    // SAFETY: `head` came from getifaddrs, and nothing borrowed from it is left.
    unsafe { libc::freeifaddrs(head) };
    Ok(found)
}

/// The IPv4 or IPv6 address behind a pointer; `None` for other families.
///
/// # Safety
/// `address` is null or points to a socket address as long as its family needs.
pub(super) unsafe fn socket_address(address: *const libc::sockaddr) -> Option<SocketAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: valid by the caller's promise; the family says which type it is.
    unsafe {
        match i32::from((*address).sa_family) {
            libc::AF_INET => {
                let v4 = address.cast::<libc::sockaddr_in>().read_unaligned();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let v6 = address.cast::<libc::sockaddr_in6>().read_unaligned();
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                Some(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

/// A C socket address of this address.
pub(super) fn to_socket_address(address: SocketAddr) -> libc::sockaddr_storage {
    // SAFETY: all-zero bytes are a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    match address {
        SocketAddr::V4(v4) => {
            let value = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from(*v4.ip()).to_be(),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is large enough and aligned for every socket address.
            unsafe { ptr::from_mut(&mut storage).cast::<libc::sockaddr_in>().write(value) };
        }
        SocketAddr::V6(v6) => {
            let value = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: v6.ip().octets(),
                },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { ptr::from_mut(&mut storage).cast::<libc::sockaddr_in6>().write(value) };
        }
    }
    storage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_addresses_survive_the_way_to_c_and_back() {
        for text in ["10.9.0.1:4420", "[fd00::9]:4421", "0.0.0.0:1", "[::1]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            let storage = to_socket_address(address);
            // SAFETY: a storage is as long as every family needs.
            let back = unsafe { socket_address(ptr::from_ref(&storage).cast()) };
            assert_eq!(back, Some(address));
        }
    }

    #[test]
    fn interfaces_of_a_device_come_from_its_gids_and_its_parent_without_duplicates() {
        let sysfs = tempfile::tempdir().unwrap();
        let ndevs = sysfs.path().join("rxe0/ports/1/gid_attrs/ndevs");
        fs::create_dir_all(&ndevs).unwrap();
        fs::write(ndevs.join("0"), "rdma0\n").unwrap();
        fs::write(ndevs.join("1"), "rdma0\n").unwrap();
        fs::write(ndevs.join("2"), "rdma0.7\n").unwrap();
        fs::write(sysfs.path().join("rxe0/parent"), "rdma0\n").unwrap();
        assert_eq!(netdevs(sysfs.path(), "rxe0"), ["rdma0", "rdma0.7"]);
        assert_eq!(driver(sysfs.path(), "rxe0"), DeviceDriver::SoftRoce);
        assert_eq!(driver(sysfs.path(), "absent"), DeviceDriver::Other);
        assert_eq!(netdevs(sysfs.path(), "absent"), Vec::<String>::new());
    }

    #[test]
    fn the_loopback_address_is_found() {
        let found = interface_addresses().unwrap();
        assert!(found.contains(&("lo".to_owned(), "127.0.0.1".parse().unwrap())));
    }
}
