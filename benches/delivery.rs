//! What each step of a delivery costs: open (verify, decrypt), read (parse, identify, decode), dispatch (everything from
//! the request to the answer, without HTTP), seal. `scripts/load.sh` measures the whole server.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use echostr::{
    clock::Clock,
    config::Config,
    envelope::{Query, Request, Sender},
    events::{im, mp, wecom},
    hooks::{Context, Hooks},
    internals::{
        delivery::{Endpoint, Receiver, Response},
        journal::{Options, memory::MemoryJournal},
        metrics::Metrics,
        supervisor::Supervisor,
    },
    payload::{self, Form},
    platform,
    replies::{self, im::BeforeFriendAddResp},
};
use tokio::runtime::{Builder, Runtime};

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOW: i64 = 1_735_689_600;

/// Deliveries that are made at one time: each must be a new event, and is made outside of the measurement.
const CHUNK: u64 = 1_000;

const CONFIG: &str = r#"
[admin]
listen = "127.0.0.1:0"
[journal]
url = "memory:"
[mp.safe]
app_id = "wx0123456789abcdef"
token = "echostrBench"
aes_key = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
[mp.plain]
app_id = "wx0123456789abcdef"
token = "echostrBench"
[im.chat]
sdk_app_id = 1400000000
token = "echostrBench"
[wecom.sales]
corp_id = "ww0123456789abcdef"
token = "echostrBench"
aes_key = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
"#;

/// 370 bytes, as texts mostly are; `%` is where the number goes that makes each an event of its own.
const TEXT: &str = "<xml><ToUserName><![CDATA[gh_3c884a361561]]></ToUserName><FromUserName>\
    <![CDATA[oHx9k6Q2bTnV4yZcR8wLmJ1sPe5A]]></FromUserName><CreateTime>1735689600</CreateTime><MsgType>\
    <![CDATA[text]]></MsgType><MsgId>2476291%</MsgId><Content><![CDATA[When do you open on Sunday, and is there a table \
    for six of us at about eight? We would like to sit outside if the weather is fine.........]]></Content></xml>";

const FRIEND_ADD: &str = r#"{"CallbackCommand":"Sns.CallbackPrevFriendAdd","Requester_Account":"u_2041","From_Account":"u_2041","FriendItem":[{"To_Account":"u_%","Remark":"night shift","GroupName":"depot","AddSource":"AddSource_Type_Web","AddWording":"Hi, shift lead here, from the night shift"}],"AddType":"Add_Type_Both","ForceAddFlags":0,"EventTime":1735689600000,"OptPlatform":"Web"}"#;

const REPLY: &str = "<xml><ToUserName><![CDATA[oHx9k6Q2bTnV4yZcR8wLmJ1sPe5A]]></ToUserName><FromUserName>\
    <![CDATA[gh_3c884a361561]]></FromUserName><CreateTime>1735689600</CreateTime><MsgType><![CDATA[text]]></MsgType>\
    <Content><![CDATA[echo: When do you open on Sunday, and is there a table for six of us?]]></Content></xml>";

/// One account, and what it is sent.
struct Case {
    endpoint: Arc<Endpoint>,
    form: Form,
    command: Option<&'static str>,
    template: &'static str,
}

impl Case {
    fn payload(&self, serial: u64) -> String {
        self.template.replace('%', &format!("{serial:010}"))
    }

    fn request(&self, serial: u64) -> Request {
        let (nonce, random) = (serial.to_string(), u128::from(serial).to_le_bytes());
        let payload = self.payload(serial);
        Sender::new(&self.endpoint.keys)
            .deliver(&payload, self.form, self.command, NOW, &nonce, random)
            .expect("it is short")
    }
}

