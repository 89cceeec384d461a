#!/bin/sh
# Two servers on one PostgreSQL, each behind a proxy that stalls or cuts its connections to the database for 1 to 14 s at
# random, while connections send deliveries as the platform does, each until it is answered with 200. Checks that nothing
# which was answered is lost, doubled, or without the reply of its responder, and that the observers see everything.
#
#   scripts/partition.sh [--seconds N] [--seed S] [--connections N] [--pause MS] [--server FILE]
#
# It starts a PostgreSQL of its own. --server names another build of the program, which serves. Exit 1 on any loss or
# double; the files of the run are kept then.
set -eu
cd "$(dirname "$0")/.."

cargo build --quiet -p partition
exec "${CARGO_TARGET_DIR:-target}/debug/partition" run "$@"
