//! temporary
use crate::event::{Answer, ReplyError};
/// temporary
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply;
impl crate::event::Reply for Reply {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        Ok(Answer::Default)
    }
}
