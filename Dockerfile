# The image whose entry point is disklift: `podman run --rm -v ./vm:/disks:ro IMAGE stream /disks/disk.img > disk.qcow2`.
# The final stage has no shell and no package manager, and nothing runs in it while it is built.

ARG BUILD_IMAGE=docker.io/library/node:24-bookworm-slim
# For disklift-formats: with apt-get, whose qemu-utils reads what is not raw, and with a shell, which watches over it.
ARG FORMATS_IMAGE=docker.io/library/node:24-trixie-slim
ARG NODE_IMAGE=gcr.io/distroless/nodejs24-debian13:nonroot
# Where Node lies in NODE_IMAGE; images made from Debian with Node on top have it at /usr/local/bin/node.
ARG NODE_BINARY=/nodejs/bin/node

FROM ${BUILD_IMAGE} AS build
WORKDIR /build
# No install script is needed: koffi's binary comes as a package of its own for the platform, and Node is the base's.
# Peers belong to a development dependency that only carries programs for tests; they are large and never loaded.
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --omit=peer --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN node node_modules/typescript/bin/tsc -p tsconfig.build.json --declaration false \
  && cp -R src/server/page dist/server/page
RUN npm prune --omit=dev --omit=peer --ignore-scripts --no-audit --no-fund
# koffi comes with its manual, with headers to compile it and with a binary for musl; distroless has glibc.
# Packages bring their types, and maps of what they were made from; some bring tests, or files that everybody may write to.
# The prebuilds are for another runtime than Node, on phones and desktops.
RUN rm -rf node_modules/bare-*/prebuilds node_modules/bintrees/test node_modules/.bin node_modules/koffi/doc node_modules/koffi/lib node_modules/koffi/vendor node_modules/@koromix/koffi-*/musl_* \
  && node -e "const fs = require('fs'); \
       for (const file of fs.readdirSync('node_modules', { recursive: true }).map((name) => 'node_modules/' + name)) \
         if (/\.([cm]?ts|map|md|tsbuildinfo)$/.test(file) && fs.lstatSync(file).isFile()) fs.rmSync(file);" \
  && chmod -R go-w node_modules dist
# `kubectl exec POD -- disklift` ignores the entry point and looks for an executable on PATH. The final stage has no `env`
# for the usual first line of a Node program, so the line names Node itself. V8 would give young objects several times as much
# memory, with which exports are no faster (docs/decisions/0008-s3.md).
ARG NODE_BINARY
RUN sed -i "1s|^#!.*|#!${NODE_BINARY} --max-semi-space-size=4|" dist/bin.js && chmod 0755 dist/bin.js \
  && mkdir -p /image/app /image/bin \
  && mv package.json dist node_modules /image/app/ \
  && ln -s /app/dist/bin.js /image/bin/disklift

# `docker build --target disklift-formats`: also qcow2, VMDK, VHDX, VDI and VPC.
FROM ${FORMATS_IMAGE} AS disklift-formats
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="disklift-formats" \
      org.opencontainers.image.description="disklift with QEMU's programs, for disks that are qcow2, VMDK, VHDX, VDI or VPC images" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# Node is where the other image has it, for the first line of disklift and the commands of pods.
ARG NODE_BINARY
RUN apt-get update && apt-get install -y --no-install-recommends qemu-utils && rm -rf /var/lib/apt/lists/* \
  && mkdir -p "$(dirname ${NODE_BINARY})" && ln -s "$(command -v node)" "${NODE_BINARY}"
COPY --from=build /image/bin /usr/local/bin
COPY --from=build /image/app /app
COPY LICENSE /app/LICENSE
WORKDIR /app
USER 107:107
ENTRYPOINT ["disklift"]

FROM ${NODE_IMAGE} AS disklift
# A test keeps this equal to package.json.
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="disklift" \
      org.opencontainers.image.description="Streams VM disks out of Kubernetes volumes as qcow2: no temporary space, no privilege, exact length before the first byte" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /image/bin /usr/local/bin
COPY --from=build /image/app /app
COPY LICENSE /app/LICENSE
WORKDIR /app
# KubeVirt runs QEMU as 107:107, and disk.img on its volumes is 107:107 with mode 0660: no other user can read it.
# A number, since the kubelet cannot tell from a name that the user is not root (runAsNonRoot).
USER 107:107
ENTRYPOINT ["disklift"]
