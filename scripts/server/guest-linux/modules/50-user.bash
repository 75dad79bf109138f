# 50-user.bash: the user, who is logged in at once, and an administrator without a password: the host has authenticated him.
# Need: users are administrators of their guests, each on his own disk (thesis, 1.5).
# shellcheck shell=bash disable=SC2154

configure() {
    local group
    chroot "$root" useradd --create-home --shell /bin/bash --user-group user
    for group in sudo audio video plugdev cdrom dialout; do chroot "$root" gpasswd --add user "$group" >/dev/null; done
    # No password fits: not that of the user, nor that of root.
    echo '%sudo ALL=(ALL:ALL) NOPASSWD: ALL' | put /etc/sudoers.d/administrator
    chmod 440 "$root/etc/sudoers.d/administrator"
    echo 'polkit.addRule(function(action, subject) { if (subject.isInGroup("sudo")) return polkit.Result.YES; });' |
        put /etc/polkit-1/rules.d/10-administrator.rules
    printf '%s\n' '[Service]' ExecStart= 'ExecStart=-/sbin/agetty --autologin user --noclear %I $TERM' |
        put /etc/systemd/system/getty@tty1.service.d/user.conf
}
