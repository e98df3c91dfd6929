#!/usr/bin/env bash
# Controller of a two-node Slurm cluster: process 1 of its own network, mount, PID and UTS namespaces, so that every
# daemon, job, mount and network link of the cluster ends with this script, even if it is killed.
# Usage: unshare --net --mount --pid --uts --fork --kill-child --mount-proc controller.sh FOLDER
# FOLDER gets the logs and the nodes' /etc/hosts. The script prints `up`, and ends when its standard input closes.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$1"

# Use a private /run for sockets, keys and state; its folders have the owners and modes that munged requires.
mount -t tmpfs -o mode=755 run /run
mkdir /run/{cluster,netns,munge,slurm} /run/slurm/{state,n1,n2}
mount --bind . /run/cluster
cp "$here"/{slurm,gres}.conf /run/slurm

hostname ctl
printf '%s\n' '127.0.0.1 localhost' '10.77.0.1 ctl' '10.77.0.11 n1' '10.77.0.12 n2' | tee hosts hosts.n1 >hosts.n2
mount --bind hosts /etc/hosts
ip link set lo up
ip link add bridge type bridge
ip addr add 10.77.0.1/24 dev bridge
ip link set bridge up

head -c 1024 /dev/urandom >/run/munge/key
chmod 400 /run/munge/key
munged --socket=/run/munge/munge.socket.2 --key-file=/run/munge/key --pid-file=/run/munge/pid \
    --seed-file=/run/munge/seed --log-file=/run/cluster/munged.log
slurmctld -f /run/slurm/slurm.conf -c

for n in 1 2; do
    ip netns add "n$n"
    ip link add "to-n$n" type veth peer name eth0 netns "n$n"
    ip link set "to-n$n" master bridge up
    ip -n "n$n" addr add "10.77.0.1$n/24" dev eth0
    ip -n "n$n" link set eth0 up
    ip -n "n$n" link set lo up
    "$here/start_node.sh" "n$n"
done
echo up
cat >/dev/null
