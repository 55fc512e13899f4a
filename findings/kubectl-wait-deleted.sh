#!/usr/bin/env bash
# `kubectl wait --for=condition=...` does not end when its object is deleted: it waits until its timeout.
#
# Expected: an error soon after the DELETED event, since an object that is gone meets no condition.
# Seen with kubectl 1.36.3: it checks whether the object exists only before the first event. After DELETED it watches on, with --timeout=-1s for a week.
# Printed at the end: "error: timed out waiting for the condition on configmaps/x". A script for an object that may be deleted has to wait in turns.
#
# kubectl is real, and the program below answers its API calls. Needs Go 1.26 or newer and Python 3. It fails when the behaviour has changed.
set -euo pipefail

tools=$(cd "$(dirname "$0")/../test/tools" && pwd)
kubectl=$("$tools/kubernetes-binaries.sh" kubectl)/kubectl
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" 2> /dev/null || true; rm -rf "$work"' EXIT

cat > "$work/server.py" << 'PY'
import http.server, json, os, sys, time, urllib.parse

METADATA = {"name": "x", "namespace": "default", "uid": "u"}
CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**METADATA, "resourceVersion": "5"}}
RESOURCES = [{"name": "configmaps", "singularName": "", "namespaced": True, "kind": "ConfigMap", "verbs": ["get", "list", "watch"]}]
ANSWERS = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": RESOURCES},
}
state = {"deleted": False}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        place = urllib.parse.urlparse(self.path)
        query = urllib.parse.parse_qs(place.query)
        if "watch" in query:
            return self.watch("sendInitialEvents" in query)
        if place.path in ANSWERS:
            return self.answer(200, ANSWERS[place.path])
        if place.path == "/api/v1/namespaces/default/configmaps/x":
            return self.answer(200, CONFIG_MAP)
        if place.path == "/api/v1/namespaces/default/configmaps":
            items = [] if state["deleted"] else [CONFIG_MAP]
            return self.answer(200, {"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": items})
        self.answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404})

    def answer(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    # The first watch has the deletion; a later one has no event.
    def watch(self, has_initial_events):
        print("WATCH", self.path.split("?")[1], flush=True)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        if has_initial_events:
            if not state["deleted"]:
                self.send("ADDED", CONFIG_MAP)
            end = {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}
            self.send("BOOKMARK", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": end})
        if not state["deleted"]:
            time.sleep(1)
            state["deleted"] = True
            print("DELETED", flush=True)
            self.send("DELETED", {**CONFIG_MAP, "metadata": {**METADATA, "resourceVersion": "8"}})
        time.sleep(60)

    def send(self, kind, body):
        self.wfile.write(json.dumps({"type": kind, "object": body}).encode() + b"\n")
        self.wfile.flush()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(server.server_address[1]))
os.rename(sys.argv[1] + ".new", sys.argv[1])
server.serve_forever()
PY
python3 "$work/server.py" "$work/port" > "$work/log" &
echo $! > "$work/pid"
for _ in $(seq 100); do [ -e "$work/port" ] && break; sleep 0.1; done

start=$(date +%s)
status=0
output=$(HOME=$work "$kubectl" --server "http://127.0.0.1:$(cat "$work/port")" --namespace default \
  wait configmap/x --for=condition=Finished --timeout=10s 2>&1) || status=$?
seconds=$(($(date +%s) - start))
cat "$work/log"
echo "$output"
echo "exit code $status after $seconds seconds; the object was deleted after one"
grep -q DELETED "$work/log"
[ "$status" -eq 1 ] && [ "$seconds" -ge 9 ] && grep -q 'timed out waiting for the condition' <<< "$output"
