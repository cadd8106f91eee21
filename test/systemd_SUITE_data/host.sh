#!/bin/sh
# Becomes systemd, process 1 of a host of its own: with the units and the release
# that are given, nothing else to start, and nothing that it could change outside.
# Run in new namespaces of every kind.
#
#   host.sh both|ipv4|ipv6 RELEASE UNITS WATCHDOG
set -eu
families=$1
release=$2
units=$3
watchdog=$4

mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /opt
mkdir /opt/portmapper
mount --bind "$release" /opt/portmapper

# install_units DIRECTORY SERVICE: all the units that a manager has.
install_units() {
    mkdir -p "$1/epmd.service.d"
    cp "$2" "$units/epmd.socket" "$1"
    # There is no journal here, and the watchdog is to be seen at work.
    cat >"$1/epmd.service.d/test.conf" <<END
[Service]
StandardError=append:%t/epmd.log
WatchdogSec=$watchdog
END
    for target in sysinit basic sockets shutdown multi-user default; do
        printf '[Unit]\nDefaultDependencies=no\n' >"$1/$target.target"
    done
}

home=/run/home
install_units /run/units "$units/epmd.service"
install_units "$home/.config/systemd/user" "$units/user/epmd.service"
# The manager of a user, started by its number, as there is no login here.
cat >/run/units/user@.service <<END
[Service]
Type=notify
User=%i
Environment=HOME=$home XDG_RUNTIME_DIR=/run/user/%i
Environment=SYSTEMD_UNIT_PATH=$home/.config/systemd/user
RuntimeDirectory=user/%i
Delegate=yes
KillMode=mixed
# The soft limit is the usual one of users.
LimitNOFILE=1024:$(ulimit -H -n)
ExecStart=/lib/systemd/systemd --user --log-target=null
END

ip link set lo up
case $families in
ipv4) echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 ;;
ipv6) ip -4 address flush dev lo ;;
esac
mount -t tmpfs tmpfs /tmp
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /
exec env -i PATH="$PATH" container=other SYSTEMD_UNIT_PATH=/run/units \
    /lib/systemd/systemd --system --unit=basic.target --log-target=null --show-status=no
