# shellcheck shell=bash
# weft-host bind and unbind. Sourced by weft-host.

# ---- NICs --------------------------------------------------------------------------------------

PCI_RE='[0-9a-fA-F]{4}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]'

# The PCI function under an interface: a virtio NIC hangs one level below its PCI device.
pci_of_interface() {
    local p
    p=$(readlink -f "$SYSFS/class/net/$1/device" 2> /dev/null) || return 1
    grep -oE "$PCI_RE" <<< "$p" | tail -n 1
}

# Prints the PCI address for an address (the domain may be left out) or an interface name.
resolve_nic() {
    local a
    if [[ $1 =~ ^$PCI_RE$ ]]; then
        a=${1,,}
    elif [[ 0000:$1 =~ ^$PCI_RE$ ]]; then
        a=0000:${1,,}
    elif [[ $1 =~ ^[A-Za-z0-9_.:@-]+$ && -e $SYSFS/class/net/$1 ]]; then
        a=$(pci_of_interface "$1" || true)
        [[ -n $a ]] || die "interface $1 is not on a PCI device: DPDK cannot own it" \
            "use it through an af_packet device in the configuration: net_af_packet0,iface=$1"
    else
        die "no NIC '$1'" "give a PCI address such as 0000:01:00.0 or an interface name; see: $PROG status"
    fi
    [[ -d $SYSFS/bus/pci/devices/$a ]] || die "no PCI device $a on this host" "see: $PROG status"
    [[ $(cat "$SYSFS/bus/pci/devices/$a/class" 2> /dev/null) = 0x02* ]] || die "PCI device $a is not a NIC"
    echo "$a"
}

driver_of() {
    local l
    if l=$(readlink "$SYSFS/bus/pci/devices/$1/driver" 2> /dev/null); then echo "${l##*/}"; else echo none; fi
}

interfaces_of() { # PCI address
    local i n
    for i in "$SYSFS"/class/net/*; do
        n=${i##*/}
        if [[ $(pci_of_interface "$n" || true) = "$1" ]]; then echo "$n"; fi
    done
}

# An interface and all it stands on: bond and bridge members, the parent of a VLAN.
with_lowers() {
    local l
    echo "$1"
    for l in "$SYSFS/class/net/$1"/lower_*; do with_lowers "${l##*/lower_}"; done
}

# Interfaces with routes: "default" or "any".
routed_interfaces() {
    local i
    {
        if [[ $1 = default ]]; then
            awk 'NR > 1 && $2 == "00000000" && $8 == "00000000" { print $1 }' "$PROC/net/route" 2> /dev/null || true
            awk '$2 == "00" && $1 ~ /^0+$/ && $NF != "lo" { print $NF }' "$PROC/net/ipv6_route" 2> /dev/null || true
        else
            awk 'NR > 1 { print $1 }' "$PROC/net/route" 2> /dev/null || true
        fi
    } | sort -u | while read -r i; do with_lowers "$i"; done | sort -u
}

# ---- bind and unbind ---------------------------------------------------------------------------

refuse_routed() { # ADDRESS
    local i
    for i in $(interfaces_of "$1"); do
        if routed_interfaces default | grep -qx -- "$i"; then
            die "$1 ($i) carries the default route: binding it would cut this host off" \
                "use another NIC, or insist with --force (weftd's exception path, [[uplink]] tap, keeps a one-NIC host reachable)"
        fi
        if routed_interfaces any | grep -qx -- "$i"; then
            die "$1 ($i) carries routes" "take its addresses away first: ip addr flush dev $i; or insist with --force"
        fi
    done
}

need_vfio() { # ADDRESS
    local p=$SYSFS/module/vfio/parameters/enable_unsafe_noiommu_mode
    [[ -d $SYSFS/bus/pci/drivers/vfio-pci ]] || run modprobe vfio-pci ||
        die "the vfio-pci driver cannot be loaded" "does this kernel have it? modinfo vfio-pci"
    [[ -e $SYSFS/bus/pci/devices/$1/iommu_group ]] && return 0
    if [[ $NOIOMMU = 0 ]]; then
        die "$1 is in no IOMMU group, so vfio cannot protect memory from it" \
            "switch on the IOMMU: $PROG check --nic tells how" "or, on a machine you trust the NIC on: $PROG bind $1 --noiommu"
    fi
    if [[ $DRY_RUN = 0 && ! -e $p ]]; then die "this kernel's vfio has no mode without IOMMU (CONFIG_VFIO_NOIOMMU)"; fi
    if [[ $(cat "$p" 2> /dev/null) != [Y1] ]]; then
        warn "vfio without an IOMMU: the NIC can read and write any memory of this host"
        put 1 "$p" || die "cannot write $p"
        state_add "noiommu N"
    fi
}

