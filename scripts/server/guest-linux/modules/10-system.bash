# 10-system.bash: what every guest consists of, and its name.
# Need: a small system to build the variants on (thesis, 1.3 and 4.4).
# shellcheck shell=bash disable=SC2034,SC2154

packages=(@system)
configure() {
    echo guest | put /etc/hostname
    printf '%s\n' '127.0.0.1 localhost' '::1 localhost' '127.0.1.1 guest' | put /etc/hosts
}
