//! JSON Schemas: of the answers of the API, of events and of answers to platforms.

use std::{collections::BTreeSet, process::Command};

use echostr::{
    catalog::{self, schema::Schema},
    hooks::Hooks,
    internals::journal::EventRecord,
    payload::{Form, Payload},
    platform::Platform,
};
use serde_json::{Value as Json, json};

use super::Client;
use crate::support::TestServer;

fn validator(schema: &Json) -> jsonschema::Validator {
    jsonschema::meta::validate(schema).unwrap_or_else(|error| panic!("{error} in {schema}"));
    jsonschema::validator_for(schema).unwrap_or_else(|error| panic!("{error} in {schema}"))
}

#[track_caller]
fn check(schema: &Json, value: &Json, what: &str) {
    let validator = validator(schema);
    let errors: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{value}");
}

/// The typed JSON of a sample.
fn typed(entry: &catalog::Entry, platform: Platform, form: Form, sample: &str) -> Json {
    let command = entry.select.get("CallbackCommand").map(|command| format!("CallbackCommand={command}").into());
    EventRecord {
        platform,
        account: format!("{platform}/x").into(),
        event_type: entry.id.clone().into(),
        subject: None,
        form,
        payload: Payload::new(sample),
        query: command,
        received: 0,
    }
    .data()
}

#[test]
fn every_sample_is_valid_by_the_schema_of_its_type() {
    let (mut samples, mut wrong) = (0, Vec::new());
    for platform in Platform::ALL {
        let schemas = catalog::schema::schemas(platform).unwrap();
        let of = |id: &str| schemas.iter().find(|schema| schema.name == id && !schema.is_answer);
        for entry in catalog::entries(platform).unwrap() {
            let schema = of(&entry.id).unwrap_or_else(|| panic!("{} has no schema", entry.id));
            let validator = validator(&schema.schema);
            for form in [Form::Xml, Form::Json] {
                let Some(sample) = catalog::sample(&entry, form) else { continue };
                samples += 1;
                let data = typed(&entry, platform, form, sample);
                let errors = validator
                    .iter_errors(&data)
                    .map(|error| format!("{} {form:?}: {}: {error}", entry.id, error.instance_path()));
                wrong.extend(errors);
            }
        }
    }
    assert!(samples > 600, "{samples}");
    assert!(wrong.is_empty(), "{} errors: {:#?}", wrong.len(), &wrong[..wrong.len().min(40)]);
}

#[test]
fn every_sample_of_an_answer_is_valid() {
    let mut answers = 0;
    for platform in Platform::ALL {
        let schemas = catalog::schema::schemas(platform).unwrap();
        for entry in catalog::entries(platform).unwrap() {
            let Some(sample) = entry.response.as_ref().and_then(|response| response.sample_json.as_deref()) else {
                continue;
            };
            let of = |schema: &&Schema| schema.is_answer && schema.name == entry.id;
            let schema = schemas.iter().find(of).unwrap_or_else(|| panic!("{} has no schema of its answer", entry.id));
            answers += 1;
            check(&schema.schema, &serde_json::from_str(sample).unwrap(), &entry.id);
        }
        schemas.iter().for_each(|schema| drop(validator(&schema.schema)));
    }
    catalog::schema::passive_schemas().unwrap().iter().for_each(|schema| drop(validator(&schema.schema)));
    assert!(answers > 10, "{answers}");
}

#[test]
fn the_command_prints_the_schemas_of_a_type_or_of_all() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_echostr")).arg("catalog").args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let lines = |text: &str| text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()).collect::<Vec<_>>();
    let (_, text, _) = run(&["--json-schema", "im.command.sns.prev_friend_add"]);
    let ids: Vec<_> = lines(&text).iter().map(|schema| schema["$id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        ids,
        ["urn:echostr:event:im.command.sns.prev_friend_add", "urn:echostr:answer:im.command.sns.prev_friend_add"]
    );
    let (_, text, _) = run(&["--json-schema"]);
    let all = lines(&text);
    let ids: BTreeSet<_> = all.iter().map(|schema| schema["$id"].to_string()).collect();
    assert!(all.len() > 700 && ids.len() == all.len(), "{} of {}", ids.len(), all.len());
    let (ok, _, error) = run(&["--json-schema", "mp.message.none"]);
    assert!(!ok && error.contains("mp.message.none"), "{error}");
}

