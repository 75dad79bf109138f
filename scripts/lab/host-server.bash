# host-server.bash: what serves emulated lab machines, sourced by test-host: the 802.1X laboratory, the swarm of
# bases, and the collector.
# shellcheck shell=bash
# shellcheck disable=SC2154

laboratory() { # laboratory tap|taps: with the CAs of the last time, which are in the image
    mkdir -p "$work/net"
    [ ! -d "$keys" ] || cp -r "$keys/ca" "$work/net/ca"
    mkdir -p "$work/etc"
    mount -t tmpfs etc "$work/etc"
    mkdir -p "$work"/etc/{upper/labtools,work}
    mount -t overlay -o "lowerdir=/etc,upperdir=$work/etc/upper,workdir=$work/etc/work" etc /etc
    "$here/wired-8021x" up "$work/net" "$1"
    "$here/wired-8021x" mode "$work/net" confined
    [ -d "$keys" ] || make_keys
}
# The tracker, and a machine that seeds.
serve() {
    local root=$work/server
    mkdir -p "$root"/{etc/labtools/keys,qcow2/backing,var/lib/labtools,var/log/labtools}
    install -d -m 700 "$root/run/labtools"
    cp "$site/etc/labtools/campus.ini" "$root/etc/labtools/"
    cp "$site/etc/labtools/keys/base-lab.pub" "$root/etc/labtools/keys/"
    printf '[tracker]\ninterval_seconds=2\n' >"$root/etc/labtools/seedctl.ini"
    background tracker seedctl track --root "$root"
    until_true "the tracker" outside seedctl swarm --root "$root" </dev/null
}
publish_base() { # publish_base GENERATION: a disk of one sector; its document is $work/base-GENERATION.json
    local store=$work/server/qcow2/backing/linux
    mkdir -p "$store"
    as -o "$work/object" "$here/machine/session-guest.S"
    objcopy -O binary -j .text "$work/object" "$work/disk"
    truncate -s 16M "$work/disk"
    qemu-img convert -f raw -O qcow2 "$work/disk" "$store/$1.qcow2"
    chmod 0444 "$store/$1.qcow2"
    printf '[image]\nname=linux\ntitle=Linux\nostype=linux\ndefault=true\ngeneration=%s\ntrackers=http://192.0.2.1:6969/announce\n' "$1" |
        mkimg-torrent create --root "$work/server" --key "$keys/base.key" >"$work/base-$1.json"
    outside seedctl seed --root "$work/server" <"$work/base-$1.json" >"$work/seeded"
}
receive_base() { # receive_base GENERATION: the machine gets it, and switches over
    lab /usr/lib/labtools/receive-base start <"$work/base-$1.json"
    lab /usr/lib/labtools/receive-base wait linux "$1" </dev/null >"$work/received" 2>>"$work/ssh" || true
    jq -r '.base | "\(.name) \(.generation)"' "$work/received"
}

# ---- the collector, in the same place

collector() { "$scripts/collector/collector" --root "$work/collector" "$@"; }
log_query() { outside "$scripts/server/log-query" --config "$work/collector/etc/labtools" "$@"; }
# With the CA that is in the image; behind it is the server of the logs. The machine's network names the DNS server, and that the rest.
collect() { # collect PORT...: of these machines
    local root=$work/collector logs=http://127.0.0.1:9200
    mkdir -p "$root"/{etc/labtools/keys,log,temp}
    cp -r "$keys/collector" "$root/etc/labtools/"
    collector setup collector.example 2>"$work/said" || { cat "$work/said"; exit 1; }
    cp "$site/etc/labtools/campus.ini" "$root/etc/labtools/"
    openssl pkey -in "$keys/host.key" -pubout -out "$root/etc/labtools/keys/host-lab.pub"
    hosts "$@" >"$root/etc/labtools/hosts.ini"
    echo "url = \"$logs\"" >"$root/etc/labtools/log-query.curl"
    sed -i 's/ 127\.0\.0\.1:\(9*443\) / 192.0.2.1:\1 /' "$root"/etc/nginx/sites-enabled/*
    chown www-data "$root/temp"
    nginx_conf "$root" www-data "$root"/etc/nginx/sites-enabled/* >"$root/nginx.conf"
    background log-server "$("$here/log-server")" -addr 127.0.0.1:9200 -no-stdin-watch
    background nginx nginx -c "$root/nginx.conf" -e stderr
    background dnsmasq dnsmasq --keep-in-foreground --user=nobody --conf-file=/dev/null --pid-file= --no-resolv --no-hosts \
        --bind-interfaces --listen-address=192.0.2.1 --address=/collector.example/192.0.2.1
    until_true "the server of the logs" outside curl --silent --fail "$logs"
    outside curl --silent --fail --output /dev/null -X PUT -H 'Content-Type: application/json' \
        --data-binary "@$scripts/collector/logs-template.json" "$logs/_index_template/labtools-logs"
    until_true "the collector" outside curl --silent --insecure https://192.0.2.1
}
enroll() { # as labtools-host(7) describes it
    local id
    id=$(there cat /persistent/inventory/uuid | grep -xE '[0-9a-f-]{36}')
    there cat /persistent/labtools/host.csr | collector enroll "$id" |
        lab 'cd /persistent/labtools; mount -o remount,rw /persistent; cat >host.pem.new; [ ! -s host.pem.new ] || mv host.pem.new host.pem
            sync; cd /; mount -o remount,ro /persistent'
}
