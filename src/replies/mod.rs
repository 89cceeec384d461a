//! What handlers answer: built by hand, so that what a platform refuses cannot be said.

pub mod im;
pub mod mp;
pub mod wecom;

use crate::{
    event::{Answer, Reply, ReplyError},
    payload::Object,
};

/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Body;
impl Reply for Body {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Body(Object::default()))
    }
}
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawReply;
impl Reply for RawReply {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
