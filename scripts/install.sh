#!/bin/bash
# Installs what was built, or with `uninstall` removes it again: one list for both.
# Usage: install.sh install|uninstall BINARIES PREFIX [DESTDIR]
# BINARIES is the directory that has dlmgmtd and dladm.
set -euo pipefail
action=$1 binaries=$2 prefix=$3 root=${4:-}
cd "$(dirname "$0")/.."

# Where D-Bus, polkit, systemd and udev look: below PREFIX, unless the environment says otherwise.
: "${UNIT_DIR:=$prefix/lib/systemd/system}"
: "${UDEV_RULES_DIR:=$prefix/lib/udev/rules.d}"
: "${DBUS_POLICY_DIR:=$prefix/share/dbus-1/system.d}"
: "${DBUS_SERVICE_DIR:=$prefix/share/dbus-1/system-services}"
: "${POLKIT_DIR:=$prefix/share/polkit-1/actions}"
zsh_dir=$prefix/share/zsh/site-functions
# Debian's zsh looks there only below /usr/local.
[ "$prefix" != /usr ] || [ ! -e /etc/debian_version ] || zsh_dir=/usr/share/zsh/vendor-completions

# remove_if_empty DIRECTORY: and those above it.
remove_if_empty() {
	(cd "$root/" && rmdir -p ".$1") 2>/dev/null || true
}

# put MODE DESTINATION: installs what comes on the standard input.
put() {
	if [ "$action" = install ]; then
		install -D -m "$1" /dev/stdin "$root$2"
	else
		rm -f "$root$2"
		remove_if_empty "${2%/*}"
	fi
}

# put_files MODE DIRECTORY FILE...: those of the files that there are.
put_files() {
	local mode=$1 directory=$2 file
	shift 2
	for file; do
		[ ! -e "$file" ] || put "$mode" "$directory/${file##*/}" <"$file"
	done
}

# put_services DIRECTORY FILE...: files that name programs, by the paths that these have here.
put_services() {
	local directory=$1 file
	shift
	for file; do
		[ ! -e "$file" ] || put 0644 "$directory/${file##*/}" < <(
			sed "s#/usr/\(sbin\|lib\|libexec\)/\(dlmgmt\|dladm\)#$prefix/\1/\2#g" "$file"
		)
	done
}

# put_output DESTINATION COMMAND...: what the command prints.
put_output() {
	local destination=$1 text=
	shift
	[ "$action" = uninstall ] || text=$("$@")
	put 0644 "$destination" <<<"$text"
}

# The script names the program by the path that it is told as its own: /usr/sbin is not on
# everybody's PATH.
shell_script() {
	(export DLADM_COMPLETE=$1 && exec -a "$prefix/sbin/dladm" "$binaries/dladm") || return
	# zsh loads its script when it needs it first, and wants the answer at once.
	[ "$1" != zsh ] || echo '[ "${funcstack[1]}" != _dladm ] || _clap_dynamic_completer_dladm "$@"'
}

put_files 0755 "$prefix/sbin" "$binaries"/{dlmgmtd,dladm}

for page in man/*.[1-8]; do
	put_files 0644 "$prefix/share/man/man${page##*.}" "$page"
done
put_files 0644 "$prefix/share/doc/dlmgmt" README.md LICENSE-APACHE LICENSE-MIT docs/*.md
put_files 0644 "$prefix/share/doc/dlmgmt/examples" docs/examples/*

put_output "$prefix/share/bash-completion/completions/dladm" shell_script bash
put_output "$zsh_dir/_dladm" shell_script zsh
put_output "$prefix/share/fish/vendor_completions.d/dladm.fish" shell_script fish

put_services "$UNIT_DIR" systemd/dlmgmtd.{service,socket}
put_services "$UDEV_RULES_DIR" systemd/*.rules
put_services "$DBUS_SERVICE_DIR" systemd/org.dlmgmt1.service
put_files 0644 "$DBUS_POLICY_DIR" systemd/org.dlmgmt1.conf
put_files 0644 "$POLKIT_DIR" systemd/org.dlmgmt1.policy
for kind in sysusers tmpfiles; do
	file=systemd/dlmgmt.$kind
	[ ! -e "$file" ] || put 0644 "$prefix/lib/$kind.d/dlmgmt.conf" <"$file"
done
for interface in Manager Link Zone; do
	name=org.dlmgmt1.$interface
	put_output "$prefix/share/dbus-1/interfaces/$name.xml" "$binaries/dlmgmtd" introspect "$name"
done
