//! Passive replies of Official Accounts, Mini Programs and WeCom applications.

use serde_json::Value as Json;

use super::{Asked, Members};
use crate::{
    event::{Answer, Reply, ReplyError},
    replies::{
        self,
        mp::{Article, Video},
        rules::broken,
    },
};

/// What follows from the event, and stands in the platform's own documents all the same.
const HEADER: [&str; 3] = ["ToUserName", "FromUserName", "CreateTime"];

/// The reply of an Official Account or Mini Program.
pub(crate) fn mp(_: &Asked<'_>, mut members: Members) -> Result<Answer, ReplyError> {
    const KINDS: [&str; 7] = ["text", "image", "voice", "video", "music", "news", "transfer"];
    use replies::mp::Reply as Mp;
    if members.has("MsgType") {
        return own(members);
    }
    let reply = match members.kind(&KINDS, &[])? {
        "music" => music(members.take("music").unwrap_or_default())?.into(),
        "transfer" => match members.take("transfer").unwrap_or_default() {
            Json::Bool(true) => Mp::transfer_customer_service(),
            Json::String(agent) => Mp::transfer_to(agent),
            _ => return Err(broken("`transfer` is neither true nor an agent such as \"kf2001@demo_mp\"")),
        },
        "image" => Mp::image(members.needed("image")?),
        "voice" => Mp::voice(members.needed("voice")?),
        "video" => video(members.take("video").unwrap_or_default())?.into(),
        "news" => Mp::news(articles(&mut members)?),
        _ => Mp::text(members.needed("text")?),
    };
    reply.into_answer()
}

/// The reply of a WeCom application.
pub(crate) fn wecom(_: &Asked<'_>, mut members: Members) -> Result<Answer, ReplyError> {
    const KINDS: [&str; 7] = ["text", "image", "voice", "video", "news", "update_button", "update_taskcard"];
    use replies::wecom::Reply as WeCom;
    if members.has("MsgType") {
        return own(members);
    }
    let reply = match members.kind(&KINDS, &[])? {
        "image" => WeCom::image(members.needed("image")?),
        "voice" => WeCom::voice(members.needed("voice")?),
        "video" => video(members.take("video").unwrap_or_default())?.into(),
        "news" => WeCom::news(articles(&mut members)?),
        "update_button" => WeCom::update_button(members.needed("update_button")?),
        "update_taskcard" => WeCom::update_taskcard(members.needed("update_taskcard")?),
        _ => WeCom::text(members.needed("text")?),
    };
    reply.into_answer()
}

/// The platform's own document, whose header follows from the event.
fn own(mut members: Members) -> Result<Answer, ReplyError> {
    for name in HEADER {
        members.take(name);
    }
    let kind = members.members.get("MsgType").and_then(Json::as_str).unwrap_or_default();
    if kind.is_empty() {
        return Err(broken("`MsgType` is not a text"));
    }
    if kind == "text" && members.members.get("Content").and_then(Json::as_str).is_none_or(|text| text.trim().is_empty())
    {
        return Err(broken("`Content` of a text is missing or empty"));
    }
    members.into_document().map(Answer::Passive)
}

fn video(value: Json) -> Result<Video, ReplyError> {
    let mut members = match value {
        Json::String(media_id) => return Ok(replies::mp::Reply::video(media_id)),
        value => Members::of(value, "video")?,
    };
    members.only(&["media_id", "title", "description"], &[])?;
    let mut video = replies::mp::Reply::video(members.needed("media_id")?);
    if let Some(title) = members.text("title")? {
        video = video.title(title);
    }
    if let Some(description) = members.text("description")? {
        video = video.description(description);
    }
    Ok(video)
}

fn music(value: Json) -> Result<replies::mp::Music, ReplyError> {
    let mut members = Members::of(value, "music")?;
    members.only(&["thumb_media_id", "title", "description", "url", "hq_url"], &[])?;
    let mut music = replies::mp::Reply::music(members.needed("thumb_media_id")?);
    if let Some(title) = members.text("title")? {
        music = music.title(title);
    }
    if let Some(description) = members.text("description")? {
        music = music.description(description);
    }
    if let Some(url) = members.text("url")? {
        music = music.url(url);
    }
    if let Some(url) = members.text("hq_url")? {
        music = music.hq_url(url);
    }
    Ok(music)
}

/// The articles of `news`: a list, or one.
fn articles(members: &mut Members) -> Result<Vec<Article>, ReplyError> {
    let items = match members.take("news").unwrap_or_default() {
        Json::Array(items) => items,
        one => vec![one],
    };
    items.into_iter().map(article).collect()
}

fn article(item: Json) -> Result<Article, ReplyError> {
    let mut members = Members::of(item, "news")?;
    members.only(&["title", "description", "pic_url", "url"], &["picurl"])?;
    let mut article = Article::new(members.needed("title")?);
    if let Some(description) = members.text("description")? {
        article = article.description(description);
    }
    let picture = members.text("pic_url")?;
    if let Some(picture) = picture.or(members.text("picurl")?) {
        article = article.pic_url(picture);
    }
    if let Some(url) = members.text("url")? {
        article = article.url(url);
    }
    Ok(article)
}
