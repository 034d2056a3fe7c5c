# usage: holder.sh FILES CGROUP   The first process of a lab: sets up mounts and links, then waits for its end.
set -eu
files=$1
mount -t tmpfs -o mode=755 lab /run
mkdir -p /run/netns /run/lock /run/sshd /run/systemd
mount -t cgroup2 lab /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$2"
mkdir "$files/disk"
case $(stat -f -c %T "$files") in # an overlay cannot be the upper layer of another: keep changes in memory
overlayfs | overlay) mount -t tmpfs -o mode=755 lab "$files/disk" ;;
esac
# names are asked of the lab's own server, and of nobody else
resolv=$(readlink -f /etc/resolv.conf || true)
case $resolv in
/run/* | '') mkdir -p "$(dirname "${resolv:-/run/x}")" && printf 'nameserver %s\n' "$LAB_GATE" >"${resolv:-/run/x}" ;;
*) printf 'nameserver %s\n' "$LAB_GATE" >/run/resolv.conf && mount --bind /run/resolv.conf "$resolv" ;;
esac
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
ip netns add outside
ip -batch - <<BATCH
link set lo up
link add $LAB_BRIDGE address 02:00:5e:10:00:01 type bridge mcast_snooping 0
link set $LAB_BRIDGE up
addr add $LAB_GATE/16 dev $LAB_BRIDGE
addr add $LAB_GATE6/64 dev $LAB_BRIDGE nodad
link add outside type veth peer name eth0 netns outside
link set outside master $LAB_BRIDGE up
BATCH
ip -n outside -batch - <<BATCH
link set lo up
link set eth0 up
addr add $LAB_OUTSIDE/16 dev eth0
addr add $LAB_OUTSIDE6/64 dev eth0 nodad
BATCH
exec "$LAB_PYTHON" -I -S -c '
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as the first process it would have to reap all orphans
for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(one, signal.SIG_IGN)
os.write(1, b"ready\n")
while os.read(0, 4096):
    pass
'
