//! Passive replies of WeCom applications (企业微信).

mod card;
mod inputs;
mod parts;
#[cfg(test)]
mod tests;

pub use card::{
    ButtonInteractionCard, MultipleInteractionCard, NewsNoticeCard, TemplateCard, TextNoticeCard, VoteInteractionCard,
};
pub use inputs::{Button, CheckBox, CheckBoxMode, CheckOption, SelectOption, Selector, SubmitButton};
pub use parts::{
    ActionMenu, CardAction, CardImage, DescColor, EmphasisContent, HorizontalContent, HorizontalType, ImageTextArea,
    Jump, Link, LinkType, MainTitle, MenuAction, QuoteArea, Source, VerticalContent,
};

use super::passive::Passive;
pub use super::passive::{Article, MAX_ARTICLES, MAX_TEXT_BYTES, Video};
use crate::event::{Answer, ReplyError};

/// What the member is answered in the response itself (被动回复); always sent encrypted.
///
/// Reaches the member only from events that accept it, which have this reply type. The default says nothing.
///
/// ```
/// # use echostr_protocol::replies::wecom::{Link, Reply, TextNoticeCard};
/// let text = Reply::text("Approved.");
/// let card = Reply::update_template_card(
///     TextNoticeCard::new(Link::url("https://app.example/d")).with_sub_title_text("Li Lei asks for three days"),
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Reply(Passive);

impl Reply {
    /// Says nothing: the platform gets an empty 200, the member sees no answer.
    pub fn none() -> Self {
        Self::default()
    }

    /// Text; refused when empty. What happens to one above [`MAX_TEXT_BYTES`] is `long_text` of the account.
    pub fn text(content: impl Into<String>) -> Self {
        Self(Passive::text(content.into()))
    }

    /// Picture that was uploaded by the same application.
    pub fn image(media_id: impl Into<String>) -> Self {
        Self(Passive::image(media_id.into()))
    }

    /// Voice message that was uploaded by the same application.
    pub fn voice(media_id: impl Into<String>) -> Self {
        Self(Passive::voice(media_id.into()))
    }

    /// Video that was uploaded by the same application; title and description are optional.
    pub fn video(media_id: impl Into<String>) -> Video {
        Video::new(media_id.into())
    }

    /// 1 to [`MAX_ARTICLES`] articles.
    pub fn news(articles: impl IntoIterator<Item = Article>) -> Self {
        Self(Passive::news(articles.into_iter().collect()))
    }

    /// Changes the text of the button that the member pressed, and makes it inactive, for that member only. Answers
    /// `template_card_event`.
    pub fn update_button(replace_name: impl Into<String>) -> Self {
        Self(Passive::wrapped("update_button", "Button", "ReplaceName", replace_name.into()))
    }

    /// The older form of [`Reply::update_button`], for task cards: answers `taskcard_click`.
    pub fn update_taskcard(replace_name: impl Into<String>) -> Self {
        Self(Passive::wrapped("update_taskcard", "TaskCard", "ReplaceName", replace_name.into()))
    }

    /// Replaces the whole card, for the member who pressed it. Answers `template_card_event` and
    /// `template_card_menu_event`.
    pub fn update_template_card(card: impl Into<TemplateCard>) -> Self {
        Self(Passive::new("update_template_card", |document| card.into().write(document)))
    }
}

impl From<Video> for Reply {
    fn from(video: Video) -> Self {
        Self(Passive::video(video))
    }
}

impl crate::event::Reply for Reply {
    fn into_answer(self) -> Result<Answer, ReplyError> {
        self.0.into_answer()
    }
}
