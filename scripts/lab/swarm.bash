# swarm.bash: a swarm on a campus, sourced by test-swarm and swarm-figures. The caller has set here, scripts and bin.
# shellcheck shell=bash
# shellcheck disable=SC2154

# aria2 asks several peers for the same piece when 20 are left to get. That is nothing of a real image, and would be all of
# a small one; so its pieces are small, too.
piece_bytes=$((64 << 10))

swarm_packages() {
    "$here/campus" packages
    printf '%s\n' aria2 openssl qemu-utils
}
swarm_needs() { # swarm_needs PROGRAM...
    local program
    [ "$(id -u)" = 0 ] || { echo "${0##*/}: needs root" >&2; exit 77; }
    for program in aria2c jq openssl qemu-img "$bin/mkimg-torrent" "$bin/seedctl" "$@"; do
        command -v "$program" >/dev/null || { echo "${0##*/}: $program is missing" >&2; exit 69; }
    done
}

# A work directory that is gone at the end, and the campus in it, too.
swarm_begin() { # swarm_begin BYTES: of the disk in $work/1.qcow2
    work=$(mktemp -d "${swarm_place:-/tmp}/labtools-swarm.XXXXXX")
    chmod 755 "$work" # the aria2 of a host is nobody
    trap 'swarm_end' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    mkfifo "$work/ended"
    exec 7<>"$work/ended"
    openssl genpkey -algorithm ed25519 -out "$work/base.key" 2>/dev/null
    chmod 600 "$work/base.key"
    openssl pkey -in "$work/base.key" -pubout -out "$work/base.pub"
    # Random bytes in it, so that nothing can be saved on them.
    head -c "$1" /dev/urandom >"$work/1.raw"
    make_image 1
}
make_image() { qemu-img convert -f raw -O qcow2 "$work/$1.raw" "$work/$1.qcow2"; } # make_image GENERATION: from GENERATION.raw
swarm_end() {
    local status=$?
    trap '' INT TERM HUP
    campus down >/dev/null || status=1
    rm -rf "$work"
    exit "$status"
}

campus() { "$here/campus" "$1" "$work/campus" "${@:2}"; }
hosts() { campus hosts | awk -F '\t' -v building="${1-}" '$2 != "servers" && (building == "" ? $2 != "wireless" : $2 == building) { print $1 }'; }
crossed() { campus crossings | jq ".buildings.$1.in_bytes"; } # crossed BUILDING: bytes that came over its uplink
megabits() { awk -v rate="$1" 'BEGIN { print rate + 0 }'; }
ratio() { awk -v a="$1" -v b="$2" -v digits="${3:-2}" 'BEGIN { printf "%.*f", digits, a / b }'; }

