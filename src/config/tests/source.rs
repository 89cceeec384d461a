//! `source` of an account, and `unsigned_limit` of `[server]`.

use super::{check, good, warnings};
use crate::config::SourceCheck;

const WX: &str = "app_id = \"wx1\"\ntoken = \"abc\"\naes_key = \"KEY43\"\n";
const SECRET: &str = "secret = \"s\"\n";

fn with_key(text: &str) -> String {
    text.replace("KEY43", super::KEY)
}

#[test]
fn it_is_off_warn_or_enforce_where_the_platform_has_a_list() {
    for (table, ids) in [
        ("mp.x", "app_id = \"wx1\""),
        ("miniprogram.x", "app_id = \"wx1\""),
        ("openplatform.x", "component_app_id = \"wx1\""),
        ("wecom.x", "corp_id = \"ww1\""),
        ("wecom_kf.x", "corp_id = \"ww1\""),
    ] {
        let account = with_key(&format!("[{table}]\n{ids}\ntoken = \"abc\"\naes_key = \"KEY43\"\n{SECRET}"));
        assert_eq!(good(&account).accounts[0].source, SourceCheck::Off, "{table}");
        for check in [SourceCheck::Off, SourceCheck::Warn, SourceCheck::Enforce] {
            let text = format!("{account}source = \"{}\"\n", check.as_str());
            assert_eq!((good(&text).accounts[0].source, warnings(&text)), (check, Vec::new()), "{table}");
        }
    }
    let why = ": its accounts cannot fetch a list of the addresses that it calls from";
    check(
        "[im.chat]\nsdk_app_id = 3\ntoken = \"abc\"\nsource = \"warn\"\n",
        &[&format!("c.toml:4: [im.chat] `source` does not apply to [im]{why}")],
    );
    for (table, ids) in [("wecom_suite", "suite_id = \"ww1\""), ("wecom_bot", "")] {
        check(
            &format!("[{table}.x]\nsource = \"off\"\n{ids}\ntoken = \"abc\"\naes_key = \"KEY43\"\n"),
            &[&format!("c.toml:2: [{table}.x] `source` does not apply to [{table}]{why}")],
        );
    }
    check(
        &format!("[mp.x]\nsource = \"enforced\"\n{WX}{SECRET}"),
        &["c.toml:2: [mp.x] `source` must be \"off\", \"warn\" or \"enforce\"; did you mean `enforce`?"],
    );
    check(
        &format!("[mp.x]\nsource = true\n{WX}{SECRET}"),
        &["c.toml:2: [mp.x] `source` must be \"off\", \"warn\" or \"enforce\", not a boolean"],
    );
}

#[test]
fn it_needs_the_secret_that_the_list_is_fetched_with() {
    for check_ in ["warn", "enforce"] {
        check(
            &format!("[mp.x]\n{WX}source = \"{check_}\"\n"),
            &["c.toml:5: [mp.x] `source` needs `secret`: the list of the platform's addresses is fetched with it"],
        );
    }
    assert_eq!(good(&with_key(&format!("[mp.x]\n{WX}source = \"off\"\n"))).accounts[0].source, SourceCheck::Off);
}

#[test]
fn a_proxy_that_is_not_named_is_a_warning() {
    let text = |server: &str| with_key(&format!("[server]\n{server}\n[mp.x]\n{WX}{SECRET}source = \"enforce\"\n"));
    let warning = "[mp.x] `source = \"enforce\"`: only this machine can reach `listen` of [server], so every request seems to come \
                   from the proxy on it; name that in `trusted_proxies`";
    for listen in ["127.0.0.1:8080", "[::1]:8080", "127.9.0.1:1", "[::ffff:127.0.0.1]:1"] {
        assert_eq!(warnings(&text(&format!("listen = \"{listen}\""))), [format!("c.toml:8: {warning}")], "{listen}");
        assert_eq!(
            warnings(&text(&format!("listen = \"{listen}\"\ntrusted_proxies = [\"127.0.0.1\"]"))),
            [""; 0],
            "{listen}"
        );
    }
    for listen in ["0.0.0.0:8080", "[::]:8080", "10.0.0.5:8080"] {
        assert_eq!(warnings(&text(&format!("listen = \"{listen}\""))), [""; 0], "{listen}");
    }
}

#[test]
fn the_limit_of_what_is_unsigned_is_a_number() {
    assert_eq!(good("").server.unsigned_limit, 20);
    for limit in [0, 1, 10_000] {
        assert_eq!(good(&format!("[server]\nunsigned_limit = {limit}\n")).server.unsigned_limit, limit);
    }
    for wrong in ["10001", "-1", "99999999999999999999"] {
        check(
            &format!("[server]\nunsigned_limit = {wrong}\n"),
            &["c.toml:2: [server] `unsigned_limit` must be a whole number from 0 to 10000"],
        );
    }
}
