//! Platforms and, later in this file, events and the table that selects them.

use std::{fmt, str::FromStr};

/// A platform whose callbacks echostr receives.
///
/// The name ([`Platform::as_str`]) is the same everywhere: configuration table, route, module, event type prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Platform {
    /// WeChat Official Account (公众号).
    Mp,
    /// WeChat Mini Program, mini game and Weixin Store (小程序).
    MiniProgram,
    /// WeChat Open Platform, third-party platform (第三方平台).
    OpenPlatform,
    /// WeCom self-built application (企业微信自建应用).
    WeCom,
    /// WeCom third-party application (企业微信第三方应用).
    WeComSuite,
    /// WeCom customer service (微信客服).
    WeComKf,
    /// WeCom AI bot (智能机器人).
    WeComBot,
    /// Tencent Cloud Chat (即时通信 IM).
    Im,
}

impl Platform {
    /// Every platform, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Mp,
        Self::MiniProgram,
        Self::OpenPlatform,
        Self::WeCom,
        Self::WeComSuite,
        Self::WeComKf,
        Self::WeComBot,
        Self::Im,
    ];

    /// The name used in configuration, routes and event types.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mp => "mp",
            Self::MiniProgram => "miniprogram",
            Self::OpenPlatform => "openplatform",
            Self::WeCom => "wecom",
            Self::WeComSuite => "wecom_suite",
            Self::WeComKf => "wecom_kf",
            Self::WeComBot => "wecom_bot",
            Self::Im => "im",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no platform; known are mp, miniprogram, openplatform, wecom, wecom_suite, wecom_kf, wecom_bot, im")]
pub struct UnknownPlatform(pub String);

impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(name: &str) -> Result<Self, UnknownPlatform> {
        Self::ALL.into_iter().find(|platform| platform.as_str() == name).ok_or_else(|| UnknownPlatform(name.to_owned()))
    }
}
