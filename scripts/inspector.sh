#!/usr/bin/env bash
# Tests the inspector: types, unit tests, that the committed bundle is what the sources make, and the page in a real browser
# against a real server. Installs what it needs. docs/inspector.md says what the page does.
#
#   scripts/inspector.sh          everything
#   scripts/inspector.sh --page   only the check of the bundle, which needs no Rust and no browser
#
# CHROMIUM=FILE names the browser, SHOTS=FOLDER keeps screenshots.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'scripts/inspector.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
step() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

install() { # packages of Debian
  has apt-get || return 1
  local as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c \
    "apt-get update -qq && apt-get install -y -qq --no-install-recommends $*" >/dev/null
}

step "what is needed"
{ has node && has npm; } || install nodejs npm || die "Node.js 20 or newer with npm is missing"
node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' || die "Node.js must be version 20 or newer"

step "the page: types, unit tests, and whether dist/ is what the sources make"
(cd inspector && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm run --silent check)
[ "${1:-}" != --page ] || exit 0

export CHROMIUM="${CHROMIUM:-/usr/bin/chromium}"
[ -x "$CHROMIUM" ] || install chromium || die "Chromium is missing (Debian: chromium), or name it: CHROMIUM=FILE"
has sqlite3 || install sqlite3 || die "sqlite3 is missing (Debian: sqlite3)"

step "the server"
# Its dependencies are those of the server, in the same versions and the same folder.
target=${CARGO_TARGET_DIR:-$PWD/target}
cp Cargo.lock inspector/e2e/server/Cargo.lock
CARGO_TARGET_DIR=$target cargo build --quiet --manifest-path inspector/e2e/server/Cargo.toml

step "the page in a browser"
node inspector/e2e/run.mjs "$target/debug/inspector-e2e-server"
