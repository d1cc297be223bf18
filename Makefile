# make run    the gateway with demo data; needs nothing but Go
# make test   all tests; installs what they need (PostgreSQL, Redis, etcd, Prometheus, Chromium, Node.js)
SHELL := /bin/bash
.DEFAULT_GOAL := help
FUZZTIME ?= 1m
# Of what no caller reaches; CI gives it less.
FUZZREST ?= $(FUZZTIME)
TESTFLAGS ?=
# How many packages at a time. Tests of one wait for servers, timers and processes: more of
# them than there are cores run beside each other.
TESTPROCS ?= 3
# -vet=off: make test vets once, the linter does in CI. -w: nobody debugs these programs,
# and linking is a good part of the time.
GOTEST = CGO_ENABLED=1 go test -race -count=1 -vet=off -ldflags=-w -p $(TESTPROCS) -parallel 4 $(TESTFLAGS)
# The longest begin first, or the machine waits for them at the end.
TESTS = ./tools/e2e ./gateway ./tools/bench ./...

# The platform packages, not @bufbuild/buf: `npm ci` wants every platform that
# the wrapper lists.
BUF = $(firstword $(wildcard node_modules/@bufbuild/buf-*/bin/buf) buf)
REDOCLY = REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true node_modules/.bin/redocly
NODE_MODULES = node_modules/.package-lock.json

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

.PHONY: run
run: ## Run the gateway with the demo shop: HTTP :8080, gRPC :9090, docs at /docs
	@go build -o bin/sluice ./gateway/cmd/sluice
	@exec bin/sluice serve --demo

.PHONY: build
build: ## Build the binaries into bin/
	go build -o bin/sluice ./gateway/cmd/sluice
	go build -o bin/shop ./services/cmd/shop

.PHONY: test
test: deps-test ## Vet and run every test under the race detector
	@# In CI the linter has vetted. With -race, what vet builds is what the tests are built of.
	$(if $(CI),,CGO_ENABLED=1 go vet -race ./...)
	$(GOTEST) $(TESTS)

.PHONY: test-long
test-long: deps-test ## Run every test as long as chance needs, and twice; load at 20 s a step (an hour)
	SLUICE_LONG=1 SLUICE_OVERLOAD=20s $(GOTEST) -count=2 -timeout 60m $(TESTS)

.PHONY: deps-test
deps-test: ## Install what the tests need beside Go
	@tools/deps.sh
	@$(MAKE) --no-print-directory $(NODE_MODULES)

$(NODE_MODULES): package.json package-lock.json
	npm ci --ignore-scripts
	@touch $@

.PHONY: lint
lint: proto-lint proto-breaking $(NODE_MODULES) ## Check protos, Go code and the API document
	@# A cache of this checkout's own: results of another, gone since, come without
	@# its source, and so without the exceptions written there.
	GOLANGCI_LINT_CACHE=$(CURDIR)/bin/lint-cache go tool -modfile=tools/lint/go.mod golangci-lint run ./...
	$(REDOCLY) lint --config .redocly.yaml gen/openapi/openapi.json

.PHONY: proto-lint
proto-lint: $(NODE_MODULES) third_party/proto ## Check style and format of the protos
	$(BUF) lint proto
	$(BUF) format -d --exit-code proto

.PHONY: proto-breaking
proto-breaking: $(NODE_MODULES) third_party/proto ## Check that no proto breaks its clients
	@BUF=$(BUF) tools/proto-breaking.sh

# The third-party .proto files, out of the descriptors that our Go modules link.
third_party/proto: go.mod tools/protodeps/main.go
	go run ./tools/protodeps -out $@

# The order matters: buf empties gen/ before it writes.
.PHONY: generate
generate: $(NODE_MODULES) third_party/proto ## Write gen/ from the protos: Go and OpenAPI
	$(BUF) generate
	rm -rf third_party/openapi third_party/openapi.json
	$(BUF) generate --template buf.gen.openapi.yaml
	find third_party/openapi -name '*.openapi.json' | LC_ALL=C sort | \
	  xargs go tool openapiv3-merge > third_party/openapi.json
	go run ./tools/openapi -in third_party/openapi.json -out gen/openapi

.PHONY: generate-check
generate-check: ## Generate again and fail when gen/ changes
	@old=$$(mktemp -d) && trap 'rm -rf "$$old"' EXIT && cp -r gen "$$old/" && \
	$(MAKE) --no-print-directory generate && \
	{ diff -r "$$old/gen" gen || { echo 'gen/ was stale: commit what make generate wrote.' >&2; exit 1; }; }

.PHONY: fuzz
fuzz: ## Run every fuzz test for FUZZTIME (1m; CI: 5s)
	@tools/fuzz.sh $(FUZZTIME) $(FUZZREST)

.PHONY: walk
walk: ## Print the files that one GET runs through
	go build -cover -covermode=atomic -coverpkg=./... -o bin/walk ./tools/walk
	bin/walk

.PHONY: h2spec
h2spec: ## Hold the HTTP listener to HTTP/2: what plain net/http passes passes here
	go test ./tools/e2e -run TestH2Spec -count=1 -v

.PHONY: cluster
cluster: build ## Run two gateways, every service twice, PostgreSQL, Redis and etcd, as processes
	@go build -o bin/cluster ./tools/cluster
	@exec bin/cluster

.PHONY: cluster-test
cluster-test: build ## Break each part of the cluster in turn under load (4 minutes), and write docs/cluster.md
	go run ./tools/cluster -break -out docs/cluster.md

.PHONY: bench
bench: ## Measure Sluice beside its peers, and write docs/benchmarks
	go run ./tools/bench -out docs/benchmarks $(BENCHFLAGS)

.PHONY: bench-soak
bench-soak: ## 10 minutes of mixed load at 80% of capacity: memory must stay level
	go run ./tools/bench -mixed -duration 10m -out docs/benchmarks

.PHONY: bench-micro
bench-micro: ## Run the benchmarks of the hot packages, and write docs/benchmarks/micro.txt
	go run ./tools/bench/micro -out docs/benchmarks/micro.txt

.PHONY: bench-compare
bench-compare: ## Hold the hot packages' benchmarks against those of commit BASE
	@[ -n "$(BASE)" ] || { echo 'make bench-compare BASE=<commit>' >&2; exit 2; }
	go run ./tools/bench/micro -base "$(BASE)"
