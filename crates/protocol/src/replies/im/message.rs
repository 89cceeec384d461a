//! Verdicts on messages: they may also rewrite or drop one.

use super::{Decision, Extras, custom_codes, verdicts};
use crate::{
    event::ReplyError,
    events::im::MsgElement,
    payload::Object,
    replies::rules::{broken, text},
    wire::Wire,
};

/// What is delivered in the place of the message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::replies) struct Rewrite {
    pub(in crate::replies) msg_body: Option<Vec<MsgElement>>,
    pub(in crate::replies) cloud_custom_data: Option<String>,
}

impl Extras for Rewrite {
    fn write(self, allowed: bool, body: &mut Object<'static>) -> Result<(), ReplyError> {
        if !allowed && self != Self::default() {
            return Err(broken("a message that is not delivered cannot be rewritten"));
        }
        if let Some(elements) = self.msg_body {
            // Undocumented: the platform might deliver an empty message or the original one.
            if elements.is_empty() {
                return Err(broken("MsgBody is empty; leave it out to deliver the message unchanged"));
            }
            elements.write_field(body, "MsgBody");
        }
        if let Some(data) = self.cloud_custom_data {
            body.push("CloudCustomData", text(data));
        }
        Ok(())
    }
}

verdicts! {
    /// Verdict on a one-to-one message. A refused sender sees 20006, or the code of [`Self::deny`].
    BeforePrivateMessageSendResp(Rewrite);

    /// Verdict on a group message. A refused sender sees 10016, or the code of [`Self::deny`].
    BeforeGroupMessageSendResp(Rewrite);

    /// Verdict on a message of an in-app official account. A refused sender sees 10016, or the code of [`Self::deny`].
    BeforeOfficialAccountMessageSendResp(Rewrite);
}

custom_codes! {
    BeforePrivateMessageSendResp: 120_001..=130_000;
    BeforeGroupMessageSendResp: 10100..=10200;
    BeforeOfficialAccountMessageSendResp: 120_001..=130_000;
}

macro_rules! messages {
    ($($name:ident)+) => { $(
        impl $name {
            /// Delivers to nobody, while the sender sees success (`ErrorCode` 2).
            pub fn drop_silently() -> Self {
                Self { decision: Decision::Drop, ..Self::default() }
            }

            /// Delivers these elements in the place of the message; without this call it is delivered unchanged. An
            /// empty list is an error, and so is a verdict that does not deliver.
            pub fn with_msg_body(mut self, elements: impl IntoIterator<Item = MsgElement>) -> Self {
                self.extras.msg_body = Some(elements.into_iter().collect());
                self
            }

            /// Delivers the message with this custom data (消息自定义数据) in the place of its own. An error with a
            /// verdict that does not deliver.
            pub fn with_cloud_custom_data(mut self, data: impl Into<String>) -> Self {
                self.extras.cloud_custom_data = Some(data.into());
                self
            }
        }
    )+ };
}

messages! { BeforePrivateMessageSendResp BeforeGroupMessageSendResp BeforeOfficialAccountMessageSendResp }
