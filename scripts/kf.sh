#!/bin/sh
# Kills a server at random moments while it pulls and answers messages of customer service, against an API that
# misbehaves: every message is to be answered, and none twice.
#
#   scripts/kf.sh [--messages N] [--accounts N] [--kills N] [--journal sqlite|postgres] [--nodes N] [--seed S]
#
# With --journal postgres it starts a PostgreSQL of its own. Exit 1 when a message was lost or answered twice; the files of
# the run are kept then.
set -eu
cd "$(dirname "$0")/.."

cargo build --quiet -p crash
exec "${CARGO_TARGET_DIR:-target}/debug/crash" kf "$@"
