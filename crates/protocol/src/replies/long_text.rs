//! Texts that are longer than a platform takes in one message.

use std::iter;

use super::{
    passive::MAX_TEXT_BYTES,
    rules::{broken, text},
};
use crate::{
    event::{Answer, ReplyError},
    payload::Value,
};

/// What happens to a text that is longer than [`MAX_TEXT_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongText {
    /// It is sent through the API in parts; cut where that is not possible.
    Split,
    /// It is cut at a character.
    Cut,
    /// The reply is an error, and the default answer is given.
    Error,
}

/// How many bytes the text of a passive reply, or of a message of customer service, has, if that is more than fit.
pub fn long_text(answer: &Answer) -> Option<usize> {
    Some(content(answer)?.len()).filter(|bytes| *bytes > MAX_TEXT_BYTES)
}

/// The error of a text with so many bytes.
pub fn too_long(bytes: usize) -> ReplyError {
    broken(format!("the text has {bytes} bytes, at most {MAX_TEXT_BYTES} fit"))
}

/// Cuts the text of an answer to what fits.
pub fn cut_text(answer: &mut Answer) {
    let Some(cut) = content(answer).map(|content| text(cut(content))) else { return };
    match answer {
        Answer::Passive(document) => document.set("Content", cut),
        Answer::Body(message) => {
            if let Some(wrapper) = message.object_mut("text") {
                wrapper.set("content", cut);
            }
        }
        _ => {}
    }
}

/// As much of a text as fits, cut at a character. What is cut off is never all that can be seen of it.
pub fn cut(text: &str) -> &str {
    let cut = |text: &'_ str| text.floor_char_boundary(MAX_TEXT_BYTES);
    let (start, _) = text.split_at(cut(text));
    if !is_blank(start) {
        return start;
    }
    let text = text.trim_start();
    text.split_at(cut(text)).0
}

/// A text in parts that fit: cut behind the end of a line where one is near, else at a character. Parts without anything
/// to see are left out, for no platform takes them.
pub fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let parts = iter::from_fn(move || {
        let (part, next) = rest.split_at(end_of_part(rest));
        rest = next;
        (!part.is_empty()).then_some(part)
    });
    parts.filter(|part| !is_blank(part))
}

fn end_of_part(text: &str) -> usize {
    if text.len() <= MAX_TEXT_BYTES {
        return text.len();
    }
    let most = text.floor_char_boundary(MAX_TEXT_BYTES);
    let line = text.split_at(most).0.rfind('\n').map(|at| at + 1);
    line.filter(|end| *end > MAX_TEXT_BYTES / 2).unwrap_or(most)
}

fn is_blank(text: &str) -> bool {
    text.chars().all(|character| character.is_whitespace() || character.is_control())
}

/// The text of an answer that is a text.
fn content(answer: &Answer) -> Option<&str> {
    match answer {
        Answer::Passive(document) if document.text("MsgType") == Some("text") => document.text("Content"),
        Answer::Body(message) if message.text("msgtype") == Some("text") => {
            message.get("text").and_then(Value::as_object)?.text("content")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Reply as _,
        replies::{mp, wecom, wecom_kf},
    };

    #[test]
    fn texts_are_cut_at_a_character_and_to_what_fits() {
        for unit in ["a", "é", "语", "😀", "\u{301}e"] {
            for extra in 0..8 {
                let whole = format!("{}{}", "x".repeat(extra), unit.repeat(9_000 / unit.len()));
                let start = cut(&whole);
                assert!(whole.starts_with(start) && start.len() <= MAX_TEXT_BYTES, "{unit}");
                assert!(start.len() > MAX_TEXT_BYTES - 4, "{unit}: {}", start.len());
                assert_eq!(parts(&whole).collect::<String>(), whole, "{unit}");
                assert!(parts(&whole).all(|part| part.len() <= MAX_TEXT_BYTES));
                assert_eq!(parts(&whole).count(), 5);
            }
        }
        assert_eq!((cut("short"), parts("short").count(), parts("").count()), ("short", 1, 0));
        assert_eq!(cut(&"a".repeat(MAX_TEXT_BYTES)).len(), MAX_TEXT_BYTES);
    }

    #[test]
    fn parts_end_with_lines_and_none_is_blank() {
        let line = format!("{}\n", "a".repeat(700));
        let text = line.repeat(5);
        assert_eq!(parts(&text).map(str::len).collect::<Vec<_>>(), [1402, 1402, 701]);
        let text = format!("{}end", " \n".repeat(2_000));
        assert_eq!(parts(&text).filter(|part| part.trim() == "end").count(), 1);
        assert_eq!(parts(&text).count(), 1);
        assert_eq!(cut(&text), "end");
    }

    #[test]
    fn only_the_text_of_a_text_is_long() {
        let long = "语".repeat(683);
        for mut answer in [
            mp::Reply::text(&*long).into_answer().unwrap(),
            wecom::Reply::text(&*long).into_answer().unwrap(),
            wecom_kf::Reply::text(&*long).into_answer().unwrap(),
            wecom_kf::EventReply::text(&*long).into_answer().unwrap(),
        ] {
            assert_eq!(long_text(&answer), Some(2049));
            cut_text(&mut answer);
            assert_eq!((long_text(&answer), content(&answer)), (None, Some(&*"语".repeat(682))));
        }
        assert_eq!(long_text(&mp::Reply::text("x".repeat(2048)).into_answer().unwrap()), None);
        assert_eq!(long_text(&mp::Reply::image("x".repeat(3000)).into_answer().unwrap()), None);
        assert_eq!(too_long(2049).to_string(), "the text has 2049 bytes, at most 2048 fit");
    }
}
