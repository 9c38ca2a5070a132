#!/usr/bin/env bash
# Certificates for a trial fleet:
#   ./make-certs.sh DIR HOST[,HOST...] NAME...   CA and broker (once), then one certificate per NAME
#   ./make-certs.sh DIR revoke NAME              put a lost device's certificate on the list DIR/ca.crl
# HOST: names and addresses of the broker. NAME: device ids, and `fleet` and `reader` for your own programmes.
# Nothing that exists is overwritten. A real fleet makes each key on its device and sends only a request.
set -euo pipefail
umask 077

die() { printf 'error: %s\n' "$*" >&2; exit 2; }
made() { printf '%s\n' "$1"; }

[ $# -ge 3 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
dir=$1 hosts=$2
shift 2
mkdir -p "$dir"
cd "$dir"

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

# $1: name, $2: days, then lines of the extensions.
signed() {
    local name=$1 days=$2
    shift 2
    printf '%s\n' "$@" >"$name.ext"
    openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr"
    openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" \
        -days "$days" -sha256 -extfile "$name.ext" -out "$name.crt" 2>/dev/null
    rm -f "$name.csr" "$name.ext"
    chmod 644 "$name.crt"
    made "$name.crt"
}

revoke() {
    [ -e "$1.crt" ] || die "there is no $dir/$1.crt"
    [ -e crl.index ] || : >crl.index
    [ -e crl.number ] || echo 01 >crl.number
    printf '[ca]\ndefault_ca=d\n[d]\ndatabase=crl.index\ncrlnumber=crl.number\ndefault_md=sha256\ndefault_crl_days=3650\n' >crl.conf
    openssl ca -config crl.conf -keyfile ca.key -cert ca.crt -revoke "$1.crt" 2>/dev/null || die "$1 is on the list already"
    openssl ca -config crl.conf -keyfile ca.key -cert ca.crt -gencrl -out ca.crl 2>/dev/null
    chmod 644 ca.crl
    made "ca.crl"
}

if [ "$hosts" = revoke ]; then
    for name in "$@"; do revoke "$name"; done
    exit
fi

for name in "$@"; do
    printf '%s' "$name" | grep -Eq '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$' || die "\"$name\" cannot be a device id"
    case $name in ca | server) die "the name $name is taken" ;; esac
    [ ! -e "$name.key" ] && [ ! -e "$name.crt" ] || die "$dir/$name.key exists; remove it and its certificate first"
done

if [ ! -e ca.key ]; then
    key ca
    openssl req -x509 -new -key ca.key -sha256 -days 3650 -subj "/CN=edge fleet CA" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -out ca.crt
    chmod 644 ca.crt
    made "ca.crt"
fi
if [ ! -e server.key ]; then
    names=
    IFS=, read -ra list <<<"$hosts"
    for host in "${list[@]}"; do
        if [[ $host =~ ^[0-9.]+$ || $host == *:* ]]; then names+=",IP:$host"; else names+=",DNS:$host"; fi
    done
    key server
    signed server 825 "subjectAltName=${names#,}" "extendedKeyUsage=serverAuth" "basicConstraints=critical,CA:FALSE"
fi
for name in "$@"; do
    key "$name"
    signed "$name" 825 "extendedKeyUsage=clientAuth" "basicConstraints=critical,CA:FALSE"
done
