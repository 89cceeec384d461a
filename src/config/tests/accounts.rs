//! Accounts.

use super::*;

#[test]
fn checks_accounts() {
    check(
        "[mp.shop]\n",
        &[
            "c.toml:1: [mp.shop] missing `token`: without it nothing can be verified",
            "c.toml:1: [mp.shop] missing `app_id`",
        ],
    );
    check("[mp]\napp_id = \"wx1\"\n", &["c.toml:2: [mp] `app_id` must be in the table of an account: [mp.NAME]"]);
    let shop = "[mp.shop]\napp_id = \"wx1\"\ntoken = \"abc\"\n";
    let sales = "[wecom.sales]\ncorp_id = \"ww1\"\ntoken = \"abc\"\naes_key = \"KEY43\"\n";
    let chat = "[im.chat]\nsdk_app_id = 14\ntoken = \"abc\"\n";
    let with = |account: &str, line: &str| format!("{account}{line}\n");
    for name in ["\"Shop\"", "\"a b\"", "\"\"", &"a".repeat(65)] {
        let error = parse(&format!("[mp.{name}]\napp_id = \"wx1\"\ntoken = \"abc\"\n")).unwrap_err().to_string();
        let rule = "the name of an account must be 1 to 64 of a-z, 0-9, `_` and `-`: it is in the route";
        assert!(error.starts_with("c.toml:1: [mp.") && error.ends_with(rule) && error.lines().count() == 1, "{error}");
    }
    check(
        "[mp.shop]\napp_id = \"gh_0123\"\ntoken = \"abc\"\n",
        &["c.toml:2: [mp.shop] `app_id` must be an id such as \"wx0123456789abcdef\"; \
           one that begins with `gh_` is the original id, not the AppID"],
    );
    check(
        "[mp.shop]\napp_id = \"\"\ntoken = \"a b\"\n",
        &[
            "c.toml:2: [mp.shop] `app_id` must be an id such as \"wx0123456789abcdef\"",
            "c.toml:3: [mp.shop] `token` contains a space, control or non-ASCII character",
        ],
    );
    check(
        &with(shop, "aes_key = \"short\""),
        &["c.toml:4: [mp.shop] `aes_key` must be the EncodingAESKey of the console, 43 characters; it has 5"],
    );
    check(
        &with(shop, "aes_key = \"KEY43=\""),
        &["c.toml:4: [mp.shop] `aes_key` must be the EncodingAESKey of the console, 43 letters and digits; \
           leave off the `=` at its end"],
    );
    check(
        &with(shop, "aes_key_previous = \"KEY43\""),
        &["c.toml:4: [mp.shop] `aes_key_previous` needs `aes_key`; a single one is written there"],
    );
    check(
        "[mp.shop]\napp_id = \"wx1\"\ntoken_previous = \"abc\"\n",
        &[
            "c.toml:1: [mp.shop] missing `token`: without it nothing can be verified",
            "c.toml:3: [mp.shop] `token_previous` needs `token`; a single one is written there",
        ],
    );
    check(
        &with(shop, "mode = \"safe\""),
        &["c.toml:4: [mp.shop] `mode` needs `aes_key` when it is \"safe\" or \"compat\""],
    );
    check(
        &with(shop, "mode = \"Safe\""),
        &["c.toml:4: [mp.shop] `mode` must be \"plain\", \"compat\" or \"safe\"; did you mean `safe`?"],
    );
    check(&with(shop, "deadline = \"5s\""), &["c.toml:4: [mp.shop] `deadline` must be from 1ms to 4999ms"]);
    check(&with(shop, "deadline = \"0ms\""), &["c.toml:4: [mp.shop] `deadline` must be from 1ms to 4999ms"]);
    check(&with(chat, "deadline = \"2s\""), &["c.toml:4: [im.chat] `deadline` must be from 1ms to 1999ms"]);
    check(
        &with(shop, "late_reply = \"send\""),
        &["c.toml:4: [mp.shop] `late_reply` \"send\" needs `secret`, the reply is sent through the API"],
    );
    check(
        &with(shop, "late_reply = \"next\"\nlate_text = \" \"\nlate_keep = \"2d\"\nlate_next_runs = \"yes\""),
        &[
            "c.toml:5: [mp.shop] `late_text` must be a text of up to 2048 bytes, with something to see",
            "c.toml:6: [mp.shop] `late_keep` must be from 1s to 1d",
            "c.toml:7: [mp.shop] `late_next_runs` must be true or false, not a string",
        ],
    );
    check(
        &with(shop, &format!("late_text = \"{}\"", "x".repeat(2_049))),
        &["c.toml:4: [mp.shop] `late_text` must be a text of up to 2048 bytes, with something to see"],
    );
    check(
        &with(shop, "late_reply = \"nxt\""),
        &["c.toml:4: [mp.shop] `late_reply` must be \"hold\", \"send\", \"next\" or \"drop\"; did you mean `next`?"],
    );
    check(&with(shop, "on_error = \"allow\""), &["c.toml:4: [mp.shop] `on_error` must be \"default\""]);
    check(&with(chat, "on_timeout = \"default\""), &["c.toml:4: [im.chat] `on_timeout` must be \"allow\" or \"deny\""]);
    check("[im.chat]\ntoken = \"abc\"\n", &["c.toml:1: [im.chat] missing `sdk_app_id`"]);
    check(
        "[im.chat]\ntoken = \"abc\"\nsdk_app_id = \"14\"\n",
        &["c.toml:3: [im.chat] `sdk_app_id` must be a whole number from 1 to 4294967295, not a string"],
    );
    check(
        "[wecom.sales]\ncorp_id = \"ww1\"\ntoken = \"abc\"\nagent_id = -1\n",
        &[
            "c.toml:1: [wecom.sales] missing `aes_key`: this platform always encrypts",
            "c.toml:4: [wecom.sales] `agent_id` must be a whole number from 0 to 4294967295",
        ],
    );
    let url = "a URL such as \"https://api.example.com\", without user, query and fragment";
    for wrong in ["ftp://x", "https://", "https://u:p@x", "https://x/?a=1", "https://x:99999", "https://x:+1", "x"] {
        check(
            &with(sales, &format!("api_base = \"{wrong}\"")),
            &[&format!("c.toml:5: [wecom.sales] `api_base` must be {url}")],
        );
    }
    let path = "a path such as \"/callback/shop\": it begins with `/`, has letters, digits, `-`, `_`, `.` and `~` \
                between slashes, and no empty, `.` or `..` part; requests may have a slash at the end, and a query, \
                which are not written here";
    for wrong in ["callback", "/", "//", "/a/", "/a/../b", "/{id}", "/a?b", "/a b", "/$APPID$/a"] {
        check(&with(shop, &format!("path = \"{wrong}\"")), &[&format!("c.toml:4: [mp.shop] `path` must be {path}")]);
    }
    check(
        &format!("{shop}path = \"/im/chat\"\n{chat}"),
        &["c.toml:5: [im.chat] `path` is already used by mp/shop (line 4)"],
    );
    for (table, wrong) in [
        (
            "[openplatform.x]\nrelease_test = 1\n",
            "2: [openplatform.x] `release_test` must be true or false, not an integer",
        ),
        ("[openplatform.x]\nagent_id = 1\n", "1: [openplatform.x] missing `component_app_id`"),
        (
            "[wecom_suite.x]\nreceive_ids = \"any\"\n",
            "2: [wecom_suite.x] `receive_ids` must be a list of CorpIDs or \"any\"",
        ),
        ("[wecom_bot.x]\nlate_reply = \"hold\"\n", "2: [wecom_bot.x] `late_reply` does not apply to [wecom_bot]"),
        ("[wecom_kf.x]\nlate_reply = \"next\"\n", "2: [wecom_kf.x] `late_reply` does not apply to [wecom_kf]"),
        ("[im.x]\nlate_reply = \"next\"\n", "2: [im.x] `late_reply` does not apply to [im]"),
        ("[wecom_suite.x]\nlate_reply = \"send\"\n", "2: [wecom_suite.x] `late_reply` must be \"next\" or \"drop\""),
    ] {
        let shown = everything_shown(table);
        assert!(shown.contains(wrong), "{shown}");
    }
    let suite =
        "[wecom_suite.x]\nsuite_id = \"ww1\"\nprovider_corp_id = \"ww3\"\ntoken = \"abc\"\naes_key = \"KEY43\"\n"
            .replace("KEY43", KEY);
    let account = |ids: &str| good(&format!("{suite}receive_ids = {ids}\n")).accounts.remove(0);
    let some = account("[\"ww2\"]");
    assert_eq!((some.receive_ids.join(" ").as_str(), some.receives_for_any), ("ww1 ww3 ww2", false));
    let any = account("[\"ww2\", \"any\"]");
    assert_eq!((any.receive_ids.join(" ").as_str(), any.receives_for_any), ("ww1 ww3 ww2", true));
}

