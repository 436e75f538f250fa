# make test is all that has to pass. It installs what it needs where it may.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

STATICCHECK_VERSION := v0.8.2
GOLANGCI_VERSION := v2.15.0
GOVULNCHECK_VERSION := v1.9.0
BENCHSTAT_VERSION := v0.0.0-20260908200009-22c9c6c9d4da
BENCH_BASE := internal/bench/testdata/base.txt
HOT := go test -run='^$$' -bench=. -benchmem -benchtime=100ms -count=6 ./breaker ./delivery ./handlers ./lockmgr ./queue/embedded ./signer
TEST_LOG := $(shell mktemp -u -t postrider-test.XXXXXX)

# The lines of go test -v that are shown as they come: one for each package, and what failed or was skipped.
CLOSING := ^(ok|FAIL|panic:|fatal error:|\?|WARNING: DATA RACE)|^ *--- (FAIL|SKIP)

# What takes longest begins first, and more tests run at a time than there are processors, as most of them wait.
LONGEST := ./queue/redisq ./e2e ./queue/embedded ./delivery ./kits/typescript

# The race detector watches all but SQLite, which is C translated to Go and would be ten times as slow. The checks of the code
# build with the same flags, so that nothing is compiled for them alone.
RACE := -race -gcflags=modernc.org/...=-race=false

.PHONY: test race vulncheck simulate lint lint-all bench bench-compare bench-base build crossbuild release tools compose-check

# The simulation, which only computes, runs beside the tests, which mostly wait. The linter runs before them: it would take
# both processors from tests that measure.
test: tools
	CGO_ENABLED=1 go vet $(RACE) ./...
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt is needed for: $$unformatted" >&2; exit 1; }
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory -j2 race simulate

race: tools
	@trap 'rm -f $(TEST_LOG)' EXIT; \
	CGO_ENABLED=1 REQUIRE_CHROMIUM=1 REQUIRE_JQ=1 REQUIRE_NODE=1 REQUIRE_OPENSSL=1 REQUIRE_PHP=1 REQUIRE_POSTGRES=1 REQUIRE_PROMETHEUS=1 \
	REQUIRE_PYTHON=1 REQUIRE_REDIS=1 REQUIRE_RUBY=1 REQUIRE_SHELLS=1 REQUIRE_SYSTEMD=1 go test $(RACE) -vet=off -shuffle=on -count=1 -timeout=15m -parallel=4 -v $(LONGEST) ./... 2>&1 | tee $(TEST_LOG) | \
		{ grep --line-buffered -E '$(CLOSING)' || true; } || failed=yes; \
	if grep -qE '^ *--- SKIP' $(TEST_LOG); then echo 'FAILED: nothing may be skipped' >&2; failed=yes; fi; \
	if [ -n "$${failed:-}" ]; then \
		echo; echo 'What was said:'; grep -vE '^=== |^ *--- PASS' $(TEST_LOG); \
		echo; echo 'In short:'; grep -E '$(CLOSING)' $(TEST_LOG); exit 1; fi

# Many worlds of thirty days; make simulate SEEDS=1000 for more. The tests run two, under the race detector.
SEEDS ?= 12
simulate:
	nice go test -vet=off -count=1 -timeout=60m ./internal/simulation -seeds=$(SEEDS)

# What the tests need besides Go: a C compiler for the race detector, a browser for the dashboard, Redis, Prometheus for its
# rules, systemd-analyze for its unit, PostgreSQL (the programs, which Debian keeps out of PATH; the tests start servers of their own), Node.js and npm for a kit and for the
# verifiers of other fediverse software and of the OpenAPI document, Ruby (with Minitest and Sidekiq), Python and PHP (with
# curl) for their kits, curl and jq for the commands of a page, zsh and fish for their completion, mandoc for the manual page, and libcrypto, which openssl brings by whatever name its package has. Nothing may be skipped for want
# of them.
tools:
	@missing=; \
	command -v "$$(go env CC)" >/dev/null || missing+=' gcc libc6-dev'; \
	command -v chromium >/dev/null || missing+=' chromium fonts-dejavu-core'; \
	ldconfig -p 2>/dev/null | grep -q 'libcrypto\.so\.3' || /sbin/ldconfig -p 2>/dev/null | grep -q 'libcrypto\.so\.3' || missing+=' openssl'; \
	command -v curl >/dev/null || missing+=' curl'; \
	command -v fish >/dev/null || missing+=' fish'; \
	command -v jq >/dev/null || missing+=' jq'; \
	command -v mandoc >/dev/null || missing+=' mandoc'; \
	command -v node >/dev/null || missing+=' nodejs'; \
	command -v npm >/dev/null || missing+=' npm'; \
	command -v promtool >/dev/null || missing+=' prometheus'; \
	command -v redis-server >/dev/null || missing+=' redis-server'; \
	command -v systemd-analyze >/dev/null || missing+=' systemd'; \
	ruby -e 'require "minitest"; require "sidekiq"' 2>/dev/null || missing+=' ruby ruby-minitest ruby-sidekiq'; \
	command -v python3 >/dev/null || missing+=' python3'; \
	php -r 'exit(function_exists("curl_init") ? 0 : 1);' >/dev/null 2>&1 || missing+=' php-cli php-curl'; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing+=' postgresql'; \
	command -v zsh >/dev/null || missing+=' zsh'; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "make test needs more than there is: install (by their names in Debian)$$missing" >&2; exit 1; fi; \
	apt-get update -q && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing

# All checks of staticcheck, those of style too. An exception has its reason in the code, after //lint:ignore.
lint:
	CGO_ENABLED=1 GOFLAGS='$(RACE)' nice go run -race=false -gcflags= honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION) -checks all ./...

# Not part of make test: to build golangci-lint takes some minutes. .golangci.yml says what it checks.
lint-all:
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION) run

# Not part of make test: it needs the Go vulnerability database, and says so where there is none.
VULNDB ?= https://vuln.go.dev
vulncheck:
	@if ! curl -fsS --max-time 20 -o /dev/null $(VULNDB)/index/db.json; then \
		echo 'SKIPPED: $(VULNDB) cannot be reached: nothing was checked for known vulnerabilities' >&2; exit 0; fi; \
	go run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) -db $(VULNDB) ./...

bench:
	go test -run='^$$' -bench=. -benchmem ./...

# Of what is slower or allocates more than in the base, allocations are exact on any machine; times are those of the one that
# the base was made on, so make the base anew (on the commit to compare with) where times matter.
bench-compare:
	@new=$$(mktemp); trap 'rm -f "$$new"' EXIT; \
	$(HOT) > "$$new"; go run golang.org/x/perf/cmd/benchstat@$(BENCHSTAT_VERSION) $(BENCH_BASE) "$$new"

bench-base:
	@mkdir -p $(dir $(BENCH_BASE))
	$(HOT) > $(BENCH_BASE)

build:
	CGO_ENABLED=0 go build -trimpath -o postrider .

# Whether the code compiles for all systems that releases are for; minutes, the first time.
TARGETS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 freebsd/amd64
crossbuild:
	@for target in $(TARGETS); do echo "$$target"; CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/} nice go build ./...; done

# All files of a release, and docs/releasing.md says which: make release VERSION=v0.1.0
release:
	deploy/release/build '$(VERSION)' 'dist/$(VERSION)'

# Needs Docker with Compose, and some minutes.
compose-check:
	e2e/compose-check
