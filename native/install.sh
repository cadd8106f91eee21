#!/bin/sh
# Installs the release, and puts its epmd in the place of that of an Erlang/OTP;
# or takes that back.
#
#   install.sh install RELEASE PREFIX [OTP]
#   install.sh uninstall PREFIX [OTP]
#
# OTP is the root of an installed Erlang/OTP, such as /usr/lib/erlang. Its own
# epmd stays beside, as epmd.otp. DESTDIR is put before PREFIX and OTP.
set -eu

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

# The file that OTP's nodes start.
epmd_of() {
    set -- "${DESTDIR:-}$1"/erts-*/bin/epmd
    [ $# = 1 ] || fail "more than one: $*"
    [ -e "$1" ] || [ -L "$1" ] || fail "no Erlang/OTP is at ${1%/erts-*}"
    echo "$1"
}

# Whether a package of Debian has the file, whose next version would bring it back.
is_packaged() {
    [ -z "${DESTDIR:-}" ] && command -v dpkg-divert >/dev/null && dpkg -S "$1" >/dev/null 2>&1
}

case ${1:-} in
install)
    release=$2 prefix=$3 otp=${4:-}
    [ -x "$release/bin/epmd" ] || fail "no release is in $release: make release"
    root=${DESTDIR:-}$prefix
    mkdir -p "$(dirname "$root")"
    # By rename: a virtual machine may be running from the one before.
    rm -rf "$root.new" "$root.old"
    cp -R "$release" "$root.new"
    rm -f "$root.new"/*.tar.gz
    units=$root.new/share/systemd
    sed -i "s|/opt/portmapper|$prefix|g" "$units"/epmd.* "$units"/user/epmd.*
    [ ! -e "$root" ] || mv "$root" "$root.old"
    mv "$root.new" "$root"
    rm -rf "$root.old"
    echo "installed in $root"
    [ -n "$otp" ] || exit 0
    epmd=$(epmd_of "$otp")
    if [ ! -e "$epmd.otp" ]; then
        if is_packaged "$epmd"; then
            dpkg-divert --quiet --local --rename --divert "$epmd.otp" --add "$epmd"
        else
            mv "$epmd" "$epmd.otp"
        fi
    fi
    ln -sf "$prefix/bin/epmd" "$epmd"
    echo "$epmd is $prefix/bin/epmd now; what was there is $epmd.otp"
    ;;
uninstall)
    prefix=$2 otp=${3:-}
    if [ -n "$otp" ]; then
        epmd=$(epmd_of "$otp")
        [ -e "$epmd.otp" ] || fail "$epmd is OTP's own"
        rm -f "$epmd"
        if is_packaged "$epmd.otp"; then
            dpkg-divert --quiet --local --rename --remove "$epmd"
        else
            mv "$epmd.otp" "$epmd"
        fi
        echo "$epmd is OTP's own again"
    fi
    rm -rf "${DESTDIR:-}$prefix"
    echo "removed ${DESTDIR:-}$prefix"
    ;;
*)
    fail "install RELEASE PREFIX [OTP] or uninstall PREFIX [OTP]"
    ;;
esac
