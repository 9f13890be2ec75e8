#!/bin/bash
# Makes the disk of the guest out of Debian packages: DIRECTORY/{disk.img,vmlinuz,initrd.img}.
# Nothing is made that is newer than what it is made of.
# image.sh DIRECTORY
set -euo pipefail

here=$(dirname "$(realpath "$0")")
mkdir -p "$1"
cd "$1"
# Where apt's unprivileged user may write, whatever the modes of /tmp are.
export TMPDIR=$PWD
PATH=$PATH:/usr/sbin:/sbin

say() {
	echo "test-vm: $*"
}

[ "$(id -u)" = 0 ] || { say "root is needed, for the files of the guest belong to its root" >&2; exit 1; }

install_missing() {
	local packages=()
	command -v qemu-system-x86_64 >/dev/null || packages+=(qemu-system-x86)
	command -v qemu-img >/dev/null || packages+=(qemu-utils)
	command -v mmdebstrap >/dev/null || packages+=(mmdebstrap)
	command -v mkfs.ext4 >/dev/null || packages+=(e2fsprogs)
	[ ${#packages[@]} -gt 0 ] || return 0
	say "installing ${packages[*]}"
	apt-get update -q
	# The two parts of QEMU must be of one version, which need not be that of the part found here.
	case " ${packages[*]} " in
	*" qemu-system-x86 "*) [ -z "$(command -v qemu-img)" ] || packages+=("qemu-utils=$(candidate)") ;;
	esac
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
		--allow-downgrades "${packages[@]}"
}

# The version of QEMU that would be installed.
candidate() {
	apt-cache policy qemu-system-x86 | sed -n 's/^ *Candidate: //p'
}

# Modules of the kernel that no guest needs, which are half of its size.
left_out=(drivers/{ata,gpu,media,infiniband,iio,staging,usb,scsi,hwmon,input} sound)

make_base() {
	say "making a Debian guest, which takes some minutes"
	local options=() module
	for module in "${left_out[@]}"; do
		options+=("--dpkgopt=path-exclude=/lib/modules/*/kernel/$module/*")
	done
	mmdebstrap --quiet --variant=minbase --format=tar \
		--include="$(paste -sd, "$here/packages")" \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		"${options[@]}" \
		--customize-hook='printf "%s\n" virtio_pci virtio_blk ext4 >> "$1/etc/initramfs-tools/modules"' \
		--customize-hook='echo MODULES=list > "$1/etc/initramfs-tools/conf.d/guest"' \
		--customize-hook='chroot "$1" update-initramfs -u' \
		--customize-hook='download /vmlinuz vmlinuz' \
		--customize-hook='download /initrd.img initrd.img' \
		bookworm base.tar.new
	mv base.tar.new base.tar
}

make_disk() {
	say "making the disk"
	rm -rf root
	mkdir root
	tar --extract --numeric-owner --file base.tar --directory root
	echo guest >root/etc/hostname
	echo '/dev/vda / ext4 rw 0 1' >root/etc/fstab
	# The journal is to outlast a power cut.
	mkdir -p root/var/log/journal
	install -D "$here/guest/agent" root/usr/local/sbin/agent
	install -D -m 0644 "$here/guest/agent.service" root/etc/systemd/system/agent.service
	mkdir -p root/etc/systemd/system/multi-user.target.wants
	ln -s ../agent.service root/etc/systemd/system/multi-user.target.wants/
	# What would wake up at times of its own, and look for a network.
	local timer
	for timer in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim; do
		ln -s /dev/null "root/etc/systemd/system/$timer.timer"
	done
	rm -f disk.img.new
	truncate --size 2G disk.img.new
	mkfs.ext4 -q -d root disk.img.new
	rm -rf root
	mv disk.img.new disk.img
}

is_older() {
	local made=$1 source
	shift
	for source; do
		[ "$made" -nt "$source" ] || return 0
	done
	return 1
}

install_missing
if is_older base.tar "$here"/{packages,image.sh}; then make_base; fi
if is_older disk.img base.tar "$here"/guest/*; then make_disk; fi
