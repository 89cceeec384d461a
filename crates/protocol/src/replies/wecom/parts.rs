//! The parts of template cards, the checks on them, and the builder methods they share.

use crate::{
    event::ReplyError,
    replies::rules::{broken, required, some_up_to},
    wire::{open_enum, wire},
};

wire! {
    /// Line above the card that says where it comes from.
    pub struct Source {
        /// URL of the icon.
        pub icon_url: Option<String> = "IconUrl",
        /// Text.
        pub desc: Option<String> = "Desc",
        /// Colour of the text; grey when absent.
        pub desc_color: Option<DescColor> = "DescColor",
    }

    /// Menu in the corner of a card.
    pub struct ActionMenu {
        /// Text above the entries.
        pub desc: Option<String> = "Desc",
        /// Entries, 1 to 3.
        pub action_list: Vec<MenuAction> = "ActionList",
    }

    /// Entry of an [`ActionMenu`].
    pub struct MenuAction {
        /// Text.
        pub text: String = "Text",
        /// Comes back as the EventKey of `template_card_menu_event`.
        pub key: String = "Key",
    }

    /// Title of a card.
    pub struct MainTitle {
        /// Title.
        pub title: Option<String> = "Title",
        /// Text below it.
        pub desc: Option<String> = "Desc",
    }

    /// What a click opens.
    pub struct Link {
        /// Kind of target.
        pub r#type: LinkType = "Type",
        /// URL, for [`LinkType::Url`].
        pub url: Option<String> = "Url",
        /// Mini program, for [`LinkType::MiniProgram`].
        pub app_id: Option<String> = "AppId",
        /// Page of the mini program; its start page when absent.
        pub page_path: Option<String> = "PagePath",
    }

    /// Quotation.
    pub struct QuoteArea {
        /// What a click on it opens.
        pub link: Link = flatten,
        /// Title.
        pub title: Option<String> = "Title",
        /// Quoted text.
        pub quote_text: Option<String> = "QuoteText",
    }

    /// Key figure.
    pub struct EmphasisContent {
        /// Figure.
        pub title: Option<String> = "Title",
        /// What it says.
        pub desc: Option<String> = "Desc",
    }

    /// Row of a key and a value.
    pub struct HorizontalContent {
        /// Key.
        pub key_name: String = "KeyName",
        /// Value.
        pub value: Option<String> = "Value",
        /// Kind of row; plain text when absent.
        pub r#type: Option<HorizontalType> = "Type",
        /// URL, for [`HorizontalType::Url`].
        pub url: Option<String> = "Url",
        /// File, for [`HorizontalType::File`].
        pub media_id: Option<String> = "MediaId",
        /// Member, for [`HorizontalType::Member`].
        pub user_id: Option<String> = "UserId",
    }

    /// Link at the foot of a card.
    pub struct Jump {
        /// Text.
        pub title: String = "Title",
        /// What a click opens.
        pub link: Link = flatten,
    }

    /// Click on the whole card.
    pub struct CardAction {
        /// Text.
        pub title: Option<String> = "Title",
        /// What it opens.
        pub link: Link = flatten,
    }

    /// Picture with text beside it.
    pub struct ImageTextArea {
        /// What a click on it opens.
        pub link: Link = flatten,
        /// Title.
        pub title: Option<String> = "Title",
        /// Text.
        pub desc: Option<String> = "Desc",
        /// URL of the picture.
        pub image_url: String = "ImageUrl",
    }

    /// Picture over the width of a card.
    pub struct CardImage {
        /// URL.
        pub url: String = "Url",
        /// Width by height, 1.3 to 2.25; 1.3 when absent.
        pub aspect_ratio: Option<f64> = "AspectRatio",
    }

    /// Row of a title with text below it.
    pub struct VerticalContent {
        /// Title.
        pub title: String = "Title",
        /// Text.
        pub desc: Option<String> = "Desc",
    }
}

