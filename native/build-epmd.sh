#!/bin/sh
# Builds the executable `epmd' for the release, and puts it where its overlay
# looks for it. Called by hooks of rebar.config.
set -eu
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
cargo build --release --locked --package epmd_cli --target-dir "$target"
mkdir -p _build/epmd
# By rename: a release may be running the old file through a link.
cp "$target/release/epmd" _build/epmd/epmd.tmp
mv _build/epmd/epmd.tmp _build/epmd/epmd
