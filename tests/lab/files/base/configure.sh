# Runs once inside the fresh root: what a server of the lab has before any of a test's own files.
umask 022
useradd --create-home --uid 1000 --gid operator --shell /bin/bash operator
install -d -m 0700 -o operator -g operator /home/operator/.ssh
printf 'operator ALL=(ALL:ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/operator
chmod 0440 /etc/sudoers.d/operator
groupadd --system --gid 990 vllm
useradd --system --uid 990 --gid vllm --home-dir /opt/vllm --shell /usr/sbin/nologin vllm
install -d -m 0755 -o vllm -g vllm /opt/vllm

# The archive's lists as apt itself would have left them: a first `apt-get install` needs no update.
cp /tmp/internet/archive.lab/sources.list /etc/apt/sources.list
cp /tmp/internet/archive-keyring.gpg /usr/share/keyrings/lab-archive-keyring.gpg
suite=$(cut -d' ' -f4 /etc/apt/sources.list)
lists=/var/lib/apt/lists
mkdir -p $lists/partial
cp "/tmp/internet/archive.lab/debian/dists/$suite/InRelease" "$lists/archive.lab_debian_dists_${suite}_InRelease"
arch=$(dpkg --print-architecture)
cp "/tmp/internet/archive.lab/debian/dists/$suite/main/binary-$arch/Packages" \
    "$lists/archive.lab_debian_dists_${suite}_main_binary-${arch}_Packages"
rm -f /etc/apt/apt.conf.d/*proxy*

cp /tmp/internet/ca.pem /usr/local/share/ca-certificates/lab.crt
update-ca-certificates

printf 'nameserver 10.91.0.1\noptions timeout:1 attempts:2\n' >/etc/resolv.conf
printf 'LANG=C.UTF-8\n' >/etc/default/locale
cp /tmp/base/os-release /usr/lib/os-release
rm -f /etc/machine-id /var/lib/dbus/machine-id
: >/etc/machine-id

# Units: networkd gives the address; nothing may run by itself in the middle of a test.
wants=/etc/systemd/system/multi-user.target.wants
ln -s /lib/systemd/system/systemd-networkd.service $wants/
mkdir -p /etc/systemd/system/sockets.target.wants /etc/systemd/system/network-online.target.wants
ln -s /lib/systemd/system/systemd-networkd.socket /etc/systemd/system/sockets.target.wants/
ln -s /lib/systemd/system/systemd-networkd-wait-online.service /etc/systemd/system/network-online.target.wants/
rm -f /etc/systemd/system/timers.target.wants/* $wants/e2scrub_reap.service $wants/remote-fs.target
ln -s /dev/null /etc/systemd/system/console-getty.service
ln -s /dev/null /etc/systemd/system/systemd-firstboot.service
install -m 0755 /tmp/base/nvidia-smi /usr/bin/nvidia-smi
rm -rf /var/cache/apt/*.bin /var/lib/apt/lists/auxfiles
rm -rf /var/log/journal # a journal in memory: it changes all the time, and a host is compared with itself
# what the kernel shares between all hosts and the machine is not theirs to mount
for unit in sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount dev-hugepages.mount \
    systemd-modules-load.service; do
    ln -s /dev/null /etc/systemd/system/$unit
done
