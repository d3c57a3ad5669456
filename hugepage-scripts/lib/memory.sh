# shellcheck shell=bash
# weft-host reserve and mount, and their undoing. Sourced by weft-host.

# ---- reserve -----------------------------------------------------------------------------------

wanted_pages() { # SIZE_KB: from --pages or --memory
    if [[ -n $PAGES && -n $MEMORY ]]; then bad_usage "give --pages or --memory, not both"; fi
    if [[ -n $PAGES ]]; then
        is_number "$PAGES" || bad_usage "--pages '$PAGES' is not a number"
        echo "$((10#$PAGES))"
    elif [[ -n $MEMORY ]]; then
        is_number "$MEMORY" || bad_usage "--memory '$MEMORY' is not a number of MB"
        echo $(((10#$MEMORY * 1024 + $1 - 1) / $1))
    else
        bad_usage "say how much: --memory MB or --pages N"
    fi
}

chosen_nodes() {
    if [[ -z $NODE ]]; then nodes; return; fi
    is_number "$NODE" || bad_usage "--node '$NODE' is not a number"
    nodes | grep -qx "$NODE" || die "this host has no NUMA node $NODE with memory" "nodes: $(nodes | tr '\n' ' ')"
    echo "$NODE"
}

reserve_node() { # NODE SIZE_KB WANTED
    local node=$1 kb=$2 want=$3 dir nr free target add free_kb got
    dir=$(pages_dir "$node" "$kb")
    [[ -d $dir ]] || die "the kernel has no $(size_name "$kb") hugepages on node $node" \
        "this CPU or VM may not support that size (pdpe1gb in /proc/cpuinfo); use --size 2M"
    nr=$(pages "$node" "$kb" nr)
    free=$(pages "$node" "$kb" free)
    target=$want
    # shellcheck disable=SC2153 # FREE is the option, free the count
    [[ $FREE = 0 ]] || target=$((nr - free + want))
    if ((nr >= target)); then
        say "node $node: $nr hugepages of $(size_name "$kb"), $free free: enough"
        return 0
    fi
    add=$((target - nr))
    free_kb=$(node_free_kb "$node")
    if [[ $FORCE = 0 ]] && ((add * kb + KEEP_FREE_MB * 1024 > free_kb)); then
        die "node $node has $((free_kb / 1024)) MB free: $((add * kb / 1024)) MB more of hugepages would leave too little for the rest" \
            "stop something, ask for less with --memory, add memory, or insist with --force"
    fi
    if [[ $DRY_RUN = 1 ]]; then
        put "$target" "$dir/nr_hugepages"
        return 0
    fi
    # Remembered first: a run that is killed half-way can be undone too.
    state_add "hugepages $node $kb $nr $add"
    put "$target" "$dir/nr_hugepages" || { state_drop "hugepages $node $kb $nr $add"; die "cannot write $dir/nr_hugepages"; }
    if (($(pages "$node" "$kb" nr) < target)); then
        # Memory may be free but in pieces: have the kernel put them together and try once more.
        put 1 "$PROC/sys/vm/compact_memory" || true
        put "$target" "$dir/nr_hugepages" || true
    fi
    got=$(pages "$node" "$kb" nr)
    if ((got < target)); then
        put "$nr" "$dir/nr_hugepages" || true
        state_drop "hugepages $node $kb $nr $add"
        die "node $node: the kernel found only $((got - nr)) of $add more hugepages of $(size_name "$kb"); none were kept" \
            "memory is fragmented: reserve at boot instead: $PROG reserve --node $node --size $(size_name "$kb") --pages $target --boot"
    fi
    say "node $node: hugepages of $(size_name "$kb"): $nr -> $got"
}

BOOT_MARK='# Written by weft-host reserve --boot; removed by weft-host release --boot.'
BOOT_SYSCTL=$ETC/sysctl.d/80-weft-hugepages.conf
BOOT_TMPFILES=$ETC/tmpfiles.d/weft-hugepages.conf

guard_boot_file() {
    if [[ -e $1 ]] && ! grep -qF "$BOOT_MARK" "$1"; then die "$1 was written by somebody else; not touching it"; fi
}

reserve_boot() { # SIZE_KB WANTED NODES
    local kb=$1 want=$2 list=$3 default file text count n
    default=$(meminfo Hugepagesize)
    count=$(wc -w <<< "$list")
    if [[ $kb = 1048576 ]]; then
        # Large pages are only sure to be found before memory is in use, so this is for the kernel's
        # command line; that file is the administrator's, so it is told and not edited.
        local spec=
        for n in $list; do spec+=${spec:+,}$n:$want; done
        say "Add to the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub && reboot):"
        say "    hugepagesz=1G hugepages=$spec"
        return 0
    fi
    if [[ -z $NODE && ${default:-2048} = "$kb" ]]; then
        file=$BOOT_SYSCTL
        text="vm.nr_hugepages = $((want * count))"
    else
        # sysctl knows neither nodes nor sizes other than the default one.
        file=$BOOT_TMPFILES
        text=$(grep -v -e "^#" -e "node${NODE:-[0-9]*}/hugepages" "$file" 2> /dev/null || true)
        for n in $list; do
            text+=${text:+$'\n'}"w /sys/devices/system/node/node$n/hugepages/hugepages-${kb}kB/nr_hugepages - - - - $want"
        done
    fi
    guard_boot_file "$file"
    if [[ -f $file && $(cat "$file") = "$BOOT_MARK"$'\n'"$text" ]]; then
        say "$file already says so"
        return 0
    fi
    need_root
    printf '%s\n%s\n' "$BOOT_MARK" "$text" | write_file "$file"
    [[ $DRY_RUN = 1 ]] || say "wrote $file: $text"
}

cmd_reserve() {
    local kb want list n
    kb=$(size_kb "$SIZE")
    want=$(wanted_pages "$kb")
    list=$(chosen_nodes | tr '\n' ' ')
    if [[ $BOOT = 1 ]]; then
        reserve_boot "$kb" "$want" "$list"
        return
    fi
    need_root
    lock
    for n in $list; do reserve_node "$n" "$kb" "$want"; done
    unlock
}

# The earliest reservation made on top of this one and still held, as "FILE LINE": it counted the
# pages that were there, so it takes over ours instead of seeing them go.
successor() { # NODE SIZE_KB BEFORE
    local files=("$(dirname "$STATE")"/*.state)
    ((${#files[@]} > 0)) || return 0
    awk -v n="$1" -v k="$2" -v b="$3" '
        $1 == "hugepages" && $2 == n && $3 == k && $4 > b && (best == "" || $4 < least) { best = FILENAME " " $0; least = $4 }
        END { if (best != "") print best }' "${files[@]}"
}

# Lowers the count by what was added, not to what it was: others may have added theirs meanwhile.
unreserve() { # state line
    local node kb before added now floor target file other_before other_added
    read -r _ node kb before added <<< "$1"
    read -r file _ _ _ other_before other_added <<< "$(successor "$node" "$kb" "$before")"
    if [[ -n $file ]]; then
        say "node $node: $added hugepages of $(size_name "$kb") stay for a later reservation, remembered in $file"
        if [[ $DRY_RUN = 0 ]]; then
            sed -i "s/^hugepages $node $kb $other_before $other_added\$/hugepages $node $kb $before $((added + other_added))/" "$file"
        fi
        state_drop "$1"
        return 0
    fi
    now=$(pages "$node" "$kb" nr)
    floor=$((before < now ? before : now))
    target=$((now - added))
    ((target >= floor)) || target=$floor
    if ((target < now)); then
        put "$target" "$(pages_dir "$node" "$kb")/nr_hugepages" || die "cannot lower the hugepages of node $node"
        [[ $DRY_RUN = 1 ]] || say "node $node: hugepages of $(size_name "$kb"): $now -> $(pages "$node" "$kb" nr)"
        if [[ $DRY_RUN = 0 ]] && (($(pages "$node" "$kb" surplus) > 0)); then
            warn "some of these pages are in use; the kernel frees them when their programs end"
        fi
    fi
    state_drop "$1"
}

# ---- mount -------------------------------------------------------------------------------------

cmd_mount() {
    local kb at path
    kb=$(size_kb "$SIZE")
    at=$(hugetlb_mount "$kb")
    if [[ -n $at && ( -z $MOUNT_PATH || $MOUNT_PATH = "$at" ) ]]; then
        say "hugetlbfs with pages of $(size_name "$kb") is already mounted on $at"
        return 0
    fi
    path=$MOUNT_PATH
    if [[ -z $path ]]; then
        if [[ $kb = 2048 ]]; then path=/dev/hugepages; else path=/dev/hugepages1G; fi
    fi
    [[ $path = /* ]] || bad_usage "--path '$path' is not an absolute path"
    if awk -v p="$path" '$2 == p { f = 1 } END { exit !f }' "$PROC/mounts" 2> /dev/null; then
        die "something else is mounted on $path" "choose another place with --path"
    fi
    need_root
    lock
    run mkdir -p "$path"
    run mount -t hugetlbfs -o "pagesize=$(size_name "$kb")" weft-hugepages "$path" || die "cannot mount hugetlbfs on $path"
    state_add "mount $path"
    unlock
    [[ $DRY_RUN = 1 ]] || say "mounted hugetlbfs with pages of $(size_name "$kb") on $path"
}

unmount() { # state line
    local path=${1#mount }
    if awk -v p="$path" '$2 == p && $3 == "hugetlbfs" { f = 1 } END { exit !f }' "$PROC/mounts" 2> /dev/null; then
        run umount "$path" || die "cannot unmount $path: a program still uses it" "see which: fuser -vm $path"
        [[ $DRY_RUN = 1 ]] || say "unmounted $path"
    fi
    state_drop "$1"
}
