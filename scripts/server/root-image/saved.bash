# saved.bash: what an image is made of, downloaded once, and its file system. Sourced by what builds the image of a host or of a
# guest: $cache is its directory, $saved the part of it that this image is made of; $work, which is temporary, has in list the names of
# the packages; $fresh says to download them again.
# shellcheck shell=bash disable=SC2154 # what the caller sets

# shellcheck source=scripts/server/root-image/debian.bash
. "${BASH_SOURCE[0]%/*}/debian.bash"

export LC_ALL=C.UTF-8 # names in one order everywhere, and of any letters: mke2fs reads an archive in the letters of its locale

# mke2fs makes a file system of an archive, with no time but that of its files, since 1.47.1; Debian 12 has it in its backports.
save_mke2fs() { # save_mke2fs DIR
    local package
    mkdir "$1" "$1.apt"
    private_lists "$1.apt" main bookworm-backports &&
        (cd "$1.apt" && private_apt . apt-get download e2fsprogs libext2fs2 libcom-err2 libss2) || return
    for package in "$1.apt"/*.deb; do dpkg-deb --extract "$package" "$1"; done
    rm -r "$1.apt"
}
# As a whole or not at all: made beside, then renamed. The lock is held until the caller closes descriptor 9.
save() { # save COMMAND...: COMMAND DIR downloads the packages into the new directory DIR
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    [ -n "$fresh" ] || ! cmp -s "$work/list" "$saved/list" || return 0
    rm -rf "$cache/new"
    mkdir "$cache/new"
    save_mke2fs "$cache/new/e2fsprogs" 2>"$work/log" || { cat "$work/log" >&2; fail 69 "downloading mke2fs from Debian's backports"; }
    "$@" "$cache/new/packages" || exit
    date +%s >"$cache/new/date"
    cp "$work/list" "$cache/new/list"
    sync -f "$cache/new"
    rm -rf "$saved"
    mv "$cache/new" "$saved"
}

archive() { # archive ROOT TAR: a root's files, in an order and with times that are always the same
    tar --directory "$1" --sort=name --format=pax --pax-option=delete=atime,delete=ctime --mtime="@$SOURCE_DATE_EPOCH" --clamp-mtime \
        --numeric-owner --xattrs --create --file "$2" .
}
e2fs() { # e2fs PROGRAM ARG...: of the saved e2fsprogs, with its own mke2fs.conf and the time of all files
    local tools=$saved/e2fsprogs
    E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH MKE2FS_CONFIG=$tools/etc/mke2fs.conf \
        LD_LIBRARY_PATH=$tools/lib/x86_64-linux-gnu:$tools/usr/lib/x86_64-linux-gnu "$tools/sbin/$1" "${@:2}"
}
check_file_system() { # check_file_system IMAGE: before anybody gets it
    e2fs e2fsck -fn "$1" >"$work/log" 2>&1 || { cat "$work/log" >&2; fail 73 "checking the file system: the words of e2fsck are above"; }
}
