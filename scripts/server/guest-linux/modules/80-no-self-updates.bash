# 80-no-self-updates.bash: nothing in the guest updates itself.
# Need: updates come as a new base, once for all; on each user's disk they would cost room and traffic (thesis, 3.3.3).
# shellcheck shell=bash disable=SC2154

configure() {
    local unit
    for unit in $("$distribution" self-updates); do ln -sf /dev/null "$root/etc/systemd/system/$unit"; done
    # Firefox reads this whoever packs it.
    echo '{"policies": {"DisableAppUpdate": true, "ExtensionUpdate": false}}' | put /etc/firefox/policies/policies.json
}
