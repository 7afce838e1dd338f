# Part of boot.sh: a node with a disk for containers and targets; with /lab/kubernetes it joins a cluster.
data=/dev/vdb
modprobe loop
if ! blkid "$data" >/dev/null 2>&1; then
  mke2fs -q -F -t ext4 -E lazy_itable_init=1,lazy_journal_init=1 "$data"
fi
mkdir -p /data
mount -o noatime,discard "$data" /data
for directory in containerd kubelet weir; do
  mkdir -p "/data/$directory" "/var/lib/$directory"
  mount --bind "/data/$directory" "/var/lib/$directory"
done
mkdir -p /etc/nvme
echo "$HOST_NQN" >/etc/nvme/hostnqn
echo "$HOST_ID" >/etc/nvme/hostid

if [ -d /lab/kubernetes ]; then
  modprobe -a overlay veth
  sysctl -q -w net.ipv4.ip_forward=1 vm.overcommit_memory=1 kernel.panic_on_oops=0

  # Pods reach the service `kubernetes` at its cluster address; there is no kube-proxy, one rule is enough.
  nft -f - <<EOF
table ip weir_lab {
  chain prerouting { type nat hook prerouting priority dstnat; ip daddr $KUBERNETES_SERVICE_ADDRESS tcp dport 443 dnat to 10.0.2.2:$API_SERVER_PORT; }
  chain output { type nat hook output priority -100; ip daddr $KUBERNETES_SERVICE_ADDRESS tcp dport 443 dnat to 10.0.2.2:$API_SERVER_PORT; }
  chain postrouting { type nat hook postrouting priority srcnat; ip saddr $POD_RANGE oifname mgmt0 masquerade; }
}
EOF

  mkdir -p /etc/cni/net.d /etc/containerd
  cat >/etc/cni/net.d/10-lab.conflist <<EOF
{"cniVersion": "1.0.0", "name": "lab", "plugins": [
  {"type": "ptp", "mtu": 1500, "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "$POD_RANGE"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
EOF
  cat >/etc/containerd/config.toml <<EOF
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
EOF
  service containerd containerd
  mkdir -p /opt/lab /var/lib/kubelet/device-plugins
  cp /lab/kubernetes/kubelet /lab/kubernetes/rdma-device-plugin /opt/lab/
  until [ -S /run/containerd/containerd.sock ]; do sleep 0.1; done
  service kubelet /opt/lab/kubelet --config=/lab/kubernetes/kubelet.yaml \
    --kubeconfig=/lab/kubernetes/kubelet.kubeconfig --hostname-override="$GUEST_NAME" \
    --node-ip="$MANAGEMENT_ADDRESS" --node-labels="$NODE_LABELS"
  ctr -n k8s.io images import /lab/kubernetes/pause.tar
  log "containerd up"
  until [ -S /var/lib/kubelet/device-plugins/kubelet.sock ]; do sleep 0.2; done
  service rdma-device-plugin /opt/lab/rdma-device-plugin
fi
