#!/bin/sh
# Runs the server under strace, sends it deliveries one by one and then 16 at a time, and proves from the trace that no
# power cut loses what was answered:
#
# - before each 200 of a POST, the log of SQLite (`-wal`) got the event, and a later fsync (or fdatasync) of the log, which began
#   after that write had ended, came back;
# - at random answers the power is cut: the files are made again from the writes in the trace, once with nothing of what
#   was not synced by then and once with a random part of it; the journal is opened, and every event that was answered
#   up to there must be in it with its answer.
#
# Then it takes the syncs out of the same trace, and the check has to fail.
#
# It believes the system that fsync makes durable what was written, and that the files stay in their folder.
#
#   scripts/powercut.sh [DELIVERIES]
#
# Needs strace. Exit 1 when an answer came too early.
set -eu
cd "$(dirname "$0")/.."

deliveries=${1:-200}
cargo build --quiet -p crash -p echostr
programs=${CARGO_TARGET_DIR:-target}/debug
command -v strace >/dev/null || { echo "scripts/powercut.sh: strace is missing" >&2; exit 1; }

folder=$(mktemp -d)
server=
tracer=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    [ -z "$tracer" ] || wait "$tracer" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT

# Ports that were free a moment ago.
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
address=127.0.0.1:$(port)
admin=127.0.0.1:$(port)
"$programs/crash" config "$address" "$admin" "sqlite://$folder/echostr.db" >"$folder/echostr.toml"

strace -f -y -s 200000 -o "$folder/trace" \
    -e trace=fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg,recvfrom,openat,ftruncate,unlink \
    sh -c 'echo $$ >"$1"; exec "$2" serve --config "$3"' sh "$folder/pid" "$programs/echostr" "$folder/echostr.toml" \
    2>"$folder/log" &
tracer=$!
tries=0
until "$programs/echostr" health --config "$folder/echostr.toml" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done
server=$(cat "$folder/pid")

"$programs/crash" send "$address" --deliveries "$deliveries"
"$programs/crash" send "$address" --first 1000000 --deliveries "$deliveries" --connections 16
kill "$server"
wait "$tracer"
server=
tracer=

"$programs/crash" powercut "$folder/trace"
echo
echo "The same without the syncs of the log, which has to fail:"
if "$programs/crash" powercut --without-syncs "$folder/trace" 2>/dev/null; then
    echo "scripts/powercut.sh: the check does not notice that syncs are missing" >&2
    exit 1
fi
