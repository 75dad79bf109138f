# 30-virtio.bash: the disk and the network card that every guest has, which are virtual.
# Need: Virtio modules for the disk and the network (thesis, 4.4).
# shellcheck shell=bash disable=SC2154

configure() {
    # vm-passthrough gives the disk as virtio-scsi; virtio_blk is for who tries the image by hand.
    "$distribution" initrd "$root" virtio_pci virtio_scsi virtio_blk sd_mod ext4 crc32c_generic
    # A second card, on the room's segment, has no DHCP server, and nothing waits for it.
    printf '%s\n' '[Match]' Driver=virtio_net '' '[Link]' RequiredForOnline=no '' '[Network]' DHCP=yes | put /etc/systemd/network/50-virtio.network
    printf '%s\n' '[Resolve]' LLMNR=no MulticastDNS=no | put /etc/systemd/resolved.conf.d/quiet.conf # it would listen for names of others
    ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
    systemctl --root="$root" --quiet enable systemd-networkd.service systemd-resolved.service
    systemctl --root="$root" --quiet disable systemd-networkd-wait-online.service
}
