# radius.bash: the universities of wired-8021x, which sources it: their CAs, their accounts, and the RADIUS server that answers for both.
# shellcheck shell=bash
# shellcheck disable=SC2154

make_ca() { # make_ca NAME
    [ ! -e "$dir/ca/$1.key" ] || return 0
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/O=$1/CN=$1 CA" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout "$dir/ca/$1.key" -out "$dir/ca/$1.pem" 2>>"$dir/log/openssl.log"
}
make_certificate() { # make_certificate NAME CA HOST [DAYS]
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=$2/CN=$3" \
        -keyout "$dir/ca/$1.key" 2>>"$dir/log/openssl.log" |
        openssl x509 -req -CA "$dir/ca/$2.pem" -CAkey "$dir/ca/$2.key" -CAcreateserial -days "${4-3650}" \
            -extfile <(printf '%s\n' basicConstraints=CA:FALSE keyUsage=digitalSignature,keyEncipherment \
                extendedKeyUsage=serverAuth "subjectAltName=DNS:$3") \
            -out "$dir/ca/$1.pem" 2>>"$dir/log/openssl.log"
}
make_certificates() {
    make_ca uni-a
    make_ca uni-b
    make_ca rogue
    make_certificate good-a uni-a radius.uni-a.example
    make_certificate good-b uni-b radius.uni-b.example
    make_certificate wrongname-a uni-a www.uni-a.example
    make_certificate wrongname-b uni-b www.uni-b.example
    make_certificate rogue-a rogue radius.uni-a.example
    make_certificate rogue-b rogue radius.uni-b.example
    make_certificate expired-a uni-a radius.uni-a.example -1
    make_certificate expired-b uni-b radius.uni-b.example -1
    chmod 644 "$dir"/ca/*.pem
}

set_password() { # set_password NAME PASSWORD
    # In single quotes FreeRADIUS expands nothing; only the quote and the backslash need a backslash.
    local password=${2//\\/\\\\}
    touch "$dir/raddb/users"
    sed -i "/^${1//./\\.} /d" "$dir/raddb/users"
    printf "%s Cleartext-Password := '%s'\n" "$1" "${password//\'/\\\'}" >>"$dir/raddb/users"
}

is_radius_mode() { case $1 in good | rogue | wrongname | expired | tls10 | tls13 | md5 | inner-eap | no-realm) ;; *) return 1 ;; esac }
eap_module() { # eap_module LETTER MODE
    local certificate=good oldest=1.2 newest=1.3 ciphers=DEFAULT
    case $2 in
        md5)
            printf '  eap eap_%s {\n    default_eap_type = md5\n    md5 { }\n  }\n' "$1"
            return
            ;;
        rogue | wrongname | expired) certificate=$2 ;;
        tls10) oldest=1.0 newest=1.1 ciphers=DEFAULT@SECLEVEL=0 ;;
        tls13) oldest=1.3 ;;
    esac
    cat <<END
  eap eap_$1 {
    default_eap_type = ttls
    timer_expire = 60
    ignore_unknown_eap_types = no
    max_sessions = 1024
    tls-config tls_$1 {
      private_key_file = $dir/ca/$certificate-$1.key
      certificate_file = $dir/ca/$certificate-$1.pem
      tls_min_version = "$oldest"
      tls_max_version = "$newest"
      cipher_list = "$ciphers"
      ecdh_curve = ""
      cache { enable = no }
    }
    ttls {
      tls = tls_$1
      default_eap_type = mschapv2
      copy_request_to_tunnel = yes
      use_tunneled_reply = no
      virtual_server = inner
    }
    peap {
      tls = tls_$1
      default_eap_type = mschapv2
      copy_request_to_tunnel = yes
      use_tunneled_reply = no
      virtual_server = inner
    }
    mschapv2 { }
  }
END
}
# In mode no-realm the outer identity of every realm is rejected, before a method is proposed. The reject holds an EAP-Failure, as
# one of FreeRADIUS's own configuration does: without it hostapd would ask for the identity again.
outer_realms() { # outer_realms MODE
    if [ "$1" = no-realm ]; then
        echo '    reject'
        return
    fi
    cat <<'END'
    # federated: the realm of the OUTER identity chooses the home server
    if (&User-Name =~ /@uni-a\.example$/) {
      eap_a
    }
    elsif (&User-Name =~ /@uni-b\.example$/) {
      eap_b
    }
    else {
      reject
    }
END
}
# In mode inner-eap the tunnel takes EAP, and neither PAP nor MSCHAPv2 without EAP.
inner_methods() { # inner_methods MODE
    if [ "$1" = inner-eap ]; then
        printf '%s\n' '    if (!&EAP-Message) {' '      reject' '    }'
    else
        echo '    mschap'
    fi
}
radius_configuration() { # radius_configuration MODE
    cat <<END
prefix = /usr
libdir = /usr/lib/freeradius
raddbdir = $dir/raddb
logdir = $dir/log
radacctdir = $dir/log
run_dir = $dir
max_request_time = 30
cleanup_delay = 5
max_requests = 1024
hostname_lookups = no
log {
  destination = stdout
  auth = yes
  auth_badpass = no
  auth_goodpass = no
}
security {
  max_attributes = 200
  reject_delay = 1
  status_server = yes
  allow_vulnerable_openssl = yes
}
proxy_requests = no
client switch {
  ipaddr = 127.0.0.1
  secret = switch-secret
  require_message_authenticator = yes
}
thread pool {
  start_servers = 1
  max_servers = 2
  min_spare_servers = 1
  max_spare_servers = 1
  max_requests_per_server = 0
  auto_limit_acct = no
}
modules {
  pap { }
  mschap {
    use_mppe = yes
    require_encryption = yes
    require_strong = yes
  }
  files { filename = $dir/raddb/users }
  expiration { }
  always reject { rcode = reject }
END
    eap_module a "$1"
    eap_module b "$1"
    cat <<END
  eap eap_inner {
    default_eap_type = mschapv2
    mschapv2 { }
  }
}
server outer {
  listen {
    type = auth
    ipaddr = 127.0.0.1
    port = 1812
  }
  authorize {
$(outer_realms "$1")
  }
  authenticate {
    eap_a
    eap_b
  }
  post-auth {
    Post-Auth-Type REJECT {
      eap_a
    }
  }
}
server inner {
  authorize {
$(inner_methods "$1")
    eap_inner {
      ok = return
    }
    files
    expiration
    pap
  }
  authenticate {
    Auth-Type PAP {
      pap
    }
    Auth-Type MS-CHAP {
      mschap
    }
    eap_inner
  }
  post-auth { }
}
END
}
radius_listens() { inside switch ss -Hlun 'src 127.0.0.1:1812' | grep . >/dev/null; }
start_radius() { # start_radius MODE
    radius_configuration "$1" >"$dir/raddb/radiusd.conf"
    : >"$dir/raddb/dictionary" # FreeRADIUS wants it here; the contents come from /usr/share/freeradius
    start switch radiusd freeradius -f -l stdout -d "$dir/raddb" -n radiusd
}
radius_ready() { wait_for 60 FreeRADIUS radius_listens; }
