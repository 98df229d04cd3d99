# depguard: `make help` lists what there is to make.
#
# Go is found by .ci/go and missing packages are installed by .ci/setup, so
# that every target works on a fresh Debian machine.

PREFIX    ?= /usr/local
DESTDIR   ?=
BENCHTIME ?= 200ms
GO        := .ci/go
SCRIPTS   := .ci/apt-source .ci/go .ci/run .ci/setup examples/demo/run

# libseccomp is linked in: the binary runs wherever the kernel does.
BUILDFLAGS := -trimpath -tags netgo,osusergo -ldflags '-s -w -linkmode external -extldflags -static'

.DEFAULT_GOAL := build

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: ## install what this machine lacks for all other targets (apt-get, sudo when not root)
	.ci/setup build check test generate demo

.PHONY: build
build: ## build the static binary build/depguard
	@.ci/setup build
	CGO_ENABLED=1 $(GO) build $(BUILDFLAGS) -o build/depguard ./cmd/depguard

.PHONY: check
check: check-format check-scripts ## formatting, vet, staticcheck, shellcheck, the rules of the tree, tests with the race detector
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	GORACE=atexit_sleep_ms=0 $(GO) test -count=1 -race -short ./...

.PHONY: check-format
check-format: # gofmt -l prints the files that are not formatted, and succeeds
	@.ci/setup check
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l bpf cmd policy supervisor tracer) && \
	if [ -n "$$unformatted" ]; then printf 'not formatted (run gofmt -w):\n%s\n' "$$unformatted" >&2; exit 1; fi

.PHONY: check-scripts
check-scripts:
	@.ci/setup check
	shellcheck $(SCRIPTS)

# -count=1: a result from the cache could be another user's.
.PHONY: test
test: ## the whole test suite, as root or as an ordinary user
	@.ci/setup test
	@$(MAKE) --no-print-directory build
	$(GO) test -count=1 ./...

.PHONY: bench
bench: ## all benchmarks, BENCHTIME=200ms each
	@.ci/setup test
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...

.PHONY: generate
generate: ## compile the BPF programs with clang 14
	@.ci/setup generate
	$(GO) generate ./bpf

# The copy is a module of its own, so that ./... does not descend into it.
.PHONY: check-generated
check-generated: ## compile the BPF programs into a copy, and compare
	@.ci/setup generate
	rm -rf build/generated
	mkdir -p build/generated
	cp -R go.mod go.sum bpf build/generated
	rm build/generated/bpf/*_bpfe[bl].go build/generated/bpf/*_bpfe[bl].o
	cd build/generated && ../../$(GO) generate ./bpf
	diff -r bpf build/generated/bpf

.PHONY: demo
demo: ## the story on two real builds: audit, learn, enforce, refuse
	examples/demo/run

.PHONY: install
install: build/depguard ## install build/depguard into DESTDIR/PREFIX/bin
	install -D -m 755 build/depguard '$(DESTDIR)$(PREFIX)/bin/depguard'

# Only when there is none: `sudo make install` shall not compile as root.
build/depguard:
	@$(MAKE) --no-print-directory build

.PHONY: clean
clean: ## remove what was built
	rm -rf build
