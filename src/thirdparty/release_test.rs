//! The conversation of the platform's release test (全网发布检测), which every third-party platform must be able to have.
//!
//! The platform writes to its own test accounts as a user would: one text wants a fixed answer, one wants an empty
//! answer and then a message through the API of the account whose authorisation code it names, and every event wants its
//! own name. `release_test = false` leaves all of it to handlers.

use serde_json::json;
use tracing::{info, warn};

use crate::{
    api::Api,
    event::{Answer, Reply as _},
    payload::Value,
    replies::mp::Reply,
};

/// The test accounts, by their original ids.
const ACCOUNTS: [&str; 2] = ["gh_3c884a361561", "gh_8dad206e9538"];

const TEXT: &str = "TESTCOMPONENT_MSG_TYPE_TEXT";
const CODE: &str = "QUERY_AUTH_CODE:";

/// A step of the test.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ReleaseTest {
    /// This is the answer.
    Answer(Answer),
    /// The answer is empty; then a message goes to the user.
    Message {
        /// Of the test account.
        code: String,
        /// Who wrote.
        user: String,
    },
}

impl ReleaseTest {
    /// The step that a message or an event of an authorised account is, if it is one.
    pub(crate) fn of(payload: &Value<'_>) -> Option<Self> {
        let object = payload.as_object()?;
        if !ACCOUNTS.contains(&object.text("ToUserName")?) {
            return None;
        }
        let reply = |text: String| Reply::text(text).into_answer().ok().map(Self::Answer);
        if let Some(event) = object.text("Event") {
            return reply(format!("{event}from_callback"));
        }
        let text = object.text("Content")?;
        match text.strip_prefix(CODE) {
            Some(code) => {
                let user = object.text("FromUserName")?.to_owned();
                Some(Self::Message { code: code.to_owned(), user })
            }
            None if text == TEXT => reply(format!("{TEXT}_callback")),
            None => None,
        }
    }

    /// Sends what the second text asks for.
    pub(crate) async fn send(platform: Api, code: String, user: String) {
        let sent = async {
            let account = platform.redeem(&code).await?;
            let text = json!({ "content": format!("{code}_from_api") });
            let body = json!({ "touser": user, "msgtype": "text", "text": text });
            match platform.of_authorizer(&account) {
                Some(api) => api.call("cgi-bin/message/custom/send", &body).await.map(drop),
                None => Ok(()),
            }
        };
        match sent.await {
            Ok(()) => info!(account = platform.account(), "{}: the release test was answered", platform.account()),
            Err(failure) => warn!("the release test was not answered: {failure}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ReleaseTest;
    use crate::{
        event::Answer,
        payload::{self, Form},
    };

    fn step(to: &str, rest: &str) -> Option<ReleaseTest> {
        let text = format!("<xml><ToUserName>{to}</ToUserName><FromUserName>oUser</FromUserName>{rest}</xml>");
        ReleaseTest::of(&payload::parse(Form::Xml, &text).unwrap())
    }

    fn content(step: Option<ReleaseTest>) -> String {
        match step {
            Some(ReleaseTest::Answer(Answer::Passive(object))) => object.text("Content").unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_three_steps() {
        let to = "gh_3c884a361561";
        let text = "<MsgType>text</MsgType><Content>TESTCOMPONENT_MSG_TYPE_TEXT</Content>";
        assert_eq!(content(step(to, text)), "TESTCOMPONENT_MSG_TYPE_TEXT_callback");
        assert_eq!(content(step(to, "<MsgType>event</MsgType><Event>LOCATION</Event>")), "LOCATIONfrom_callback");
        let message = step(to, "<MsgType>text</MsgType><Content>QUERY_AUTH_CODE:queryauthcode@@@x</Content>");
        let expected = ReleaseTest::Message { code: "queryauthcode@@@x".to_owned(), user: "oUser".to_owned() };
        assert_eq!(message, Some(expected));
    }

    #[test]
    fn nobody_else_can_start_it() {
        let text = "<MsgType>text</MsgType><Content>TESTCOMPONENT_MSG_TYPE_TEXT</Content>";
        assert_eq!(step("gh_somebody", text), None);
        assert_eq!(step("gh_3c884a361561", "<MsgType>text</MsgType><Content>hello</Content>"), None);
    }
}
