# lab-image.bash: the host image of the emulated lab machines, and its stick, kept in the cache; sourced by test-host.
# shellcheck shell=bash
# shellcheck disable=SC2154,SC2164 # who sources it has errexit

make_keys() { # what the image is made with, and all later ones
    rm -rf "$cache/new"
    mkdir "$cache/new"
    ssh-keygen -q -t ed25519 -N '' -C '' -f "$cache/new/id_ed25519" </dev/null
    for key in host base; do openssl genpkey -algorithm ed25519 -out "$cache/new/$key.key" 2>/dev/null; done
    chmod 600 "$cache/new"/*.key
    mkdir "$cache/new/ca"
    cp "$work"/net/ca/uni-?.{pem,key} "$cache/new/ca/"
    "$scripts/collector/collector" --root "$work/new" setup collector.example 2>"$work/said" || { cat "$work/said"; exit 1; }
    cp -r "$work/new/etc/labtools/collector" "$cache/new/"
    mv "$cache/new" "$keys"
}
make_site() { # what differs from university to university; and a model without devices for guests, and one that has them
    local etc=$site/etc/labtools
    mkdir -p "$site"/{root/.ssh,etc/rsyslog.d,etc/cron.d,etc/systemd/system/rsyslog.service.d} "$etc/keys"
    cp "$keys/id_ed25519.pub" "$site/root/.ssh/authorized_keys"
    openssl pkey -in "$keys/base.key" -pubout -out "$etc/keys/base-lab.pub"
    cp -r "$work/net/labtools/realms.d" "$etc/"
    printf '[model.%s]\nbios=1.0.0\n%s\n' "Laboratory PC" "" "Laboratory PC 2" "devices=00:02.0 1234:1111, 00:14.0 1b36:000d" >"$etc/models.ini"
    printf '[profile.linux]\nmemory=384M\ncores=1\nrtc=utc\n' >"$etc/profiles.ini"
    printf '[qemu]\nuser=labtools-qemu\nhost_memory=512M\nconsole=/var/log/labtools/console\n' >"$etc/vm-passthrough.ini"
    printf '[net.%s]\ncidr=%s\ncampus=c\nbuilding=%s\nroom=%s\nrole=%s\n\n' \
        confined-a 10.72.1.0/24 b r lab open-a 10.71.1.0/24 b r lab \
        confined-b 10.72.2.0/24 b r lab open-b 10.71.2.0/24 b r lab servers 192.0.2.0/24 servers servers servers >"$etc/campus.ini"
    hosts a b >"$etc/hosts.ini"
    printf '[firmware.thinklmi]\nvt_d=VTdFeature=Enable\nwake_on_lan=WakeOnLAN=Enable\nusb_boot=\nsetup_password=false\n' >"$etc/firmware.ini"
    cp "$keys/collector/ca.pem" "$etc/collector.pem"
    printf '[push]\nurl=https://collector.example\n' >"$etc/invcollect.ini"
    cp "$scripts/host/logs/rsyslog.conf" "$site/etc/rsyslog.d/50-labtools.conf"
    sed 's/collector\.uni-a\.example/collector.example/' "$scripts/host/logs/rsyslog-service.conf" \
        >"$site/etc/systemd/system/rsyslog.service.d/labtools.conf"
    # The screen is read as text.
    mkdir "$site/etc/systemd/system/labtools-seat.service.d"
    printf '%s\n' '[Service]' ExecStart= 'ExecStart=/usr/lib/labtools/lab-seat --tty' >"$site/etc/systemd/system/labtools-seat.service.d/tty.conf"
    # Not once a day: its lines in the event log would depend on the hour of the test.
    grep -v ' 13 \* \* \* ' "$scripts/host/labtools-inventory.cron" >"$site/etc/cron.d/labtools-inventory"
}
made_of() { # a name for all that an image and its stick depend on; Debian's packages are there after the first build
    (
        cd "$scripts/.."
        find man scripts/{dev/debian,host,server} -type f -print0 | sort -z | xargs -0 cat Makefile CHANGELOG.md \
            "$(type -P abflip)" "$(type -P cowvol)" "$(type -P invcollect)" "$(type -P mkimg-torrent)" "$(type -P nm-8021x-login)" \
            "$(type -P seedctl)" "$(type -P vm-passthrough)" "$cache/../host-image/debian/date" 2>/dev/null
        find "$site" -type f -print0 | sort -z | xargs -0 cat
    ) | sha256sum | cut -c 1-16
}
make_image() {
    make_site
    image=$cache/$(made_of || true)
    if [ ! -e "$image.stick" ]; then
        rm -f "$cache"/*.{img,manifest,sig,zst,stick}
        # The same programs and scripts make the same packages; their version is a time.
        SOURCE_DATE_EPOCH=1764000000 "$scripts/build-packages" "$work/packages" 2>"$work/said" || { cat "$work/said"; exit 69; }
        "$scripts/server/build-host-image" --site "$site" --append console=ttyS0 --packages "$work/packages" --key "$keys/host.key" \
            --name lab --version 1 "$cache/host.img" 2>"$work/said" || { cat "$work/said"; exit 69; }
        image=$cache/$(made_of)
        for ending in zst manifest sig img; do mv "$cache/host.$ending" "$image.$ending"; done
        "$scripts/server/build-installer" --image "$image.zst" --manifest "$image.manifest" --answer "$scripts/host/etc/layout.ini" \
            "$image.stick" 2>"$work/said" || { cat "$work/said"; exit 1; }
    fi
    echo "figure: the image has $(($(stat -c %s "$image.img") >> 20)) MiB, compressed $(($(stat -c %s "$image.zst") >> 20)) MiB"
}
another_image() { # another_image VERSION COMMAND...: the same, changed by commands of debugfs
    local copy=$work/version-$1
    [ ! -e "$image.$1.zst" ] || return 0
    cp --reflink=auto --sparse=always "$image.img" "$copy.img"
    printf '%s\n' "${@:2}" | debugfs -w -f - "$copy.img" >"$work/said" 2>&1
    "$scripts/server/publish-host" --key "$keys/host.key" --name lab --version "$1" "$copy.img"
    for ending in manifest sig zst; do mv "$copy.$ending" "$image.$1.$ending"; done
    rm "$copy.img"
}
