#!/usr/bin/env bash
# The Kubernetes client for JavaScript ignores `tokenFile` of a kubeconfig's user, and reports no error.
#
# Seen with @kubernetes/client-node 2.0.1: kubectl and client-go read `tokenFile`. Here a request for such a user has no Authorization header and
# reaches the API server as system:anonymous.
#
# Needs Node 22.19 or newer and npm. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts @kubernetes/client-node@2.0.1

printf 'from-the-file' > token
cat > kubeconfig << 'YAML'
apiVersion: v1
kind: Config
current-context: file
clusters: [{ name: c, cluster: { server: "https://api.example" } }]
contexts: [{ name: file, context: { cluster: c, user: file } }]
users: [{ name: file, user: { tokenFile: token } }]
YAML

cat > headers.mjs << 'JS'
import { HttpMethod, KubeConfig, RequestContext } from '@kubernetes/client-node';
const config = new KubeConfig();
config.loadFromFile('kubeconfig');
const request = new RequestContext('https://api.example/api', HttpMethod.GET);
await config.applySecurityAuthentication(request);
console.log(JSON.stringify(request.getHeaders()));
JS

seen=$(node headers.mjs)
echo "headers of a request: $seen"
[ "$seen" = '{}' ] || { echo 'the behaviour has changed' >&2; exit 1; }
