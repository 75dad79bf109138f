# private-apt.bash: apt with package lists that are not this machine's, sourced by what downloads packages and installs none.
# shellcheck shell=bash

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
