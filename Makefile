# make run              builds and starts the port mapper in rebar3 shell
# make run PORT=4370    on another port
# make test             everything: Rust, Common Test, dialyzer, xref, clippy, fmt
# make conformance      OTP's own epmd_SUITE with our executable, beside C epmd
# make other-otp        what nodes of another OTP meet: that of Debian sid, or of
#                       DEBIAN_RELEASE=trixie, which make test has too
# make release          _build/prod/rel/portmapper: a directory with all it needs
# make install          the release in PREFIX (/opt/portmapper); with
#                       OTP=/usr/lib/erlang also in place of the epmd of that OTP
# make uninstall        takes that back; the same variables
# make fuzz             ten minutes of each fuzz target (FUZZ_SECONDS=N: so many seconds)
# make check-threads    where threads of the server meet, in every order (loom)
# make check-memory     1,000 lives of the port mapper in one VM, with AddressSanitizer
# make bench            processor time a request, beside C epmd, in docs/benchmarks.md
# make bench-scale      ten minutes with as many nodes as the limit of open files allows,
#                       2,000 of which end and register again each second
# make bench-core       time and allocations of codec and registry alone
# make bench-profile    calls of the system and whose code it is (strace, perf), in docs/profile.md
# make bench-footprint  memory, wake-ups and start times, beside erl and C epmd
# make soak             ten minutes of what can die, with real nodes that come and go;
#                       SOAK_SEED=N repeats the choices of another run
# make soak-rings       2,000 nodes and everything dies, with our keeper, with systemd and
#                       with that of a user
# make soak-scale       18,000 nodes: a takeover, and kill -9
# make soak-table       what dies and what nodes notice, beside C epmd
# make hostile          what hostile peers do and what nodes notice, beside C epmd
# make takeover-race    nodes in mode auto, whose host is killed 50 times; TAKEOVER_RACE_KILLS=N
# make epmd-defects     what docs/epmd-defects.md says, seen in OTP's epmd and in ours

# The small VM of a node that is there for the port mapper alone. (rebar3 needs
# more processes than the port mapper does, so their limits stay.)
SMALL_VM = +S 1:1 +SDcpu 1:1 +SDio 1 +A 1 +Mea min

PREFIX = /opt/portmapper
RELEASE = _build/prod/rel/portmapper

ifdef PORT
run: export ERL_EPMD_PORT = $(PORT)
endif
run: export MALLOC_ARENA_MAX = 1
run: export ERL_FLAGS = $(SMALL_VM) -start_epmd false

.PHONY: help run test conformance release install uninstall bench bench-scale bench-profile bench-footprint epmd-defects
.PHONY: other-otp bench-core check-memory check-threads fuzz hostile miri
.PHONY: soak soak-rings soak-scale soak-table soak-short takeover-race

help:
	@sed -n 's/^# make/make/p; s/^#   /    /p' Makefile

run:
	@.ci/tools run
	rebar3 shell

test:
	@.ci/tools test
	@.ci/test

# Where a system of Debian has been made, it stays in _build.
other-otp: export DEBIAN_RELEASE ?= sid
other-otp:
	@.ci/tools test
	rebar3 ct --suite test/matrix_SUITE,test/epmd_client_SUITE,test/epmd_takeover_SUITE,test/takeover_SUITE

release:
	@.ci/tools run
	rebar3 as prod tar

install:
	@native/install.sh install "$(RELEASE)" "$(PREFIX)" $(OTP)

uninstall:
	@native/install.sh uninstall "$(PREFIX)" $(OTP)

check-memory:
	rebar3 compile
	@test/memory/run $(LIVES)

LIVES = 1000

# What a run finds is kept where it was built; what is worth keeping for good goes to
# native/fuzz/seeds, whose inputs `make test` runs too, and native/fuzz/corpus.tar.xz, what
# earlier runs have found.
FUZZ_SECONDS = 600
FUZZ_TARGETS = bytes sequences histories records takeover
FOUND = native/fuzz/target/found

