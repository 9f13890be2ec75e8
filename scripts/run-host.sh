#!/bin/bash
# Runs the daemon in the foreground on the links of this host, with its usual directories:
# run-host.sh DIRECTORY-OF-THE-BINARIES
set -euo pipefail

bin=$(realpath "$1")
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)

echo "dlmgmtd runs on the links of this host. State: /var/lib/dlmgmt; door: /run/dlmgmt/door."
echo "In another terminal, as root: $bin/dladm show-link"
echo "Ctrl-C ends it; the links stay as they are."
exec "${as_root[@]}" "$bin/dlmgmtd" --bus none --foreground
