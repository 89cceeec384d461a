#!/usr/bin/env bash
# Runs everything that has to pass: format, catalogue, lints, tests, a short run of the fuzz targets, documentation, licences.
# Installs what is missing and can be installed; says what is missing where it cannot. CONTRIBUTING.md has the list.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }
die() { printf 'scripts/test.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif has sudo; then sudo "$@"; else return 1; fi
}

component() { # a component of the Rust toolchain
  cargo "$1" --version >/dev/null 2>&1 && return
  has rustup && rustup component add "$2" && return
  die "the component $2 of Rust is missing (rustup component add $2)"
}

# The tests seal and open with OpenSSL, so that our own ciphers are not their own judge. The system's one saves two
# minutes; without its headers the crate builds its own, with perl and make.
peer_openssl() {
  system_openssl() { has pkg-config && pkg-config --exists openssl; }
  if ! system_openssl && has apt-get; then
    as_root env DEBIAN_FRONTEND=noninteractive sh -c \
      'apt-get update -qq && apt-get install -y -qq --no-install-recommends libssl-dev pkg-config' >/dev/null || true
  fi
  if system_openssl; then
    export OPENSSL_NO_VENDOR=1
  elif ! has perl || ! has make; then
    die "OpenSSL for the tests: install its headers and pkg-config (Debian: libssl-dev pkg-config), or perl and make"
  fi
}

# The journal of several nodes is tested on an instance of its own; the tests start it. A cluster of the system is not
# wanted, so the package is configured not to create one.
postgres() {
  has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}
test_postgres() {
  if ! postgres && has apt-get; then
    as_root env DEBIAN_FRONTEND=noninteractive sh -c \
      'mkdir -p /etc/postgresql-common && { [ -e /etc/postgresql-common/createcluster.conf ] \
         || echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf; } \
       && apt-get update -qq && apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold \
          postgresql postgresql-contrib' >/dev/null || true
  fi
  if postgres; then
    export ECHOSTR_TEST_POSTGRES=required
  elif [ "${CI:-}" = true ]; then
    die "PostgreSQL is missing (Debian: postgresql)"
  else
    echo "PostgreSQL is missing (Debian: postgresql): the tests with several nodes are skipped"
  fi
}

# The test of a terminal runs in one.
test_terminal() {
  if ! has tmux && has apt-get; then
    as_root env DEBIAN_FRONTEND=noninteractive sh -c \
      'apt-get update -qq && apt-get install -y -qq --no-install-recommends tmux' >/dev/null || true
  fi
  if has tmux; then
    export ECHOSTR_TEST_TMUX=required
  elif [ "${CI:-}" = true ]; then
    die "tmux is missing (Debian: tmux)"
  else
    echo "tmux is missing (Debian: tmux): the test of a terminal is skipped"
  fi
}

# The tests of a full disk mount a small one.
test_disk() {
  local folder
  folder="$(mktemp -d)"
  if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=1m tmpfs "$folder" 2>/dev/null; then
    umount "$folder"
    export ECHOSTR_TEST_DISK=required
  elif [ "${CI:-}" = true ]; then
    die "the tests of a full disk need root and CAP_SYS_ADMIN (docker run --cap-add SYS_ADMIN)"
  else
    echo "a tmpfs cannot be mounted: the tests of a full disk are skipped"
  fi
  rmdir "$folder"
}

step "what is needed"
has cargo || die "Rust is missing: https://rustup.rs"
has cc || has gcc || has clang || die "a C compiler is missing (Debian: gcc libc6-dev)"
component fmt rustfmt
component clippy clippy
peer_openssl
test_postgres
test_terminal
test_disk
has cargo-deny || cargo install --locked --quiet cargo-deny

step "format"
cargo fmt --all --check
rustfmt --check --edition 2024 fuzz/fuzz_targets/*.rs

step "catalogue"
cargo run --locked --quiet -p xtask -- check

step "lints"
cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

step "tests"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --locked --workspace --no-fail-fast 2>&1 | tee "$log"

step "without databases"
cargo test --locked -p echostr --lib --no-default-features 2>&1 | tee -a "$log"

step "fuzzing"
scripts/fuzz.sh

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

step "licences and sources"
cargo deny --locked --log-level error check --hide-inclusion-graph --allow duplicate bans licenses sources

step "passed"
grep -E '^test result:|^ +Running |^ +Doc-tests ' "$log"
