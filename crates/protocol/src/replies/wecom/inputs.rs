//! The parts of template cards that ask something, and the checks on them.

use super::parts::with;
use crate::{
    event::ReplyError,
    replies::rules::{broken, required, some_up_to},
    wire::{open_enum, wire},
};

wire! {
    /// Drop-down list.
    pub struct Selector {
        /// Names the question in the event that brings the answer.
        pub question_key: String = "QuestionKey",
        /// Title.
        pub title: Option<String> = "Title",
        /// Options, at least one.
        pub option_list: Vec<SelectOption> = "OptionList",
        /// Id of the option that is chosen; the first one when absent.
        pub selected_id: Option<String> = "SelectedId",
        /// Whether the choice is locked.
        pub disable: Option<bool> = "Disable",
    }

    /// Option of a [`Selector`].
    pub struct SelectOption {
        /// Id, unique in its list.
        pub id: String = "Id",
        /// Text.
        pub text: String = "Text",
    }

    /// Button that sends `template_card_event`.
    pub struct Button {
        /// Text.
        pub text: String = "Text",
        /// Look, 1 to 4; 1 when absent.
        pub style: Option<i64> = "Style",
        /// Comes back as the EventKey of the event.
        pub key: String = "Key",
    }

    /// Choices of a vote.
    pub struct CheckBox {
        /// Names the question in the event that brings the answer.
        pub question_key: String = "QuestionKey",
        /// Options, at least one.
        pub option_list: Vec<CheckOption> = "OptionList",
        /// Whether the choice is locked.
        pub disable: Option<bool> = "Disable",
        /// One or several; one when absent.
        pub mode: Option<CheckBoxMode> = "Mode",
    }

    /// Option of a [`CheckBox`].
    pub struct CheckOption {
        /// Id, unique in its list.
        pub id: String = "Id",
        /// Text.
        pub text: String = "Text",
        /// Whether it is chosen.
        pub is_checked: Option<bool> = "IsChecked",
    }

    /// Button that sends the choices.
    pub struct SubmitButton {
        /// Text.
        pub text: String = "Text",
        /// Comes back as the EventKey of `template_card_event`.
        pub key: String = "Key",
    }
}

open_enum! {
    /// How many options of a vote may be chosen.
    pub enum CheckBoxMode: i64 {
        /// One.
        Single = 0,
        /// Several.
        Multiple = 1,
    }
}

impl Selector {
    /// A drop-down list of at least one option.
    pub fn new(question_key: impl Into<String>, options: impl IntoIterator<Item = SelectOption>) -> Self {
        Self { question_key: question_key.into(), option_list: options.into_iter().collect(), ..Self::default() }
    }

    pub(super) fn check(&self) -> Result<(), ReplyError> {
        required("the QuestionKey of a selector", &self.question_key)?;
        check_options(self.option_list.iter().map(|option| (option.id.as_str(), option.text.as_str())))?;
        let known = |chosen: &String| self.option_list.iter().any(|option| option.id == *chosen);
        match &self.selected_id {
            Some(chosen) if !known(chosen) => Err(broken("the SelectedId of a selector is none of its options")),
            _ => Ok(()),
        }
    }
}

with!(Selector {
    /// Title before the list.
    with_title(title: String),
    /// Id of the option that is chosen.
    with_selected_id(selected_id: String),
    /// Whether the choice is locked.
    with_disable(disable: bool),
});

fn check_options<'o>(options: impl Iterator<Item = (&'o str, &'o str)>) -> Result<(), ReplyError> {
    let mut count = 0;
    for (id, text) in options {
        required("the id of an option", id)?;
        required("the text of an option", text)?;
        count += 1;
    }
    some_up_to(usize::MAX, "options", count)
}

impl SelectOption {
    /// An option.
    pub fn new(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { id: id.into(), text: text.into() }
    }
}

impl Button {
    /// A button; `key` comes back as the EventKey.
    pub fn new(text: impl Into<String>, key: impl Into<String>) -> Self {
        Self { text: text.into(), style: None, key: key.into() }
    }

    pub(super) fn check(&self) -> Result<(), ReplyError> {
        required("the text of a button", &self.text)?;
        required("the key of a button", &self.key)?;
        match self.style {
            Some(style) if !(1..=4).contains(&style) => Err(broken("the style of a button is not from 1 to 4")),
            _ => Ok(()),
        }
    }
}

with!(Button {
    /// Look, 1 to 4.
    with_style(style: i64),
});

impl CheckBox {
    /// Choices, at least one.
    pub fn new(question_key: impl Into<String>, options: impl IntoIterator<Item = CheckOption>) -> Self {
        Self { question_key: question_key.into(), option_list: options.into_iter().collect(), ..Self::default() }
    }

    pub(super) fn check(&self) -> Result<(), ReplyError> {
        required("the QuestionKey of the vote", &self.question_key)?;
        check_options(self.option_list.iter().map(|option| (option.id.as_str(), option.text.as_str())))
    }
}

with!(CheckBox {
    /// Whether the choice is locked.
    with_disable(disable: bool),
    /// One or several.
    with_mode(mode: CheckBoxMode),
});

impl CheckOption {
    /// An option that nobody chose yet.
    pub fn new(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { id: id.into(), text: text.into(), is_checked: None }
    }
}

with!(CheckOption {
    /// Whether it is chosen.
    with_is_checked(is_checked: bool),
});

impl SubmitButton {
    /// A button; `key` comes back as the EventKey.
    pub fn new(text: impl Into<String>, key: impl Into<String>) -> Self {
        Self { text: text.into(), key: key.into() }
    }

    pub(super) fn check(&self) -> Result<(), ReplyError> {
        required("the text of the submit button", &self.text)?;
        required("the key of the submit button", &self.key)
    }
}
