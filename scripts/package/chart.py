"""Checks the chart: lints and renders it with Helm's engine, validates what it makes against the schemas of Kubernetes, and has
the program check the configuration that it makes. Called by scripts/package.sh: chart.py PROGRAM."""

import pathlib
import subprocess
import sys
import tempfile

import helm_python as helm
import kubernetes_validate as kubernetes
import yaml

CHART = "charts/echostr"
VERSIONS = ["1.27", "1.37"]
# Kinds that are not of Kubernetes itself.
FOREIGN = {"ServiceMonitor"}
KINDS = {
    "sqlite": ["ConfigMap", "Service", "Service", "ServiceAccount", "StatefulSet"],
    "postgres": ["ConfigMap", "Deployment", "Ingress", "NetworkPolicy", "PodDisruptionBudget", "Service", "Service", "ServiceAccount",
                 "ServiceMonitor"],
}
# Values that must be refused, and what the refusal has to name.
REFUSED = [
    ({}, "existingSecret"),
    ({"existingSecret": "s", "journal": {"kind": "memory"}}, "kind"),
    ({"existingSecret": "s", "replica": 2}, "replica"),
    ({"existingSecret": "s", "replicas": 0}, "replicas"),
    ({"existingSecret": "s", "ingress": {"enabled": True}}, "host"),
    ({"existingSecret": "s", "journal": {"maxSize": "10 GB"}}, "maxSize"),
    ({"existingSecret": "s", "server": {"shutdownGraceSeconds": 700}}, "shutdownGraceSeconds"),
]


def expect(condition, what):
    if not condition:
        sys.exit(f"chart: {what}")


def render(values):
    with helm.Chart.load(CHART) as chart:
        return chart.render(values, name="callbacks", namespace="messages")


def documents(manifests):
    for path, text in sorted(manifests.items()):
        if path.endswith((".yaml", ".yml")):
            yield from (document for document in yaml.safe_load_all(text) if document)


def pod_of(found):
    workload = next(one for one in found if one["kind"] in ("StatefulSet", "Deployment"))
    return workload, workload["spec"]["template"]["spec"]


def check_pod(name, values, found):
    workload, pod = pod_of(found)
    [container] = pod["containers"]
    expect(pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["fsGroup"] == 65532, f"{name}: the pod runs as root")
    security = container["securityContext"]
    expect(security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}, f"{name}: the container is not closed")
    expect(not security["allowPrivilegeEscalation"], f"{name}: the container may get more rights")
    grace = values.get("server", {}).get("shutdownGraceSeconds", 10)
    expect(pod["terminationGracePeriodSeconds"] > grace, f"{name}: the pod is killed before the server has stopped")
    probes = {container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
    expect(probes == {"/healthz", "/readyz"}, f"{name}: probes are {probes}")
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    declared = {volume["name"] for volume in pod["volumes"]}
    declared |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
    expect(mounted == declared, f"{name}: mounted are {mounted}, declared {declared}")
    selector = workload["spec"]["selector"]["matchLabels"]
    labels = workload["spec"]["template"]["metadata"]["labels"]
    expect(selector.items() <= labels.items(), f"{name}: the selector does not match the pods")
    ports = {port["name"] for port in container["ports"]}
    for service in (one for one in found if one["kind"] == "Service"):
        expect(service["spec"]["selector"].items() <= labels.items(), f"{name}: a service without pods")
        expect({port["targetPort"] for port in service["spec"]["ports"]} <= ports, f"{name}: a service without a port")


def check_config(name, found, program):
    """The configuration as the pod sees it, with files in the place of the secret and of the volume."""
    text = next(one for one in found if one["kind"] == "ConfigMap")["data"]["echostr.toml"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "secrets").mkdir()
        for key, secret in [("admin_token", "a-token-of-the-admin-listener"), ("shop_token", "atokenofashop")]:
            (folder / "secrets" / key).write_text(secret + "\n")
        (folder / "secrets" / "postgres_url").write_text("postgres://echostr@127.0.0.1:1/echostr\n")
        text = text.replace("/run/secrets/echostr", str(folder / "secrets")).replace("/var/lib/echostr/data", str(folder))
        # Whatever listens on this machine.
        text = text.replace("0.0.0.0:8080", "127.0.0.1:0").replace("0.0.0.0:9180", "127.0.0.1:0")
        (folder / "echostr.toml").write_text(text)
        done = subprocess.run([program, "check", "--config", folder / "echostr.toml"], capture_output=True, text=True)
        expect(done.returncode == 0, f"{name}: {done.stderr}")
        # No database listens here, which a server may find at its start.
        expect(("PostgreSQL" in done.stderr) == (name == "postgres"), f"{name}: {done.stderr}")


def main(program):
    for name, kinds in KINDS.items():
        values = yaml.safe_load(pathlib.Path(f"{CHART}/ci/{name}.yaml").read_text())
        linted = helm.lint(CHART, values, strict=True)
        said = [message["error"] for message in linted["messages"] if message["severity"] > 1] + linted["errors"]
        expect(not said, f"{name}: {said}")
        manifests = render(values)
        found = list(documents(manifests))
        expect(sorted(one["kind"] for one in found) == kinds, f"{name}: made are {sorted(one['kind'] for one in found)}")
        for document in found:
            expect(document["metadata"]["labels"]["app.kubernetes.io/instance"] == "callbacks", f"{name}: labels")
            if document["kind"] not in FOREIGN:
                for version in VERSIONS:
                    kubernetes.validate(document, version, strict=True)
        check_pod(name, values, found)
        check_config(name, found, program)
        notes = next((text for path, text in manifests.items() if path.endswith("NOTES.txt")), None)
        expect(notes is None or "echostr check --online" in notes, f"{name}: the notes")
        print(f"{name}: {len(found)} objects are valid; not validated, as their schema is not of Kubernetes: {sorted(FOREIGN & set(kinds))}")
    for values, named in REFUSED:
        try:
            render(values)
        except helm.HelmError as refusal:
            expect(named in str(refusal), f"{values} is refused with: {refusal}")
        else:
            sys.exit(f"chart: {values} is not refused")
    print(f"{len(REFUSED)} wrong values are refused")


main(sys.argv[1])
