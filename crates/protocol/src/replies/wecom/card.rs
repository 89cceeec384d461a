//! The five template cards that a reply can put in the place of the one the member pressed.

use super::{
    inputs::{Button, CheckBox, Selector, SubmitButton},
    parts::{
        ActionMenu, CardAction, CardImage, EmphasisContent, HorizontalContent, ImageTextArea, Jump, LinkType,
        MainTitle, QuoteArea, Source, VerticalContent, with,
    },
};
use crate::{
    event::ReplyError,
    payload::{Object, Value},
    replies::rules::{at_most, broken, required, some_up_to, text},
    wire::{Fields, wire},
};

/// A card in the place of the one the member pressed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TemplateCard {
    /// Text notice (文本通知型).
    TextNotice(TextNoticeCard),
    /// News notice (图文展示型).
    NewsNotice(NewsNoticeCard),
    /// Buttons (按钮交互型).
    ButtonInteraction(ButtonInteractionCard),
    /// Vote (投票选择型).
    VoteInteraction(VoteInteractionCard),
    /// Several selectors (多项选择型).
    MultipleInteraction(MultipleInteractionCard),
}

impl TemplateCard {
    /// The kind of card as the platform calls it.
    pub const fn card_type(&self) -> &'static str {
        match self {
            Self::TextNotice(_) => "text_notice",
            Self::NewsNotice(_) => "news_notice",
            Self::ButtonInteraction(_) => "button_interaction",
            Self::VoteInteraction(_) => "vote_interaction",
            Self::MultipleInteraction(_) => "multiple_interaction",
        }
    }

    pub(super) fn write(&self, document: &mut Object<'static>) -> Result<(), ReplyError> {
        self.check()?;
        let mut card = Object::with_capacity(12);
        card.push("CardType", text(self.card_type()));
        match self {
            Self::TextNotice(fields) => fields.write_fields(&mut card),
            Self::NewsNotice(fields) => fields.write_fields(&mut card),
            Self::ButtonInteraction(fields) => fields.write_fields(&mut card),
            Self::VoteInteraction(fields) => fields.write_fields(&mut card),
            Self::MultipleInteraction(fields) => fields.write_fields(&mut card),
        }
        document.push("TemplateCard", Value::Object(card));
        Ok(())
    }

    fn check(&self) -> Result<(), ReplyError> {
        match self {
            Self::TextNotice(card) => card.check(),
            Self::NewsNotice(card) => card.check(),
            Self::ButtonInteraction(card) => card.check(),
            Self::VoteInteraction(card) => card.check(),
            Self::MultipleInteraction(card) => card.check(),
        }
    }
}

macro_rules! kinds {
    ($($variant:ident($card:ident),)*) => { $(
        impl From<$card> for TemplateCard {
            fn from(card: $card) -> Self {
                Self::$variant(card)
            }
        }
    )* };
}

kinds! {
    TextNotice(TextNoticeCard),
    NewsNotice(NewsNoticeCard),
    ButtonInteraction(ButtonInteractionCard),
    VoteInteraction(VoteInteractionCard),
    MultipleInteraction(MultipleInteractionCard),
}