open_enum! {
    /// Colour of a source line.
    pub enum DescColor: i64 {
        /// Grey.
        Grey = 0,
        /// Black.
        Black = 1,
        /// Red.
        Red = 2,
        /// Green.
        Green = 3,
    }

    /// What a click opens.
    pub enum LinkType: i64 {
        /// Nothing.
        NoLink = 0,
        /// URL.
        Url = 1,
        /// Mini program.
        MiniProgram = 2,
    }

    /// Kind of row.
    pub enum HorizontalType: i64 {
        /// Plain text.
        Text = 0,
        /// Link.
        Url = 1,
        /// File to download.
        File = 2,
        /// Profile of a member.
        Member = 3,
    }
}

/// Builder methods that fill in optional parts of a struct: `parts` take one value, `lists` several.
macro_rules! with {
    ($type:ident {
        $( $(#[$meta:meta])* $method:ident($field:ident: $value:ty), )*
        $( ; $( $(#[$list_meta:meta])* $list_method:ident($list_field:ident: $item:ty), )+ )?
    }) => {
        impl $type {
            $(
                $(#[$meta])*
                #[must_use]
                pub fn $method(mut self, $field: impl Into<$value>) -> Self {
                    self.$field = Some($field.into());
                    self
                }
            )*
            $( $(
                $(#[$list_meta])*
                #[must_use]
                pub fn $list_method(mut self, $list_field: impl IntoIterator<Item = $item>) -> Self {
                    self.$list_field = $list_field.into_iter().collect();
                    self
                }
            )+ )?
        }
    };
}

pub(super) use with;

impl Source {
    /// A source line without icon.
    pub fn new(desc: impl Into<String>) -> Self {
        Self { desc: Some(desc.into()), ..Self::default() }
    }
}

with!(Source {
    /// Icon before the text.
    with_icon_url(icon_url: String),
    /// Colour of the text.
    with_desc_color(desc_color: DescColor),
});

impl ActionMenu {
    /// A menu of 1 to 3 entries.
    pub fn new(actions: impl IntoIterator<Item = MenuAction>) -> Self {
        Self { desc: None, action_list: actions.into_iter().collect() }
    }

    pub(super) fn check(&self) -> Result<(), ReplyError> {
        some_up_to(3, "entries of the action menu", self.action_list.len())?;
        self.action_list.iter().try_for_each(|action| {
            required("the text of a menu entry", &action.text)?;
            required("the key of a menu entry", &action.key)
        })
    }
}

with!(ActionMenu {
    /// Text above the entries.
    with_desc(desc: String),
});

impl MenuAction {
    /// An entry; `key` comes back as the EventKey.
    pub fn new(text: impl Into<String>, key: impl Into<String>) -> Self {
        Self { text: text.into(), key: key.into() }
    }
}

impl MainTitle {
    /// A title without text below it.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: Some(title.into()), desc: None }
    }
}

with!(MainTitle {
    /// Text below the title.
    with_desc(desc: String),
});

impl Link {
    /// Opens nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Opens a page.
    pub fn url(url: impl Into<String>) -> Self {
        Self { r#type: LinkType::Url, url: Some(url.into()), ..Self::default() }
    }

    /// Opens a page of a mini program that is linked to the application. The two element names are those that WeCom uses
    /// for mini programs elsewhere; no document that was at hand shows them in a card.
    pub fn mini_program(app_id: impl Into<String>, page_path: impl Into<String>) -> Self {
        let (app_id, page_path) = (Some(app_id.into()), Some(page_path.into()));
        Self { r#type: LinkType::MiniProgram, url: None, app_id, page_path }
    }

    pub(super) fn check(&self) -> Result<(), ReplyError> {
        match self.r#type {
            LinkType::Url => required("the URL of a link", self.url.as_deref().unwrap_or_default()),
            LinkType::MiniProgram => required("the AppId of a link", self.app_id.as_deref().unwrap_or_default()),
            LinkType::NoLink | LinkType::Unknown(_) => Ok(()),
        }
    }
}

impl QuoteArea {
    /// A quotation that opens nothing.
    pub fn new(quote_text: impl Into<String>) -> Self {
        Self { quote_text: Some(quote_text.into()), ..Self::default() }
    }

    /// What a click on it opens.
    #[must_use]
    pub fn with_link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }
}

with!(QuoteArea {
    /// Title above the quotation.
    with_title(title: String),
});

impl EmphasisContent {
    /// A figure and what it says: `("3", "days")`.
    pub fn new(title: impl Into<String>, desc: impl Into<String>) -> Self {
        Self { title: Some(title.into()), desc: Some(desc.into()) }
    }
}

impl HorizontalContent {
    /// A row of plain text.
    pub fn text(key_name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key_name: key_name.into(),
            value: Some(value.into()),
            r#type: Some(HorizontalType::Text),
            ..Self::default()
        }
    }

    /// A row whose value is a link.
    pub fn url(key_name: impl Into<String>, value: impl Into<String>, url: impl Into<String>) -> Self {
        Self { r#type: Some(HorizontalType::Url), url: Some(url.into()), ..Self::text(key_name, value) }
    }

    /// A row whose value is a file; `value` is its name with extension.
    pub fn file(key_name: impl Into<String>, value: impl Into<String>, media_id: impl Into<String>) -> Self {
        Self { r#type: Some(HorizontalType::File), media_id: Some(media_id.into()), ..Self::text(key_name, value) }
    }

    /// A row whose value opens the profile of a member.
    pub fn member(key_name: impl Into<String>, value: impl Into<String>, user_id: impl Into<String>) -> Self {
        Self { r#type: Some(HorizontalType::Member), user_id: Some(user_id.into()), ..Self::text(key_name, value) }
    }

    pub(super) fn check(&self) -> Result<(), ReplyError> {
        required("the key of a row", &self.key_name)?;
        match self.r#type {
            Some(HorizontalType::Url) => required("the URL of a row", self.url.as_deref().unwrap_or_default()),
            Some(HorizontalType::File) => {
                required("the MediaId of a row", self.media_id.as_deref().unwrap_or_default())
            }
            Some(HorizontalType::Member) => {
                required("the UserId of a row", self.user_id.as_deref().unwrap_or_default())
            }
            _ => Ok(()),
        }
    }
}

impl Jump {
    /// A link with its text.
    pub fn new(title: impl Into<String>, link: Link) -> Self {
        Self { title: title.into(), link }
    }

    pub(super) fn check(&self) -> Result<(), ReplyError> {
        required("the title of a jump", &self.title)?;
        self.link.check()
    }
}

impl From<Link> for CardAction {
    fn from(link: Link) -> Self {
        Self { title: None, link }
    }
}

with!(CardAction {
    /// Text of the action.
    with_title(title: String),
});

impl ImageTextArea {
    /// A picture that opens nothing and has no text.
    pub fn new(image_url: impl Into<String>) -> Self {
        Self { image_url: image_url.into(), ..Self::default() }
    }

    /// What a click on it opens.
    #[must_use]
    pub fn with_link(mut self, link: Link) -> Self {
        self.link = link;
        self
    }

    pub(super) fn check(&self) -> Result<(), ReplyError> {
        required("the ImageUrl of the picture area", &self.image_url)?;
        self.link.check()
    }
}

with!(ImageTextArea {
    /// Title beside the picture.
    with_title(title: String),
    /// Text beside the picture.
    with_desc(desc: String),
});

impl CardImage {
    /// A picture in the platform's default ratio.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), aspect_ratio: None }
    }

    pub(super) fn check(&self) -> Result<(), ReplyError> {
        required("the URL of the card image", &self.url)?;
        match self.aspect_ratio {
            Some(ratio) if !(1.3..=2.25).contains(&ratio) => Err(broken("the aspect ratio is not from 1.3 to 2.25")),
            _ => Ok(()),
        }
    }
}

with!(CardImage {
    /// Width by height, 1.3 to 2.25.
    with_aspect_ratio(aspect_ratio: f64),
});

impl VerticalContent {
    /// A title with text below it.
    pub fn new(title: impl Into<String>, desc: impl Into<String>) -> Self {
        Self { title: title.into(), desc: Some(desc.into()) }
    }
}
