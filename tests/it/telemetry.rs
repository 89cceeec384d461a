//! Traces: what a collector of OpenTelemetry gets, and what others are told of them.

use std::{collections::BTreeMap, fs, path::Path};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message as _;
use tempfile::TempDir;

use crate::support::{
    Http,
    program::Program,
    server::{PLAIN, text_message},
    service::{Asked, Service, response},
    wait_for,
};

/// Answers as the specification asks.
async fn collector() -> Service {
    Service::start(|_| async { response(200, "application/x-protobuf", "") }).await
}

fn write(folder: &Path, more: &str) -> std::path::PathBuf {
    let file = folder.join("echostr.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nmax_age = \"off\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [journal]\nurl = \"memory:\"\n\
         [mp.plain]\napp_id = \"wx0000000000000009\"\ntoken = \"plainToken\"\nmode = \"plain\"\n{more}"
    );
    fs::write(&file, text).unwrap();
    file
}

fn requests(collector: &Service) -> Vec<ExportTraceServiceRequest> {
    let decode = |asked: &Asked| ExportTraceServiceRequest::decode(asked.body.clone()).unwrap();
    collector.asked().iter().map(decode).collect()
}

fn spans(collector: &Service) -> Vec<Span> {
    let resources = requests(collector).into_iter().flat_map(|request| request.resource_spans);
    resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let all = span.attributes.iter().map(|attribute| {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref()).map(text);
        (attribute.key.clone(), value.unwrap_or_default())
    });
    all.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn send(program: &Program, id: u64, nonce: &str) -> String {
    let [callbacks, _] = program.addresses().await;
    let signed = PLAIN.plain(&text_message(id, "what the user wrote"), nonce);
    Http(callbacks).post(&format!("/mp/plain?{}", signed.query), &signed.body).await.body
}

#[tokio::test]
async fn the_trace_of_an_event_has_its_deliveries_its_service_and_its_observers() {
    let (collector, target) = (collector().await, collector().await);
    let service = Service::start(|_| async { response(200, "application/json", r#"{"text": "hi"}"#) }).await;
    let folder = TempDir::new().unwrap();
    let more = format!(
        "[[answer]]\nname = \"bot\"\nmatch = \"mp/*:mp.message.text\"\nto = \"{}\"\n\
         [[forward]]\nname = \"crm\"\nmatch = \"*\"\nto = \"{}\"\n\
         [[forward]]\nname = \"down\"\nmatch = \"*\"\nto = \"http://127.0.0.1:1/\"\nretry = []\n",
        service.url(),
        target.url()
    );
    let collect = format!("http://{}", collector.address);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collect),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20collectorSecret"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let program = Program::serve_with(&write(folder.path(), &more), &variables);
    program.says(&["traces are exported to", &collect]).await;
    assert!(send(&program, 1, "n1").await.contains("hi"));
    assert!(send(&program, 1, "n2").await.contains("hi"), "a repeat");
    wait_for("all spans", async || spans(&collector).len() >= 5).await;
    let all = spans(&collector);
    let named = |name: &str| all.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let [first, again] = named("delivery mp.message.text")[..] else { panic!("{all:#?}") };
    let ([asked], [forwarded], [down]) =
        (&named("ask bot")[..], &named("observe forward.crm")[..], &named("observe forward.down")[..])
    else {
        panic!("{all:#?}")
    };

    // One trace, which is the event.
    let id = attributes(first)["echostr.event.id"].clone();
    assert_eq!(hex(&first.trace_id), id.replace('-', ""));
    assert!(first.parent_span_id.is_empty());
    for below in [again, asked, forwarded, down] {
        assert_eq!((&below.trace_id, &below.parent_span_id), (&first.trace_id, &first.span_id), "{}", below.name);
        assert_eq!(attributes(below)["echostr.account"], "mp/plain");
    }
    let mut ids: Vec<_> = all.iter().map(|span| span.span_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "every span has an id of its own");
    assert!(all.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano));
    assert_eq!((first.kind(), asked.kind()), (SpanKind::Server, SpanKind::Client));
    assert_eq!(attributes(down)["echostr.attempt"], "1");
    assert_eq!(down.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(forwarded.status.as_ref().map_or(StatusCode::Unset, |status| status.code()), StatusCode::Unset);

    // Others are told whose children theirs are.
    let parent = |span: &Span| format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id));
    assert_eq!(service.asked()[0].header("traceparent"), parent(asked));
    assert_eq!(target.asked()[0].header("traceparent"), parent(forwarded));

    // What the collector is told of the process, and how it is asked.
    let request = &collector.asked()[0];
    assert_eq!(request.header("content-type"), "application/x-protobuf");
    assert_eq!(request.header("authorization"), "Bearer collectorSecret");
    let resource = format!("{:?}", requests(&collector)[0].resource_spans[0].resource);
    assert!(resource.contains("\"echostr\"") && resource.contains("deployment.environment.name"), "{resource}");
    let everything: String =
        collector.asked().iter().map(|it| String::from_utf8_lossy(&it.body).into_owned()).collect();
    assert!(!everything.contains("what the user wrote") && !everything.contains("plainToken"));
    assert!(!program.log().contains("collectorSecret"));
    assert!(program.stop().await);
}

#[tokio::test]
async fn what_is_left_is_sent_at_the_end_and_a_sampler_is_followed() {
    let collector = collector().await;
    let folder = TempDir::new().unwrap();
    let file = write(folder.path(), "");
    let collect = format!("http://{}/v1/traces", collector.address);
    let run = async |variables: &[(&str, &str)]| {
        let mut all = vec![("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*collect), ("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
        all.extend(variables);
        let before = spans(&collector).len();
        let program = Program::serve_with(&file, &all);
        for id in 0..20 {
            send(&program, id, &format!("n{id}")).await;
        }
        assert!(program.stop().await);
        spans(&collector).len() - before
    };
    assert_eq!(run(&[]).await, 20);
    assert_eq!(run(&[("OTEL_TRACES_SAMPLER", "always_off")]).await, 0);
    let some = run(&[("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.5")]).await;
    assert!((1..20).contains(&some), "{some} of 20");
    assert_eq!(run(&[("OTEL_SDK_DISABLED", "true")]).await, 0);
}

#[tokio::test]
async fn a_collector_that_is_down_costs_no_delivery_and_wrong_variables_are_refused() {
    let folder = TempDir::new().unwrap();
    let file = write(folder.path(), "");
    let down = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_BSP_SCHEDULE_DELAY", "20")];
    let program = Program::serve_with(&file, &down);
    for id in 0..20 {
        assert_eq!(send(&program, id, &format!("n{id}")).await, "success");
    }
    assert!(program.stop().await);
    for (variable, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318"),
    ] {
        let program =
            Program::serve_with(&file, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), (variable, value)]);
        program.says(&["error:", "OTEL_"]).await;
    }
}