# vfio hands out whole groups: every other device in the group must have left its kernel driver.
warn_group() { # ADDRESS
    local d a drv
    for d in "$SYSFS/bus/pci/devices/$1"/iommu_group/devices/*; do
        a=${d##*/}
        [[ $a = "$1" ]] && continue
        [[ $(cat "$SYSFS/bus/pci/devices/$a/class" 2> /dev/null) = 0x0604* ]] && continue # bridges may stay
        drv=$(driver_of "$a")
        case $drv in
        none | vfio-pci) ;;
        *) warn "$a shares the IOMMU group of $1 and is with $drv: vfio will refuse the group until it is bound too" ;;
        esac
    done
}

devbind() {
    command -v "$DEVBIND" > /dev/null 2>&1 || [[ $DRY_RUN = 1 ]] || die "dpdk-devbind.py is not installed" "apt-get install dpdk"
    run "$DEVBIND" "$@" || die "$DEVBIND $* failed"
}

cmd_bind() {
    [[ $# = 1 ]] || bad_usage "bind: name one NIC"
    local addr old driver=${DRIVER:-vfio-pci}
    addr=$(resolve_nic "$1")
    old=$(driver_of "$addr")
    if [[ $old = "$driver" ]]; then
        say "$addr is already with $driver"
        return 0
    fi
    [[ $FORCE = 1 ]] || refuse_routed "$addr"
    need_root
    lock
    if [[ $driver = vfio-pci ]]; then need_vfio "$addr"; fi
    local args=(--bind="$driver")
    [[ $FORCE = 1 ]] && args+=(--force)
    devbind "${args[@]}" "$addr"
    # The first driver is the one to go back to, however often the NIC is bound again.
    [[ -n $(state_lines bind "$addr") ]] || state_add "bind $addr $old"
    unlock
    warn_group "$addr"
    [[ $DRY_RUN = 1 ]] || say "$addr: $old -> $driver"
}

give_back() { # ADDRESS DRIVER ("" or none: whichever the kernel picks)
    local addr=$1 driver=$2 now
    now=$(driver_of "$addr")
    if [[ -n $driver && $now = "$driver" ]]; then
        say "$addr is already with $driver"
    elif [[ -n $driver && $driver != none ]]; then
        devbind --bind="$driver" "$addr"
        [[ $DRY_RUN = 1 ]] || say "$addr: $now -> $driver"
    else
        [[ $now = none ]] || devbind --unbind "$addr"
        if [[ -z $driver ]]; then
            put $'\n' "$SYSFS/bus/pci/devices/$addr/driver_override" || true
            put "$addr" "$SYSFS/bus/pci/drivers_probe" || die "the kernel did not take $addr back" "name its driver: $PROG unbind $addr --driver NAME"
        fi
        [[ $DRY_RUN = 1 ]] || say "$addr: $now -> $(driver_of "$addr")"
    fi
}

cmd_unbind() {
    [[ $# = 1 ]] || bad_usage "unbind: name one NIC"
    local addr line driver=$DRIVER now
    addr=$(resolve_nic "$1")
    line=$(state_lines bind "$addr")
    [[ -n $driver || -z $line ]] || driver=${line##* }
    now=$(driver_of "$addr")
    case $now in
    vfio-pci | uio_pci_generic | igb_uio | none) ;;
    *)
        say "$addr is with the kernel's $now already"
        [[ -z $line ]] || { need_root; lock; state_drop "$line"; unlock; }
        return 0
        ;;
    esac
    need_root
    lock
    give_back "$addr" "$driver"
    [[ -z $line ]] || state_drop "$line"
    unlock
}
