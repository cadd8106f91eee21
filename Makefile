# make run            builds and starts the port mapper in rebar3 shell
# make run PORT=4370  on another port
# make test           everything: Rust, Common Test, dialyzer, xref, clippy, fmt

# The small VM of a node that is there for the port mapper alone. (rebar3 needs
# more processes than the port mapper does, so their limits stay.)
SMALL_VM = +S 1:1 +SDcpu 1:1 +SDio 1 +A 1 +Mea min

ifdef PORT
run: export ERL_EPMD_PORT = $(PORT)
endif
run: export MALLOC_ARENA_MAX = 1
run: export ERL_FLAGS = $(SMALL_VM) -start_epmd false

.PHONY: help run test

help:
	@sed -n 's/^# make/make/p' Makefile

run:
	@.ci/tools run
	rebar3 shell

test:
	@.ci/tools test
	@.ci/test
