# apart.bash: sourced by the laboratories whose programs outlive the call that starts them.
# shellcheck shell=bash

# A file that the caller has open, a lock perhaps, would stay open for as long as the program runs.
apart() { # apart COMMAND...
    local fd
    for fd in /proc/self/fd/*; do
        fd=${fd##*/}
        [ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"
    done
    exec "$@"
}
