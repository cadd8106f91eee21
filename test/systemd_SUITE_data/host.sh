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
mkdir -p /opt/portmapper /run/units/epmd.service.d
mount --bind "$release" /opt/portmapper
cp "$units/epmd.service" "$units/epmd.socket" /run/units
# There is no journal here, and the watchdog is to be seen at work.
cat >/run/units/epmd.service.d/test.conf <<END
[Service]
StandardError=append:/run/epmd.log
WatchdogSec=$watchdog
END
for target in sysinit basic sockets shutdown multi-user; do
    printf '[Unit]\nDefaultDependencies=no\n' >"/run/units/$target.target"
done

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
