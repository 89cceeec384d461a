//! Rules: answers that the configuration has, by what a user wrote, chose or scanned.

use serde_json::{Value as Json, json};

use crate::{
    config::{Rule, Said, Test},
    event::Platform,
    payload::Object,
};

/// What rules look at in an event.
pub(super) struct Facts<'e> {
    text: Option<String>,
    lower: Option<String>,
    key: Option<String>,
    scene: Option<String>,
    data: &'e dyn Fn() -> Json,
}

impl<'e> Facts<'e> {
    /// Of an event; `data` is its JSON form, for rules that look at its fields.
    pub(super) fn of(platform: Platform, payload: &Object<'_>, data: &'e dyn Fn() -> Json) -> Self {
        let protocol = platform.protocol();
        let text = protocol.text_of(payload).map(|text| text.into_owned());
        Self {
            lower: text.as_ref().map(|text| text.trim().to_lowercase()),
            text,
            key: protocol.choice_of(payload).map(|key| key.into_owned()),
            scene: protocol.scene_of(payload).map(|scene| scene.into_owned()),
            data,
        }
    }

    /// The reply of the first rule that applies.
    pub(super) fn first<'r>(&self, rules: &'r [Rule]) -> Option<&'r Said> {
        rules.iter().find(|rule| rule.tests.iter().all(|test| self.passes(test))).map(|rule| &rule.said)
    }

    /// A reply as it is given; none where there is nothing to echo.
    pub(super) fn reply(&self, said: &Said) -> Json {
        match said {
            Said::Reply(reply) => reply.clone(),
            Said::Echo => self.text.as_ref().map_or(Json::Null, |text| json!({ "text": text })),
        }
    }

    fn passes(&self, test: &Test) -> bool {
        let is_one_of = |value: &Option<String>, known: &[String]| value.as_ref().is_some_and(|it| known.contains(it));
        match test {
            Test::Keyword(words) => {
                self.lower.as_ref().is_some_and(|text| words.iter().any(|word| text.contains(word.as_str())))
            }
            Test::Exact(texts) => is_one_of(&self.lower, texts),
            Test::Pattern(pattern) => self.text.as_ref().is_some_and(|text| pattern.is_match(text)),
            Test::Key(keys) => is_one_of(&self.key, keys),
            Test::Scene(scenes) => is_one_of(&self.scene, scenes),
            Test::Where(condition) => condition.holds(&(self.data)()),
        }
    }
}
