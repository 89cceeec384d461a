#!/bin/sh
# Kills a server at random moments while 64 connections load it, and checks that nothing which was answered with 200 is
# lost, doubled or run again, and that the observers see everything.
#
#   scripts/crash.sh [--kills N] [--journal sqlite|postgres] [--nodes N] [--seconds S] [--seed S]
#
# With --journal postgres it starts a PostgreSQL of its own, restarts it and takes it away for a while; or it uses the
# empty database that ECHOSTR_CRASH_POSTGRES names (postgres://USER@HOST/DATABASE), which it leaves alone. Exit 1 on any
# loss or double; the files of the run are kept then.
set -eu
cd "$(dirname "$0")/.."

cargo build --quiet -p crash
exec "${CARGO_TARGET_DIR:-target}/debug/crash" run "$@"
