#!/bin/bash
# Shows what dlmgmt does, where it can do no harm: in a network namespace of its own, with names of
# further ones that nobody else sees. All end with this script. Every step is checked; the first that does not hold ends the script with 1.
# demo.sh DIRECTORY-OF-THE-BINARIES
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
bin=$(realpath "${1:-target/debug}")

if [ -z "${DLMGMT_DEMO_INSIDE:-}" ]; then
	namespaces=(--net --mount)
	# Whoever is not root is root in a user namespace.
	[ "$(id -u)" = 0 ] || namespaces+=(--user --map-root-user)
	DLMGMT_DEMO_INSIDE=1 exec unshare "${namespaces[@]}" "$0" "$bin"
fi

work=$(mktemp -d)
daemon=
monitor=
container=

# Ends a process and waits for it, in one redirection: the shell may tell of a death, on its
# standard error, as soon as it notes it, which can be before it waits.
end() {
	{ kill "-$1" "$2" && wait "$2"; } 2>/dev/null || true
}

clean_up() {
	local pid
	for pid in $container $monitor $daemon; do
		end KILL "$pid"
	done
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() {
	printf '\n== %s\n' "$*"
}

fail() {
	printf '\nThis does not hold: %s\n' "$*" >&2
	if [ -s "$work/log" ]; then
		echo "The daemon's log ends so:" >&2
		tail -n 20 "$work/log" >&2
	fi
	exit 1
}

# Shows a command and runs it; what it complains of stands in its place in the story.
show() {
	printf '$ %s\n' "$*"
	"$@" 2>&1
}

dladm() {
	"$bin/dladm" --door "$work/run/door" "$@"
}

field() {
	dladm show-link -p -o "$1" "$2"
}

identities() {
	dladm show-link -p -o link,linkid
}

# Tries a condition for ten seconds.
eventually() {
	local tries
	for tries in {1..200}; do
		"$@" >/dev/null 2>&1 && return
		sleep 0.05
	done
	return 1
}

start_daemon() {
	"$bin/dlmgmtd" --state-dir "$work/state" --runtime-dir "$work/run" --netns-dir /run/netns \
		--bus none --foreground >>"$work/log" 2>&1 &
	daemon=$!
	eventually dladm show-link || fail "the daemon answers at its door"
}

end_daemon() {
	end "$1" "$daemon"
	daemon=
}

must_be_in_kernel() {
	ip link show dev "$1" >/dev/null 2>&1 || fail "the kernel has a link named $1"
}

# Where `ip netns` keeps its names; the host's stay out of sight.
hide_zones_of_the_host() {
	[ -d /run/netns ] || mount -n -t tmpfs tmpfs /run
	mkdir -p /run/netns
	mount -n -t tmpfs tmpfs /run/netns
}

is_zone() {
	dladm show-zone "$1"
}

is_no_zone() {
	! is_zone "$1"
}

# Whether a link, by its linkid, is in a zone under a name.
is_at() {
	[ "$(dladm show-link -p -o zone,link "@$1")" = "$2" ]
}

has_own_namespace() {
	[ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]
}

all_links() {
	dladm show-link -Z -p -o zone,link,linkid
	ip -o link | cut -d : -f 1,2
}

is_as_before() {
	[ "$(all_links)" = "$before" ]
}

mkdir "$work/state" "$work/run"
hide_zones_of_the_host
# The device paths in /sys are to be those of this namespace.
mount -n -t sysfs sysfs /sys 2>/dev/null || true

say "In a network namespace of its own, somebody makes some links."
show ip link add veth0 type veth peer name veth1
show ip link add red type bridge
show ip link add blue type bridge
show ip link add link veth1 name mv0 type macvlan mode bridge
if [ -c /dev/net/tun ] && ip tuntap add dev tap0 mode tap 2>/dev/null; then
	echo '$ ip tuntap add dev tap0 mode tap'
fi
show ip link set blue up

say "The daemon starts and gives each of them an identity."
start_daemon
show dladm show-link -o link,class,mtu,state,over,linkid
id=$(field linkid veth0)
red=$(field linkid red)
mv=$(field linkid mv0)
[ -n "$id" ] || fail "veth0 has a linkid"

say "A link is renamed. Its linkid stays: @$id."
show dladm rename-link veth0 net0
must_be_in_kernel net0
[ "$(field linkid net0)" = "$id" ] || fail "net0 has the linkid $id"
show dladm show-link -o link,class,linkid "@$id"

say "Two links swap their names, in one change."
show dladm rename-link red mv0 mv0 red
[ "$(field linkid mv0)" = "$red" ] || fail "mv0 has the linkid $red"
[ "$(field linkid red)" = "$mv" ] || fail "red has the linkid $mv"
show dladm show-link -o link,class,linkid

say "What makes no sense is refused, and changes nothing."
before=$(identities)
for bad in 'rename-link net0 blue' 'rename-link net0 no/name' 'rename-link nosuch0 net7'; do
	# The words are to be split.
	# shellcheck disable=SC2086
	if show dladm $bad; then
		fail "\`dladm $bad\` is refused"
	fi
done
[ "$(identities)" = "$before" ] || fail "nothing changed"

say "A held link keeps its name."
export DLMGMT_DOOR=$work/run/door
PATH=$bin:$PATH
if show dladm hold net0 -- dladm rename-link net0 net1; then
	fail "the rename of a held link is refused"
fi

say "Somebody else renames a link; \`dladm monitor\` tells it at once, with the same linkid."
"$bin/dladm" --door "$work/run/door" monitor >"$work/events" &
monitor=$!
# Until the monitor listens, no event reaches it: changes of no consequence are made until it does.
listens() {
	ip link set blue mtu $((1300 + RANDOM % 100))
	[ -s "$work/events" ]
}
eventually listens || fail "the monitor tells changes"
show ip link set dev net0 name uplink0
eventually grep -q ' renamed uplink0 .*from=net0' "$work/events" || fail "the monitor tells the rename"
grep ' renamed uplink0 ' "$work/events" | cut -c 1-100
[ "$(field linkid uplink0)" = "$id" ] || fail "uplink0 has the linkid $id"
end TERM "$monitor"
monitor=

say "The daemon is stopped, and started again: all is still there."
before=$(identities)
end_daemon TERM
start_daemon
[ "$(identities)" = "$before" ] || fail "names and linkids are as before"
show dladm show-link -o link,class,linkid

say "The daemon is killed with -9 right after a rename, and started again: all is still there."
show dladm rename-link "@$id" net0
before=$(identities)
end_daemon KILL
start_daemon
[ "$(identities)" = "$before" ] || fail "names and linkids are as before"
must_be_in_kernel net0
show dladm show-link -o link,class,linkid

say "A network namespace that gets a name is a zone. A link is lent to it, under another name."
show ip netns add web
eventually is_zone web || fail "web is a zone"
show dladm show-zone
show dladm set-zone -n eth0 net0 web
show nsenter --net=/run/netns/web ip -brief link
show nsenter --net=/run/netns/web dladm
[ "$(nsenter --net=/run/netns/web dladm show-link -p -o link)" = eth0 ] ||
	fail "eth0 is all that the zone sees"
show dladm where "@$id"
is_at "$id" web:eth0 || fail "the link is in web, as eth0"

say "The zone is deleted with the link inside. The link comes home: its name, its linkid."
show ip netns del web
eventually is_at "$id" global:net0 || fail "the link is at home, as net0"
must_be_in_kernel net0
show dladm show-link -o link,class,zone,linkid

say "The loan is for good: when the zone is there again, the link goes there. Then it is taken back."
show ip netns add web
eventually is_at "$id" web:eth0 || fail "the link is in web again"
show dladm reset-zone web/eth0
is_at "$id" global:net0 || fail "the link is at home again"
show ip netns del web
eventually is_no_zone web || fail "web is no zone any more"

say "Somebody takes a link away with \`ip link set netns\`. It is followed, and fetched with one command."
show ip netns add far
eventually is_zone far || fail "far is a zone"
show ip link set net0 netns far
eventually is_at "$id" far:net0 || fail "the link is seen in far"
show dladm where "@$id"
show dladm reclaim "@$id"
is_at "$id" global:net0 || fail "the link is at home after it was reclaimed"
show ip netns del far
eventually is_no_zone far || fail "far is no zone any more"

say "A container is a process with a network namespace of its own. It gets a transient pair of links."
before=$(all_links)
unshare --net sleep infinity &
container=$!
eventually has_own_namespace "$container" || fail "the container has its own namespace"
show dladm attach-zone --pid "$container" box
show dladm create-veth -t -z box eth0 box0
must_be_in_kernel box0
show dladm show-link -Z -o link,class,zone,linkid
show nsenter --target "$container" --net dladm
[ "$(nsenter --target "$container" --net dladm show-link -p -o link)" = eth0 ] ||
	fail "eth0 is all that the container sees"

say "The container is killed with -9. Its links end with it, and nothing is left over."
echo "\$ kill -KILL $container"
end KILL "$container"
container=
eventually is_no_zone box || fail "box is no zone any more"
eventually is_as_before || fail "the links are those before the container came"
show dladm show-link -Z -o link,class,zone,linkid

say "All of it held. The namespaces, their links and the daemon are gone now."
