//! temporary
use crate::event::{Answer, Reply, ReplyError};
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeforeFriendAddResp;
impl Reply for BeforeFriendAddResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeforeFriendResponseResp;
impl Reply for BeforeFriendResponseResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeforePrivateMessageSendResp;
impl Reply for BeforePrivateMessageSendResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeforeGroupCreateResp;
impl Reply for BeforeGroupCreateResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeforeApplyJoinGroupResp;
impl Reply for BeforeApplyJoinGroupResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeforeInviteJoinGroupResp;
impl Reply for BeforeInviteJoinGroupResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeforeGroupMessageSendResp;
impl Reply for BeforeGroupMessageSendResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeforeTopicCreateResp;
impl Reply for BeforeTopicCreateResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatbotSignalMessageResp;
impl Reply for ChatbotSignalMessageResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeforeOfficialAccountCreateResp;
impl Reply for BeforeOfficialAccountCreateResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeforeOfficialAccountSubscribeResp;
impl Reply for BeforeOfficialAccountSubscribeResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BeforeOfficialAccountMessageSendResp;
impl Reply for BeforeOfficialAccountMessageSendResp {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}

/// temporary
pub fn default_verdict(
    _spec: &crate::event::EventSpec,
    _payload: &crate::payload::Value<'_>,
    _allow: bool,
) -> crate::payload::Object<'static> {
    crate::payload::Object::default()
}
