//! WeChat Mini Programs, mini games and Weixin Store (小程序).

use super::{
    AccountRules, Platform, envelope, message,
    mp::{ACCOUNT, API},
    wechat::{self, Messaging, Unknown},
};
use crate::{events::miniprogram::TABLE, replies::json};

pub(super) static MINI_PROGRAM: Messaging = Messaging {
    account: AccountRules { shows_replies: false, ..ACCOUNT },
    api: API,
    envelope: envelope::BY_MODE,
    table: &TABLE,
    // Some events of Official Accounts reach Mini Programs.
    receives_of: &[Platform::Mp],
    unknown: Unknown { message: "miniprogram.message.unknown", event: "miniprogram.event.unknown" },
    success: wechat::SUCCESS,
    message: |_, reply| message::of_mini_program(reply),
    reply_from_json: json::mp,
};
