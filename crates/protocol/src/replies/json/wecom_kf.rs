//! Messages of WeCom customer service.

use serde_json::Value as Json;

use super::{Asked, Members};
use crate::{
    event::{Answer, Event as _, Reply, ReplyError},
    events::wecom_kf::{EnterSession, SessionStatusChange},
    replies::{
        rules::broken,
        wecom_kf::{Menu, Reply as Message, TRANSFER, Transfer},
    },
};

/// The answer to a customer's message, or to an event that has a code for one.
pub(crate) fn reply(asked: &Asked<'_>, mut members: Members) -> Result<Answer, ReplyError> {
    const KINDS: [&str; 11] = [
        "text",
        "menu",
        "image",
        "voice",
        "video",
        "file",
        "link",
        "miniprogram",
        "location",
        "business_card",
        "acquisition_link",
    ];
    let is_event = [EnterSession::SPEC, SessionStatusChange::SPEC].into_iter().any(|spec| asked.spec == Some(spec));
    let to = match members.take(TRANSFER) {
        None => None,
        Some(Json::Bool(true)) => Some(Transfer::queue()),
        Some(Json::String(servicer)) => Some(Transfer::servicer(servicer)),
        Some(_) => return Err(broken("`transfer` is neither true nor the userid of a servicer")),
    };
    let with_transfer = |message: Message| match to.clone() {
        Some(to) => message.transfer(to).into_answer(),
        None => message.into_answer(),
    };
    if members.is_empty() {
        return with_transfer(Message::none());
    }
    if members.has("msgtype") {
        return with_transfer(Message::document(members.into_document()?));
    }
    if is_event {
        return with_transfer(match members.kind(&["text", "menu"], &[TRANSFER])? {
            "menu" => menu(members.take("menu").unwrap_or_default())?.into(),
            _ => Message::text(members.needed("text")?),
        });
    }
    let kind = members.kind(&KINDS, &[TRANSFER])?;
    let value = members.take(kind).unwrap_or_default();
    let message = match kind {
        "menu" => menu(value)?.into(),
        "link" => {
            let mut link = Members::of(value, kind)?;
            link.only(&["title", "description", "url", "thumb_media_id"], &[])?;
            let description = link.text("description")?;
            Message::link(link.needed("title")?, description, link.needed("url")?, link.needed("thumb_media_id")?)
        }
        "miniprogram" => {
            let mut page = Members::of(value, kind)?;
            page.only(&["app_id", "page_path", "title", "thumb_media_id"], &[])?;
            let title = page.text("title")?;
            Message::miniprogram(
                page.needed("app_id")?,
                page.needed("page_path")?,
                title,
                page.needed("thumb_media_id")?,
            )
        }
        "location" => {
            let mut place = Members::of(value, kind)?;
            place.only(&["name", "address", "latitude", "longitude"], &[])?;
            let (name, address) = (place.text("name")?, place.text("address")?);
            let (latitude, longitude) = (degrees(&mut place, "latitude")?, degrees(&mut place, "longitude")?);
            Message::location(name, address, latitude, longitude)
        }
        _ => {
            let value = super::as_text(value, "", kind)?;
            match kind {
                "image" => Message::image(value),
                "voice" => Message::voice(value),
                "video" => Message::video(value),
                "file" => Message::file(value),
                "business_card" => Message::business_card(value),
                "acquisition_link" => Message::acquisition_link(value),
                _ => Message::text(value),
            }
        }
    };
    with_transfer(message)
}

fn degrees(place: &mut Members, name: &'static str) -> Result<f64, ReplyError> {
    let given = place.take(name).and_then(|value| value.as_f64());
    given.ok_or_else(|| broken(format!("`location.{name}` is missing or no number")))
}

/// A menu: `{"head": …, "items": [{"id", "content"} | {"url", "content"} | {"app_id", "page_path", "content"} | "text"], "tail": …}`.
fn menu(value: Json) -> Result<Menu, ReplyError> {
    let mut members = Members::of(value, "menu")?;
    members.only(&["head", "items", "tail"], &[])?;
    let mut menu = members.text("head")?.map_or_else(Menu::default, Menu::new);
    for item in members.list("items")?.unwrap_or_default() {
        let mut item = match item {
            Json::String(text) => {
                menu = menu.text(text);
                continue;
            }
            item => Members::of(item, "menu.items")?,
        };
        let content = item.needed("content")?;
        menu = match item.kind(&["id", "url", "app_id"], &["page_path"])? {
            "id" => menu.click(item.needed("id")?, content),
            "url" => menu.view(item.needed("url")?, content),
            _ => menu.miniprogram(item.needed("app_id")?, item.needed("page_path")?, content),
        };
    }
    Ok(match members.text("tail")? {
        Some(tail) => menu.tail(tail),
        None => menu,
    })
}
