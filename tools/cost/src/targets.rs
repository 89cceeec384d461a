//! Targets of the bodies: an account of every platform and mode, with signed and unsigned requests.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use echostr::{
    crypto::EncodingKey,
    envelope::{Keys, Mode, ReceiveIds, Sender},
    event::Platform,
    payload::Form,
    secret::Secret,
};

use crate::Failure;

const TOKEN: &str = "echostrCostToken";
const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
const SDK_APP_ID: u64 = 1_400_000_000;

/// The configuration that the targets need. Requests are signed long before some are sent.
pub(crate) fn config(listen: SocketAddr, admin: SocketAddr) -> String {
    let keys = format!("token = \"{TOKEN}\"\naes_key = \"{AES_KEY}\"");
    format!(
        r#"[server]
listen = "{listen}"
[admin]
listen = "{admin}"
[journal]
url = "memory:"
[mp.plain]
app_id = "wx1"
token = "{TOKEN}"
mode = "plain"
[mp.compat]
app_id = "wx1"
mode = "compat"
{keys}
[mp.safe]
app_id = "wx1"
{keys}
[miniprogram.safe]
app_id = "wx1"
{keys}
[openplatform.safe]
component_app_id = "wx1"
{keys}
[wecom.safe]
corp_id = "wx1"
agent_id = 1
{keys}
[wecom_suite.safe]
suite_id = "wx1"
receive_ids = ["any"]
{keys}
[wecom_kf.safe]
corp_id = "wx1"
{keys}
[wecom_bot.safe]
{keys}
[im.open]
sdk_app_id = {SDK_APP_ID}
[handlers.demo]
welcome = "Welcome!"
blocked = ["u_3108"]
banned_words = ["gambling"]
"#
    )
}

/// An account, and how it is sent to.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    path: &'static str,
    keys: Keys,
    /// Whether the sender has the token and the key, or the account wants none.
    pub(crate) trusted: bool,
    /// The platforms whose events it may receive.
    pub(crate) events: &'static [Platform],
    /// The event of an ordinary text, and the field that has it.
    pub(crate) ordinary: (&'static str, &'static str),
}

impl Target {
    pub(crate) fn all() -> Result<Vec<Self>, Failure> {
        use Platform::{Im, MiniProgram, Mp, OpenPlatform, WeCom, WeComBot, WeComKf, WeComSuite};
        const MP_TEXT: (&str, &str) = ("mp.message.text", "Content");
        const WECOM_TEXT: (&str, &str) = ("wecom.message.text", "Content");
        let target = |name, path, platform, mode, events, ordinary| -> Result<[Self; 2], Failure> {
            let keys = || keys(platform, mode);
            Ok([
                Self { name, path, keys: keys()?, trusted: true, events, ordinary },
                Self { name, path, keys: keys()?, trusted: false, events, ordinary },
            ])
        };
        let all = [
            target("mp, plain", "/mp/plain", Mp, Mode::Plain, &[Mp, MiniProgram], MP_TEXT)?,
            target("mp, compat", "/mp/compat", Mp, Mode::Plain, &[Mp, MiniProgram], MP_TEXT)?,
            target("mp", "/mp/safe", Mp, Mode::Safe, &[Mp, MiniProgram], MP_TEXT)?,
            target(
                "miniprogram",
                "/miniprogram/safe",
                MiniProgram,
                Mode::Safe,
                &[MiniProgram, Mp],
                ("miniprogram.message.text", "Content"),
            )?,
            target("openplatform", "/openplatform/safe", OpenPlatform, Mode::Safe, &[OpenPlatform, Mp], MP_TEXT)?,
            target("wecom", "/wecom/safe", WeCom, Mode::Safe, &[WeCom], WECOM_TEXT)?,
            target("wecom_suite", "/wecom_suite/safe", WeComSuite, Mode::Safe, &[WeComSuite, WeCom], WECOM_TEXT)?,
            target("wecom_kf", "/wecom_kf/safe", WeComKf, Mode::Safe, &[WeCom, WeComKf], WECOM_TEXT)?,
            target(
                "wecom_bot",
                "/wecom_bot/safe",
                WeComBot,
                Mode::Safe,
                &[WeComBot],
                ("wecom_bot.message.text", "content"),
            )?,
            target("im, no token", "/im/open", Im, Mode::Plain, &[Im], ("im.command.c2c.before_send_msg", "Text"))?,
        ];
        // The last one needs no token.
        let unsigned = |target: &Self| !target.trusted && target.keys.platform == Im;
        Ok(all.into_iter().flatten().filter(|target| !unsigned(target)).collect())
    }

    /// How much of a payload fits into a body of this size.
    pub(crate) const fn room(&self, body: usize) -> usize {
        // Base64 of whole blocks, in a document.
        if self.trusted && matches!(self.keys.mode, Mode::Safe) { (body - 512) / 4 * 3 } else { body }
    }

    /// Where a payload is posted, and the body. No two are alike.
    pub(crate) fn request(&self, payload: String, form: Form, command: Option<&str>, serial: u64) -> (String, String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if !self.trusted {
            let zeros = "0".repeat(40);
            let query = match self.keys.mode {
                Mode::Safe => format!("signature={zeros}&msg_signature={zeros}&timestamp={now}&nonce={serial}"),
                _ => format!("signature={zeros}&timestamp={now}&nonce={serial}"),
            };
            return (format!("{}?{query}", self.path), payload);
        }
        let random = u128::from(serial).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).to_le_bytes();
        let (now, nonce) = (i64::try_from(now).unwrap_or_default(), serial.to_string());
        let request = Sender::new(&self.keys)
            .deliver(&payload, form, command, now, &nonce, random)
            .expect("a payload of less than 4 GiB");
        (format!("{}?{}", self.path, request.query), request.body)
    }

    /// Of what bodies of anybody are made: the envelope, in both forms.
    pub(crate) const ENVELOPES: [(Form, &'static str); 2] = [
        (Form::Xml, "<xml><ToUserName>wx1</ToUserName><AgentID>1</AgentID><Encrypt>AAAA</Encrypt></xml>"),
        (Form::Json, r#"{"ToUserName":"wx1","encrypt":"AAAA","Encrypt":"AAAA"}"#),
    ];
}

fn keys(platform: Platform, mode: Mode) -> Result<Keys, Failure> {
    let rules = platform.protocol().account();
    let id = if rules.has_empty_id { "" } else { "wx1" };
    Ok(Keys {
        platform,
        tokens: if rules.token_is_optional { Vec::new() } else { vec![Secret::new(TOKEN)] },
        aes_keys: vec![EncodingKey::parse(AES_KEY)?],
        receive_ids: ReceiveIds::OneOf(vec![id.to_owned()]),
        mode,
        max_age: None,
        sdk_app_id: Some(SDK_APP_ID),
    })
}
