# 60-desktop.bash: a light desktop, XFCE, which opens by itself; to log out is to end the guest.
# Need: the user's session is the guest's screen (thesis, 4.4).
# shellcheck shell=bash disable=SC2034

packages=(@desktop)
configure() {
    printf '%s\n' '[Seat:*]' autologin-user=user user-session=xfce 'session-cleanup-script=systemctl --no-block poweroff' |
        put /etc/lightdm/lightdm.conf.d/50-user.conf
}
