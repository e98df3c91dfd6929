#!/usr/bin/env bash
# One node of the cluster: process 1 of its own PID, UTS and mount namespaces.
# Usage: node.sh NAME, inside the node's network namespace and below controller.sh
set -euo pipefail
hostname "$1"
mount --bind "/run/cluster/hosts.$1" /etc/hosts
mount -t tmpfs shm /dev/shm
slurmd -D -N "$1" -f /run/slurm/slurm.conf &
# This process adopts orphaned job processes: reap all of them, not only slurmd.
while :; do
    sleep 1000 &
    wait
done
