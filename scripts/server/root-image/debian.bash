# debian.bash: Debian's packages, downloaded with package lists that are not this machine's, and a root made of them without a
# network. Sourced by what makes the roots of hosts and of guests; it uses their directory $work and their fail.
# shellcheck shell=bash disable=SC2154 # what the caller sets

private_lists() { # private_lists DIR COMPONENTS SUITE...: of the Debian mirrors that this machine uses; DIR is new
    local dir=$1 components=$2 suite mirror
    shift 2
    mkdir -p "$dir"/{sources,lists/partial,cache/archives/partial}
    for suite; do
        mirror=$(private_mirror "$suite")
        # Backports are on the mirror of the release, and most machines do not list them.
        [ -n "$mirror" ] || mirror=$(private_mirror "${suite%-backports}")
        [ -z "$mirror" ] || echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite $components"
    done >"$dir/sources/debian.list"
    private_apt "$dir" apt-get update
}
private_mirror() { # private_mirror SUITE
    # shellcheck disable=SC2016 # apt expands it
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $1" 'Component: main' | sed -n 1p
}
private_apt() { # private_apt DIR TOOL ARG...
    "$2" -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$1/sources" -o Dir::State::lists="$1/lists" \
        -o Dir::Cache="$1/cache" -o Dir::Cache::archives=archives -o APT::Sandbox::User=root "${@:3}"
}

download() { # download DIR PACKAGE...: with all that they and the essential packages depend on, into the new directory DIR
    private_lists "$work/apt" "main non-free-firmware" bookworm bookworm-updates bookworm-security >"$work/log" 2>&1 ||
        { tail -n 10 "$work/log" >&2; fail 69 "reading the package lists: apt-get failed, its last lines are above"; }
    : >"$work/nothing" # what is installed on this machine does not count
    private_apt "$work/apt" apt-get -o Dir::State::status="$work/nothing" install --yes --download-only --no-install-recommends '?essential' \
        "${@:2}" >"$work/log" 2>&1 ||
        { tail -n 10 "$work/log" >&2; fail 69 "downloading the packages: apt-get failed, its last lines are above"; }
    mkdir "$1"
    mv "$work"/apt/cache/archives/*.deb "$1/"
}

make_root() { # make_root ROOT NAMES [OPTION...]: of the packages in $work/repository, those with these NAMES, separated by commas
    (cd "$work/repository" && dpkg-scanpackages --multiversion . >Packages) 2>"$work/log" || { tail -n 5 "$work/log" >&2; fail 73 "reading the packages"; }
    # Without a network, a program that would fetch something fails.
    unshare --net --mount --pid --fork --kill-child --mount-proc mmdebstrap --quiet --mode=root --variant=essential --include="$2" \
        --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr "${@:3}" \
        "" "$1" "deb [trusted=yes] copy:$work/repository ./" >"$work/log" 2>&1 ||
        { grep -B 12 "^E: " "$work/log" >&2 || tail -n 12 "$work/log" >&2; fail 73 "making the root: mmdebstrap failed, its last lines are above; a missing package is downloaded with --fresh"; }
}
