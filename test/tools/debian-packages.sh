#!/bin/sh
# Makes sure that programs are there: debian-packages.sh PROGRAM:PACKAGE...
# As root it installs the missing packages by apt; otherwise one line names the packages to install.
set -eu

# The programs of administrators are not on every user's path.
PATH="$PATH:/usr/sbin:/sbin"

missing=''
for pair in "$@"; do
  command -v "${pair%%:*}" > /dev/null || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
  echo "Programs are missing. Install them with: sudo apt-get install$missing" >&2
  exit 1
fi

echo "Installing$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# Tests start the servers that they need: the packages' own services (NFS, Samba, nginx) stay off while packages are installed.
policy=/usr/sbin/policy-rc.d
if [ -e "$policy" ]; then policy=''; else printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod +x "$policy"; fi
trap 'rm -f "$log" $policy' EXIT
# shellcheck disable=SC2086 # a list of words
if ! { apt-get -o DPkg::Lock::Timeout=600 update && apt-get -o DPkg::Lock::Timeout=600 install --yes --no-install-recommends $missing; } > "$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
