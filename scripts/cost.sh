#!/bin/sh
# Searches for the body that costs the server the most CPU time, on every platform, by senders that can sign and by
# anybody, and compares it with an ordinary text of the same size.
#
#   scripts/cost.sh [--seconds S] [--target NAME] [--seed S] [--bytes N] [--show N] [--server FILE]
#
# Takes about S seconds for each of 19 targets, 20 by default. Other work on the machine makes bodies dearer that
# take much memory. Exit 1 when one costs more than 10 ordinary texts.
set -eu
cd "$(dirname "$0")/.."

cargo build --release --quiet -p echostr --bin echostr
cargo build --release --quiet -p cost
exec "${CARGO_TARGET_DIR:-target}/release/cost" "$@"
