#!/usr/bin/env bash
# A real Active Directory for the interop tests: a Samba domain controller and, behind its tickets,
# an Apache that lets nobody in without Kerberos. Everything listens on loopback addresses of its
# own and lies in one folder.
#
#   lab.sh start [REALM]    makes and starts it; prints its description as JSON
#   lab.sh stop FOLDER      ends what `start` has started, and removes the folder
#   lab.sh dc FOLDER stop   ends the domain controller alone; `start` brings it back
#   lab.sh second FOLDER    joins and starts a second domain controller; prints its address
#   lab.sh tool FOLDER …    samba-tool on the directory
#   lab.sh attribute FOLDER ACCOUNT NAME VALUE   sets an attribute of an account
#   lab.sh sweep            ends labs that a killed test run has left
#
# Needs root (ports below 1024, security attributes at provision) and the packages of
# tests/interop/packages.txt.
set -euo pipefail
umask 022
readonly PREFIX=/tmp/seg-ad-lab
readonly ADMIN_PASSWORD=Adm1n-Lab-Pass USER_PASSWORD=Us3r-Lab-Pass
export PATH="/usr/sbin:/usr/bin:/sbin:/bin:$PATH" PYTHONDONTWRITEBYTECODE=1
export LDB_MODULES_PATH="${LDB_MODULES_PATH:-/usr/lib/$(uname -m)-linux-gnu/samba/ldb}"

main() {
    case "${1:-}" in
        start) start "${2:-CORP.EXAMPLE}" ;;
        stop) open "$2" && stop ;;
        dc) open "$2" && "dc_$3" ;;
        second) open "$2" && second ;;
        tool) open "$2" && shift 2 && tool "$@" ;;
        attribute) open "$2" && attribute "$3" "$4" "$5" ;;
        sweep) sweep ;;
        *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
    esac
}

