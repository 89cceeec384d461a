//! OTLP over HTTP (protobuf), as the variables `OTEL_…` say.

use std::{env, fmt, time::SystemTime};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _},
};
use tokio::runtime::Handle;
use tracing::warn;
use uuid::Uuid;

use super::{Export, Kind, Span, root, time_of_day};
use crate::http;

/// The default of the variables, as the specification has it.
const DEFAULT_ENDPOINT: &str = "http://localhost:4318";

/// Sends spans in batches from a thread of its own. More than fit into its queue (`OTEL_BSP_MAX_QUEUE_SIZE`) are dropped.
struct Otlp {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    /// Traces whose random part is below this are exported.
    below: u64,
}

/// The client of the server, which trusts the certificates of the system.
struct Client {
    http: reqwest::Client,
    runtime: Handle,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The thread of the exporter has no runtime.
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let response = http.execute(request.try_into()?).await.map_err(http::causes)?;
            let mut answer = Response::builder().status(response.status());
            for (name, value) in response.headers() {
                answer = answer.header(name, value);
            }
            Ok::<_, HttpError>(answer.body(response.bytes().await.map_err(http::causes)?)?)
        });
        sent.await?
    }
}

/// Starts the exporter; returns where it sends to, without what may be a secret.
pub(super) fn start() -> Result<(Box<dyn Export>, String), String> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let protocol = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some(other) = protocol.filter(|protocol| protocol != "http/protobuf") {
        return Err(format!("OTEL_EXPORTER_OTLP_PROTOCOL is {other:?}; this server speaks http/protobuf only"));
    }
    let below = sampled(variable("OTEL_TRACES_SAMPLER").as_deref(), variable("OTEL_TRACES_SAMPLER_ARG").as_deref())?;
    let endpoint = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").unwrap_or_else(|| {
        let base = variable("OTEL_EXPORTER_OTLP_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        format!("{}/v1/traces", base.trim_end_matches('/'))
    });
    let url = reqwest::Url::parse(&endpoint).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or("OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http://collector:4318")?;
    let client = Client {
        http: http::builder().build().map_err(http::causes)?,
        runtime: Handle::try_current().map_err(|failure| failure.to_string())?,
    };
    let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
    let exporter = exporter.map_err(|failure| format!("OTEL_EXPORTER_OTLP_…: {failure}"))?;
    let mut processor = BatchSpanProcessor::builder(exporter).build();
    let mut resource = Resource::builder();
    if variable("OTEL_SERVICE_NAME").is_none() {
        // What OTEL_RESOURCE_ATTRIBUTES says comes first.
        let named = variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
        if !named {
            resource = resource.with_service_name("echostr");
        }
    }
    processor
        .set_resource(&resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build());
    let scope = InstrumentationScope::builder("echostr").with_version(env!("CARGO_PKG_VERSION")).build();
    Ok((Box::new(Otlp { processor, scope, below }), crate::webhook::shown_url(&url)))
}

/// Below which random part traces are exported, as the variables of the sampler say.
fn sampled(sampler: Option<&str>, argument: Option<&str>) -> Result<u64, String> {
    const ALL: u64 = 1 << 56;
    // Whoever delivers has no trace of its own: the parent's decision is never there.
    match sampler.map(|sampler| sampler.trim_start_matches("parentbased_")) {
        None | Some("always_on") => Ok(ALL),
        Some("always_off") => Ok(0),
        Some("traceidratio") => {
            let ratio = argument.map_or(Ok(1.0), str::parse::<f64>).ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            let ratio = ratio.ok_or("OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1")?;
            Ok((ALL as f64 * ratio) as u64)
        }
        Some(_) => {
            Err("OTEL_TRACES_SAMPLER must be always_on, always_off or traceidratio, alone or with parentbased_".into())
        }
    }
}

impl Export for Otlp {
    fn samples(&self, event: Uuid) -> bool {
        event.as_u64_pair().1 & ((1 << 56) - 1) < self.below
    }

    fn export(&self, span: Span) {
        let Span { event, kind, account, event_type, started, error } = span;
        let now = SystemTime::now();
        let (id, root) = (kind.id(event, started), root(event));
        let mut attributes = vec![
            KeyValue::new("echostr.event.id", event.to_string()),
            KeyValue::new("echostr.account", account),
            KeyValue::new("echostr.event.type", event_type.clone()),
        ];
        let name = kind.name(&event_type);
        let span_kind = match kind {
            Kind::Delivery { .. } => SpanKind::Server,
            Kind::Ask { .. } => SpanKind::Client,
            Kind::Observe { observer, attempt } => {
                attributes.push(KeyValue::new("echostr.observer", observer));
                attributes.push(KeyValue::new("echostr.attempt", i64::from(attempt)));
                SpanKind::Consumer
            }
        };
        let trace = TraceId::from_bytes(event.into_bytes());
        let span_id = SpanId::from_bytes(id.to_be_bytes());
        let parent = if id == root { SpanId::INVALID } else { SpanId::from_bytes(root.to_be_bytes()) };
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(trace, span_id, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind,
            name: name.into(),
            start_time: time_of_day(started, now),
            end_time: now,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        });
    }

    fn flush(&self) {
        if let Err(failure) = self.processor.shutdown() {
            warn!("some traces could not be exported: {failure}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sampler_is_that_of_the_variables() {
        let all = 1 << 56;
        for (sampler, argument, expected) in [
            (None, None, Some(all)),
            (Some("always_on"), None, Some(all)),
            (Some("parentbased_always_off"), None, Some(0)),
            (Some("traceidratio"), Some("0.25"), Some(all / 4)),
            (Some("parentbased_traceidratio"), None, Some(all)),
            (Some("traceidratio"), Some("2"), None),
            (Some("traceidratio"), Some("often"), None),
            (Some("jaeger_remote"), None, None),
        ] {
            assert_eq!(sampled(sampler, argument).ok(), expected, "{sampler:?} {argument:?}");
        }
    }
}