/// The schema of an answer of the API, with what it refers to.
fn answer_schema(document: &Json, path: &str, method: &str, status: u16) -> Option<Json> {
    let content = &document["paths"][path][method]["responses"][status.to_string()]["content"];
    let mut schema = content.get("application/json")?.get("schema")?.clone();
    schema["components"] = document["components"].clone();
    Some(schema)
}

#[tokio::test]
async fn every_answer_is_as_the_document_of_the_api_says() {
    let works = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let settings = format!("{}\n[observers]\nmax_attempts = 1\n", crate::support::server::ACCOUNTS);
    let server = TestServer::start_on("memory:", "", &settings, super::read::hooks(&works)).await;
    let api = Client::new(server.admin);
    super::read::send(&server, 1, &["one", "fail"]).await;
    server.http.get("/mp/shop?signature=x").await;
    crate::support::until(async || api.get("/v1/dead").await["letters"].as_array().unwrap().len() == 2).await;
    let document = api.get("/v1/openapi.json").await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let id = api.get("/v1/events").await["events"][0]["id"].as_str().unwrap().to_owned();
    let letters = json!({ "letters": [{ "event": id, "observer": "stock" }] }).to_string();
    let mut answered = BTreeSet::new();
    for (method, path, target, body, status) in [
        ("get", "/v1/events", "/v1/events".to_owned(), None, 200),
        ("get", "/v1/events", "/v1/events?view=full&limit=1".to_owned(), None, 200),
        ("get", "/v1/events", "/v1/events?limit=0".to_owned(), None, 400),
        ("get", "/v1/events/{id}", format!("/v1/events/{id}"), None, 200),
        ("get", "/v1/events/{id}", "/v1/events/ffffffff".to_owned(), None, 404),
        ("get", "/v1/events/{id}", format!("/v1/events/{}", &id[..8]), None, 409),
        (
            "post",
            "/v1/events/{id}/replay",
            format!("/v1/events/{id}/replay"),
            Some(r#"{"observer":"audit"}"#.to_owned()),
            200,
        ),
        ("post", "/v1/events/{id}/replay", format!("/v1/events/{id}/replay"), Some("{}".to_owned()), 400),
        ("get", "/v1/events/stream", "/v1/events/stream?view=x".to_owned(), None, 400),
        ("get", "/v1/dead", "/v1/dead".to_owned(), None, 200),
        ("post", "/v1/dead/retry", "/v1/dead/retry".to_owned(), Some(letters.clone()), 200),
        ("post", "/v1/dead/drop", "/v1/dead/drop".to_owned(), Some(letters), 200),
        ("get", "/v1/observers", "/v1/observers".to_owned(), None, 200),
        ("get", "/v1/accounts", "/v1/accounts".to_owned(), None, 200),
        ("get", "/v1/refusals", "/v1/refusals".to_owned(), None, 200),
        ("get", "/v1/forwards", "/v1/forwards".to_owned(), None, 200),
        ("get", "/v1/catalog", "/v1/catalog?platform=mp".to_owned(), None, 200),
        ("get", "/v1/info", "/v1/info".to_owned(), None, 200),
        ("post", "/v1/reload", "/v1/reload".to_owned(), None, 501),
        ("get", "/v1/openapi.json", "/v1/openapi.json".to_owned(), None, 200),
        (
            "post",
            "/v1/samples",
            "/v1/samples".to_owned(),
            Some(r#"{"account":"mp/shop","type":"mp.message.text"}"#.to_owned()),
            200,
        ),
        (
            "post",
            "/v1/samples",
            "/v1/samples".to_owned(),
            Some(r#"{"account":"mp/none","type":"mp.message.text"}"#.to_owned()),
            404,
        ),
    ] {
        let answer = api.request(&method.to_uppercase(), &target, body.as_deref()).await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.body);
        let schema = answer_schema(&document, path, method, status);
        let schema = schema.unwrap_or_else(|| panic!("{method} {path} {status} is not in the document"));
        check(&schema, &serde_json::from_str(&answer.body).unwrap(), &target);
        answered.insert(format!("{method} {path}"));
    }
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            documented.insert(format!("{method} {path}"));
            let responses = operation["responses"].as_object().unwrap();
            for status in ["401", "403", "405", "429", "500", "503"] {
                assert!(responses.contains_key(status), "{method} {path} has no {status}");
            }
            assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{method} {path}");
            // What is documented is routed.
            let target = path.replace("{id}", "ffffffff");
            let answer = api.request(&method.to_uppercase(), &target.replace("/stream", "/stream?view=x"), None).await;
            assert_ne!(answer.status, 405, "{method} {target}");
        }
    }
    answered.extend(
        ["post /session", "delete /session", "post /v1/events/{id}/reply", "post /v1/forwards/{name}/resume"]
            .map(str::to_owned),
    );
    assert_eq!(documented, answered);
}

