//! Answers of WeCom AI bots.

use super::{Asked, Members};
use crate::{
    event::{Answer, Event as _, Reply, ReplyError},
    events::wecom_bot::{EnterChat, TemplateCardAction},
    replies::{
        rules::broken,
        wecom_bot::{CardReply, Reply as BotReply, WelcomeReply},
    },
};

/// The answer of a bot: to a message, to a user who opens the chat, to a click on a card.
pub(crate) fn reply(asked: &Asked<'_>, mut members: Members) -> Result<Answer, ReplyError> {
    if members.has("msgtype") || members.has("response_type") {
        return members.into_document().map(Answer::Body);
    }
    if asked.spec == Some(TemplateCardAction::SPEC) {
        members.kind(&["card"], &["userids"])?;
        let userids = members.texts("userids")?.unwrap_or_default();
        return CardReply::update_for(userids, members.take("card").unwrap_or_default()).into_answer();
    }
    let is_welcome = asked.spec == Some(EnterChat::SPEC);
    match (members.kind(&["text", "markdown", "card"], &[])?, is_welcome) {
        ("card", true) => WelcomeReply::template_card(members.take("card").unwrap_or_default()).into_answer(),
        ("card", false) => BotReply::template_card(members.take("card").unwrap_or_default()).into_answer(),
        ("text", true) => WelcomeReply::text(members.needed("text")?).into_answer(),
        ("markdown", true) => Err(broken("a welcome is `text` or `card`")),
        (kind, _) => BotReply::markdown(members.needed(kind)?).into_answer(),
    }
}