start() {
    local name missing=()
    for name in samba samba-tool ldbsearch kinit apache2 openssl; do
        command -v "$name" >/dev/null || missing+=("$name")
    done
    [[ -f /usr/lib/apache2/modules/mod_auth_gssapi.so ]] || missing+=(mod_auth_gssapi)
    if (( ${#missing[@]} )); then
        echo "missing: ${missing[*]}; \`tests/run install\` mends that" >&2
        exit 1
    fi
    (( EUID == 0 )) || { echo "the lab needs root" >&2; exit 1; }
    FOLDER=$(mktemp -d "$PREFIX.XXXXXX")
    chmod 755 "$FOLDER"
    # An address of its own: labs of several test runs may stand beside each other.
    ADDRESS=127.$(( 20 + $$ % 200 )).$(( $$ / 200 % 250 )).10
    echo "$ADDRESS" >"$FOLDER/address"
    echo "$1" >"$FOLDER/realm"
    open "$FOLDER"
    mkdir -p "$FOLDER"/{run/ncalrpc,run/ntp_signd,run/winbindd,log,keytabs,pki,http/htdocs}
    { kerberos_configuration; certificates; provision; content; keytabs; web; } >"$FOLDER/log/setup.log" 2>&1 \
        || { tail -n 20 "$FOLDER/log/setup.log" >&2; exit 1; }
    dc_start
    run_web
    cat <<JSON
{"folder": "$FOLDER", "address": "$ADDRESS", "realm": "$REALM", "password": "$USER_PASSWORD"}
JSON
}

open() {
    FOLDER=$1
    ADDRESS=$(cat "$FOLDER/address")
    REALM=$(cat "$FOLDER/realm") DOMAIN=${REALM,,} NETBIOS=${REALM%%.*} BASE=DC=${DOMAIN//./,DC=}
    CONF=$FOLDER/samba/etc/smb.conf SAM=$FOLDER/samba/private/sam.ldb
    export KRB5_CONFIG=$FOLDER/krb5.conf
}

kerberos_configuration() {
    # No DNS and no canonical names: the service's name is what the client says. TCP first, because
    # tickets with a PAC outgrow UDP.
    cat >"$KRB5_CONFIG" <<K
[libdefaults]
  default_realm = $REALM
  dns_lookup_realm = false
  dns_lookup_kdc = false
  dns_canonicalize_hostname = false
  rdns = false
  forwardable = true
  udp_preference_limit = 1
  default_ccache_name = FILE:$FOLDER/default.cc
[realms]
  $REALM = {
    kdc = $ADDRESS:88
  }
[domain_realm]
  .$DOMAIN = $REALM
  $DOMAIN = $REALM
K
}

# One authority; certificates for the servers and for each user, some of which must not count.
certificates() (
    cd "$FOLDER/pki"
    openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 3650 -subj "/O=Lab/CN=Lab Root CA" \
        -addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout ca.key -out ca.pem
    touch index.txt
    echo 01 >crlnumber
    echo 1000 >serial
    cat >ca.cnf <<C
[ca]
default_ca = lab
[lab]
dir = $PWD
database = $PWD/index.txt
serial = $PWD/serial
crlnumber = $PWD/crlnumber
new_certs_dir = $PWD
certificate = $PWD/ca.pem
private_key = $PWD/ca.key
default_md = sha256
default_days = 365
default_crl_days = 30
policy = policy
unique_subject = no
[policy]
commonName = supplied
organizationName = optional
C
    local upn='1.3.6.1.4.1.311.20.2.3' user
    server dc "dc1.$DOMAIN" "DNS:dc1.$DOMAIN,DNS:dc2.$DOMAIN,IP:$ADDRESS,IP:${ADDRESS%.10}.12"
    server mail "mail.$DOMAIN" "DNS:mail.$DOMAIN,IP:$ADDRESS"
    for user in alice bob dave erin frank nobody; do
        issue "$user" "$user" clientAuth "otherName:$upn;UTF8:$user@$DOMAIN,email:$user@$DOMAIN"
    done
    issue carol "Carol Smith" clientAuth "otherName:$upn;UTF8:carol.smith@$DOMAIN,email:carol.smith@$DOMAIN"
    issue nameless "Nameless" clientAuth "DNS:phone.$DOMAIN"
    issue purpose alice serverAuth "otherName:$upn;UTF8:alice@$DOMAIN"
    issue expired alice clientAuth "otherName:$upn;UTF8:alice@$DOMAIN" \
        -startdate 20200101000000Z -enddate 20210101000000Z
    issue revoked alice clientAuth "otherName:$upn;UTF8:alice@$DOMAIN"
    openssl ca -config ca.cnf -revoke revoked.pem -crl_reason keyCompromise
    openssl ca -config ca.cnf -gencrl -out ca.crl.pem
)

server() { issue "$1" "$2" serverAuth "$3"; }

# issue NAME CN PURPOSE NAMES [option…]
issue() {
    local name=$1 cn=$2 purpose=$3 names=$4
    shift 4
    printf 'basicConstraints=CA:false\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=%s\n' \
        "$purpose" "$names" >"$name.ext"
    openssl req -newkey rsa:2048 -nodes -sha256 -subj "/O=Lab/CN=$cn" -keyout "$name.key" -out "$name.csr"
    openssl ca -batch -notext -config ca.cnf -in "$name.csr" -out "$name.pem" -extfile "$name.ext" "$@"
}

provision() {
    samba-tool domain provision --realm="$REALM" --domain="$NETBIOS" --server-role=dc \
        --host-name=dc1 --host-ip="$ADDRESS" --adminpass="$ADMIN_PASSWORD" \
        --dns-backend=NONE --targetdir="$FOLDER/samba" \
        --option="interfaces=$ADDRESS/8" --option="bind interfaces only=yes" \
        --option="pid directory=$FOLDER/run"
    cat >"$CONF" <<S
[global]
  netbios name = DC1
  realm = $REALM
  workgroup = $NETBIOS
  server role = active directory domain controller
  interfaces = $ADDRESS/8
  bind interfaces only = yes
  server services = rpc, ldap, cldap, kdc, drepl, kcc
  lock directory = $FOLDER/samba
  state directory = $FOLDER/samba/state
  cache directory = $FOLDER/samba/cache
  private dir = $FOLDER/samba/private
  pid directory = $FOLDER/run
  ncalrpc dir = $FOLDER/run/ncalrpc
  ntp signd socket directory = $FOLDER/run/ntp_signd
  winbindd socket directory = $FOLDER/run/winbindd
  log file = $FOLDER/log/samba.log
  log level = 1 kerberos:3 auth_audit:3
  tls enabled = yes
  tls keyfile = $FOLDER/pki/dc.key
  tls certfile = $FOLDER/pki/dc.pem
  tls cafile = $FOLDER/pki/ca.pem
S
    chmod 600 "$FOLDER/pki/dc.key"
}

# People, services, and who may delegate to whom: straight into the directory's file. samba-tool
# takes half a second a call, so what LDIF can say is said by LDIF.
content() {
    local user spn
    # The service that would register these names is left out.
    for spn in "ldap/dc1.$DOMAIN" "ldap/dc1.$DOMAIN/$DOMAIN" "ldap/dc1.$DOMAIN/$NETBIOS" ldap/DC1; do
        tool spn add "$spn" 'DC1$' || true
    done
    tool domain passwordsettings set --max-pwd-age=0 --min-pwd-age=0 --history-length=0 \
        --account-lockout-threshold=5
    for user in alice bob dave erin frank; do
        tool user create "$user" "$USER_PASSWORD" "--mail-address=$user@$DOMAIN"
    done
    tool user create csmith "$USER_PASSWORD" "--mail-address=carol.smith@$DOMAIN"
    attribute csmith userPrincipalName "carol.smith@$DOMAIN"
    for user in svc-seg svc-mail svc-other; do
        tool user create "$user" --random-password
        tool user setexpiry "$user" --noexpiry
        # AES, for tickets and keytabs alike.
        attribute "$user" msDS-SupportedEncryptionTypes 24
    done
    tool user create svc-ldap "$USER_PASSWORD"
    tool user setexpiry svc-ldap --noexpiry
    tool user disable erin
    tool user sensitive frank on
    for user in Mobile-Mail-Users Sales-Team EU-Sales; do tool group add "$user"; done
    tool group addmembers Mobile-Mail-Users alice,csmith,erin,frank,Sales-Team
    tool group addmembers Sales-Team EU-Sales
    tool group addmembers EU-Sales dave
    tool spn add "HTTP/seg.$DOMAIN" svc-seg
    tool spn add "HTTP/mail.$DOMAIN" svc-mail
    tool spn add "HTTP/other.$DOMAIN" svc-other
    tool delegation for-any-protocol svc-seg on
    tool delegation add-service svc-seg "HTTP/mail.$DOMAIN"
}

tool() {
    case "$1 ${2:-}" in
        "domain provision"*) samba-tool "$@" ;;
        *) samba-tool "$@" -s "$CONF" ;;
    esac
}

attribute() {
    local dn
    dn=$(ldbsearch -H "$SAM" -b "$BASE" "(sAMAccountName=$1)" dn | sed -n 's/^dn: //p')
    printf 'dn: %s\nchangetype: modify\nreplace: %s\n%s: %s\n' "$dn" "$2" "$2" "$3" | ldbmodify -H "$SAM"
}

keytabs() {
    # exportkeytab appends, so that one file holds several keys.
    tool domain exportkeytab "$FOLDER/keytabs/seg.keytab" --principal="svc-seg@$REALM"
    tool domain exportkeytab "$FOLDER/keytabs/seg.keytab" --principal="HTTP/seg.$DOMAIN@$REALM"
    tool domain exportkeytab "$FOLDER/keytabs/http.keytab" --principal="HTTP/mail.$DOMAIN@$REALM"
    chown www-data "$FOLDER/keytabs/http.keytab"
    chmod 600 "$FOLDER"/keytabs/*
}

# Whatever it is asked for, it says who asks.
web() {
    local modules=/usr/lib/apache2/modules name
    cat >"$FOLDER/http/echo.cgi" <<'C'
#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\nREMOTE_USER=%s\nAUTH_TYPE=%s\n' "$REMOTE_USER" "$AUTH_TYPE"
C
    chmod 755 "$FOLDER/http/echo.cgi"
    {
        for name in mpm_prefork authn_core authz_core authz_user alias cgi env socache_shmcb ssl auth_gssapi; do
            echo "LoadModule ${name}_module $modules/mod_$name.so"
        done
        cat <<A
ServerRoot $FOLDER/http
ServerName mail.$DOMAIN
PidFile $FOLDER/run/httpd.pid
Mutex file:$FOLDER/run
DefaultRuntimeDir $FOLDER/run
ErrorLog $FOLDER/log/httpd-error.log
LogLevel info auth_gssapi:debug
User www-data
Group www-data
SetEnv KRB5_CONFIG $KRB5_CONFIG
Listen $ADDRESS:443
StartServers 2
DocumentRoot $FOLDER/http/htdocs
ScriptAlias / $FOLDER/http/echo.cgi/
<Location />
  AuthType GSSAPI
  AuthName "lab"
  GssapiCredStore keytab:$FOLDER/keytabs/http.keytab
  GssapiAllowedMech krb5
  Require valid-user
</Location>
<VirtualHost $ADDRESS:443>
  SSLEngine on
  SSLCertificateFile $FOLDER/pki/mail.pem
  SSLCertificateKeyFile $FOLDER/pki/mail.key
</VirtualHost>
A
    } >"$FOLDER/http/httpd.conf"
}

dc_start() {
    run samba samba -F --no-process-group -M single -s "$CONF"
    local tries
    for (( tries = 0; tries < 600; tries++ )); do
        # Ready is who gives the gateway's account a ticket and answers over LDAPS.
        if port 88 && port 636 && KRB5CCNAME=MEMORY: kinit -k -t "$FOLDER/keytabs/seg.keytab" svc-seg 2>/dev/null; then
            return
        fi
        alive samba || { tail -n 20 "$FOLDER/log/samba.out" >&2; exit 1; }
        sleep 0.1
    done
    echo "the domain controller does not answer" >&2
    exit 1
}

dc_stop() { end samba; }

run_web() {
    run apache2 apache2 -DFOREGROUND -f "$FOLDER/http/httpd.conf"
    local tries
    for (( tries = 0; tries < 200; tries++ )); do
        port 443 && return
        sleep 0.05
    done
    tail -n 20 "$FOLDER/log/apache2.out" "$FOLDER/log/httpd-error.log" >&2
    exit 1
}

# A second controller of the same domain. Names are looked up in a hosts file of its own, in a
# mount namespace of its own.
second() {
    local other=${ADDRESS%.10}.12 folder=$FOLDER/dc2
    mkdir -p "$folder"/run/{ncalrpc,ntp_signd,winbindd}
    printf '127.0.0.1 localhost %s\n%s dc1.%s dc1 %s\n%s dc2.%s dc2\n' \
        "$(hostname)" "$ADDRESS" "$DOMAIN" "$DOMAIN" "$other" "$DOMAIN" >"$folder/hosts"
    export KRB5CCNAME=FILE:$folder/admin.cc
    echo "$ADMIN_PASSWORD" | kinit "Administrator@$REALM" >/dev/null
    unshare -m bash -c "
        mount --bind '$folder/hosts' /etc/hosts
        samba-tool domain join '$DOMAIN' DC --use-kerberos=required --use-krb5-ccache='$KRB5CCNAME' \
            --server='dc1.$DOMAIN' --targetdir='$folder/samba' --dns-backend=NONE \
            --option='netbios name=DC2' --option='interfaces=$other/8' \
            --option='bind interfaces only=yes' --option='pid directory=$folder/run'" \
        >"$FOLDER/log/join.log" 2>&1 || { tail -n 20 "$FOLDER/log/join.log" >&2; exit 1; }
    sed -e 's/netbios name = .*/netbios name = DC2/' -e "s#^  interfaces = .*#  interfaces = $other/8#" \
        -e "s#$FOLDER/samba#$folder/samba#g" -e "s#$FOLDER/run#$folder/run#g" \
        "$CONF" >"$folder/samba/etc/smb.conf"
    run second samba -F --no-process-group -M single -s "$folder/samba/etc/smb.conf"
    local tries
    for (( tries = 0; tries < 300; tries++ )); do
        if (exec 3<>"/dev/tcp/$other/88") 2>/dev/null; then echo "$other"; return; fi
        sleep 0.1
    done
    echo "the second domain controller does not answer" >&2
    exit 1
}

# run NAME PROGRAM…: in a session of its own, whose leader is remembered.
run() {
    local name=$1
    shift
    setsid "$@" >>"$FOLDER/log/$name.out" 2>&1 </dev/null &
    echo "$! $1" >"$FOLDER/run/$name.own"
}

alive() { local pid; read -r pid _ <"$FOLDER/run/$1.own" && kill -0 "$pid" 2>/dev/null; }

port() { (exec 3<>"/dev/tcp/$ADDRESS/$1") 2>/dev/null; }

# Ends a program that we have started, and nobody who has got its number since.
end() {
    local file=$FOLDER/run/$1.own pid program tries
    [[ -f $file ]] || return 0
    read -r pid program <"$file"
    rm -f "$file"
    [[ $(basename "$(readlink "/proc/$pid/exe" 2>/dev/null)") == "$program" ]] || return 0
    kill -TERM "$pid" 2>/dev/null
    for (( tries = 0; tries < 100; tries++ )); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
}

stop() {
    local name
    for name in apache2 second samba; do end "$name"; done
    rm -rf "$FOLDER"
}

sweep() {
    local folder
    for folder in "$PREFIX".*; do
        [[ -f $folder/address ]] && open "$folder" && stop
    done
    return 0
}

main "$@"
