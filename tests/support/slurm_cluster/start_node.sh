#!/usr/bin/env bash
# Start one node of the cluster in the background, inside the controller's namespaces. Usage: start_node.sh NAME
# `ip netns exec` would mount a new /sys, with which slurmd does not start.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
setsid nsenter --net="/run/netns/$1" unshare --uts --mount --pid --fork --kill-child --mount-proc \
    "$here/node.sh" "$1" >>"/run/cluster/node-$1.log" 2>&1 </dev/null &
echo $! >"/run/cluster/$1.pid"
