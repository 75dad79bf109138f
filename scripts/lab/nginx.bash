# nginx.bash: the configuration of an nginx with sites of scripts/collector, sourced by the laboratories that run one.
# shellcheck shell=bash

nginx_conf() { # nginx_conf DIR USER SITE...: its pid file, log/nginx.*.log, and temp, where it keeps what it receives, are in DIR
    local dir=$1 kind site
    printf '%s\n' "load_module /usr/lib/nginx/modules/ngx_http_js_module.so;" "daemon off;" "user $2;" "worker_processes 2;" \
        "pid $dir/nginx.pid;" "error_log $dir/log/nginx.error.log;" "events { worker_connections 2048; }" "http {" \
        "access_log $dir/log/nginx.access.log;"
    for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $dir/temp;"; done
    for site in "${@:3}"; do echo "include $site;"; done
    echo "}"
}
