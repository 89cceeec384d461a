//! What the fields of some events mean once their text is taken apart. Written by hand, unlike the events.

use serde_json::Value as Json;

use super::{
    im::MsgElement,
    mp::{Scan, Subscribe, SubscribeScan, SubscribeScanProduct},
    wecom::PaymentResource,
};
use crate::crypto::{EncodingKey, ResourceError};

/// In front of the scene when a QR code made somebody a follower.
const SCENE_PREFIX: &str = "qrscene_";

impl Subscribe {
    /// Scene of the QR code that led to the follow; `None` for a follow of another origin.
    pub fn scene(&self) -> Option<&str> {
        self.event_key.as_deref()?.strip_prefix(SCENE_PREFIX).filter(|scene| !scene.is_empty())
    }

    /// Product page that led to the follow; `None` for a follow of another origin.
    pub fn product(&self) -> Option<ScannedProduct<'_>> {
        ScannedProduct::from_key(self.event_key.as_deref()?)
    }
}

impl SubscribeScan {
    /// Scene of the QR code, as it was given when the code was made.
    pub fn scene(&self) -> &str {
        self.event_key.strip_prefix(SCENE_PREFIX).unwrap_or(&self.event_key)
    }
}

impl Scan {
    /// Scene of the QR code, as it was given when the code was made: the same as [`SubscribeScan::scene`] for the same
    /// code.
    pub fn scene(&self) -> &str {
        &self.event_key
    }
}

impl SubscribeScanProduct {
    /// The product; `None` when the key does not have its three parts.
    pub fn product(&self) -> Option<ScannedProduct<'_>> {
        ScannedProduct::from_key(&self.event_key)
    }
}

/// Product whose page led to a follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScannedProduct<'e> {
    /// What was scanned: `scanbarcode` or `scanimage`.
    pub scene: &'e str,
    /// Code standard, such as `ean13`.
    pub standard: &'e str,
    /// Code content; may contain `|`.
    pub code: &'e str,
}

impl<'e> ScannedProduct<'e> {
    fn from_key(key: &'e str) -> Option<Self> {
        let (scene, rest) = key.split_once('|')?;
        let (standard, code) = rest.split_once('|')?;
        matches!(scene, "scanbarcode" | "scanimage").then_some(Self { scene, standard, code })
    }
}

impl PaymentResource {
    /// The payment or the refund as JSON, opened with the EncodingAESKey of the account that received the notice.
    ///
    /// # Errors
    /// [`ResourceError`] for the first check that fails.
    pub fn open(&self, key: &EncodingKey) -> Result<String, ResourceError> {
        if self.algorithm != "AEAD_AES_256_GCM" {
            return Err(ResourceError::Algorithm);
        }
        key.open_resource(&self.ciphertext, &self.nonce, self.associated_data.as_deref().unwrap_or_default())
    }
}

impl MsgElement {
    /// The text, if it is a text element.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(element) => Some(&element.text),
            _ => None,
        }
    }

    /// The texts of a message body, in order: of text elements, and every text in an element that could not be read, which
    /// may be one. What other elements show is not part of it.
    pub fn texts(body: &[Self]) -> impl Iterator<Item = &str> {
        body.iter().flat_map(|element| {
            let mut texts = Vec::new();
            match element {
                Self::Unknown { content, .. } => collect_texts(content, &mut texts),
                element => texts.extend(element.as_text()),
            }
            texts
        })
    }
}

fn collect_texts<'j>(json: &'j Json, texts: &mut Vec<&'j str>) {
    match json {
        Json::String(text) => texts.push(text),
        Json::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Json::Object(members) => members.values().for_each(|value| collect_texts(value, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribe(key: Option<&str>) -> Subscribe {
        Subscribe { event_key: key.map(str::to_owned), ..Subscribe::default() }
    }

    #[test]
    fn the_scene_of_a_follow_has_no_prefix() {
        let rows = [
            (None, None),
            (Some(""), None),
            (Some("qrscene_"), None),
            (Some("qrscene_table_17"), Some("table_17")),
            (Some("qrscene_qrscene_1"), Some("qrscene_1")),
            (Some("scanbarcode|ean13|1"), None),
        ];
        for (key, scene) in rows {
            assert_eq!(subscribe(key).scene(), scene, "{key:?}");
        }
        let scan = SubscribeScan { event_key: "qrscene_table_17".into(), ..SubscribeScan::default() };
        let again = Scan { event_key: "table_17".into(), ..Scan::default() };
        assert_eq!(scan.scene(), again.scene());
    }

    #[test]
    fn a_product_key_has_three_parts_and_the_last_one_may_contain_bars() {
        let product = |scene, standard, code| Some(ScannedProduct { scene, standard, code });
        let rows = [
            ("scanbarcode|ean13|6901234567892", product("scanbarcode", "ean13", "6901234567892")),
            ("scanimage|qr|a|b", product("scanimage", "qr", "a|b")),
            ("scanbarcode|ean13", None),
            ("qrscene_a|b|c", None),
            ("", None),
        ];
        for (key, expected) in rows {
            let event = SubscribeScanProduct { event_key: key.into(), ..SubscribeScanProduct::default() };
            assert_eq!(event.product(), expected, "{key}");
            assert_eq!(subscribe(Some(key)).product(), expected, "{key}");
        }
    }

    #[test]
    fn texts_are_the_text_elements_in_order() {
        let body = [MsgElement::text("a"), MsgElement::face(1), MsgElement::text("b")];
        assert_eq!(MsgElement::texts(&body).collect::<Vec<_>>(), ["a", "b"]);
        let content = serde_json::json!({ "Text": ["c", { "d": "e" }, 7] });
        let body = [MsgElement::Unknown { tag: "TIMTextElem".into(), content }, MsgElement::text("f")];
        assert_eq!(MsgElement::texts(&body).collect::<Vec<_>>(), ["c", "e", "f"]);
    }

    #[test]
    fn a_resource_of_another_cipher_is_refused() {
        let key = EncodingKey::parse("jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C").unwrap();
        let resource = PaymentResource { algorithm: "none".into(), ..PaymentResource::default() };
        assert_eq!(resource.open(&key), Err(ResourceError::Algorithm));
        let resource = PaymentResource { algorithm: "AEAD_AES_256_GCM".into(), ..resource };
        assert_eq!(resource.open(&key), Err(ResourceError::Nonce(0)));
    }
}
