#!/usr/bin/env bash
# The Kubernetes client for JavaScript ignores `as-groups` of a kubeconfig's user, and reports no error.
#
# Seen with @kubernetes/client-node 2.0.1: kubectl and client-go send an Impersonate-Group header for `as-groups`. Here a request for a user with `as` and
# `as-groups` has Impersonate-User alone. The API server then judges the rights of that user without the groups.
#
# Needs Node 22.19 or newer and npm. It fails when the behaviour has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts @kubernetes/client-node@2.0.1

cat > kubeconfig << 'YAML'
apiVersion: v1
kind: Config
current-context: groups
clusters: [{ name: c, cluster: { server: "https://api.example" } }]
contexts: [{ name: groups, context: { cluster: c, user: groups } }]
users: [{ name: groups, user: { token: abc, as: jane, as-groups: [ops] } }]
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
[ "$seen" = '{"Impersonate-User":"jane","Authorization":"Bearer abc"}' ] || { echo 'the behaviour has changed' >&2; exit 1; }