/// Accounts of IM, with these lines each.
fn im_accounts(lines: &[&str]) -> String {
    let account =
        |(at, more): (usize, &&str)| format!("[im.a{at}]\nsdk_app_id = {}\ntoken = \"abc\"\n{more}\n", at + 1);
    lines.iter().enumerate().map(account).collect()
}

#[test]
fn an_account_has_a_share_of_what_is_in_flight() {
    let shares = |server: &str, accounts: &[&str]| {
        let config = good(&format!("[server]\n{server}\n{}", im_accounts(accounts)));
        let shares: Vec<_> = config.accounts.iter().map(|it| (it.share.most, it.share.reserved)).collect();
        assert!(config.accounts.iter().all(|it| it.share.of == config.server.max_in_flight));
        (shares, config.shared_in_flight())
    };
    assert_eq!(shares("", &[""]), (vec![(4096, 2048)], 2048));
    assert_eq!(shares("", &["", ""]), (vec![(2048, 1024), (2048, 1024)], 2048));
    assert_eq!(shares("max_in_flight = 1", &["", "", ""]), (vec![(1, 0); 3], 1));
    assert_eq!(shares("max_in_flight_per_account = 4096", &["", ""]), (vec![(4096, 1024); 2], 2048));
    let own = shares(
        "max_in_flight = 100\nmax_in_flight_per_account = 30",
        &["max_in_flight = 7", "max_in_flight = 100", ""],
    );
    assert_eq!(own, (vec![(7, 7), (100, 16), (30, 16)], 61));

    check(
        "[server]\nmax_in_flight = 10\nmax_in_flight_per_account = 11\n",
        &["c.toml:3: [server] `max_in_flight_per_account` must not be more than `max_in_flight` of [server], 10"],
    );
    check(
        "[im.chat]\nsdk_app_id = 3\ntoken = \"abc\"\nmax_in_flight = 5000\n",
        &["c.toml:4: [im.chat] `max_in_flight` must not be more than `max_in_flight` of [server], 4096"],
    );
    check(
        "[im.chat]\nsdk_app_id = 3\ntoken = \"abc\"\nmax_in_flight = 0\n",
        &["c.toml:4: [im.chat] `max_in_flight` must be a whole number from 1 to 1000000"],
    );
}

#[test]
fn an_address_that_the_console_refuses_is_a_warning() {
    let refused =
        |lines: &str| warnings(lines).iter().any(|warning| warning.contains("the console refuses `_` in addresses"));
    assert!(refused("[im.my_chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\n"));
    assert!(!refused("[im.my_chat]\nsdk_app_id = 1400000001\ntoken = \"imToken\"\npath = \"/im/chat\"\n"));
}
