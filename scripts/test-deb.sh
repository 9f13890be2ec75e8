#!/bin/bash
# Checks a package with lintian, then installs, upgrades, removes and purges it in a copy of this
# system: an overlay in namespaces of its own, which end with this script and leave nothing.
# Usage: test-deb.sh PACKAGE.deb
set -euo pipefail

die() {
	echo "test-deb: $*" >&2
	exit 1
}

say() {
	echo "test-deb: $*"
}

# The same package with a version that comes before every other.
make_older() {
	local package=$1 older=$2 scratch
	scratch=$(mktemp -d)
	dpkg-deb --raw-extract "$package" "$scratch/tree"
	sed -i 's/^Version: .*/Version: 0~older/' "$scratch/tree/DEBIAN/control"
	dpkg-deb --build --root-owner-group "$scratch/tree" "$older" >/dev/null
	rm -r "$scratch"
}

# Runs the rest in the copy.
isolated() {
	local package=$1 scratch=$2 root=$2/root
	mount -t tmpfs tmpfs "$scratch"
	mkdir "$scratch"/{upper,work,root}
	mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$root"
	mount --rbind /dev "$root/dev"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	mount -t tmpfs tmpfs "$root/run"
	mkdir "$root/run/test-deb" "$root/run/netns"
	cp "$0" "$root/run/test-deb/test-deb.sh"
	cp "$package" "$root/run/test-deb/new.deb"
	make_older "$package" "$root/run/test-deb/old.deb"
	chroot "$root" /bin/bash /run/test-deb/test-deb.sh exercise
}

# Every file where packages put any, but those that dpkg needs for itself.
all_files() {
	find /etc /usr /var \( -path /var/lib/dpkg -o -path /var/log -o -path /var/cache \
		-o -path /var/tmp \) -prune -o -print | sort
}

install_package() {
	dpkg --install "$1" >/dev/null
	[ -z "$(dpkg --verify dlmgmt)" ] || die "installed files differ from the package's"
}

start_daemon() {
	mkdir -p /run/dlmgmt
	/usr/sbin/dlmgmtd --bus none 2>/run/test-deb/log &
	daemon=$!
	until dladm show-link >/dev/null 2>&1; do
		kill -0 "$daemon" 2>/dev/null || die "the daemon ended: $(cat /run/test-deb/log)"
		sleep 0.05
	done
}

stop_daemon() {
	kill "$daemon"
	wait "$daemon" || die "the daemon did not stop in order"
}

is_enabled() {
	[ -L /etc/systemd/system/multi-user.target.wants/dlmgmtd.service ]
}

exercise() {
	local linkid
	all_files >/run/test-deb/before

	say "install"
	install_package /run/test-deb/old.deb
	is_enabled || die "the service is not enabled"
	start_daemon
	dladm create-veth net0 net1
	linkid=$(dladm show-link -p -o linkid net0)
	stop_daemon
	mkdir /etc/dlmgmt
	echo '# by the administrator' >/etc/dlmgmt/dlmgmtd.toml

	say "upgrade"
	install_package /run/test-deb/new.deb
	is_enabled || die "the service is no longer enabled"
	start_daemon
	[ "$(dladm show-link -p -o linkid net0)" = "$linkid" ] || die "net0 is another link"
	stop_daemon

	say "remove"
	dpkg --remove dlmgmt >/dev/null
	[ ! -e /usr/sbin/dlmgmtd ] || die "the daemon is still there"
	[ -d /var/lib/dlmgmt/db ] || die "the registry went with the program"
	[ -e /etc/dlmgmt/dlmgmtd.toml ] || die "the configuration went with the program"

	say "install again"
	install_package /run/test-deb/new.deb
	start_daemon
	[ "$(dladm show-link -p -o linkid net0)" = "$linkid" ] || die "net0 is another link"
	stop_daemon

	say "purge"
	dpkg --purge dlmgmt >/dev/null
	all_files >/run/test-deb/after
	diff /run/test-deb/before /run/test-deb/after || die "something was left, or is missing"
	say "all is well"
}

case ${1:-} in
exercise)
	exercise
	;;
isolated)
	isolated "$2" "$3"
	;;
*.deb)
	[ "$(id -u)" = 0 ] || die "root is needed"
	command -v lintian >/dev/null || die "please install lintian"
	lintian --fail-on error "$1"
	scratch=$(mktemp -d)
	trap 'rmdir "$scratch"' EXIT
	unshare --mount --pid --net --fork --kill-child --mount-proc "$0" isolated "$1" "$scratch"
	;;
*)
	die "usage: test-deb.sh PACKAGE.deb"
	;;
esac
