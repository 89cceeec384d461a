//! The typed events: one module per platform, generated from the catalogue.
//!
//! A type is found by its wire name and by its Chinese term, too: search for `subscribe` or 关注. What every push of a platform
//! carries is in [`envelope`](mp::TextMessage::envelope); who sent it and when, each event says itself:
//!
//! ```
//! use echostr_protocol::events::mp;
//!
//! fn log(message: &mp::TextMessage) -> String {
//!     format!("{}: {} wrote {:?}", message.create_time(), message.from_user(), message.content)
//! }
//!
//! let mut message = mp::TextMessage::default();
//! message.envelope.from_user_name = "oFan_1".to_owned();
//! message.envelope.create_time = 1_735_689_600;
//! message.content = "hello".to_owned();
//! assert_eq!(log(&message), "1735689600: oFan_1 wrote \"hello\"");
//! ```
//!
//! | platform | methods of its events |
//! |---|---|
//! | [`mp`], [`miniprogram`], [`wecom`], events of [`openplatform`] and [`wecom_suite`] | `from_user`, `create_time` |
//! | [`wecom_bot`] | `from_user`, `create_time` |
//! | [`wecom_kf`] | `external_userid`, `send_time` |
//! | notices of [`openplatform`] | `create_time` |
//! | notices of [`wecom_suite`] | `auth_corp_id` or `paid_corp_id`, `time_stamp` |
//!
//! Callbacks of [`im`] have no fields in common but the command.

mod helpers;
pub mod im;
pub mod miniprogram;
pub mod mp;
pub mod openplatform;
pub mod wecom;
pub mod wecom_bot;
pub mod wecom_kf;
pub mod wecom_suite;

pub use helpers::ScannedProduct;
