#!/usr/bin/env bash
# Makes the Debian package, looks into it, installs, updates, removes and purges it, and checks the unit of systemd, the chart,
# the compose files and the workflows. Says what could not be run, and exits with 1 when something is wrong.
#
#   scripts/package.sh [--binary FILE] [--arch amd64|arm64] [--out FOLDER] [--only deb|chart|compose|workflows]
#
# Without --binary it builds one (release). The package is tried out in a copy of this system that nothing is written to
# (an overlay, as root); --install-here takes this system itself, for a machine that is thrown away.
set -euo pipefail
cd "$(dirname "$0")/.."

binary="" arch="$(dpkg --print-architecture 2>/dev/null || echo amd64)" out=target/package only="" here=""
while [ $# -gt 0 ]; do
  case "$1" in
    --binary) binary="$2"; shift 2 ;;
    --arch) arch="$2"; shift 2 ;;
    --out) out="$2"; shift 2 ;;
    --only) only="$2"; shift 2 ;;
    --install-here) here=yes; shift ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

step() { printf '\n== %s\n' "$*"; }
die() { printf 'scripts/package.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
not_run=()
skip() { printf 'not run: %s\n' "$*"; not_run+=("$*"); }
wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }

mkdir -p "$out"
out="$(cd "$out" && pwd)"
if [ -z "$binary" ]; then
  step "the program"
  cargo build --profile dist --locked --features queues,otlp --bin echostr
  binary=target/dist/echostr
fi
binary="$(realpath "$binary")"
version="$("$binary" --version | cut -d' ' -f2)"
if wanted deb; then . scripts/package/deb.sh; fi
if wanted chart || wanted compose || wanted workflows; then . scripts/package/files.sh; fi

step "done"
for what in "${not_run[@]}"; do printf 'not run here: %s\n' "$what"; done
