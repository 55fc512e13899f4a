#!/usr/bin/env bash
# The Kubernetes client for JavaScript ignores `tokenFile` and `as-groups` of a kubeconfig's user without a word.
#
# Seen with @kubernetes/client-node 2.0.1: kubectl and client-go read both. Here a request for a user with `tokenFile` has no Authorization
# header and goes out as system:anonymous; one for a user with `as` and `as-groups` has Impersonate-User and no Impersonate-Group, so the
# API server judges the rights of the name alone. Nothing is thrown or logged.
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
contexts:
  - { name: file, context: { cluster: c, user: file } }
  - { name: groups, context: { cluster: c, user: groups } }
users:
  - { name: file, user: { tokenFile: token } }
  - { name: groups, user: { token: abc, as: jane, as-groups: [ops] } }
YAML

cat > headers.mjs << 'JS'
import { HttpMethod, KubeConfig, RequestContext } from '@kubernetes/client-node';
for (const context of ['file', 'groups']) {
  const config = new KubeConfig();
  config.loadFromFile('kubeconfig');
  config.setCurrentContext(context);
  const request = new RequestContext('https://api.example/api', HttpMethod.GET);
  await config.applySecurityAuthentication(request);
  console.log(context, JSON.stringify(request.getHeaders()));
}
JS

seen=$(node headers.mjs)
echo "$seen"
expected='file {}
groups {"Impersonate-User":"jane","Authorization":"Bearer abc"}'
[ "$seen" = "$expected" ] || { echo 'the behaviour has changed' >&2; exit 1; }
