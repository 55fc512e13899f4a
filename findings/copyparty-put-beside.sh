#!/usr/bin/env bash
# copyparty answers 201 to a PUT over an existing file, keeps the old file at that URL, and stores the new one under another name.
#
# Seen with copyparty 1.20.26: PUT of "one" to /disk.img, then PUT of "two" to /disk.img. Both answers are 201. GET of /disk.img still returns
# "one"; "two" is in a second file, whose name is in the body of the second answer. RFC 9110, section 9.3.4, has PUT replace the state of the
# target resource, and 201 for a resource that did not exist. A client that looks at the status code alone takes the old file for its upload.
#
# Needs Python 3.11 or newer, and curl. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
server=''
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check copyparty==1.20.26
mkdir files
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/python -m copyparty -i 127.0.0.1 -p "$port" -v "$work/files::rw" -q --no-crt > server.log 2>&1 &
server=$!
url="http://127.0.0.1:$port/disk.img"
for _ in $(seq 100); do
  curl --silent --output /dev/null "http://127.0.0.1:$port/" && break
  sleep 0.1
done

# put CONTENT; prints the status code of the answer
put() {
  printf '%s' "$1" | curl --silent --output answer.txt --write-out '%{http_code}' --upload-file - "$url"
}

first=$(put one)
second=$(put two)
content=$(curl --silent "$url")
echo "PUT one: $first, PUT two: $second, GET: $content, files: $(find files -type f -name '*.img' | wc -l)"
[ "$first $second $content" = '201 201 one' ] || { echo 'the behaviour has changed' >&2; exit 1; }