fn cases() -> Vec<Case> {
    let config = Config::parse(CONFIG, "bench", |name| std::env::var(name)).expect("the configuration is valid");
    let metrics = Metrics::new();
    let accounts = config.accounts.into_iter();
    let case = |account| {
        let endpoint = Arc::new(Endpoint::new(account, &metrics).expect("the keys are valid"));
        let im = &*endpoint.id == "im/chat";
        let (form, template) = if im { (Form::Json, FRIEND_ADD) } else { (Form::Xml, TEXT) };
        Case { endpoint, form, template, command: im.then_some("Sns.CallbackPrevFriendAdd") }
    };
    accounts.map(case).collect()
}

fn hooks() -> Hooks {
    Hooks::default()
        .on(async |message: mp::TextMessage, _: Context| {
            Ok(replies::mp::Reply::text(format!("echo: {}", message.content)))
        })
        .on(async |message: wecom::TextMessage, _: Context| {
            Ok(replies::wecom::Reply::text(format!("echo: {}", message.content)))
        })
        .on(async |event: im::BeforeFriendAdd, _: Context| Ok(BeforeFriendAddResp::for_event(&event)))
}

fn open(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    let request = case.request(0);
    group.bench_function("open", |bencher| {
        bencher.iter(|| {
            let query = Query::parse(black_box(&request.query)).expect("the query is valid");
            case.endpoint.keys.open(&query, black_box(request.body.as_bytes()), NOW).expect("it opens")
        });
    });
}

fn read(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    let text = case.payload(0);
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let tree = payload::parse(case.form, black_box(&text)).expect("it is well-formed");
            let identity = platform::identify(case.endpoint.keys.platform, &tree, case.command);
            identity.spec.expect("it is known").decode(&tree, case.form).expect("it has its shape")
        });
    });
}

fn dispatch(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    // So small that it is full before anything is measured.
    let supervisor = Supervisor::default();
    let options = Options {
        retention: Duration::MAX,
        max_size: 4 << 20,
        observers: Vec::new(),
        supervisor,
        clock: Clock::system(),
        commits: None,
    };
    let journal = Arc::new(MemoryJournal::new(&options));
    let hooks = Arc::new(hooks());
    let receiver = Receiver::new(hooks, journal, Clock::fixed(NOW), usize::from(u16::MAX));
    let receiver = Arc::new(receiver);
    let mut serial = 0;
    group.bench_function("dispatch", |bencher| {
        bencher.iter_custom(|times| {
            let mut taken = Duration::ZERO;
            let mut left = times;
            while left > 0 {
                let count = left.min(CHUNK);
                let requests: Vec<_> = (serial..serial + count).map(|serial| case.request(serial)).collect();
                taken += deliver(&runtime, &receiver, &case.endpoint, requests);
                serial += count;
                left -= count;
            }
            taken
        });
    });
}

fn deliver(runtime: &Runtime, receiver: &Arc<Receiver>, endpoint: &Arc<Endpoint>, requests: Vec<Request>) -> Duration {
    let requests: Vec<_> = requests.into_iter().map(|request| (request.query, Bytes::from(request.body))).collect();
    runtime.block_on(async {
        let started = Instant::now();
        for (query, body) in requests {
            let response = receiver.receive(endpoint, &query, None, body, Instant::now()).await;
            assert!(matches!(response, Response::Answer { .. }), "{response:?}");
        }
        started.elapsed()
    })
}

fn seal(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    let request = case.request(0);
    let query = Query::parse(&request.query).expect("the query is valid");
    let verified = case.endpoint.keys.open(&query, request.body.as_bytes(), NOW).expect("it opens");
    let Some(seal) = verified.seal() else { return };
    group.bench_function("seal", |bencher| {
        bencher.iter(|| case.endpoint.keys.answer(seal, black_box(REPLY), NOW, "1372623149", [7; 16]));
    });
}

fn delivery(criterion: &mut Criterion) {
    for case in cases() {
        let mut group = criterion.benchmark_group(case.endpoint.id.replace('/', "_"));
        open(&mut group, &case);
        read(&mut group, &case);
        dispatch(&mut group, &case);
        seal(&mut group, &case);
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = delivery
}
criterion_main!(benches);
