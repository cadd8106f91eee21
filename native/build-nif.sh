#!/bin/sh
# Builds the NIF library into priv/. Called by the compile hook of rebar.config,
# also where portmapper is a dependency; the working directory is ours then.
set -eu
cd "$(dirname "$0")/.."

if ! command -v cargo >/dev/null; then
    echo "portmapper: cargo is needed to build the NIF (https://rustup.rs)" >&2
    exit 1
fi

# Said outright, because a configuration file of cargo may have another one.
target=${CARGO_TARGET_DIR:-target}
cargo build --release --locked --package epmd_nif --target-dir "$target"

# cargo names the library as the system does; Erlang wants .so everywhere.
library=$target/release/libportmapper_nif
for built in "$library.so" "$library.dylib"; do
    if [ -f "$built" ]; then
        mkdir -p priv
        # By rename: a VM may have the old file mapped.
        cp "$built" priv/portmapper_nif.tmp
        mv priv/portmapper_nif.tmp priv/portmapper_nif.so
        exit 0
    fi
done
echo "portmapper: cargo built no $library.so" >&2
exit 1
