#!/usr/bin/env bash
# Tests the alert rules and the dashboard with a real Prometheus: the rules are loaded and sound, a dead letter makes one fire, and every
# panel of the dashboard can be asked for. Needs Prometheus and jq (installed from Debian's packages when missing).
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'scripts/telemetry.sh: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
step() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

install() { # packages of Debian; their services are not started
  has apt-get || return 1
  local as_root=() policy=/usr/sbin/policy-rc.d made=
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
    made=1
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive sh -c \
    "apt-get update -qq && apt-get install -y -qq --no-install-recommends $*" >/dev/null || true
  [ -z "$made" ] || "${as_root[@]}" rm -f "$policy"
}

step "what is needed"
{ has prometheus && has promtool; } || install prometheus
{ has prometheus && has promtool; } || die "Prometheus is missing (Debian: prometheus)"
has jq || install jq
has jq || die "jq is missing (Debian: jq)"
has curl || install curl
cargo build --quiet --locked --bin echostr
echostr=${CARGO_TARGET_DIR:-target}/debug/echostr

folder=$(mktemp -d)
pids=()
end() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait "${pids[@]}" 2>/dev/null || true
  rm -rf "$folder"
}
trap end EXIT

until_true() { # what, command...
  local what=$1 tries=0
  shift
  until "$@" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 600 ] || { cat "$folder"/*.log >&2; die "$what: not within a minute"; }
    sleep 0.1
  done
}

step "the rules"
promtool check rules docker/prometheus/*.rules.yml

step "a server whose forward fails for good, and Prometheus"
cat >"$folder/echostr.toml" <<TOML
[server]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[journal]
url = "sqlite://$folder/journal.db"
[mp.shop]
app_id = "wx0123456789abcdef"
token = "telemetryToken"
mode = "plain"
[[answer]]
name = "hello"
match = "mp/shop:mp.message.text"
text = "hello"
[[forward]]
name = "nowhere"
match = "*"
to = "http://127.0.0.1:1/"
retry = []
TOML
"$echostr" serve --config "$folder/echostr.toml" 2>"$folder/echostr.log" &
pids+=($!)
until_true "the server" grep -q "health and metrics on" "$folder/echostr.log"
callbacks=$(sed -n 's/.*listening on \([0-9.:]*\),.*/\1/p' "$folder/echostr.log" | head -1)
admin=$(sed -n 's/.*health and metrics on \([0-9.:]*\).*/\1/p' "$folder/echostr.log" | head -1)
for _ in 1 2 3 4 5; do
  "$echostr" simulate mp/shop text --config "$folder/echostr.toml" --url "http://$callbacks" >/dev/null
done

cat >"$folder/prometheus.yml" <<YML
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: [ "$PWD/docker/prometheus/*.rules.yml" ]
scrape_configs:
  - job_name: echostr
    static_configs: [ { targets: [ "$admin" ] } ]
YML
promtool check config "$folder/prometheus.yml" >/dev/null
prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/tsdb" --web.listen-address=127.0.0.1:0 \
  --log.level=info 2>"$folder/prometheus.log" &
pids+=($!)
until_true "Prometheus" grep -q 'Server is ready to receive' "$folder/prometheus.log"
address=$(sed -n 's/.*msg="Listening on" address=\([0-9.:]*\).*/\1/p' "$folder/prometheus.log" | head -1)
[ -n "$address" ] || die "Prometheus does not say where it listens"

ask() { curl -fsS --get "http://$address/api/v1/query" --data-urlencode "query=$1"; }
has_value() { [ "$(ask "$1" | jq '.data.result | length')" -gt 0 ]; }

step "scraped"
until_true "a scrape" has_value 'up{job="echostr"} == 1'
until_true "two of the deliveries" has_value 'sum(echostr_deliveries_total{outcome="answered"}) == 5'
until_true "two scrapes, which a rate is made of" has_value 'count_over_time(echostr_deliveries_total{outcome="answered"}[1m]) >= 2'
until_true "the dead letters" has_value 'echostr_observer_dead_letters{observer="forward.nowhere"} == 5'

step "the rules are evaluated without an error, and one fires"
until_true "an evaluation" sh -c "curl -fsS http://$address/api/v1/rules | jq -e '[.data.groups[].rules[].health] | all(. == \"ok\")'"
until_true "the alert" has_value 'ALERTS{alertname="EchostrDeadLetters",alertstate="firing",observer="forward.nowhere"}'

step "every panel of the dashboard can be asked for, and shows something"
# Metrics that this server has no series of: no account has credentials for the API, no customer service, no bot over WebSocket, none
# looks at addresses, and no handler of Rust that could block its thread.
without_series='echostr_(api_calls_total|api_tokens_total|api_token_state|kf_lag_seconds|websocket_[a-z_]+|unexpected_source_total|source_[a-z_]+|blocked_polls_total)\{'
count=0
while IFS= read -r expression; do
  expression=${expression//\$__rate_interval/30s}
  expression=${expression//\$job/echostr}
  expression=${expression//\$platform/.*}
  expression=${expression//\$account/.*}
  answer=$(ask "$expression") || die "the dashboard asks for what Prometheus refuses: $expression"
  [ "$(jq -r .status <<<"$answer")" = success ] || die "the dashboard asks for what Prometheus refuses: $expression"
  count=$((count + 1))
  [ "$(jq '.data.result | length' <<<"$answer")" -gt 0 ] || [[ $expression =~ $without_series ]] || die "a panel shows nothing: $expression"
done < <(jq -r '.panels[].targets[]?.expr' docker/grafana/dashboards/echostr.json)
[ "$count" -gt 0 ] || die "the dashboard asks for nothing"
printf '%s expressions\n' "$count"

step "passed"
