# switch.bash: the switch of wired-8021x, which sources it: ports, what they let through, the networks behind them, and an access point.
# shellcheck shell=bash
# shellcheck disable=SC2154

plug_cables() { # plug_cables [tap|taps]
    local cable computer tap=${1-}
    computer=$(pid_of computer)
    inside switch ip link set lo up
    inside switch ip addr add 192.0.2.1/32 dev lo
    for cable in "nasa eth0 10.71.1.1" "nasb eth1 10.71.2.1"; do
        # shellcheck disable=SC2086 # three words
        set -- $cable
        case $tap$1 in
            tapnasa | taps*) inside switch ip tuntap add "$1" mode tap ;; # straight to the machine: a bridge would drop EAPOL frames
            *) inside switch ip link add "$1" type veth peer name "$2" netns "$computer" ;;
        esac
        inside switch ip addr add "$3/24" dev "$1"
        inside switch ip link set "$1" up
    done
}

# hostapd's wired driver authenticates but does not close the port, as a real switch does. A filter does that part.
# It opens a port as the EAP-Success frame leaves (an EAPOL frame of type 0 that holds an EAP packet of code 3): later,
# told by hostapd's event, it would now and then drop the computer's first DHCP packet, and the next comes after 3 s.
# It closes a port when hostapd_cli reports that hostapd has ended the authorization.
# An EAP-Failure (code 4) begins the quiet period of a port, if the switch has one.
start_switch() { # start_switch [confined]
    local port
    inside switch nft -f - <<'END'
table netdev switch {
    set open { type ifname; }
    set quiet { type ifname; flags dynamic, timeout; }
    chain refused { }
    chain unauthorized { }
    chain from_computer {
        type filter hook ingress devices = { nasa, nasb } priority 0; policy drop;
        ether type 0x888e iifname @quiet drop
        ether type 0x888e accept
        iifname @open accept
        jump unauthorized
    }
    chain to_computer {
        type filter hook egress devices = { nasa, nasb } priority 0; policy drop;
        ether type 0x888e oifname @quiet drop
        ether type 0x888e @ll,120,8 0 @ll,144,8 3 add @open { oifname }
        ether type 0x888e @ll,120,8 0 @ll,144,8 4 jump refused
        ether type 0x888e accept
        meta mark 1 oifname @open drop
        meta mark 1 accept
        oifname @open accept
    }
}
END
    [ "${1-}" != confined ] || start_confined_network
    [ ! -s "$dir/quiet" ] || be_quiet "$(cat "$dir/quiet")"
    cat >"$dir/port-event" <<'END'
#!/bin/sh
# hostapd_cli runs this as: port-event INTERFACE EVENT STATION
[ "$2" != AP-STA-DISCONNECTED ] || nft "delete element netdev switch open { $1 }"
END
    chmod 700 "$dir/port-event"
    mkdir -p "$dir/hostapd" "$dir/hostapd-clients"
    for port in a b; do start_port $port; done
}
be_quiet() { # be_quiet SECONDS: for so long after a refusal the switch neither hears nor asks on the port
    inside switch nft flush chain netdev switch refused
    [ "$1" = 0 ] || inside switch nft add rule netdev switch refused add @quiet "{ oifname timeout ${1}s }"
}
# The frames of a computer that is not authorized come out at confined-a or confined-b, and those of there go to it. The mark
# says that a frame is of there.
start_confined_network() {
    local port number=1
    for port in a b; do
        inside switch ip link add conf-$port type veth peer name confined-$port
        inside switch ip addr add 10.72.$number.1/24 dev confined-$port
        inside switch ip link set conf-$port up
        inside switch ip link set confined-$port up
        start_dhcp confined-$port 10.72.$number
        number=$((number + 1))
    done
    inside switch nft -f - <<'END'
table netdev switch {
    chain unauthorized {
        iifname nasa fwd to conf-a
        iifname nasb fwd to conf-b
    }
    chain from_confined {
        type filter hook ingress devices = { conf-a, conf-b } priority 0; policy drop;
        meta mark set 1
        iifname conf-a fwd to nasa
        iifname conf-b fwd to nasb
    }
}
END
}
hostapd_radius() { # what every authenticator says of the RADIUS server
    cat <<END
ctrl_interface=$dir/hostapd
logger_stdout=-1
logger_stdout_level=1
ieee8021x=1
nas_identifier=$1
own_ip_addr=127.0.0.1
auth_server_addr=127.0.0.1
auth_server_port=1812
auth_server_shared_secret=switch-secret
END
}
start_port() { # start_port PORT
    {
        printf '%s\n' "interface=nas$1" driver=wired eap_reauth_period=0 use_pae_group_addr=1
        hostapd_radius "switch-$1"
    } >"$dir/hostapd-$1.conf"
    start switch "hostapd-$1" hostapd -t "$dir/hostapd-$1.conf"
}
port_ready() { # port_ready PORT
    wait_for 60 "hostapd on port $1" hostapd_says "$1" ping
    start switch "port-events-$1" hostapd_cli -p "$dir/hostapd" -s "$dir/hostapd-clients" -i "nas$1" -a "$dir/port-event"
    wait_for 60 "the filter of port $1" listens_to_hostapd "port-events-$1"
}
listens_to_hostapd() { compgen -G "$dir/hostapd-clients/*_$(pid_of "$1")-*"; }
switch_ready() {
    port_ready a
    port_ready b
}
stop_port() { # stop_port PORT
    stop "hostapd-$1"
    stop "port-events-$1"
    inside switch nft "delete element netdev switch open { nas$1 }" 2>/dev/null || true # it is there if it was open
}
stop_switch() {
    local port
    for port in a b; do
        stop_port $port
        stop udhcpd-confined-$port
        inside switch ip link delete conf-$port 2>/dev/null || true # it is there in mode confined
    done
    inside switch nft delete table netdev switch 2>/dev/null || true # it is not there in mode plain
}
hostapd_says() { # hostapd_says PORT REQUEST...
    local interface=nas$1
    [ "$1" != w ] || interface=ap0
    shift
    hostapd_cli -p "$dir/hostapd" -s "$dir/hostapd-clients" -i "$interface" "$@" 2>/dev/null
}

