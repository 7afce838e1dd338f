# Part of boot.sh: a Kubernetes node.
