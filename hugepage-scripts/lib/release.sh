# shellcheck shell=bash
# weft-host release, status and with. Sourced by weft-host.

# ---- release, status, with ---------------------------------------------------------------------

release_nics() {
    local line addr driver
    while read -r line; do
        [[ -n $line ]] || continue
        read -r _ addr driver <<< "$line"
        if [[ -d $SYSFS/bus/pci/devices/$addr ]]; then give_back "$addr" "$driver"; else warn "$addr has left the host"; fi
        state_drop "$line"
    done <<< "$(state_lines bind)"
    while read -r line; do
        [[ -n $line ]] || continue
        put "${line##* }" "$SYSFS/module/vfio/parameters/enable_unsafe_noiommu_mode" || true
        state_drop "$line"
    done <<< "$(state_lines noiommu)"
}

release_mounts() {
    local line
    while read -r line; do [[ -z $line ]] || unmount "$line"; done <<< "$(state_lines mount)"
}

release_hugepages() {
    local line
    # Newest first, so that several reservations unwind in order.
    while read -r line; do [[ -z $line ]] || unreserve "$line"; done <<< "$(state_lines hugepages | tac)"
}

cmd_release() {
    local what
    for what in "$@"; do
        case $what in nics | mounts | hugepages) ;; *) bad_usage "release: unknown '$what' (nics, mounts, hugepages)" ;; esac
    done
    need_root
    lock
    [[ -s $STATE || -n $(orphan_states) ]] || say "nothing to release: $STATE remembers no change"
    [[ $# = 0 || " $* " = *" nics "* ]] && release_nics
    [[ $# = 0 || " $* " = *" mounts "* ]] && release_mounts
    [[ $# = 0 || " $* " = *" hugepages "* ]] && release_hugepages
    if [[ $BOOT = 1 ]]; then
        for what in "$BOOT_SYSCTL" "$BOOT_TMPFILES"; do
            [[ -e $what ]] || continue
            guard_boot_file "$what"
            run rm -f "$what"
            [[ $DRY_RUN = 1 ]] || say "removed $what"
        done
    fi
    unlock
    local again=()
    [[ $DRY_RUN = 0 ]] || again=(--dry-run)
    for what in $(orphan_states); do
        say "left behind by an earlier run: $what"
        "$0" release "${again[@]}" --state "$what" "$@"
    done
}

cmd_status() {
    local n kb d addr m
    say "Hugepages:"
    for n in $(nodes); do
        for kb in 2048 1048576; do
            d=$(pages_dir "$n" "$kb")
            [[ -d $d ]] || continue
            printf '  node %-3s %-3s %6s total %6s free\n' "$n" "$(size_name "$kb")" "$(pages "$n" "$kb" nr)" "$(pages "$n" "$kb" free)"
        done
    done
    say "Mounted hugetlbfs:"
    for kb in 2048 1048576; do
        m=$(hugetlb_mount "$kb")
        [[ -z $m ]] || printf '  %-3s %s\n' "$(size_name "$kb")" "$m"
    done
    say "NICs:"
    for d in "$SYSFS"/bus/pci/devices/*; do
        [[ $(cat "$d/class" 2> /dev/null) = 0x02* ]] || continue
        addr=${d##*/}
        local ifs route=
        ifs=$(interfaces_of "$addr" | tr '\n' ' ')
        for n in $ifs; do if routed_interfaces default | grep -qx -- "$n"; then route=', default route'; fi; done
        printf '  %s driver %s node %s%s%s\n' "$addr" "$(driver_of "$addr")" "$(cat "$d/numa_node" 2> /dev/null || echo '?')" \
            "${ifs:+, interface ${ifs% }}" "$route"
    done
    say "Remembered in $STATE, to be undone by release:"
    # shellcheck disable=SC2046 # state files are named without blanks
    set -- $([[ ! -s $STATE ]] || echo "$STATE") $(orphan_states)
    if [[ $# -gt 0 ]]; then sed 's/^/  /' "$@"; else say "  nothing"; fi
}

# Reservations of `with` whose process was killed before it could give them back.
orphan_states() {
    local f pid
    for f in "${STATE%.state}".*.state; do
        pid=${f%.state}
        pid=${pid##*.}
        if is_number "$pid" && [[ ! -d /proc/$pid ]]; then echo "$f"; fi
    done
}

cmd_with() {
    [[ $# -gt 0 ]] || bad_usage "with: say which command to run after --"
    local rc=0 pid n options=(--size "$SIZE")
    # A state of its own: the pages go when the command ends, whatever else was reserved before.
    STATE=${STATE%.state}.$$.state
    for n in MEMORY PAGES NODE; do
        if [[ -n ${!n} ]]; then options+=("--${n,,}" "${!n}"); fi
    done
    for n in FREE FORCE DRY_RUN; do
        if [[ ${!n} = 1 ]]; then
            n=${n,,}
            options+=("--${n/_/-}")
        fi
    done
    # The command runs as who calls; only the pages need root.
    local host=("$0")
    if [[ -n ${WEFT_HOST_SUDO:-} || ($EUID != 0 && -z $ROOT && $DRY_RUN = 0) ]]; then
        command -v "${WEFT_HOST_SUDO:-sudo}" > /dev/null 2>&1 || need_root
        host=("${WEFT_HOST_SUDO:-sudo}" "$0")
    fi
    trap '"${host[@]}" release hugepages --state "$STATE" > /dev/null || true' EXIT
    "${host[@]}" reserve "${options[@]}" --state "$STATE"
    if [[ $DRY_RUN = 1 ]]; then
        trap - EXIT
        say "would run: $*"
        return 0
    fi
    # Ctrl-C reaches the command by itself (bash would have it ignored there: hence env); other
    # signals come to us alone and are passed on. Either way we wait for the command's end.
    env --default-signal=INT,QUIT "$@" <&0 &
    pid=$!
    trap 'kill -TERM "$pid" 2> /dev/null || true' TERM HUP
    trap ':' INT QUIT
    while :; do
        rc=0
        wait "$pid" || rc=$?
        kill -0 "$pid" 2> /dev/null || break
    done
    trap - EXIT
    if [[ -e $STATE ]]; then "${host[@]}" release hugepages --state "$STATE"; fi
    return "$rc"
}
