//! What happens to a reply that is not ready at the deadline: `late_reply` of an account, and what belongs to it.

use std::{sync::Arc, time::Duration};

use super::reader::Section;
use crate::{platform::AccountRules, replies::MAX_TEXT_BYTES};

/// What happens to a reply that is not ready at the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateReply {
    /// Answer a repeat of the delivery with it, and send it through the API after the last one.
    Hold,
    /// Send it through the API.
    Send,
    /// Answer the user's next message with it.
    Next,
    /// Record it as late.
    Drop,
}

/// How a late reply answers the user's next message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NextMessage {
    /// What the user is answered at the deadline.
    pub text: Arc<str>,
    /// How long the reply waits for the next message.
    pub keep: Duration,
    /// Whether the responder of the next message runs as well; what it replies is not sent.
    pub runs_responder: bool,
}

const TEXT: &str = "还在想，发任意一条消息取回复。";
const KEEP: Duration = Duration::from_secs(600);
/// The longest pause that a journal takes for one.
const LONGEST_KEEP: Duration = Duration::from_secs(86_400);

pub(super) fn read(rules: &AccountRules, section: &Section<'_>) -> (LateReply, Option<NextMessage>) {
    if !rules.has("late_reply") {
        return (LateReply::Drop, None);
    }
    let choices = [("next", LateReply::Next), ("drop", LateReply::Drop)];
    let sent = [("hold", LateReply::Hold), ("send", LateReply::Send)];
    let choices: Vec<_> = sent.into_iter().filter(|_| rules.sends_replies).chain(choices).collect();
    let written = section.choice("late_reply", &choices);
    if written == Some(LateReply::Send) && !section.has("secret") {
        section.problem("late_reply", "\"send\" needs `secret`, the reply is sent through the API");
    }
    let text = section.matching("late_text", "a text of up to 2048 bytes, with something to see", |text| {
        (!text.trim().is_empty() && text.len() <= MAX_TEXT_BYTES).then(|| Arc::from(text))
    });
    let keep = section.duration("late_keep", Duration::from_secs(1)..=LONGEST_KEEP);
    let runs_responder = section.flag("late_next_runs").unwrap_or(false);
    let late_reply = written.unwrap_or(if rules.holds_late_replies { LateReply::Hold } else { LateReply::Drop });
    if late_reply != LateReply::Next {
        return (late_reply, None);
    }
    if !rules.shows_replies {
        section
            .warning("late_reply", "`late_reply = \"next\"`: users of this platform do not see texts in the response");
    }
    let next = NextMessage { text: text.unwrap_or_else(|| TEXT.into()), keep: keep.unwrap_or(KEEP), runs_responder };
    (late_reply, Some(next))
}
