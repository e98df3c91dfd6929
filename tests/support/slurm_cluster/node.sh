#!/usr/bin/env bash
# One node of the cluster: process 1 of its own PID, UTS and mount namespaces.
# Usage: node.sh NAME, inside the node's network namespace and below controller.sh
set -euo pipefail
hostname "$1"
mount --bind "/run/cluster/hosts.$1" /etc/hosts
mount -t tmpfs shm /dev/shm
slurmd -D -N "$1" -f /run/slurm/slurm.conf &
# What a job leaves behind is adopted by this process: wait for all of it, not only for slurmd.
while :; do
    sleep 1000 &
    wait
done
