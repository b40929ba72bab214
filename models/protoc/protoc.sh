#!/bin/sh
# Runs protoc, or the stand-in in this folder where there is none. Called by build scripts through PROTOC (.cargo/config.toml).
set -eu
if real=$(command -v protoc); then exec "$real" "$@"; fi
here=$(cd "$(dirname "$0")" && pwd)
# The build script's own cargo variables would leak into the nested build (target, flags, jobserver), so it gets none.
target="$here/target"
env -u CARGO_TARGET_DIR -u CARGO_ENCODED_RUSTFLAGS -u CARGO_MAKEFLAGS -u MAKEFLAGS -u RUSTC_WRAPPER -u RUSTC_WORKSPACE_WRAPPER -u PROTOC \
  "${CARGO:-cargo}" build --quiet --locked --manifest-path "$here/Cargo.toml" --target-dir "$target" >&2
exec "$target/debug/protoc-shim" "$@"
