# lab-machine.bash: emulated lab machines at the ports of wired-8021x, sourced by test-host. Keys come from an
# emulated keyboard, and the console is read over ssh.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154

model="Laboratory PC" # the one without devices for guests
declare -A machines=() monitors=() # of each port, the process of QEMU, and the descriptor of its monitor
at() { # at PORT: from now on all is about the machine there
    port=$1 own=$work/$1
    mkdir -p "$own"
    case $1 in
        a) host=pc1 number=1 uuid=8f14e45f-ceea-467f-a9d6-9c1b5d2a7e11 mac=52:54:00:12:34:56 ;;
        b) host=pc2 number=2 uuid=c9f0f895-fb98-4b91-99f5-1fd0297e2362 mac=52:54:00:12:34:57 ;;
    esac
}
hosts() { # hosts PORT...: their hosts.ini
    local each
    for each; do (at "$each" && printf '[host.%s]\nmac=%s\naddress=10.72.%s.50\nbuilding=b\nroom=r\n\n' "$host" "$mac" "$number"); done
}
firmware() { # firmware Enable|Disable: a Lenovo's, whose settings are so whenever the power comes
    sed "s/,Disable\"/,$1\"/" "$here/machine/lenovo.asl" >"$own/firmware.asl"
    iasl -p "$own/firmware" "$own/firmware.asl" >"$work/said" 2>&1 || { cat "$work/said"; exit 1; }
}
# No SVM: a guest on an emulated KVM takes longer than one without it.
# shellcheck disable=SC2054 # the commas are QEMU's
power_on() { # power_on OPTION...: with its disk, plugged into the switch
    local monitor
    : >"$own/serial"
    rm -f "$own/monitor"
    mkfifo "$own/monitor"
    (exec "$here/wired-8021x" outside "$work/net" \
        qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max,-svm -smp 2 -m 1024 -nodefaults -no-user-config -display none -device VGA,addr=02.0 -smbios "type=0,version=1.0.0" -smbios "type=1,manufacturer=Example,product=$model,serial=$number,uuid=$uuid" \
        -drive "if=none,id=disk,format=raw,cache=unsafe,file=$own/disk" -device ide-hd,drive=disk,bootindex=1 \
        -netdev "tap,id=port,ifname=nas$port,script=no,downscript=no" -device "e1000e,netdev=port,mac=$mac,romfile=" \
        -acpitable "file=$own/firmware.aml" -serial "file:$own/serial" -monitor stdio "$@") <"$own/monitor" >"$own/qemu" 2>&1 9>&- &
    machines[$port]=$!
    exec {monitor}>"$own/monitor"
    monitors[$port]=$monitor
}
hang_up() { # of the monitor of a machine that is off
    local monitor=${monitors[$port]}
    exec {monitor}>&-
}
serial() { tr -d '\r' <"$own/serial"; }
powered_off() { ! kill -0 "${machines[$port]}" 2>/dev/null; }
leased() { sed -n 's/.*sending ACK to //p' "$work/net/log/udhcpd-$1.log" | tail -n 1; } # leased INTERFACE: the machine's address
has_lease() { [ -n "$(leased "$1")" ]; }
# A machine's name is the one without a user; with -open behind it, it has one.
configure_ssh() { # configure_ssh ADDRESS: in the confined network; in the other one its number is the same
    cat >"$own/ssh_config" <<END
Host $host
    HostName $1
Host $host-open
    HostName 10.71.$number.${1##*.}
Host $host $host-open
    HostKeyAlias $host
END
    cat "$work"/[ab]/ssh_config - >/etc/labtools/ssh_config <<END
Host *
    User root
    IdentityFile $keys/id_ed25519
    IdentitiesOnly yes
    UserKnownHostsFile $work/known_hosts
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking accept-new
END
}
ask() { # ask HOST COMMAND
    outside timeout 60 ssh -F /etc/labtools/ssh_config -oBatchMode=yes -oConnectTimeout=5 "$@" 2>>"$work/ssh"
}
lab() { ask "$host" "$@"; }
there() { lab "$@" </dev/null; }
open() { ask "$host-open" "$@" </dev/null; }
events() { there "jq -r '$1' /var/log/labtools/events.jsonl"; } # events FILTER
names_of_events() { events 'select(.command | not) | .event | .action? // .' | sort | paste -sd,; } # but the runs of tools
screen() { there cat /dev/vcs1; }
shows() { screen | grep -F "$1"; } # shows TEXT
asks() { # a new prompt is there
    local text
    text=$(screen) && [[ $text == *"User (name@institution): "* && $text != *"Password ("* ]]
}
press() { # press CHARACTER
    local key=$1
    case $key in
        @) key=shift-2 ;; .) key="dot" ;; -) key=minus ;; " ") key=spc ;; /) key=slash ;; ";") key=semicolon ;;
        ">") key=shift-dot ;; "&") key=shift-7 ;; [A-Z]) key=shift-${key,,} ;;
    esac
    echo "sendkey $key" >&"${monitors[$port]}"
}
types() { # types TEXT: and Enter
    local at
    for ((at = 0; at < ${#1}; at++)); do press "${1:at:1}"; done
    press ret
}
# The kernel keeps some ten keys for a screen, and an emulated one is busy for longer than it takes to type them. So a few come at a
# time, once the keyboard's interrupts have counted them, and the screen has taken those before and waits.
types_at_the_screen() { # types_at_the_screen TEXT...: and Enter after each; after the last one, the screen may go
    local text at count
    count=$(there "$interrupts")
    for text; do
        until_true "keys taken by the screen" screen_has_taken "$count"
        for ((at = 0; at < ${#text}; at++)); do
            press "${text:at:1}"
            count=$((count + 2))
            [ "${text:at:1}" != @ ] || count=$((count + 2)) # Shift
            [ $((at % 5)) != 4 ] || until_true "keys taken by the screen" screen_has_taken "$count"
        done
        press ret
        count=$((count + 2))
    done
}
# shellcheck disable=SC2016 # for the machine
interrupts='awk "/i8042/ && \$1 == \"1:\" { for (each = 2; \$each ~ /^[0-9]+\$/; each++) sum += \$each; print sum }" /proc/interrupts'
screen_has_taken() { # screen_has_taken COUNT
    # shellcheck disable=SC2016 # for the machine
    there "[ \$($interrupts) -ge $1 ]"' && [ "$(ps -o state= -u labtools-screen | tr -d "[:space:]")" = S ]'
}
until_true() { # until_true WHAT COMMAND...: wait for something that will happen; the guard only reports a hang
    local deadline=$((EPOCHSECONDS + 600))
    until "${@:2}" >/dev/null 2>&1; do
        if [ $EPOCHSECONDS -ge $deadline ] || { [ -n "${machines[$port]-}" ] && powered_off; }; then
            echo "WRONG  waited in vain: $1"
            tail -n 20 "$own"/{serial,qemu} "$work/ssh" 2>/dev/null
            screen 2>/dev/null | fold -w 128 | sed 's/ *$//' | grep . || true
            exit 1
        fi
        sleep 0.2
    done
}
outside() { "$here/wired-8021x" outside "$work/net" "$@"; } # the server and the switch
background() { # background NAME COMMAND...: outside; it ends with the laboratory
    (exec "$here/wired-8021x" outside "$work/net" "${@:2}" >"$work/$1" 2>&1 </dev/null 9>&-) &
    disown
}
