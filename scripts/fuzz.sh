#!/bin/bash
# Fuzzes every target for an equal part of SECONDS, one after the other. Ends with an error, and
# tells how to replay it, when one finds something. Installs cargo-fuzz and a nightly toolchain
# where they are missing.
set -euo pipefail

seconds=${1:?"usage: fuzz.sh SECONDS [TARGET...]"}
shift
cd "$(dirname "$0")/../fuzz"

die() {
	echo "fuzz: $*" >&2
	exit 1
}

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
share=$((seconds / ${#targets[@]}))
[ "$share" -gt 0 ] || die "$seconds seconds are not enough for ${#targets[@]} targets"

# What the netlink target hears must not be about the links of this host.
alone() {
	if [ "$(id -u)" = 0 ]; then unshare --net "$@"; else unshare --user --map-root-user --net "$@"; fi
}

for target in "${targets[@]}"; do
	cargo +nightly fuzz build "$target"
done
for target in "${targets[@]}"; do
	# The first directory takes what is new; `regressions` is empty for most targets.
	corpora=("corpus/$target" "seeds/$target")
	[ ! -d "regressions/$target" ] || corpora+=("regressions/$target")
	options=(-max_total_time="$share" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1)
	[ ! -f "dictionaries/$target" ] || options+=(-dict="dictionaries/$target")
	mkdir -p "corpus/$target"
	log=$(mktemp)
	if ! alone cargo +nightly fuzz run "$target" "${corpora[@]}" -- "${options[@]}" >"$log" 2>&1; then
		tail -n 60 "$log" >&2
		rm "$log"
		die "$target found something; to replay it: cd fuzz && cargo +nightly fuzz run $target" \
			"artifacts/$target/FILE; to keep it: cp it to fuzz/regressions/$target/"
	fi
	echo "fuzz: $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions"
	rm "$log"
done
