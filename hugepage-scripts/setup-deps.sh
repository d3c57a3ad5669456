#!/usr/bin/env bash
# Installs what weft needs to build and to be tested, and only what is missing.
#
#   setup-deps.sh [build|run|test]... [--check] [--dry-run]
#
# Without a group: all of them. --check only lists what is missing (exit 1 if anything is).
set -euo pipefail

PROG=${0##*/}
RUST_MIN=1.88
MEMORY_MIN_MB=6000

# group:package. Grouped by who needs it, in the order in which it is first needed.
PACKAGES=(
    build:build-essential build:pkg-config build:libdpdk-dev build:clang build:libclang-dev build:git build:curl
    build:ca-certificates
    run:dpdk run:iproute2 run:kmod run:pciutils run:util-linux
    test:dpdk-dev test:qemu-system-x86 test:linux-image-amd64 test:busybox-static test:cpio test:xz-utils test:zstd
    test:python3 test:python3-pytest test:python3-scapy test:tshark test:tcpdump test:iperf3 test:ethtool
    test:iputils-ping test:iputils-arping test:procps test:socat test:openvswitch-switch test:openvswitch-switch-dpdk
    test:shellcheck test:valgrind test:lua5.3
)

say() { printf '%s: %s\n' "$PROG" "$*"; }
die() { printf '%s: error: %s\n' "$PROG" "$1" >&2; shift; for l in "$@"; do printf '    %s\n' "$l" >&2; done; exit 1; }

GROUPS_WANTED=()
CHECK=0 DRY_RUN=0
for a in "$@"; do
    case $a in
    build | run | test) GROUPS_WANTED+=("$a") ;;
    --check) CHECK=1 ;;
    --dry-run) DRY_RUN=1 ;;
    --help | -h) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) printf "%s: unknown argument '%s'; try --help\n" "$PROG" "$a" >&2; exit 2 ;;
    esac
done
[[ ${#GROUPS_WANTED[@]} -gt 0 ]] || GROUPS_WANTED=(build run test)

wanted() { [[ " ${GROUPS_WANTED[*]} " = *" $1 "* ]]; }

installed() {
    case $1 in
    # Any Debian kernel image with its modules boots the guests: no need to add one to the boot menu.
    linux-image-amd64)
        local k
        for k in "${WEFT_DEPS_ROOT:-}"/boot/vmlinuz-*-amd64; do
            [[ $k != *-cloud-* && -r $k && -d "${WEFT_DEPS_ROOT:-}/lib/modules/${k##*/vmlinuz-}/kernel/net" ]] && return 0
        done
        return 1
        ;;
    *) [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2> /dev/null) = installed ]] ;;
    esac
}

# ---- Packages ----------------------------------------------------------------------------------

ALL=()
for p in "${PACKAGES[@]}"; do
    if wanted "${p%%:*}"; then ALL+=("${p#*:}"); fi
done

if ! command -v apt-get > /dev/null 2>&1 || ! command -v dpkg-query > /dev/null 2>&1; then
    # shellcheck source=/dev/null
    if [[ -r /etc/os-release ]]; then . /etc/os-release; fi
    die "this is ${PRETTY_NAME:-not a Debian system}: packages can only be installed by apt here" \
        "install what these Debian packages hold, by your own package manager:" \
        "    ${ALL[*]}" \
        "DPDK must be 22.11 or newer, built shared, and be found by: pkg-config --modversion libdpdk" \
        "then build with: make build SKIP_DEPS=1"
fi

MISSING=()
for p in "${ALL[@]}"; do
    if ! installed "$p"; then MISSING+=("$p"); fi
done

rust_version() { rustc --version 2> /dev/null | awk '{ print $2 }'; }
version_ge() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) = "$2" ]]; }

# rustup puts cargo there; a shell opened before it was installed does not know.
export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
RUST=ok
if wanted build; then
    if ! command -v rustc > /dev/null 2>&1 || ! command -v cargo > /dev/null 2>&1; then
        RUST=none
    elif ! version_ge "$(rust_version)" "$RUST_MIN"; then
        RUST=old
    fi
fi

