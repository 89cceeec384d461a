#!/usr/bin/env bash
# Runs the services of examples/services behind a server: each checks a signature and answers a text; an application made with wechatpy
# answers behind `format = "original"`; one service answers every platform. Languages that are not installed are skipped, and said so.
set -euo pipefail
cd "$(dirname "$0")/.."

has() { command -v "$1" >/dev/null 2>&1; }
die() { printf 'scripts/examples.sh: %s\n' "$*" >&2; exit 1; }

work=$(mktemp -d)
pids=()
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap stop EXIT

cargo build --quiet --bin echostr
echostr="${CARGO_TARGET_DIR:-target}/debug/echostr"
export WEBHOOK_SECRET=whsec_MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3BxcnN0dXY=
export APP_TOKEN=applicationToken APP_AES_KEY=applicationApplicationApplicationApplicatio APP_ID=wx0000000000000001

port() { # a free port
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
has python3 || die "Python 3 is missing"

accounts=()
service() { # NAME FORMAT COMMAND...: starts a service, and adds an account that it answers
  local name=$1 keys=$2
  shift 2
  local at
  at=$(port)
  PORT=$at "$@" >"$work/$name.log" 2>&1 &
  pids+=("$!")
  for _ in $(seq 600); do
    (exec 3<>"/dev/tcp/127.0.0.1/$at") 2>/dev/null && break
    kill -0 "${pids[-1]}" 2>/dev/null || { cat "$work/$name.log" >&2; die "$name ended"; }
    sleep 0.1
  done
  printf '[mp.%s]\napp_id = "%s"\ntoken = "exampleToken"\naes_key = "exampleExampleExampleExampleExampleExampleE"\n' "$name" "$APP_ID" >>"$work/echostr.toml"
  printf '[[answer]]\nname = "%s"\nmatch = "mp/%s:mp.message.text"\nto = "http://127.0.0.1:%s/"\n%s\n' "$name" "$name" "$at" "$keys" >>"$work/echostr.toml"
  accounts+=("$name:$at")
}

listen=$(port) admin=$(port)
printf '[server]\nlisten = "127.0.0.1:%s"\n[admin]\nlisten = "127.0.0.1:%s"\n[journal]\nurl = "memory:"\n' "$listen" "$admin" >"$work/echostr.toml"

signed='secret = { env = "WEBHOOK_SECRET" }'
service python "$signed" python3 examples/services/bot.py
if has node; then service node "$signed" node examples/services/bot.mjs; else echo "Node.js is not installed: skipped"; fi
if has go; then
  go build -o "$work/bot-go" examples/services/bot.go
  service go "$signed" "$work/bot-go"
else
  echo "Go is not installed: skipped"
fi
if has java; then service java "$signed" java examples/services/Bot.java; else echo "Java is not installed: skipped"; fi
original='format = "original"
token = { env = "APP_TOKEN" }
aes_key = { env = "APP_AES_KEY" }'
if python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet wechatpy cryptography; then
  service wechatpy "$original" "$work/venv/bin/python" examples/services/wechatpy_app.py
else
  echo "wechatpy cannot be installed: skipped"
fi

# One service for every platform.
every=$(port)
PORT=$every python3 examples/services/platforms.py >"$work/platforms.log" 2>&1 &
pids+=("$!")
keys='token = "exampleToken"
aes_key = "exampleExampleExampleExampleExampleExampleE"'
cat >>"$work/echostr.toml" <<TOML
[mp.every]
app_id = "$APP_ID"
$keys
[wecom.every]
corp_id = "ww0000000000000001"
$keys
[wecom_bot.every]
$keys
[im.every]
sdk_app_id = 1400000000
token = "exampleToken"
[[answer]]
name = "every"
match = ["*/every:*.message.text", "im/every:im.command.sns.prev_friend_add"]
to = "http://127.0.0.1:$every/"
TOML

"$echostr" serve --config "$work/echostr.toml" >"$work/server.log" 2>&1 &
pids+=("$!")
until "$echostr" health --config "$work/echostr.toml" >/dev/null 2>&1; do
  kill -0 "${pids[-1]}" 2>/dev/null || { cat "$work/server.log" >&2; die "the server ended"; }
  sleep 0.1
done

failed=0
for account in "${accounts[@]}"; do
  name=${account%%:*} at=${account##*:}
  expected="echo: hello"
  [ "$name" != wechatpy ] || expected="wechatpy: hello"
  answer=$("$echostr" simulate "mp/$name" text --set Content=hello --config "$work/echostr.toml" --url "http://127.0.0.1:$listen" 2>&1) || true
  if [[ "$answer" == *"<Content><![CDATA[$expected]]></Content>"* ]]; then
    echo "$name: answered a text"
  else
    failed=1
    printf '%s: no answer\n%s\n' "$name" "$answer"
    cat "$work/$name.log" "$work/server.log"
  fi
  [ "$name" = wechatpy ] && continue
  status=$(curl -s -o /dev/null -w '%{http_code}' -H 'webhook-id: 1' -H "webhook-timestamp: $(date +%s)" \
    -H 'webhook-signature: v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=' -d '{"data":{"Content":"x"}}' "http://127.0.0.1:$at/")
  if [ "$status" = 401 ]; then
    echo "$name: refused a wrong signature"
  else
    failed=1
    echo "$name: answered $status to a wrong signature"
  fi
done

simulate() { "$echostr" simulate "$@" --config "$work/echostr.toml" --url "http://127.0.0.1:$listen" 2>&1 || true; }
expect() { # ACCOUNT ANSWER PART
  if [[ "$2" == *"$3"* ]]; then
    echo "platforms: answered $1"
  else
    failed=1
    printf 'platforms: %s: not %s\n%s\n' "$1" "$3" "$2"
    cat "$work/platforms.log" "$work/server.log"
  fi
}
until (exec 3<>"/dev/tcp/127.0.0.1/$every") 2>/dev/null; do sleep 0.1; done
for account in mp/every wecom/every; do
  expect "$account" "$(simulate "$account" text --set Content=hello)" "<Content><![CDATA[echo: hello]]></Content>"
done
expect im/every "$(simulate im/every prev_friend_add)" '"ResultCode":0'
expect im/every "$(simulate im/every prev_friend_add --set Requester_Account=blocked)" '"ResultCode":38001,"ResultInfo":"blocked"'
# The platform asks for a streamed answer until it is whole.
answer=$(simulate wecom_bot/every text --set text.content=hello)
stream=$(sed -n 's/.*"msgtype":"stream","stream":{"id":"\([0-9a-f]*\)".*/\1/p' <<<"$answer" | tail -1)
if [ -n "$stream" ]; then
  for _ in $(seq 100); do
    [[ "$answer" != *'"finish":true'* ]] || break
    answer=$(simulate wecom_bot/every wecom_bot.message.stream --set "stream.id=$stream")
  done
fi
expect wecom_bot/every "$answer" '"finish":true,"content":"echo: hello"'
exit "$failed"
