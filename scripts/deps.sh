#!/bin/bash
# Installs what a Debian machine lacks for building, running and testing. Needs root only if
# something is missing, and does nothing otherwise.
set -euo pipefail

die() {
	echo "deps: $*" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "root is needed for: $*"
	fi
}

# `ip` lives in a directory that is not on everybody's PATH.
PATH=$PATH:/usr/sbin:/sbin

command -v cargo >/dev/null || die "cargo is missing: https://rustup.rs tells how to install it"

packages=()
command -v ip >/dev/null || packages+=(iproute2)
command -v cc >/dev/null || packages+=(gcc libc6-dev)
command -v unshare >/dev/null && command -v setpriv >/dev/null || packages+=(util-linux)
# The tests have a bus of their own, with polkit, `busctl`, `gdbus` and a Python client on it.
command -v dbus-daemon >/dev/null || packages+=(dbus-daemon)
command -v busctl >/dev/null || packages+=(systemd)
command -v gdbus >/dev/null || packages+=(libglib2.0-bin)
[ -x /usr/lib/polkit-1/polkitd ] || packages+=(polkitd)
/usr/bin/python3 -c 'import dbus, gi' 2>/dev/null || packages+=(python3-dbus python3-gi)
if [ ${#packages[@]} -gt 0 ]; then
	command -v apt-get >/dev/null || die "please install: ${packages[*]}"
	echo "deps: installing ${packages[*]}"
	as_root apt-get update -q
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
		"${packages[@]}"
fi

components=()
cargo fmt --version >/dev/null 2>&1 || components+=(rustfmt)
cargo clippy --version >/dev/null 2>&1 || components+=(clippy)
if [ ${#components[@]} -gt 0 ]; then
	command -v rustup >/dev/null || die "cargo lacks ${components[*]}"
	echo "deps: adding ${components[*]} to the Rust toolchain"
	rustup component add "${components[@]}"
fi
