#!/bin/sh
# Installs what the comparison needs of the system: the programs that are measured, and what pingora and
# the plots' viewer need. For Debian and its like, as root; elsewhere it says what is missing.
set -eu

programs="nginx haproxy hitch stunnel4 openssl cmake"
packages="nginx-light libnginx-mod-stream haproxy hitch stunnel4 openssl cmake"

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # The comparison starts its own, with its own configuration: none is to run as a service.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages
else
    echo "Not root on a system with apt-get: nothing is installed."
fi

missing=""
for program in $programs; do
    command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || missing="$missing $program"
done
if [ -n "$missing" ]; then
    echo "Missing:$missing. The comparison leaves out what is not there; without cmake it needs"
    echo "--no-default-features and the features of all peers but pingora."
    exit 1
fi
echo "All there."
