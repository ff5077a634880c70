# RingFS. `make quickstart` shows it working, `make test` runs every test; both install what
# they need first. Settings: RINGFS_REDIS_SERVER (path of redis-server or valkey-server).

CARGO ?= cargo
BIN := target/release/ringfs

.PHONY: help deps build quickstart quickstart-stop test unit posix lint fmt deny bench soak fuzz clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

deps: ## Install redis-server, fuse3 and python3 if they are missing
	@scripts/install-deps

build: deps ## Build the release binary
	$(CARGO) build --release --locked -p ringfs-cli

quickstart: build ## Start a local ring, make a volume, mount it, show it working
	@scripts/quickstart $(BIN)

quickstart-stop: ## Unmount and stop what quickstart started (data are kept)
	@scripts/quickstart $(BIN) --stop

test: deps unit posix ## Run every test

unit: deps ## Run the workspace's own tests (real servers, real mounts)
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace

posix: build ## Run pjdfstest and fsx on a mount
	scripts/posix-suites $(BIN)

lint: fmt deny ## Format check, clippy, licences and advisories
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --all --check

deny:
	scripts/deny

bench: build ## Measure speed beside its floors; prints tables, about 10 minutes
	scripts/bench $(BIN)

soak: build ## Long runs: fsx, random operations with servers killed; SOAK_MINUTES=60
	scripts/soak $(BIN)

fuzz: ## Fuzz every decoder of outside bytes; needs nightly and cargo-fuzz; FUZZ_SECONDS=60 each
	scripts/fuzz

clean: ## Remove build output
	$(CARGO) clean