#[tokio::test]
async fn nothing_that_is_sent_is_more_than_a_wrong_request() {
    let server = TestServer::start(Hooks::default()).await;
    let api = Client::new(server.admin);
    let paths = [
        "/v1",
        "/v1/",
        "/v1/events/",
        "/v1/events//",
        "/v1/events/%",
        "/v1/events/%ff%fe%00",
        "/v1/events/..%2f..%2fetc",
        "/assets/",
        "/assets/..%2f",
        "/assets/%00",
        "/v1/events/-----------------------------------------",
        "/v1/dead/x",
        "/session/x",
        "/%e4%bd%a0",
        "/v1/events/0000000g",
        "/v1/events/00000000000000000000000000000000000000000000",
        "//v1//events",
        "/v1/events/stream/x",
    ];
    let queries = [
        "limit=0",
        "limit=201",
        "limit=-1",
        "limit=1e3",
        "limit=99999999999999999999",
        "limit=",
        "limit=1&limit=2",
        "before=x",
        "before=",
        "before=%00",
        "before=00000000-0000-0000-0000-00000000000",
        "after=x",
        "before=0&after=0",
        "state=x",
        "state=%00",
        "platform=x",
        "platform=%ff",
        "since=x",
        "since=99999999999999999999",
        "since=-99999999999999999",
        "until=2026-13-01T00:00:00Z",
        "type=%00",
        "account=%00",
        "subject=a%00b",
        "text=%00",
        "observer=%00",
        "view=x",
        "nothing=1",
        "reveal=maybe",
        "%=%",
        "last_event_id=x",
        "last_event_id=s.1:2",
        "last_event_id=s.0:0:",
        "last_event_id=r.1:2:.1:2:.9.x",
        "last_event_id=s.1:2:';--",
        "text=%27%20OR%201%3D1",
        "account=%27%3B--",
        "type=*",
        "type=**",
        "type=%25",
        "text=%25%25",
        "text=%5C",
    ];
    for path in paths {
        let (status, _) = api.error("GET", path, None).await;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
    for query in queries {
        for path in ["/v1/events", "/v1/dead", "/v1/events/stream", "/v1/events/00000000", "/v1/catalog", "/v1/info"] {
            let target = format!("{path}?{query}");
            let head = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            let mut stream = server.admin.open(head.as_bytes()).await;
            let mut start = [0; 12];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut start).await.unwrap();
            let status: u16 = std::str::from_utf8(&start[9..]).unwrap().parse().unwrap();
            assert!(status == 200 || (400..500).contains(&status), "{target}: {status}");
        }
    }
    let bodies: [&[u8]; 9] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{\"letters\":1}",
        b"\xff\xfe",
        b"{\"letters\":[{}]}",
        &[b'['; 10_000],
        b"{\"token\":null}",
    ];
    for path in ["/v1/dead/retry", "/v1/dead/drop", "/v1/events/ffffffff/replay", "/v1/samples", "/session"] {
        for body in bodies {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let answer = server.admin.send(&[head.as_bytes(), body].concat()).await;
            assert!((400..500).contains(&answer.status), "{path} {}: {answer:?}", String::from_utf8_lossy(body));
        }
    }
    // Random bytes in the place of paths and queries.
    let mut state = 1_u64;
    for _ in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..20 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push((state >> 56) as u8);
        }
        let path: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
        for target in [
            format!("/v1/events/{path}"),
            format!("/v1/events?before={path}"),
            format!("/v1/dead?before={path}"),
            format!("/{path}"),
        ] {
            let (status, _) = api.error("GET", &target, None).await;
            assert!((400..500).contains(&status), "{target}: {status}");
        }
    }
    assert_eq!(api.request("GET", "/v1/info", None).await.status, 200);
    assert_eq!(api.error("PUT", "/v1/events", None).await, (405, "wrong_method".to_owned()));
}