wire! {
    /// Text notice (文本通知型).
    pub struct TextNoticeCard {
        /// Line that says where the card comes from.
        pub source: Option<Source> = "Source",
        /// Menu in the corner.
        pub action_menu: Option<ActionMenu> = "ActionMenu",
        /// Title.
        pub main_title: Option<MainTitle> = "MainTitle",
        /// Quotation.
        pub quote_area: Option<QuoteArea> = "QuoteArea",
        /// Key figure.
        pub emphasis_content: Option<EmphasisContent> = "EmphasisContent",
        /// Text below the title.
        pub sub_title_text: Option<String> = "SubTitleText",
        /// Rows, up to 6.
        pub horizontal_content_list: Vec<HorizontalContent> = "HorizontalContentList",
        /// Links, up to 3.
        pub jump_list: Vec<Jump> = "JumpList",
        /// Click on the card; must open something.
        pub card_action: CardAction = "CardAction",
    }

    /// News notice (图文展示型).
    pub struct NewsNoticeCard {
        /// Line that says where the card comes from.
        pub source: Option<Source> = "Source",
        /// Menu in the corner.
        pub action_menu: Option<ActionMenu> = "ActionMenu",
        /// Title.
        pub main_title: Option<MainTitle> = "MainTitle",
        /// Quotation.
        pub quote_area: Option<QuoteArea> = "QuoteArea",
        /// Picture with text beside it.
        pub image_text_area: Option<ImageTextArea> = "ImageTextArea",
        /// Picture over the width of the card.
        pub card_image: Option<CardImage> = "CardImage",
        /// Rows of title and text, up to 4.
        pub vertical_content_list: Vec<VerticalContent> = "VerticalContentList",
        /// Rows of key and value, up to 6.
        pub horizontal_content_list: Vec<HorizontalContent> = "HorizontalContentList",
        /// Links, up to 3.
        pub jump_list: Vec<Jump> = "JumpList",
        /// Click on the card; must open something.
        pub card_action: CardAction = "CardAction",
    }

    /// Buttons (按钮交互型).
    pub struct ButtonInteractionCard {
        /// Line that says where the card comes from.
        pub source: Option<Source> = "Source",
        /// Menu in the corner.
        pub action_menu: Option<ActionMenu> = "ActionMenu",
        /// Title.
        pub main_title: Option<MainTitle> = "MainTitle",
        /// Quotation.
        pub quote_area: Option<QuoteArea> = "QuoteArea",
        /// Text below the title.
        pub sub_title_text: Option<String> = "SubTitleText",
        /// Rows, up to 6.
        pub horizontal_content_list: Vec<HorizontalContent> = "HorizontalContentList",
        /// Click on the card.
        pub card_action: Option<CardAction> = "CardAction",
        /// Drop-down list.
        pub button_selection: Option<Selector> = "ButtonSelection",
        /// Buttons, 1 to 6.
        pub button_list: Vec<Button> = "ButtonList",
        /// Shown in the place of the buttons from now on.
        pub replace_text: Option<String> = "ReplaceText",
    }

    /// Vote (投票选择型).
    pub struct VoteInteractionCard {
        /// Line that says where the card comes from.
        pub source: Option<Source> = "Source",
        /// Title.
        pub main_title: Option<MainTitle> = "MainTitle",
        /// Choices.
        pub check_box: CheckBox = "CheckBox",
        /// Button that sends them.
        pub submit_button: Option<SubmitButton> = "SubmitButton",
        /// Shown in the place of the button from now on.
        pub replace_text: Option<String> = "ReplaceText",
    }

    /// Several selectors (多项选择型).
    pub struct MultipleInteractionCard {
        /// Line that says where the card comes from.
        pub source: Option<Source> = "Source",
        /// Title.
        pub main_title: Option<MainTitle> = "MainTitle",
        /// Selectors, 1 to 3.
        pub select_list: Vec<Selector> = "SelectList",
        /// Button that sends the choices.
        pub submit_button: Option<SubmitButton> = "SubmitButton",
        /// Shown in the place of the button from now on.
        pub replace_text: Option<String> = "ReplaceText",
    }
}

impl TextNoticeCard {
    /// A card with what a click on it opens, which must be a URL or a mini program.
    pub fn new(card_action: impl Into<CardAction>) -> Self {
        Self { card_action: card_action.into(), ..Self::default() }
    }

    fn check(&self) -> Result<(), ReplyError> {
        check_all(&self.action_menu, ActionMenu::check)?;
        check_all(&self.quote_area, |area| area.link.check())?;
        check_rows(&self.horizontal_content_list)?;
        check_jumps(&self.jump_list)?;
        check_click(&self.card_action)
    }
}

with!(TextNoticeCard {
    /// Line that says where the card comes from.
    with_source(source: Source),
    /// Menu in the corner.
    with_action_menu(action_menu: ActionMenu),
    /// Title.
    with_main_title(main_title: MainTitle),
    /// Quotation.
    with_quote_area(quote_area: QuoteArea),
    /// Key figure.
    with_emphasis_content(emphasis_content: EmphasisContent),
    /// Text below the title.
    with_sub_title_text(sub_title_text: String),
    ;
    /// Rows, up to 6.
    with_horizontal_content(horizontal_content_list: HorizontalContent),
    /// Links, up to 3.
    with_jumps(jump_list: Jump),
});

impl NewsNoticeCard {
    /// A card with what a click on it opens, which must be a URL or a mini program.
    pub fn new(card_action: impl Into<CardAction>) -> Self {
        Self { card_action: card_action.into(), ..Self::default() }
    }

    fn check(&self) -> Result<(), ReplyError> {
        check_all(&self.action_menu, ActionMenu::check)?;
        check_all(&self.quote_area, |area| area.link.check())?;
        check_all(&self.image_text_area, ImageTextArea::check)?;
        check_all(&self.card_image, CardImage::check)?;
        at_most(4, "vertical rows", self.vertical_content_list.len())?;
        check_all(&self.vertical_content_list, |row| required("the title of a vertical row", &row.title))?;
        check_rows(&self.horizontal_content_list)?;
        check_jumps(&self.jump_list)?;
        check_click(&self.card_action)
    }
}

