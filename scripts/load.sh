#!/bin/sh
# Measures what a delivery costs in the default configuration, beside a bare axum server in the same run; or, with --memory,
# what the server holds.
#
#   scripts/load.sh [--rounds N] [--seconds S] [--connections N] [--case NAME] [--server FILE] [--memory-limit SIZE]
#   scripts/load.sh --rate 1000 --journal sqlite          deliveries at a rate (open loop), latency from the moment each was due
#   scripts/load.sh --journal sqlite --connections 64     every delivery durable, with its reply
#   scripts/load.sh --journal postgres://…                the same, in a database
#   scripts/load.sh --nodes 2                             one node, and two, on a PostgreSQL of their own
#   scripts/load.sh --stored 10000,1000000,10000000       admissions into a journal that holds so many events
#   scripts/load.sh --forwards 10000 [--journal sqlite]   events that are forwarded to a healthy target
#   scripts/load.sh --memory
#   scripts/load.sh --waiting                             what it holds when large events wait and nobody takes them
#   scripts/load.sh --dist …                              any of these, of the program as it is shipped (built for longer)
#
# Needs two cores, one for the server and one for the load, and the `taskset` of util-linux; without them the figures are
# noise. Exit 1 when an answer was wrong.
set -eu
cd "$(dirname "$0")/.."

profile=release
if [ "${1:-}" = --dist ]; then
    profile=dist
    shift
fi
cargo build --profile "$profile" --quiet -p echostr -p load

# 10 000 connections are as many descriptors, in the load as in the server.
ulimit -n "$(ulimit -Hn)"

cores=$(nproc)
load=${CARGO_TARGET_DIR:-target}/$profile/load
case " $* " in
    # These run the servers as anybody would.
    *" --memory "* | *" --waiting "* | *" --nodes"[\ =]*) exec "$load" "$@" ;;
esac
if [ "$cores" -gt 1 ] && command -v taskset >/dev/null; then
    exec taskset -c 1 "$load" "$@"
fi
exec "$load" "$@"
