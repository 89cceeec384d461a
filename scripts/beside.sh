#!/usr/bin/env bash
# Measures what people write instead, beside this server, in one run: wechatpy (Python, Flask) and the package wechat (Node.js,
# Express). They verify, decrypt, answer, and store nothing. Installs both under target/beside.
#
#   scripts/beside.sh [OPTION OF load…]      such as --rounds 3
#
# Needs Python 3.11 with venv, Node.js with npm, and what scripts/load.sh needs.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/target/beside
mkdir -p "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check wechatpy==1.8.18 cryptography Flask==3.1.3 waitress==3.0.2
sed "1s|.*|#!$folder/venv/bin/python|" tools/load/beside/flask_app.py >"$folder/flask_app.py"
npm install --silent --no-fund --no-audit --prefix "$folder" wechat@2.1.0 express@5 smol-toml@1 >/dev/null
cp tools/load/beside/express_app.mjs "$folder/express_app.mjs"
chmod +x "$folder/flask_app.py" "$folder/express_app.mjs"

for case in "mp plain text" "mp safe text"; do
  for what in "echostr, in memory:" "echostr, SQLite: --journal sqlite" "wechatpy: --server $folder/flask_app.py" \
    "wechat (Node.js): --server $folder/express_app.mjs"; do
    printf '%-20s ' "${what%%:*}"
    # shellcheck disable=SC2086 # an option and its value
    scripts/load.sh --case "$case" ${what#*:} "$@" | grep -E "^$case|^not 200" | tr '\n' ' '
    echo
  done
done