with!(NewsNoticeCard {
    /// Line that says where the card comes from.
    with_source(source: Source),
    /// Menu in the corner.
    with_action_menu(action_menu: ActionMenu),
    /// Title.
    with_main_title(main_title: MainTitle),
    /// Quotation.
    with_quote_area(quote_area: QuoteArea),
    /// Picture with text beside it.
    with_image_text_area(image_text_area: ImageTextArea),
    /// Picture over the width of the card.
    with_card_image(card_image: CardImage),
    ;
    /// Rows of title and text, up to 4.
    with_vertical_content(vertical_content_list: VerticalContent),
    /// Rows of key and value, up to 6.
    with_horizontal_content(horizontal_content_list: HorizontalContent),
    /// Links, up to 3.
    with_jumps(jump_list: Jump),
});

impl ButtonInteractionCard {
    /// A card of 1 to 6 buttons.
    pub fn new(buttons: impl IntoIterator<Item = Button>) -> Self {
        Self { button_list: buttons.into_iter().collect(), ..Self::default() }
    }

    fn check(&self) -> Result<(), ReplyError> {
        check_all(&self.action_menu, ActionMenu::check)?;
        check_all(&self.quote_area, |area| area.link.check())?;
        check_rows(&self.horizontal_content_list)?;
        check_all(&self.card_action, |action| action.link.check())?;
        check_all(&self.button_selection, Selector::check)?;
        some_up_to(6, "buttons", self.button_list.len())?;
        check_all(&self.button_list, Button::check)
    }
}

with!(ButtonInteractionCard {
    /// Line that says where the card comes from.
    with_source(source: Source),
    /// Menu in the corner.
    with_action_menu(action_menu: ActionMenu),
    /// Title.
    with_main_title(main_title: MainTitle),
    /// Quotation.
    with_quote_area(quote_area: QuoteArea),
    /// Text below the title.
    with_sub_title_text(sub_title_text: String),
    /// Click on the card.
    with_card_action(card_action: CardAction),
    /// Drop-down list.
    with_button_selection(button_selection: Selector),
    /// Shown in the place of the buttons from now on.
    with_replace_text(replace_text: String),
    ;
    /// Rows, up to 6.
    with_horizontal_content(horizontal_content_list: HorizontalContent),
});

impl VoteInteractionCard {
    /// A card that asks for a choice.
    pub fn new(check_box: CheckBox) -> Self {
        Self { check_box, ..Self::default() }
    }

    fn check(&self) -> Result<(), ReplyError> {
        self.check_box.check()?;
        check_all(&self.submit_button, SubmitButton::check)
    }
}

with!(VoteInteractionCard {
    /// Line that says where the card comes from.
    with_source(source: Source),
    /// Title.
    with_main_title(main_title: MainTitle),
    /// Button that sends the choices.
    with_submit_button(submit_button: SubmitButton),
    /// Shown in the place of the button from now on.
    with_replace_text(replace_text: String),
});

impl MultipleInteractionCard {
    /// A card of 1 to 3 selectors.
    pub fn new(selectors: impl IntoIterator<Item = Selector>) -> Self {
        Self { select_list: selectors.into_iter().collect(), ..Self::default() }
    }

    fn check(&self) -> Result<(), ReplyError> {
        some_up_to(3, "selectors", self.select_list.len())?;
        check_all(&self.select_list, Selector::check)?;
        check_all(&self.submit_button, SubmitButton::check)
    }
}

with!(MultipleInteractionCard {
    /// Line that says where the card comes from.
    with_source(source: Source),
    /// Title.
    with_main_title(main_title: MainTitle),
    /// Button that sends the choices.
    with_submit_button(submit_button: SubmitButton),
    /// Shown in the place of the button from now on.
    with_replace_text(replace_text: String),
});

/// Checks every part of a list, or of an optional part.
fn check_all<'p, T: 'p>(
    parts: impl IntoIterator<Item = &'p T>,
    check: impl FnMut(&'p T) -> Result<(), ReplyError>,
) -> Result<(), ReplyError> {
    parts.into_iter().try_for_each(check)
}

fn check_rows(rows: &[HorizontalContent]) -> Result<(), ReplyError> {
    at_most(6, "rows", rows.len())?;
    check_all(rows, HorizontalContent::check)
}

fn check_jumps(jumps: &[Jump]) -> Result<(), ReplyError> {
    at_most(3, "jumps", jumps.len())?;
    check_all(jumps, Jump::check)
}

/// The two notices have nothing else to press, so the click on the card must open something.
fn check_click(action: &CardAction) -> Result<(), ReplyError> {
    match action.link.r#type {
        LinkType::NoLink => Err(broken("a notice card needs a link to open")),
        _ => action.link.check(),
    }
}
