//! The dashboard and the alert rules ask for metrics that there are; `scripts/telemetry.sh` tries them with a real Prometheus.

use std::{collections::BTreeSet, fs, path::Path};

use echostr::hooks::Hooks;

use crate::support::TestServer;

/// What begins with `echostr_` in a text, without the parts of histograms.
fn metrics(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("echostr_") {
        let name: String = text[at..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
        found.insert(name.trim_end_matches('_').to_owned());
    }
    found
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_ask_for_metrics_that_there_are() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let server = TestServer::start(Hooks::default()).await;
    // Those that are shown, and those that are described without a value yet.
    let mut known = metrics(&server.admin.get("/metrics").await.body);
    let documented = metrics(&read("docs/operations.md"));
    known.extend(metrics(&read("src/metrics.rs")));
    for file in ["src/metrics/api.rs", "src/metrics/forward.rs", "src/metrics/observer.rs", "src/metrics/source.rs"] {
        known.extend(metrics(&read(file)));
    }
    let undocumented: Vec<_> = known.difference(&documented).collect();
    assert!(undocumented.is_empty(), "docs/operations.md does not say what these are: {undocumented:?}");
    assert_eq!(documented, metrics(&read("docs/operations.zh-CN.md")), "the pages of both languages");
    for file in ["docker/grafana/dashboards/echostr.json", "docker/prometheus/echostr.rules.yml"] {
        let asked = metrics(&read(file));
        assert!(asked.len() > 10, "{file}: {asked:?}");
        let unknown: Vec<_> = asked.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} asks for metrics that there are not: {unknown:?}");
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("docker/grafana/dashboards/echostr.json")).expect("the dashboard is JSON");
    let shown = metrics(&dashboard.to_string());
    let forgotten: Vec<_> = known
        .iter()
        .filter(|name| !shown.contains(*name))
        .filter(|name| {
            !["echostr_observations_waiting", "echostr_dead_letters", "echostr_absent_observations_waiting"]
                .contains(&name.as_str())
        })
        .collect();
    assert!(forgotten.is_empty(), "no panel shows {forgotten:?}");
}
