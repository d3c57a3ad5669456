# shellcheck shell=bash
# weft-host check. Sourced by weft-host.

# ---- check -------------------------------------------------------------------------------------

MISSING=0
ok() { printf '  ok       %s\n' "$1"; }
missing() { # TEXT MEND...
    printf '  MISSING  %s\n' "$1"
    shift
    for l in "$@"; do printf '           -> %s\n' "$l"; done
    MISSING=$((MISSING + 1))
}
note() {
    printf '  note     %s\n' "$1"
    shift
    for l in "$@"; do printf '           -> %s\n' "$l"; done
}
nic_missing() { if [[ $NIC = 1 ]]; then missing "$@"; else note "$@"; fi; }

boot_hint() { # kernel parameters
    echo "add '$1' to GRUB_CMDLINE_LINUX in /etc/default/grub, then: update-grub && reboot"
}

check_cpu() {
    local flags
    flags=$(awk -F: '/^flags/ { print $2; exit }' "$PROC/cpuinfo" 2> /dev/null || true)
    case " $flags " in
    *" sse4_2 "*) ok "CPU with SSE4.2" ;;
    *) missing "a CPU with SSE4.2 (x86-64-v2): DPDK's build needs it" "in a VM, choose the CPU model 'host' or newer" ;;
    esac
}

check_dpdk() {
    local d
    d=$(pmd_dir)
    if [[ -n $d ]]; then ok "DPDK drivers in $d"; else missing "DPDK's folder of driver plug-ins (dpdk/pmds-*)" "apt-get install dpdk libdpdk-dev"; fi
    if command -v "$DEVBIND" > /dev/null 2>&1; then ok "dpdk-devbind.py"; else nic_missing "dpdk-devbind.py, to bind NICs" "apt-get install dpdk"; fi
}

check_hugepages() {
    local n have have1g any=0
    for n in $(nodes); do
        have=$(($(pages "$n" 2048 nr) * 2))
        have1g=$(($(pages "$n" 1048576 nr) * 1024))
        if ((have >= MEMORY || have1g >= MEMORY)); then
            any=1
            ok "hugepages on node $n: $have MB of 2M pages ($(($(pages "$n" 2048 free) * 2)) MB free), $have1g MB of 1G pages"
        else
            missing "hugepages on node $n: $have MB of 2M pages and $have1g MB of 1G pages, $MEMORY MB wanted" \
                "$PROG reserve --node $n --memory $MEMORY" "at every boot: $PROG reserve --node $n --memory $MEMORY --boot"
        fi
    done
    if [[ -n $(hugetlb_mount 2048)$(hugetlb_mount 1048576) ]]; then
        ok "hugetlbfs mounted on $(hugetlb_mount 2048) $(hugetlb_mount 1048576)"
    elif [[ $any = 1 ]]; then
        note "hugetlbfs is not mounted (programs that share hugepages by file need it)" "$PROG mount"
    fi
}

check_transparent_hugepages() {
    local file=$SYSFS/kernel/mm/transparent_hugepage/enabled
    case "$(cat "$file" 2> /dev/null || true)" in
    *"[madvise]"* | *"[always]"*) ok "transparent hugepages, which large forwarding tables ask for" ;;
    *)
        note "transparent hugepages are off: lookups in forwarding tables of more than 100,000 entries are slower" \
            "echo madvise > $file" "at every boot: $(boot_hint 'transparent_hugepage=madvise')"
        ;;
    esac
}

check_iommu() {
    if has_iommu; then
        ok "IOMMU on"
    elif grep -qE '^flags.* (svm)( |$)' "$PROC/cpuinfo" 2> /dev/null; then
        nic_missing "an active IOMMU (vfio needs it for a bound NIC)" "switch on AMD-Vi/IOMMU in the firmware, $(boot_hint 'iommu=pt')"
    else
        nic_missing "an active IOMMU (vfio needs it for a bound NIC)" \
            "switch on VT-d (Intel) or AMD-Vi in the firmware, $(boot_hint 'intel_iommu=on iommu=pt')"
    fi
    if [[ -d $SYSFS/bus/pci/drivers/vfio-pci ]]; then ok "vfio-pci loaded"; else nic_missing "the vfio-pci driver is not loaded" "modprobe vfio-pci" \
        "at every boot: echo vfio-pci > /etc/modules-load.d/vfio-pci.conf"; fi
}

check_cores() {
    local iso cpus
    iso=$(cat "$SYSFS/devices/system/cpu/isolated" 2> /dev/null || true)
    cpus=$(cat "$SYSFS/devices/system/cpu/online" 2> /dev/null || true)
    if [[ -n $iso ]]; then
        ok "isolated cores $iso of ${cpus:-?}: name them in [workers] cores"
    elif [[ -z $cpus || $cpus = 0 ]]; then
        note "one core only: weftd's worker shares it with everything else"
    else
        local last=${cpus##*[-,]} first=1
        ((last > 4)) && first=2
        local list=$first-$last
        [[ $first = "$last" ]] && list=$last
        note "no isolated cores (of $cpus): other tasks may interrupt the workers" \
            "for steady latency, $(boot_hint "isolcpus=managed_irq,domain,$list nohz_full=$list rcu_nocbs=$list")"
    fi
}

check_memlock() {
    local soft
    soft=${WEFT_HOST_MEMLOCK:-$(ulimit -l)}
    if [[ $soft = unlimited ]]; then
        ok "memlock unlimited"
    elif [[ $EUID = 0 ]]; then
        ok "memlock $soft kB, which root may exceed"
    else
        note "memlock $soft kB: a weftd that does not run as root cannot pin its memory for a bound NIC" \
            "systemd: LimitMEMLOCK=infinity in the unit; login: '$(id -un) - memlock unlimited' in /etc/security/limits.d/weft.conf"
    fi
}

cmd_check() {
    is_number "${MEMORY:-1024}" || bad_usage "--memory '$MEMORY' is not a number of MB"
    MEMORY=$((10#${MEMORY:-1024}))
    say "This host, for weftd:"
    check_cpu
    check_dpdk
    check_hugepages
    check_transparent_hugepages
    check_iommu
    check_cores
    check_memlock
    if ((MISSING > 0)); then
        say "$MISSING missing."
        return 1
    fi
    say "Nothing that weftd needs is missing."
}
