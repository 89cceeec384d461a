#!/usr/bin/env bash
# Builds the program guided by a profile of its work (PGO): it is measured under the load of tools/load, and built again with
# what is hot known. The same program, for less CPU time.
#
#   scripts/pgo.sh [OPTION OF CARGO…]      such as --features queues,otlp
#
# Needs llvm-profdata of the LLVM that rustc has: `rustup component add llvm-tools`, or Debian's llvm-N. Takes two builds
# of everything. The program is target/pgo/HOST/dist/echostr.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'scripts/pgo.sh: %s\n' "$*" >&2; exit 1; }
host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
merge=
for at in "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" "/usr/lib/llvm-$llvm/bin/llvm-profdata"; do
  if [ -x "$at" ]; then merge=$at; fi
done
[ -n "$merge" ] || die "llvm-profdata is missing (rustup component add llvm-tools, or Debian: llvm-$llvm)"

folder=$PWD/target/pgo
program=$folder/$host/dist/echostr
build() { # FLAGS OPTION…: programs that run while it is built are not measured, as they have no target
  RUSTFLAGS=$1 cargo build --locked --profile dist --target "$host" --target-dir "$folder" -p echostr "${@:2}"
}

rm -rf "$folder/raw"
build "-Cprofile-generate=$folder/raw" "$@"
cargo build --locked --release -p load
for journal in "" "--journal sqlite"; do
  # shellcheck disable=SC2086 # two words
  "${CARGO_TARGET_DIR:-target}/release/load" --server "$program" --rounds 2 --seconds 1 --connections 64 $journal >/dev/null
done
"$merge" merge -o "$folder/echostr.profdata" "$folder/raw"
build "-Cprofile-use=$folder/echostr.profdata" "$@"
printf '%s\n' "$program"
