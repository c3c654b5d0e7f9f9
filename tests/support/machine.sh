#!/bin/sh
# Become a small machine that systemd runs: PID 1 of the namespaces that this is called in (mount, pid, cgroup, ipc,
# uts, net). Its root is this host's, copy-on-write, so that nothing that happens in it reaches the host's files.
#
#     machine.sh DIRECTORY CHECKOUT USER
#
# DIRECTORY has an empty directory `root`, on which the machine's root is put together, and `host`, which is
# /run/host in there. CHECKOUT is there too, read-only. USER gets a home directory.
set -eu
directory=$1 checkout=$2 user=$3
whole=$directory/root

mount -t tmpfs -o mode=0755 tmpfs "$whole"
mkdir "$whole/upper" "$whole/work" "$whole/root"
mount -t overlay -o "lowerdir=/,upperdir=$whole/upper,workdir=$whole/work" overlay "$whole/root"
cd "$whole/root"

mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
# Where much is written, and what an overlay file system of the user's may be put on.
for place in home run tmp var/lib/systemd var/log var/tmp; do
    mkdir -p $place
    mount -t tmpfs -o mode=0755 tmpfs $place
done
chmod 1777 tmp var/tmp
mkdir -p run/host run/lock run/old ".$checkout"
mount --bind "$directory/host" run/host
mount --bind -o ro "$checkout" ".$checkout"
# The user gets there, too, whoever has the checkout.
above=$(dirname "$checkout")
while [ "$above" != / ]; do
    chmod a+rx ".$above"
    above=$(dirname "$above")
done

mount -t tmpfs -o mode=0755,dev tmpfs dev
for node in full fuse null random tty urandom zero; do
    if [ -e "/dev/$node" ]; then
        : >"dev/$node"
        mount --bind "/dev/$node" "dev/$node"
    fi
done
mkdir dev/mqueue dev/pts dev/shm
mount -t mqueue mqueue dev/mqueue
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr

# Containers are on no network unless a test wants them there.
mkdir -p etc/containers
printf '[containers]\nnetns = "none"\n' >etc/containers/containers.conf
sed -i "s|^\($user:.*\):[^:]*:\([^:]*\)\$|\1:/home/$user:\2|" etc/passwd
mkdir -m 0700 "home/$user"
chown "$user:" "home/$user"
tr -d - <proc/sys/kernel/random/uuid >etc/machine-id
cat >etc/pam.d/pyman-login <<FILE
account required pam_permit.so
session required pam_systemd.so
FILE
# A session takes with it whatever has not left it: nothing of an engine may be in one.
mkdir -p etc/systemd/logind.conf.d etc/systemd/system
cat >etc/systemd/logind.conf.d/kill.conf <<FILE
[Login]
KillUserProcesses=yes
FILE
cat >etc/systemd/system/machine.target <<FILE
[Unit]
Description=A small machine
Requires=dbus.socket systemd-logind.service systemd-user-sessions.service
After=dbus.socket systemd-logind.service systemd-user-sessions.service
FILE
# The hardware and the kernel are the host's affair; a boot of half a second has no use for the rest.
for unit in dev-hugepages.mount dev-mqueue.mount modprobe@.service proc-sys-fs-binfmt_misc.automount \
    sys-fs-fuse-connections.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    systemd-binfmt.service systemd-firstboot.service systemd-modules-load.service systemd-pstore.service \
    systemd-random-seed.service systemd-remount-fs.service systemd-sysctl.service systemd-sysusers.service \
    systemd-timesyncd.service systemd-tmpfiles-clean.timer systemd-tmpfiles-setup.service \
    systemd-tmpfiles-setup-dev.service systemd-udev-trigger.service systemd-udevd.service \
    systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-update-utmp.service; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done

# Not chroot: in one no user namespace can be made.
pivot_root . run/old
cd /
umount -l /run/old
exec env -i container=pyman PATH=/usr/sbin:/usr/bin:/sbin:/bin NOTIFY_SOCKET=/run/host/notify \
    /lib/systemd/systemd --system --unit=machine.target --log-target=console --show-status=no