if [[ $CHECK = 1 ]]; then
    rc=0
    if [[ ${#MISSING[@]} -gt 0 ]]; then say "missing: ${MISSING[*]}"; rc=1; fi
    if [[ $RUST != ok ]]; then say "missing: Rust $RUST_MIN or newer ($(rust_version || true))"; rc=1; fi
    [[ $rc = 1 ]] || say "nothing is missing"
    exit "$rc"
fi

SUDO=()
as_root() {
    [[ $EUID != 0 && $DRY_RUN = 0 ]] || return 0
    command -v sudo > /dev/null 2>&1 || die "packages are missing and this is not root, nor is there sudo" \
        "as root, run: apt-get install ${MISSING[*]}"
    SUDO=(sudo)
}

run() {
    if [[ $DRY_RUN = 1 ]]; then say "would run: $*"; else "${SUDO[@]}" "$@"; fi
}

# apt's lists are needed only if something is to be installed, and not again if they know it all.
lists_know_all() {
    local p
    for p in "${MISSING[@]}"; do
        [[ -n $(apt-cache policy "$p" 2> /dev/null | awk '$1 == "Candidate:" && $2 != "(none)"') ]] || return 1
    done
}

# Installing Open vSwitch starts its service; the tests start one of their own in a private
# directory, and this host may not want the service. policy-rc.d says "don't" while apt works.
POLICY=${WEFT_DEPS_POLICY:-/usr/sbin/policy-rc.d}
POLICY_OURS=0
services_stay_off() {
    [[ $DRY_RUN = 0 && ! -e $POLICY ]] || return 0
    printf '#!/bin/sh\nexit 101\n' | run tee "$POLICY" > /dev/null
    run chmod 755 "$POLICY"
    POLICY_OURS=1
}
services_as_before() { [[ $POLICY_OURS = 0 ]] || run rm -f "$POLICY"; }

install_packages() {
    as_root
    say "installing: ${MISSING[*]}"
    if ! lists_know_all; then
        run apt-get update -q || die "apt-get update failed" "is this host on the network? see /etc/apt/sources.list"
    fi
    if [[ $DRY_RUN = 0 ]] && ! lists_know_all; then
        local p
        for p in "${MISSING[@]}"; do
            [[ -n $(apt-cache policy "$p" | awk '$1 == "Candidate:" && $2 != "(none)"') ]] || say "no package $p in this distribution"
        done
        die "not every package can be had here; weft is developed on Debian 12"
    fi
    trap services_as_before EXIT
    services_stay_off
    # tshark asks whether others than root may capture: the default, no, is right.
    run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${MISSING[@]}" ||
        die "apt-get install failed; its message is above"
    services_as_before
    POLICY_OURS=0
    trap - EXIT
    if [[ " ${MISSING[*]} " = *" openvswitch-switch"* && -d /run/systemd/system ]]; then
        run systemctl disable --quiet openvswitch-switch.service || true
    fi
}

if [[ ${#MISSING[@]} -gt 0 ]]; then install_packages; fi

# ---- Rust --------------------------------------------------------------------------------------

case $RUST in
old)
    die "Rust $(rust_version) is too old: $RUST_MIN or newer is needed" \
        "with rustup: rustup update stable" \
        "a distribution's older Rust can stay beside it: https://rustup.rs"
    ;;
none)
    if [[ $DRY_RUN = 1 ]]; then
        say "would install Rust by the installer of https://rustup.rs"
    else
        say "installing Rust by the installer of https://rustup.rs, for $(id -un)"
        script=$(mktemp)
        curl --proto '=https' --tlsv1.2 -fsS https://sh.rustup.rs -o "$script" ||
            { rm -f "$script"; die "the Rust installer cannot be fetched" "install Rust $RUST_MIN or newer by hand: https://rustup.rs"; }
        sh "$script" -y -q --profile default || die "the Rust installer failed"
        rm -f "$script"
        say "in this shell, run: . ${CARGO_HOME:-$HOME/.cargo}/env"
    fi
    ;;
esac

if wanted test; then
    mb=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' "${WEFT_DEPS_ROOT:-}/proc/meminfo")
    if ((mb < MEMORY_MIN_MB)); then
        say "warning: this host has $mb MB of memory; the demo and the system tests want $MEMORY_MIN_MB MB or more (hugepages, two guests)"
    fi
fi
if [[ $DRY_RUN = 0 || ${#MISSING[@]} = 0 ]]; then say "everything is there"; fi
