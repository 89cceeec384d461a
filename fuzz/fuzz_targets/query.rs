//! Query strings are read without a panic; what is data of the event says the same without the rest.

#![no_main]

use echostr::envelope::Query;
use libfuzzer_sys::fuzz_target;

const SECRET: [&str; 8] =
    ["signature", "msg_signature", "timestamp", "nonce", "echostr", "encrypt_type", "Sign", "SdkAppid"];
const DATA: [&str; 5] = ["CallbackCommand", "ClientIP", "OptPlatform", "RequestTime", "RequestID"];

fuzz_target!(|text: &str| {
    let data = Query::data(text);
    assert_eq!(Query::data(&data), data);
    let Ok(query) = Query::parse(text) else { return };
    let kept = Query::parse(&data).expect("a part of a query that can be read can be read");
    for name in DATA {
        assert_eq!(kept.get(name), query.get(name), "{name}");
        assert_eq!(query.require(name).ok(), query.get(name));
    }
    for name in SECRET {
        assert_eq!(kept.get(name), None, "{name}");
    }
});