fuzz:
	@mkdir -p $(FOUND) && tar -xJf native/fuzz/corpus.tar.xz -C $(FOUND)
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p $(FOUND)/$$target && \
		cargo +nightly fuzz run --fuzz-dir native/fuzz $$target $(FOUND)/$$target \
			native/fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS) -verbosity=0 \
			-malloc_limit_mb=64 -print_final_stats=1 || exit 1; \
	done

check-threads:
	cargo test --locked --manifest-path native/threads/Cargo.toml --test models \
		--target-dir $(or $(CARGO_TARGET_DIR),target)/threads

# What is undefined in the unsafe code of libraries below epmd_core, which has none of its own,
# with a few of its tests: they take a thousand times as long there. So fewer texts are
# tried as patterns, and the pattern that is made to take long is left out.
miri:
	MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=16 cargo +nightly miri test --locked \
		--package epmd_core --lib --test golden --test restore -- --skip made_to_take_long

# What is killed leaves its socket there.
ASIDE = directory=$$(mktemp -d); trap 'rm -r "$$directory"' EXIT; RUNTIME_DIRECTORY=$$directory

bench: release
	cargo build --quiet --release --locked --package bench
	$(ASIDE) $(or $(CARGO_TARGET_DIR),target)/release/bench $(RELEASE) docs/benchmarks.md

bench-scale: release
	cargo build --quiet --release --locked --package bench
	$(ASIDE) $(or $(CARGO_TARGET_DIR),target)/release/scale $(RELEASE)

bench-core:
	cargo bench --locked --package epmd_core --bench core

bench-profile: release
	cargo build --quiet --release --locked --package bench
	$(ASIDE) $(or $(CARGO_TARGET_DIR),target)/release/profile $(RELEASE) docs/profile.md

bench-footprint: release
	$(ASIDE) cargo run --quiet --release --locked --package bench --bin footprint -- $(RELEASE)

SOAK = $(ASIDE) cargo run --quiet --release --locked --package bench --bin soak --

soak: release
	$(SOAK) long $(RELEASE) --minutes 10

soak-rings: release
	$(SOAK) rings $(RELEASE)
	$(SOAK) rings $(RELEASE) --manager systemd
	$(SOAK) rings $(RELEASE) --manager user-systemd

soak-scale: release
	$(SOAK) scale $(RELEASE)

soak-table: release
	$(SOAK) table $(RELEASE) --c-epmd $(OTP_EPMD)

# What `make test` has of it: less than a minute, without optimization.
soak-short: release
	cargo build --quiet --locked --package bench --bin soak
	$(ASIDE) $(SOAK_SHORT) rings $(RELEASE) $(FEW)
	$(ASIDE) $(SOAK_SHORT) long $(RELEASE) --seconds 15 --sample-every 5 --nodes 100 --pause-ms 500

SOAK_SHORT = $(or $(CARGO_TARGET_DIR),target)/debug/soak
FEW = --nodes 200 --kill 3 --takeover 3 --panic 3 --own 10 --application 1 --any 3

takeover-race:
	@.ci/tools test
	TAKEOVER_RACE_KILLS=$(or $(TAKEOVER_RACE_KILLS),50) rebar3 ct --suite test/epmd_race_SUITE

# OTP's epmd is the one of the installed OTP, not whatever `epmd` is in the path.
OTP_EPMD = $(firstword $(wildcard $(shell erl -noinput -eval \
	'io:format("~ts/erts-~ts/bin/epmd", [code:root_dir(), erlang:system_info(version)]), halt().')) \
	$(shell command -v epmd))
OUR_EPMD = $(RELEASE)/bin/epmd

epmd-defects: release
	@python3 -B test/epmd_defects/run.py $(OTP_EPMD) $(OUR_EPMD)

hostile: release
	cargo build --quiet --release --locked --package bench --bin hostile
	$(ASIDE) $(or $(CARGO_TARGET_DIR),target)/release/hostile $(RELEASE) $(OTP_EPMD)

conformance: release
	@.ci/tools test
	@test/conformance/run $(RELEASE)/bin/epmd
