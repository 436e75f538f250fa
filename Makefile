# make test is all that has to pass. It installs what it needs where it may.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

LINT_VERSION := v2.15.0
BENCHSTAT_VERSION := v0.0.0-20260908200009-22c9c6c9d4da
BENCH_BASE := testdata/bench/base.txt
HOT := go test -run='^$$' -bench=. -benchmem -benchtime=100ms -count=6 ./breaker ./delivery ./handlers ./lockmgr ./queue/embedded ./signer
TEST_LOG := $(shell mktemp -u -t postrider-test.XXXXXX)

# The lines of go test -v that are shown as they come: one for each package, and what failed or was skipped.
CLOSING := ^(ok|FAIL|panic:|fatal error:|\?|WARNING: DATA RACE)|^ *--- (FAIL|SKIP)

# What takes longest begins first, and more tests run at a time than there are processors, as most of them wait.
LONGEST := ./queue/redisq . ./queue/embedded

.PHONY: test simulate lint bench bench-compare bench-base build tools compose-check

test: tools simulate
	go vet ./...
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt is needed for: $$unformatted" >&2; exit 1; }
	@trap 'rm -f $(TEST_LOG)' EXIT; \
	CGO_ENABLED=1 REQUIRE_CHROMIUM=1 REQUIRE_NODE=1 REQUIRE_OPENSSL=1 REQUIRE_REDIS=1 go test -race -shuffle=on -count=1 -timeout=8m -parallel=4 -v $(LONGEST) ./... 2>&1 | tee $(TEST_LOG) | \
		{ grep --line-buffered -E '$(CLOSING)' || true; } || failed=yes; \
	if grep -qE '^ *--- SKIP' $(TEST_LOG); then echo 'FAILED: nothing may be skipped' >&2; failed=yes; fi; \
	if [ -n "$${failed:-}" ]; then \
		echo; echo 'What was said:'; grep -vE '^=== |^ *--- PASS' $(TEST_LOG); \
		echo; echo 'In short:'; grep -E '$(CLOSING)' $(TEST_LOG); exit 1; fi

# Many worlds of thirty days; make simulate SEEDS=1000 for more. The tests run two, under the race detector.
SEEDS ?= 120
simulate:
	go test -count=1 -timeout=60m ./internal/simulation -seeds=$(SEEDS)

# What the tests need besides Go: a C compiler for the race detector, a browser for the dashboard, Redis, Node.js and npm for
# the verifiers of other fediverse software, and libcrypto, which openssl brings by whatever name its package has. Nothing
# may be skipped for want of them.
tools:
	@missing=; \
	command -v "$$(go env CC)" >/dev/null || missing+=' gcc libc6-dev'; \
	command -v chromium >/dev/null || missing+=' chromium fonts-dejavu-core'; \
	ldconfig -p 2>/dev/null | grep -q 'libcrypto\.so\.3' || /sbin/ldconfig -p 2>/dev/null | grep -q 'libcrypto\.so\.3' || missing+=' openssl'; \
	command -v node >/dev/null || missing+=' nodejs'; \
	command -v npm >/dev/null || missing+=' npm'; \
	command -v redis-server >/dev/null || missing+=' redis-server'; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "make test needs more than there is: install (by their names in Debian)$$missing" >&2; exit 1; fi; \
	apt-get update -q && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing

lint:
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION) run

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

# Needs Docker with Compose, and some minutes.
compose-check:
	scripts/compose-check
