# What can be done with this tree. A newcomer needs `make run` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

DESTDIR ?=
PREFIX ?= /usr
# Where the binaries lie that are installed.
BINARIES ?= $(or $(CARGO_TARGET_DIR),target)/shipped

.PHONY: build release run test soak bench fuzz deps install uninstall deb test-deb clean

build:
	cargo build --locked --workspace

# The binaries that `make install` and `make deb` take.
release:
	cargo build --locked --profile shipped -p dlmgmtd -p dladm

# A scratch network namespace by default; HOST=1 is for the links of this host.
run: deps build
ifeq ($(HOST),1)
	scripts/run-host.sh target/debug
else
	scripts/demo.sh target/debug
endif

# The tests start the binaries that `cargo build` leaves, and one kills the release binary, so these
# come before them. They make network namespaces: whoever is not root is root in a user namespace.
AS_ROOT := $(if $(filter 0,$(shell id -u)),,unshare --user --map-root-user)

test: deps
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
	cargo build --locked --workspace
	cargo build --locked --release -p dlmgmtd
	$(AS_ROOT) cargo test --locked --workspace

# Random lives of a simulated machine, two kernels compared, and kill -9 of the release binary, with
# fresh seeds, SECONDS in all. What fails is printed with its replay.
soak: deps
	scripts/soak.sh $(if $(filter command line,$(origin SECONDS)),$(SECONDS),60)

# What only a whole machine shows: systemd, udev, cards that come and go, power cuts. Debian under
# QEMU, half an hour; root makes its disk. TESTS="NAME..." are those whose names have that in them.
test-vm: release
	rm -rf target/vm/install
	$(MAKE) install DESTDIR=$(CURDIR)/target/vm/install
	tests/vm/image.sh target/vm
	python3 -B tests/vm/run.py $(TESTS)

# Each figure is a ratio against something measured in the same run; fails where a bound is broken.
bench: deps
	cargo build --locked --profile shipped --workspace
	$(AS_ROOT) cargo bench --locked --profile shipped -p dlmgmt-tests --bench ratios

# Every target in turn, SECONDS in all; needs a nightly toolchain, which it installs.
fuzz: SECONDS ?= 300
fuzz:
	scripts/fuzz.sh $(SECONDS)

# Says what is missing, and installs only that.
deps:
	@scripts/deps.sh

# What is there is installed as it is: root need not have a toolchain.
$(BINARIES)/dlmgmtd $(BINARIES)/dladm:
	@$(MAKE) release

install: $(BINARIES)/dlmgmtd $(BINARIES)/dladm
	scripts/install.sh install "$(BINARIES)" "$(PREFIX)" "$(DESTDIR)"

uninstall:
	scripts/install.sh uninstall "$(BINARIES)" "$(PREFIX)" "$(DESTDIR)"

# Needs debhelper. The package is target/debian/*.deb.
deb: $(BINARIES)/dlmgmtd $(BINARIES)/dladm
	debian/rules clean binary BINARIES=$(BINARIES)

# Needs lintian too, and root. Installs, upgrades, removes and purges the package in a copy of this
# system that nobody else sees.
test-deb: deb
	scripts/test-deb.sh target/debian/*.deb

clean:
	cargo clean
