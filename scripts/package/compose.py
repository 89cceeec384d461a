"""Checks the compose files against the schema of the specification and by rules of our own, and has the program check the
configurations in them. Called by scripts/package.sh: compose.py PROGRAM [SCHEMA], the folder of the package with the schema."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import jsonschema
import yaml

# The configuration of each file, and whether it needs a database that is not there.
FILES = {"docker/compose.yaml": ("docker/echostr.toml", False), "docker/compose.cluster.yaml": ("docker/cluster/echostr.toml", True)}
# Files with secrets, which everybody makes for himself.
SECRETS = {
    "postgres_url": "postgres://echostr:secret@127.0.0.1:1/echostr",
    "admin_token": "a-token-of-the-admin-listener",
    "shop_token": "atokenofashop",
    "shop_aes_key": "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQ",
}


def expect(condition, what):
    if not condition:
        sys.exit(f"compose: {what}")


def check(path, schema):
    compose = yaml.safe_load(pathlib.Path(path).read_text())
    if schema:
        # The packaged schema is from before a file could have a name.
        named = {key: value for key, value in compose.items() if key != "name"}
        faults = [f"{error.json_path}: {error.message}" for error in jsonschema.Draft7Validator(schema).iter_errors(named)]
        expect(not faults, f"{path}: {faults}")
    services = compose["services"]
    for name, service in services.items():
        place = f"{path}: {name}"
        closed = service.get("cap_drop") == ["ALL"] or "no-new-privileges:true" in service.get("security_opt", [])
        expect(closed, f"{place} may get more rights")
        expect("logging" in service, f"{place} logs without a limit")
        for secret in service.get("secrets", []):
            expect(secret in compose["secrets"], f"{place}: no secret {secret}")
        for network in service.get("networks", []):
            expect(network in compose["networks"], f"{place}: no network {network}")
        for other in service.get("depends_on", []):
            expect(other in services, f"{place} depends on {other}")
            if isinstance(service["depends_on"], dict) and service["depends_on"][other]["condition"] == "service_healthy":
                own = services[other].get("image", "") == "echostr"
                expect(own or "healthcheck" in services[other], f"{place} waits for {other}, which has no health check")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                expect((pathlib.Path(path).parent / source).exists(), f"{place}: no {source}")
            else:
                expect(source in compose["volumes"], f"{place}: no volume {source}")
    for name, secret in compose["secrets"].items():
        expect(secret["file"] == f"./secrets/{name}", f"{path}: the file of the secret {name}")
        used = any(name in service.get("secrets", []) for service in services.values())
        expect(used, f"{path}: nobody has the secret {name}")
    return compose


def check_config(path, needs_database, program):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, secret in SECRETS.items():
            (folder / name).write_text(secret)
        text = pathlib.Path(path).read_text().replace("/run/secrets", str(folder))
        # Whatever listens on this machine.
        text = re.sub(r"^\[server\]$", '[server]\nlisten = "127.0.0.1:0"', text, flags=re.M).replace("0.0.0.0:9180", "127.0.0.1:0")
        (folder / "echostr.toml").write_text(text)
        done = subprocess.run([program, "check", "--config", folder / "echostr.toml"], capture_output=True, text=True, cwd=folder)
        expect(done.returncode == 0, f"{path}: {done.stderr}")
        # A server may start before its database.
        expect(("PostgreSQL" in done.stderr) == needs_database, f"{path}: {done.stderr}")


def main(program, schema=""):
    if schema:
        [found] = pathlib.Path(schema).glob("lib/schema.json")
        schema = json.loads(found.read_text())
    for path, (config, needs_database) in FILES.items():
        compose = check(path, schema)
        check_config(config, needs_database, program)
        secrets = set(re.findall(r"/run/secrets/(\w+)", pathlib.Path(config).read_text()))
        nodes = [service for service in compose["services"].values() if service.get("image") == "echostr"]
        for node in nodes:
            expect(secrets <= set(node["secrets"]), f"{path}: the configuration names secrets that a node has not")
        print(f"{path}: {len(compose['services'])} services, {len(nodes)} of them nodes; {config} is right")
    nodes = {f"{name}:8080" for name in ("echostr1", "echostr2")}
    caddy = set(re.findall(r"echostr\d:8080", pathlib.Path("docker/cluster/Caddyfile").read_text()))
    expect(caddy == nodes, f"Caddy knows {caddy}")
    prometheus = yaml.safe_load(pathlib.Path("docker/prometheus/prometheus.yml").read_text())
    [job] = prometheus["scrape_configs"]
    expect(job["static_configs"][0]["targets"] == ["echostr1:9180", "echostr2:9180"], "Prometheus asks others")
    for found in pathlib.Path("docker/grafana").rglob("*.yml"):
        expect(yaml.safe_load(found.read_text())["apiVersion"] == 1, found)
    [source] = yaml.safe_load(pathlib.Path("docker/grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    for found in pathlib.Path("docker/grafana/dashboards").glob("*.json"):
        # A dashboard chooses its source by a variable, or names the one that there is.
        sources = set(re.findall(r'"type": "prometheus",\s*"uid": "([^"]+)"', found.read_text()))
        expect(all(uid.startswith("$") or uid == source["uid"] for uid in sources), f"{found}: unknown sources {sources}")
    print("Caddy and Prometheus know both nodes; Grafana's files are right")


main(*sys.argv[1:])
