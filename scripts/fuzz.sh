#!/usr/bin/env bash
# Runs every fuzz target from the samples of the catalogue, and fails when one finds something.
#
#   scripts/fuzz.sh [TARGET…]                    a short run, as in scripts/test.sh
#   scripts/fuzz.sh --long [SECONDS] [TARGET…]   ten minutes or SECONDS per target, with the AddressSanitizer
#
# Needs cargo-fuzz and a C++ compiler, and for the long run a nightly toolchain; installs them where it can. Without them
# the short run is skipped, except where CI is set. What was learnt stays in fuzz/corpus, a finding in fuzz/artifacts:
# run the program that is named with that file again.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'scripts/fuzz.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
missing() {
  if [ -n "${CI:-}" ] || [ "$long" = yes ]; then die "$1"; fi
  printf 'fuzzing is skipped: %s\n' "$1"
  exit 0
}

long=no
limits=(-runs=200000 -max_total_time=15)
if [ "${1:-}" = --long ]; then
  long=yes
  shift
  seconds=600
  if [[ "${1:-}" =~ ^[0-9]+$ ]]; then seconds=$1; shift; fi
  limits=(-max_total_time="$seconds")
fi
targets=("$@")
[ $# -gt 0 ] || for file in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done

if ! has c++ && has apt-get; then
  as_root=$([ "$(id -u)" = 0 ] || echo sudo)
  $as_root env DEBIAN_FRONTEND=noninteractive sh -c \
    'apt-get update -qq && apt-get install -y -qq --no-install-recommends g++' >/dev/null || true
fi
has c++ || missing "a C++ compiler is missing (Debian: g++)"
has cargo-fuzz || cargo install --locked --quiet cargo-fuzz || missing "cargo-fuzz is missing (cargo install cargo-fuzz)"

# The crate has no unsafe code, so a short run does without the sanitizer and its nightly toolchain.
host=$(rustc -vV | sed -n 's/^host: //p')
if [ "$long" = yes ]; then
  rustup run nightly rustc --version >/dev/null 2>&1 || rustup toolchain install --profile minimal nightly \
    || missing "a nightly toolchain is missing (rustup toolchain install nightly)"
  build=(cargo +nightly fuzz build --target-dir fuzz/target/address)
  programs=fuzz/target/address/$host/release
else
  build=(cargo fuzz build --sanitizer none --target-dir fuzz/target/short)
  programs=fuzz/target/short/$host/release
fi

# What is fuzzed is what is shipped.
[ fuzz/Cargo.lock -nt Cargo.lock ] || cp Cargo.lock fuzz/Cargo.lock
"${build[@]}" --target "$host" --codegen-units 16
cargo run --locked --quiet -p xtask -- seeds fuzz/seeds

for target in "${targets[@]}"; do
  mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
  log=fuzz/artifacts/$target.log
  if "$programs/$target" "${limits[@]}" -timeout=10 -rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 \
      -artifact_prefix="fuzz/artifacts/$target/" "fuzz/corpus/$target" "fuzz/seeds/$target" >"$log" 2>&1; then
    printf '%s: %s\n' "$target" "$(grep -a '^Done ' "$log")"
  else
    tail -n 60 "$log" >&2
    die "$target found something: $programs/$target fuzz/artifacts/$target/…"
  fi
done