until_true() { # until_true WHAT COMMAND...: wait for something that will happen; the guard only reports a hang
    local what=$1 deadline=$((EPOCHSECONDS + 300))
    shift
    until "$@"; do
        [ $EPOCHSECONDS -lt $deadline ] || { echo "WRONG  waited in vain: $what"; swarm_tell; exit 1; }
        sleep 0.1
    done
}
swarm_tell() { # the last words of everything, after a hang
    local file
    for file in "$work"/*.err "$work"/*.log "$work"/campus/*/var/log/labtools/*; do
        if [ -s "$file" ]; then printf '   %s: %s\n' "${file#"$work"/}" "$(tail -n 1 "$file")"; fi
    done
    campus run server seedctl swarm | jq -c '.swarm.swarms[] | {name, what, buildings: [.buildings[] | {building, complete, incomplete, gateways}]}' || true
}

# ---- a campus with an image, a tracker and a server that seeds ---------------------------------------------------------

swarm_up() { # swarm_up OPTION...: of campus up
    campus up "$@"
    local host
    for host in server $(hosts) $(hosts wireless); do cp "$work/base.pub" "$work/campus/$host/etc/labtools/keys/base-lab.pub"; done
}
publish() { # publish GENERATION FILE: a copy of FILE becomes the image; its document is $work/lab-GENERATION.json
    local store=$work/campus/server/qcow2/backing/lab
    mkdir -p "$store"
    cp "$2" "$store/$1.qcow2"
    chmod 0444 "$store/$1.qcow2"
    printf '[image]\nname=lab\ntitle=Lab\nostype=linux\ngeneration=%s\npiece_bytes=%s\ntrackers=%s\n' \
        "$1" "$piece_bytes" http://10.0.0.2:6969/announce |
        campus run server mkimg-torrent create --key "$work/base.key" >"$work/lab-$1.json"
}
listens() {
    kill -0 "$tracker" 2>/dev/null || { echo "WRONG  the tracker ended: $(tail -n 1 "$work/track.log")"; exit 1; }
    ! is_silent
}
track() { # our tracker, in the background
    printf '[tracker]\ninterval_seconds=%s\n' "${interval:-5}" >"$work/campus/server/etc/labtools/seedctl.ini"
    (exec "$here/campus" run "$work/campus" server seedctl track 2>>"$work/track.log") &
    tracker=$!
    disown # or bash tells of its end
    until_true "the tracker" listens
}
untrack() { # as a machine that loses its power: nobody is told
    kill -KILL "$tracker"
    until_true "the tracker's end" is_silent
}
is_silent() { ! campus run server bash -c 'exec 3<>/dev/tcp/10.0.0.2/6969' 2>/dev/null; }
seed() { # seed GENERATION: the server, which then has it
    campus run server seedctl seed <"$work/lab-$1.json" >"$work/server.json" 2>"$work/server.err" ||
        { echo "WRONG  the server does not seed: $(tail -n 1 "$work/server.err")"; exit 1; }
    until_true "the tracker to know the server" is_known "$(jq -r .transfer.infohash "$work/server.json")"
}
is_known() { # is_known INFOHASH: the tracker tells hosts that the server has it
    campus run server seedctl swarm |
        jq -e --arg infohash "$1" '.swarm.swarms[] | select(.infohash == $infohash) | any(.buildings[]; .complete > 0)' >/dev/null
}

# ---- what the hosts do ------------------------------------------------------------------------------------------------
# Every end is a line in a FIFO: HOST STATUS TIME.

get() { # get GENERATION HOST...
    local generation=$1 host
    shift
    for host; do
        {
            status=0
            campus run "$host" seedctl get <"$work/lab-$generation.json" >"$work/$host.json" 2>"$work/$host.err" || status=$?
            echo "$host $status $EPOCHREALTIME" >"$work/ended"
        } &
    done
}
ended() { # ended N: N hosts have; their lines are added to $work/ends. The guard only reports a hang.
    local n line
    for ((n = 0; n < $1; n++)); do
        read -r -t "${guard:-400}" -u 7 line || { echo "WRONG  waited in vain: host $((n + 1)) of $1 to end"; swarm_tell; exit 1; }
        echo "$line" >>"$work/ends"
    done
}
failures() { awk '$2 != 0 { print $1 " " $2 }' "$work/ends" | sort; } # HOST STATUS
# wrong_images GENERATION HOST...: those whose image is not the server's
wrong_images() {
    local generation=$1 host
    shift
    for host; do
        cmp -s "$work/campus/server/qcow2/backing/lab/$generation.qcow2" "$work/campus/$host/qcow2/backing/lab/$generation.qcow2" || echo "$host"
    done | paste -sd,
}
gateways() { # gateways BUILDING: addresses
    campus run server seedctl swarm | jq -r --arg building "$1" \
        '[.swarm.swarms[] | select(.what == "image") | .buildings[] | select(.building == $building) | .gateways[]] | join(" ")'
}
name_of() { campus hosts | awk -F '\t' -v address="$1" '$4 == address { print $1 }'; }
