# shellcheck shell=bash
# Reading and changing the host, and remembering how it was. Sourced by weft-host.

# ---- Changing the host -------------------------------------------------------------------------

need_root() {
    [[ $DRY_RUN = 1 || $EUID = 0 || -n $ROOT ]] || die "this changes the host and needs root" "run: sudo $PROG $CMDLINE"
}

put() { # VALUE FILE
    if [[ $DRY_RUN = 1 ]]; then
        say "would write: $1 > $2"
    else
        # The braces keep bash's own "Permission denied" away: the message below says more.
        { printf '%s' "$1" > "$2"; } 2> /dev/null || return 1
    fi
}

run() {
    if [[ $DRY_RUN = 1 ]]; then say "would run: $*"; else "$@"; fi
}

write_file() { # FILE, text on stdin
    if [[ $DRY_RUN = 1 ]]; then
        say "would write $1:"
        sed 's/^/    /'
    else
        mkdir -p "$(dirname "$1")"
        cat > "$1.tmp"
        mv "$1.tmp" "$1"
    fi
}

# ---- State -------------------------------------------------------------------------------------

# One change at a time on one host: two runs must not read and write the same counters.
lock() {
    [[ $DRY_RUN = 0 ]] || return 0
    mkdir -p "$(dirname "$STATE")"
    exec 9> "${WEFT_HOST_LOCK:-$(dirname "$STATE")/weft-host.lock}" || die "cannot write in $(dirname "$STATE")"
    flock -w 30 9 || die "another $PROG has been at work for 30 s" "see who: fuser -v $(dirname "$STATE")/weft-host.lock"
}

unlock() { [[ $DRY_RUN = 1 ]] || exec 9>&-; }

state_lines() { # KIND [SECOND FIELD]
    [[ -r $STATE ]] || return 0
    awk -v k="$1" -v s="${2:-}" '$1 == k && (s == "" || $2 == s)' "$STATE"
}

state_add() {
    [[ $DRY_RUN = 0 ]] || return 0
    printf '%s\n' "$*" >> "$STATE"
}

state_drop() { # exact line
    [[ $DRY_RUN = 0 && -f $STATE ]] || return 0
    awk -v l="$1" '$0 != l' "$STATE" > "$STATE.tmp"
    mv "$STATE.tmp" "$STATE"
    [[ -s $STATE ]] || rm -f "$STATE"
}

# ---- Reading the host --------------------------------------------------------------------------

size_kb() {
    case $1 in
    2M | 2m | 2MB) echo 2048 ;;
    1G | 1g | 1GB) echo 1048576 ;;
    *) bad_usage "page size '$1': use 2M or 1G" ;;
    esac
}

size_name() { if [[ $1 = 1048576 ]]; then echo 1G; else echo "$(($1 / 1024))M"; fi; }

is_number() { [[ $1 =~ ^[0-9]{1,9}$ ]]; }

# Nodes that have memory, in order; a kernel without NUMA shows none and counts as node 0.
nodes() {
    local d n
    for d in "$SYSFS"/devices/system/node/node[0-9]*; do
        n=${d##*/node}
        [[ -d $d/hugepages ]] && echo "$n"
    done | sort -n | grep . || echo 0
}

pages_dir() { # NODE SIZE_KB
    local d=$SYSFS/devices/system/node/node$1/hugepages/hugepages-${2}kB
    if [[ ! -d $SYSFS/devices/system/node ]]; then d=$SYSFS/kernel/mm/hugepages/hugepages-${2}kB; fi
    echo "$d"
}

pages() { # NODE SIZE_KB nr|free|surplus
    local f
    f=$(pages_dir "$1" "$2")/${3}_hugepages
    if [[ -r $f ]]; then cat "$f"; else echo 0; fi
}

meminfo() { awk -v k="$1:" '$1 == k { print $2 }' "$PROC/meminfo" 2> /dev/null || true; }

# Free memory of a node in kB; the whole host's when the node does not say.
node_free_kb() {
    local f=$SYSFS/devices/system/node/node$1/meminfo kb=
    # Page cache is given back when pages are taken, so it counts as free.
    [[ -r $f ]] && kb=$(awk '$3 == "MemFree:" || $3 == "FilePages:" { s += $4 } $3 == "Shmem:" { s -= $4 } END { print s }' "$f")
    [[ -n $kb ]] || kb=$(meminfo MemAvailable)
    echo "${kb:-0}"
}

hugetlb_mount() { # SIZE_KB: where hugetlbfs of that page size is mounted
    local want default
    default=$(meminfo Hugepagesize)
    want=$(size_name "$1")
    awk -v want="$want" -v isdef="$([[ ${default:-2048} = "$1" ]] && echo 1)" '
        $3 == "hugetlbfs" {
            size = ""
            n = split($4, o, ",")
            for (i = 1; i <= n; i++) if (o[i] ~ /^pagesize=/) { size = substr(o[i], 10); sub(/B$/, "", size); if (size == "1024M") size = "1G" }
            if (size == want || (size == "" && isdef)) { print $2; exit }
        }' "$PROC/mounts" 2> /dev/null || true
}

pmd_dir() {
    local d
    for d in "$LIBROOT"/lib/*/dpdk/pmds-* "$LIBROOT"/lib/dpdk/pmds-* "$LIBROOT"/lib64/dpdk/pmds-* \
        "$LIBROOT"/local/lib/*/dpdk/pmds-* "$LIBROOT"/local/lib/dpdk/pmds-* "$LIBROOT"/local/lib64/dpdk/pmds-*; do
        local libs=("$d"/librte_*.so*)
        if [[ ${#libs[@]} -gt 0 ]]; then echo "$d"; return 0; fi
    done
}

has_iommu() {
    local g=("$SYSFS"/kernel/iommu_groups/*)
    [[ ${#g[@]} -gt 0 ]]
}
