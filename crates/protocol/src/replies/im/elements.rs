//! Making message elements, for handlers that rewrite messages.

use crate::events::im::{CustomElem, FaceElem, LocationElem, MsgElement, TextElem};

impl MsgElement {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(TextElem { text: text.into() })
    }

    /// Data that the app's own clients understand; [`CustomElem::new`] also takes what offline push shows. A message
    /// carries at most one.
    pub fn custom(data: impl Into<String>) -> Self {
        CustomElem::new(data).into()
    }

    /// Emoji with the index that the app gave it.
    pub fn face(index: i64) -> Self {
        Self::Face(FaceElem { index: Some(index), data: None })
    }

    /// Place, in degrees.
    pub fn location(desc: impl Into<String>, latitude: f64, longitude: f64) -> Self {
        Self::Location(LocationElem { desc: desc.into(), latitude: Some(latitude), longitude: Some(longitude) })
    }
}

impl CustomElem {
    /// Data that the app's own clients understand.
    pub fn new(data: impl Into<String>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// Text that offline push shows.
    #[must_use]
    pub fn with_desc(mut self, desc: impl Into<String>) -> Self {
        self.desc = Some(desc.into());
        self
    }

    /// Extension passed to APNs.
    #[must_use]
    pub fn with_ext(mut self, ext: impl Into<String>) -> Self {
        self.ext = Some(ext.into());
        self
    }

    /// APNs sound file.
    #[must_use]
    pub fn with_sound(mut self, sound: impl Into<String>) -> Self {
        self.sound = Some(sound.into());
        self
    }
}

impl From<CustomElem> for MsgElement {
    fn from(element: CustomElem) -> Self {
        Self::Custom(element)
    }
}
