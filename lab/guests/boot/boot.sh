#!/bin/sh
# Boots a guest of the lab. There is no service manager: a guest has a handful of processes, and each second
# of boot is ten on an emulated processor. /lab is a read-only share of the machine; /lab/guest.env says who
# this guest is. When everything runs, /run/ready appears.
set -eu
. /lab/guest.env
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=/root
export PATH HOME

log() {
  read -r uptime _ </proc/uptime
  echo "weir-lab: $uptime s: $*"
}

# Runs a command for ever; its output goes to /var/log/NAME.log.
service() {
  name=$1
  shift
  ( while :; do "$@" >>"/var/log/$name.log" 2>&1 || true; sleep 1; done ) &
}

netdev_by_mac() {
  for address in /sys/class/net/*/address; do
    [ "$(cat "$address")" = "$1" ] && basename "$(dirname "$address")" && return
  done
}

mount -t tmpfs -o mode=755 run /run
mount -t tmpfs tmp /tmp
mkdir -p /dev/pts /dev/shm /run/lock
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null || true
hostname "$GUEST_NAME"
echo "$GUEST_NAME" >/etc/hostname
printf '127.0.0.1 localhost\n%s %s\n' "$MANAGEMENT_ADDRESS" "$GUEST_NAME" >/etc/hosts
cp /lab/machine-id /etc/machine-id
# Queue pairs and memory regions are locked memory.
ulimit -l unlimited
ulimit -n 1048576
sysctl -q -w kernel.panic=-1 net.core.rmem_default=8388608 net.core.rmem_max=8388608

ip link set lo up
modprobe virtio_net
management=$(netdev_by_mac "$MANAGEMENT_MAC")
ip link set "$management" name mgmt0
ip addr add "$MANAGEMENT_ADDRESS/24" dev mgmt0
ip link set mgmt0 up
ip route add default via 10.0.2.2
cp /lab/agent /run/agent
service agent /run/agent -listen "$MANAGEMENT_ADDRESS:7700" -token-file /lab/token
log "network up"

# RDMA: soft RoCE on the second network. Its MTU (4200) comes from the device and holds 4096 bytes of payload.
rdma=$(netdev_by_mac "$RDMA_MAC")
ip link set "$rdma" name rdma0
sysctl -q -w net.ipv6.conf.rdma0.accept_dad=0
ip addr add "$RDMA_ADDRESS/24" dev rdma0
ip addr add "$RDMA_ADDRESS_IPV6/64" dev rdma0
ip link set rdma0 up
modprobe -a ib_uverbs rdma_ucm rdma_rxe
rdma link add rxe0 type rxe netdev rdma0
log "rdma up"

. "/lab/boot-$GUEST_ROLE.sh"
touch /run/ready
log "ready"
wait
