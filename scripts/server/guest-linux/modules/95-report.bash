# 95-report.bash: one line of JSON on the first serial line, once the guest is up: what it is.
# Need: vm-passthrough keeps the serial line of a guest, so a base that does not start is known without a look at its screen.
# shellcheck shell=bash disable=SC2154

configure() {
    put /usr/lib/guest/report <<'END'
#!/bin/sh
# report: what this guest is, as JSON.
. /usr/lib/os-release
driver_of() { basename "$(readlink -f "$1/driver")"; }
for card in /sys/class/net/*; do [ ! -e "$card/device" ] || network=$(driver_of "$card/device"); done
disk=$(readlink -f "/sys/class/block/$(basename "$(findmnt -no SOURCE /)")" | sed 's,\(/virtio[0-9]*\)/.*,\1,')
desktop=false
! systemctl -q is-active display-manager.service || desktop=true
printf '{"event": "guest_ready", "image": "%s", "generation": %s, "machine_id": "%s", "kernel": "%s", "root_bytes": %s, "disk": "%s", "network": "%s", "desktop": %s}\n' \
    "$IMAGE_ID" "$IMAGE_VERSION" "$(cat /etc/machine-id)" "$(uname -r)" "$(findmnt -bno SIZE /)" "$(driver_of "$disk")" "$network" "$desktop"
END
    chmod 755 "$root/usr/lib/guest/report"
    # A prompt there would hang up the line under what is said on it, and nobody could answer it.
    ln -sf /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service"
    printf '%s\n' '[Unit]' 'After=display-manager.service systemd-networkd.service' '' '[Service]' Type=oneshot ExecStart=/usr/lib/guest/report \
        StandardOutput=file:/dev/ttyS0 '' '[Install]' WantedBy=graphical.target | put /etc/systemd/system/guest-report.service
    systemctl --root="$root" --quiet enable guest-report.service
}
