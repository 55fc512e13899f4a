#!/usr/bin/env bash
# Runs every script of findings/ and prints one line for each: its name, "ok" or "changed", and its seconds. The output of a script that has
# changed, or that could not run, follows its line. Exits with 1 if a script has not ended with 0.
#
# usage: run-findings.sh [SECONDS]    limit for one script; default: 300
set -uo pipefail
cd "$(dirname "$0")/../../findings" || exit 2

limit=${1:-300}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
changed=0
for script in *.sh; do
  start=$SECONDS
  result=ok
  timeout --kill-after=10 "$limit" "./$script" > "$log" 2>&1 < /dev/null || { result=changed; changed=1; }
  printf '%-40s %-8s %4d s\n' "$script" "$result" "$((SECONDS - start))"
  [ "$result" = ok ] || sed 's/^/    /' "$log"
done
exit "$changed"
