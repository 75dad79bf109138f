# 97-session.bash: the guest of test-guest-linux says on its first serial line what a user finds in it, and what he may do.
# Need: the laboratory asks a guest that has neither ssh nor a password.
# shellcheck shell=bash disable=SC2154

configure() {
    put /usr/lib/guest/session <<'END'
#!/bin/sh
# session [desktop]: in an emulated machine, as its user: lines that begin with GUEST, and a note that root keeps. Without a desktop the
# guest ends then.
[ "$(systemd-detect-virt)" = qemu ] || { echo "session: refusing to run: this is no emulated machine" >&2; exit 2; }
say() { printf 'GUEST %s: %s\n' "$1" "$(printf '%s' "$2" | paste -sd,)"; }
if [ "$1" = desktop ]; then
    say desktop "$XDG_CURRENT_DESKTOP of $(id -un), administrator: $(sudo -n id -un)" | sudo -n tee /dev/ttyS0 >/dev/null
    exit
fi
say user "$(id -un)"
say administrator "$(sudo -n id -un)"
say 'asked by polkit' "$(timeout 60 pkcheck --action-id org.freedesktop.systemd1.manage-units --process $$ && echo allowed)"
say passwords "$(sudo -n cut -d: -f2 /etc/shadow | LC_ALL=C sort -u)"
say 'files of root' "$(sudo -n ls -A /root | LC_ALL=C sort)"
cat /proc/sys/kernel/random/uuid | sudo -n tee -a /root/notes >/dev/null
sync
say wrote "$(sudo -n tail -n 1 /root/notes)"
say timers "$(systemctl list-timers --plain --no-legend | sed 's/.* \([^ ]*\.timer\) .*/\1/' | sort)"
sudo -n /lib/systemd/systemd-networkd-wait-online --interface "$(ls /sys/class/net | grep -vx lo)" --timeout 60
say address "$(ip -4 -o address show scope global | sed 's/.*inet \([^ ]*\) .*/\1/')"
say listening "$(ss -Hlnt | awk '{ print $4 }' | LC_ALL=C sort)"
say state "$(systemctl is-system-running --wait)"
say failed "$(systemctl --failed --plain --no-legend && echo end)"
say 'root in MiB' "$(($(findmnt -bno SIZE /) >> 20))"
say 'end of the disk, in MiB left' "$((($(lsblk -bndo SIZE /dev/sda) - $(lsblk -bndo SIZE /dev/sda2)) >> 20))"
say 'machine id' "$(cat /etc/machine-id)"
sudo -n systemctl poweroff
END
    chmod 755 "$root/usr/lib/guest/session"
    if [ -e "$root/usr/sbin/lightdm" ]; then
        printf '%s\n' '[Desktop Entry]' Type=Application Name=session 'Exec=/usr/lib/guest/session desktop' | put /etc/xdg/autostart/session.desktop
    else
        printf '%s\n' '[Unit]' 'After=guest-report.service systemd-user-sessions.service' '' '[Service]' User=user \
            'ExecStart=/usr/lib/guest/session' StandardOutput=file:/dev/ttyS0 '' '[Install]' WantedBy=multi-user.target |
            put /etc/systemd/system/guest-session.service
        systemctl --root="$root" --quiet enable guest-session.service
    fi
}
