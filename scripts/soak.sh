#!/bin/bash
# Looks for what breaks, with fresh seeds, for SECONDS in all: half of them random lives of a simulated
# machine, a quarter the same requests to a simulated and the real kernel, a quarter kill -9 of the
# release binary under load. Whatever fails prints the command, or the seed, that replays it.
set -euo pipefail

seconds=${1:?"usage: soak.sh SECONDS"}
cd "$(dirname "$0")/.."

# The tests make network namespaces: whoever is not root is root in a user namespace.
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else unshare --user --map-root-user "$@"; fi
}

# One part's output, but only what it says of its seeds and its end where all went well.
part() {
	local name=$1 log
	shift
	log=$(mktemp)
	if ! "$@" >"$log" 2>&1; then
		cat "$log" >&2
		rm "$log"
		echo "soak: $name: FAILED" >&2
		exit 1
	fi
	echo "soak: $name: $(grep -E '^(lived|compared|killed) ' "$log")"
	rm "$log"
}

cargo build --locked --release -p dlmgmtd
cargo build --locked -p dladm
cargo test --locked --no-run -p dlmgmtd -p dlmgmt-tests

part "random lives" env ENGINE_SOAK=$((seconds / 2)) \
	cargo test --locked -p dlmgmtd --test engine -- --nocapture model::
part "two kernels" as_root env ENGINE_SOAK=$((seconds / 4)) \
	cargo test --locked -p dlmgmtd --lib -- --nocapture kernel::differential::
part "kill -9" as_root env KILL_SECONDS=$((seconds / 4)) \
	cargo test --locked -p dlmgmt-tests --test kill -- --nocapture
