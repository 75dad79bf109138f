# 90-first-boot.bash: what each disk makes at its first boot: the machine's id, keys of ssh, and the root grown to the disk's end.
# Need: images are clean, without keys and ids (thesis, 1.3), and two disks of one base are two machines.
# shellcheck shell=bash disable=SC2154

configure() {
    # Empty, not absent: systemd then keeps the id that it makes, and leaves units as they are.
    : >"$root/etc/machine-id"
    # systemd-repart grows the partition, and x-systemd.growfs in fstab the file system.
    printf '%s\n' '[Partition]' Type=root | put /etc/repart.d/50-root.conf
    # There is no sshd, unless a site adds one.
    printf '%s\n' '[Unit]' 'ConditionPathExists=/usr/sbin/sshd' 'ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key' Before=ssh.service '' \
        '[Service]' Type=oneshot 'ExecStart=/usr/bin/ssh-keygen -A' '' '[Install]' WantedBy=multi-user.target | put /etc/systemd/system/ssh-keys.service
    systemctl --root="$root" --quiet enable ssh-keys.service
}