# A switch forgets the computer when the link goes, and asks who is there when it comes back. hostapd's wired driver does
# not look at the link, so it is told, and starts anew: before the link is up, or the old one would begin an exchange, and
# take the verdict with it.
unplug() { # unplug PORT
    local station
    inside switch ip link set "nas$1" down
    for station in $(hostapd_says "$1" list_sta); do hostapd_says "$1" deauthenticate "$station" >/dev/null; done
}
plug() { # plug PORT
    local link=eth0
    [ "$1" = a ] || link=eth1
    if ! is_up "hostapd-$1"; then
        inside switch ip link set "nas$1" up
        return
    fi
    stop_port "$1"
    inside switch ip link set "nas$1" up
    start_port "$1"
    port_ready "$1"
    hostapd_says "$1" new_sta "$(inside computer cat /sys/class/net/$link/address)" >/dev/null
}

# ---- the networks behind the ports ------------------------------------------------------------------------------------

start_dhcp() { # start_dhcp INTERFACE NETWORK
    : >"$dir/leases-$1"
    cat >"$dir/udhcpd-$1.conf" <<END
interface $1
start $2.50
end $2.99
lease_file $dir/leases-$1
pidfile $dir/udhcpd-$1.pid
opt subnet 255.255.255.0
opt router $2.1
opt dns 192.0.2.1
opt lease 600
END
    # Nobody else has an address on this cable: do not look for 2 s before every offer.
    start switch "udhcpd-$1" udhcpd -f -a 1 "$dir/udhcpd-$1.conf"
}
start_router() { # IPv6: a computer makes its own address of the prefix that it is told
    local number=1 interface
    for interface in "$@"; do
        cat <<END
interface $interface {
    AdvSendAdvert on;
    IgnoreIfMissing on;
    MinRtrAdvInterval 3;
    MaxRtrAdvInterval 4;
    prefix 2001:db8:71:$number::/64 { };
};
END
        number=$((number + 1))
    done >"$dir/radvd.conf"
    start switch radvd radvd --nodaemon --logmethod stderr --config "$dir/radvd.conf" --pidfile "$dir/radvd.pid"
}

# ---- the access point -------------------------------------------------------------------------------------------------

# Two simulated radios: one is the access point's, ap0, and one the computer's, wlan0.
start_radios() {
    local radios
    modprobe mac80211_hwsim radios=2 2>>"$dir/log/radios.log" ||
        fail 69 "this kernel has no simulated radios (mac80211_hwsim); wireless-8021x brings one that has"
    mapfile -t radios < <(ls /sys/class/ieee80211)
    [ ${#radios[@]} = 2 ] || fail 69 "there are ${#radios[@]} radios here, and not the two simulated ones"
    move_radio "${radios[0]}" switch ap0
    move_radio "${radios[1]}" computer wlan0
    inside switch ip addr add 10.71.3.1/24 dev ap0
}
move_radio() { # move_radio RADIO SIDE INTERFACE
    local interface
    interface=$(ls "/sys/class/ieee80211/$1/device/net")
    ip link set "$interface" down
    iw phy "$1" set netns "$(pid_of "$2")"
    [ "$interface" = "$3" ] || inside "$2" ip link set "$interface" name "$3"
}
start_access_point() {
    {
        printf '%s\n' interface=ap0 driver=nl80211 ssid=eduroam hw_mode=g channel=1 ieee80211w=1 wpa=2 wpa_key_mgmt=WPA-EAP rsn_pairwise=CCMP
        hostapd_radius access-point
    } >"$dir/hostapd-w.conf"
    start switch hostapd-w hostapd -t "$dir/hostapd-w.conf"
}
