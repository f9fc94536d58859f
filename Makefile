# `make` alone lists the targets.

GO       ?= go
FUZZTIME ?= 2m
FUZZ     ?= ^Fuzz
BENCH    ?= .
COUNT    ?= 5

# Pinned here and not in go.mod, where it would add 900 lines to go.sum.
GOLANGCI_LINT = $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# Empty where there is no git or no commit; the binary then names the revision
# that Go recorded, if any.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w $(if $(VERSION),-X main.version=$(VERSION))

# What the tests need from Debian, as package=program: a real IMAP server, real
# clients, Prometheus' checker of rules, what the race detector is linked with, and
# what cuts a backend off.
PACKAGES = dovecot-imapd=/usr/lib/dovecot/imap curl=curl isync=mbsync \
	fetchmail=fetchmail mutt=mutt openssl=openssl python3=python3 \
	gcc=gcc libc6-dev=/usr/include/stdlib.h prometheus=promtool \
	iproute2=ip nftables=nft

# What the tests of the web page need, likewise.
WEBTEST      = cmd/imapgate/internal/admin/webtest
WEB_PACKAGES = chromium=chromium nodejs=node npm=npm openssl=openssl \
	fonts-dejavu-core=/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf

# What the test with testssl.sh needs, likewise.
TLS_PACKAGES = testssl.sh=testssl openssl=openssl

# What imapgate is measured beside, likewise, and how: empty means all.
PEERS   = nginx=nginx libnginx-mod-mail=/usr/lib/nginx/modules/ngx_mail_module.so \
	haproxy=haproxy dovecot-imapd=/usr/lib/dovecot/imap
ROUNDS  ?= 5
LASTING ?= 6s
TARGETS ?=
TESTS   ?=
SAMPLES ?=

.DEFAULT_GOAL := help
.PHONY: help build run test test-web test-tls chaos race fuzz lint fmt cover bench bench-peers packages

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## build ./imapgate, a static binary
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o imapgate ./cmd/imapgate

run: build ## build, then run two backends with mail in them and the proxy in front
	./imapgate demo

test: packages ## run all tests, those with a real Dovecot and real clients included
	$(GO) test -race -shuffle=on ./...

test-web: ## run the tests of the web page in Chromium; SCREENSHOTS=DIR keeps pictures
	@$(MAKE) --no-print-directory packages PACKAGES='$(WEB_PACKAGES)'
	cd $(WEBTEST) && npm ci --silent --no-audit --no-fund --ignore-scripts && $(if $(SCREENSHOTS),SCREENSHOTS='$(abspath $(SCREENSHOTS))') npm test

test-tls: ## let testssl.sh look at both ports (it prints what it finds)
	@$(MAKE) --no-print-directory packages PACKAGES='$(TLS_PACKAGES)'
	$(GO) test -tags testssl -count=1 -run '^TestScanners' -v -timeout 10m ./cmd/imapgate

chaos: packages ## run the scenarios in which something goes wrong at full size, and print their figures; CHAOS=Soak for one
	$(GO) test -timeout 2h -count=1 -v -run '^TestChaos$(CHAOS)' ./cmd/imapgate -chaos
	$(if $(CHAOS),,$(GO) test -timeout 2h -count=1 -v -run '^TestNothingIsSmuggled' ./proxy/imap -smuggling-cases 10000000)

race: packages ## run all tests COUNT times, to find what shows only now and then
	$(GO) test -race -shuffle=on -count=$(COUNT) ./...

fuzz: ## run each fuzz target that matches FUZZ for FUZZTIME
	@set -e; for package in $$($(GO) list ./...); do \
		targets=$$($(GO) test -list '$(FUZZ)' "$$package"); \
		for target in $$(printf '%s\n' "$$targets" | grep '^Fuzz' || true); do \
			echo "== $$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$package"; \
		done; \
	done

lint: ## go vet and golangci-lint
	$(GO) vet ./...
	$(GOLANGCI_LINT) run ./...

fmt: ## format the code (gofumpt, gci)
	$(GOLANGCI_LINT) fmt

cover: packages ## run all tests; print what they cover and write coverage.out
	$(GO) test -coverpkg=./... -coverprofile=coverage.out ./...
	$(GO) tool cover -func=coverage.out | tail -n 1

bench: ## run the benchmarks that match BENCH
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

bench-peers: build ## measure beside nginx, HAProxy and Dovecot; ROUNDS=5 LASTING=6s TARGETS= TESTS= SAMPLES=FILE
	@$(MAKE) --no-print-directory packages PACKAGES='$(PEERS)'
	CGO_ENABLED=0 $(GO) build -trimpath -o imapload ./cmd/imapload
	./imapload bench --rounds $(ROUNDS) --duration $(LASTING) --targets '$(TARGETS)' --tests '$(TESTS)' --samples '$(SAMPLES)'

# Installs those of PACKAGES that are missing, where it can. What remains
# missing is an error in CI; elsewhere it is left to the tests that need it.
# Nothing is started, and no service of the system is touched.
packages:
	@PATH="$$PATH:/usr/sbin:/sbin"; export DEBIAN_FRONTEND=noninteractive; \
	missing() { \
		for p in $(PACKAGES); do \
			command -v "$${p#*=}" >/dev/null || test -f "$${p#*=}" || printf ' %s' "$${p%%=*}"; \
		done; \
	}; \
	wanted=$$(missing); \
	if [ -z "$$wanted" ]; then exit 0; fi; \
	why="not root"; \
	if ! command -v apt-get >/dev/null; then why="no apt-get here"; \
	elif [ "$$(id -u)" = 0 ]; then \
		why="apt-get could not, see above"; \
		echo "installing what the tests need:$$wanted" >&2; \
		apt-get -qq update >/dev/null || true; \
		for p in $$wanted; do apt-get -qq -y --no-install-recommends install "$$p" >/dev/null || true; done; \
	fi; \
	wanted=$$(missing); \
	if [ -z "$$wanted" ]; then exit 0; fi; \
	echo "NOT INSTALLED ($$why):$$wanted" >&2; \
	if [ "$(CI)" = true ]; then exit 1; fi; \
	echo "The tests that need them will fail. Install them with: apt-get install$$wanted" >&2
