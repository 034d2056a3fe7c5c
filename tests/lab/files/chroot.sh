# usage: chroot.sh LOWERDIR INTO SCRATCH SCRIPT [SOURCE TARGET]...   (in fresh mount and PID namespaces)
set -eu
umask 022
lower=$1 into=$2 scratch=$3 script=$4
shift 4
mkdir -p "$scratch/root"
case $(stat -f -c %T "$into") in
overlayfs | overlay) # an overlay cannot be the upper layer of another: work in memory, copy at the end
    mkdir "$scratch/memory"
    mount -t tmpfs lab "$scratch/memory"
    mkdir "$scratch/memory/upper" "$scratch/memory/work"
    upper=$scratch/memory/upper work=$scratch/memory/work ;;
*)
    mkdir "$scratch/work"
    upper=$into work=$scratch/work ;;
esac
mount -t overlay lab -o "lowerdir=$lower,upperdir=$upper,workdir=$work" "$scratch/root"
root=$scratch/root
# no device nodes of the machine: a directory of its own, which also keeps them out of the layer
mount -t tmpfs -o mode=755 lab "$root/dev"
for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mount -t tmpfs -o mode=1777 lab "$root/tmp"
mount -t tmpfs -o mode=755 lab "$root/run"
mount -t proc proc "$root/proc"
while [ $# -gt 0 ]; do
    mkdir -p "$root$2"
    mount --bind -o ro "$1" "$root$2"
    shift 2
done
chroot "$root" /bin/sh -euc "$script" </dev/null
if [ "$upper" != "$into" ]; then
    umount -R "$root"
    cp -a "$upper/." "$into/"
fi
