# Part of boot.sh: a Linux host that connects to targets with the kernel's initiator.
modprobe nvme_rdma
mkdir -p /etc/nvme
echo "$HOST_NQN" >/etc/nvme/hostnqn
echo "$HOST_ID" >/etc/nvme/hostid
