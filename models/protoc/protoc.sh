#!/bin/sh
# Runs protoc, or the replacement in this directory if protoc is not installed. Build scripts call it through PROTOC (.cargo/config.toml).
set -eu
if real=$(command -v protoc); then exec "$real" "$@"; fi
here=$(cd "$(dirname "$0")" && pwd)
# Removes the cargo variables of the build script, which would otherwise affect the nested build (target, flags, jobserver).
target="$here/target"
env -u CARGO_TARGET_DIR -u CARGO_ENCODED_RUSTFLAGS -u CARGO_MAKEFLAGS -u MAKEFLAGS -u RUSTC_WRAPPER -u RUSTC_WORKSPACE_WRAPPER -u PROTOC \
  "${CARGO:-cargo}" build --quiet --locked --manifest-path "$here/Cargo.toml" --target-dir "$target" >&2
exec "$target/debug/protoc-shim" "$@"
