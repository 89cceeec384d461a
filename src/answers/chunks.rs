//! The text of an answer that comes in chunks: server-sent events, or JSON a line.

use std::collections::VecDeque;

use serde_json::Value as Json;

use crate::hooks::HandlerError;

/// The longest line that is read.
const MAX_LINE_BYTES: usize = 1 << 20;

/// How the chunks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    /// `text/event-stream`
    Events,
    /// `application/x-ndjson`
    Lines,
}

impl Syntax {
    pub(super) fn of(content_type: &str) -> Option<Self> {
        match content_type {
            "text/event-stream" => Some(Self::Events),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/json-lines" => {
                Some(Self::Lines)
            }
            _ => None,
        }
    }
}

/// Takes bytes, and gives the chunks of text that are complete.
#[derive(Debug)]
pub(super) struct Chunks {
    syntax: Syntax,
    /// The start of a line.
    line: Vec<u8>,
    /// The lines of data of an event that has not ended; `None` before the first.
    data: Option<String>,
    texts: VecDeque<String>,
    has_ended: bool,
}

impl Chunks {
    pub(super) const fn new(syntax: Syntax) -> Self {
        Self { syntax, line: Vec::new(), data: None, texts: VecDeque::new(), has_ended: false }
    }

    /// Takes what has come.
    ///
    /// # Errors
    /// When it is not what it says it is, or has a line that is too long.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), HandlerError> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + part.len() > MAX_LINE_BYTES {
                return Err("a line of the streamed answer is longer than 1 MiB".into());
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.end_of_line()?;
            }
        }
        Ok(())
    }

    /// Nothing more comes: a line that is not ended is one, too.
    ///
    /// # Errors
    /// As [`Chunks::push`].
    pub(super) fn end(&mut self) -> Result<(), HandlerError> {
        self.end_of_line()?;
        self.end_of_event()?;
        self.has_ended = true;
        Ok(())
    }

    /// The next chunk that is complete.
    pub(super) fn next(&mut self) -> Option<String> {
        self.texts.pop_front()
    }

    /// Whether the answer is over, be there more bytes or not.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn end_of_line(&mut self) -> Result<(), HandlerError> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8(line).map_err(|_| "the streamed answer is not UTF-8")?;
        let line = line.trim_end_matches(['\n', '\r']);
        match self.syntax {
            Syntax::Lines if line.trim().is_empty() => Ok(()),
            Syntax::Lines => self.take(line),
            Syntax::Events if line.is_empty() => self.end_of_event(),
            Syntax::Events => {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                if field == "data" {
                    let value = value.strip_prefix(' ').unwrap_or(value);
                    match &mut self.data {
                        Some(data) if data.len() + value.len() > MAX_LINE_BYTES => {
                            return Err("an event of the streamed answer is longer than 1 MiB".into());
                        }
                        Some(data) => {
                            data.push('\n');
                            data.push_str(value);
                        }
                        None => self.data = Some(value.to_owned()),
                    }
                }
                Ok(())
            }
        }
    }

    fn end_of_event(&mut self) -> Result<(), HandlerError> {
        match self.data.take() {
            Some(data) => self.take(&data),
            None => Ok(()),
        }
    }

    /// One chunk: `{"text": …}`, the delta of a chat completion, or a text as it is, which only events may have.
    fn take(&mut self, chunk: &str) -> Result<(), HandlerError> {
        if self.has_ended {
            return Ok(());
        }
        if chunk.trim() == "[DONE]" {
            self.has_ended = true;
            return Ok(());
        }
        let text = match serde_json::from_str::<Json>(chunk) {
            Ok(Json::Object(chunk)) => {
                if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
                    let message = error.as_str().or_else(|| error["message"].as_str()).unwrap_or("no message");
                    return Err(format!("the streamed answer says that it failed: {}", short(message)).into());
                }
                match (chunk.get("text"), chunk.get("choices")) {
                    (Some(Json::String(text)), _) => text.clone(),
                    (None, Some(choices)) => choices[0]["delta"]["content"].as_str().unwrap_or_default().to_owned(),
                    (None, None) => String::new(),
                    (Some(_), _) => return Err("`text` of a streamed chunk is not a text".into()),
                }
            }
            Ok(Json::String(text)) => text,
            _ if self.syntax == Syntax::Events => chunk.to_owned(),
            _ => return Err("a line of the streamed answer is not a JSON object such as {\"text\": \"…\"}".into()),
        };
        if !text.is_empty() {
            self.texts.push_back(text);
        }
        Ok(())
    }
}

/// As much of a text from outside as an error may have.
pub(super) fn short(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chunks of a stream, however it comes in parts.
    fn chunks(syntax: Syntax, stream: &str) -> Result<Vec<String>, String> {
        let in_parts = |size: usize| {
            let mut chunks = Chunks::new(syntax);
            let mut texts = Vec::new();
            for part in stream.as_bytes().chunks(size) {
                chunks.push(part)?;
                texts.extend(std::iter::from_fn(|| chunks.next()));
            }
            chunks.end()?;
            texts.extend(std::iter::from_fn(|| chunks.next()));
            Ok::<_, HandlerError>(texts)
        };
        let whole = in_parts(stream.len().max(1)).map_err(|failure| failure.to_string());
        for size in [1, 2, 3, 7] {
            assert_eq!(in_parts(size).map_err(|failure| failure.to_string()), whole, "{size}");
        }
        whole
    }

    #[test]
    fn chunks_are_read_however_they_come() {
        for (syntax, stream, expected) in [
            (Syntax::Lines, "", &[][..]),
            (Syntax::Lines, "{\"text\":\"您\"}\n\n{\"text\":\"好\"}", &["您", "好"]),
            (Syntax::Lines, "{\"text\":\"a\"}\r\n{\"role\":\"x\"}\n\"b\"\n", &["a", "b"]),
            (Syntax::Events, "data: {\"text\":\"a\"}\n\ndata: {\"text\":\"b\"}\n\n", &["a", "b"]),
            (Syntax::Events, "data: hello\ndata: world\n\ndata:x", &["hello\nworld", "x"]),
            (Syntax::Events, ": comment\nevent: message\nid: 1\ndata: a\r\n\r\n", &["a"]),
            (Syntax::Events, "data: a\n\ndata: [DONE]\n\ndata: b\n\n", &["a"]),
            (
                Syntax::Events,
                "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
                 data: {\"choices\":[{\"delta\":{\"content\":\"4\"}}]}\n\ndata: {\"choices\":[]}\n\n",
                &["4"],
            ),
        ] {
            let texts = chunks(syntax, stream).unwrap();
            assert_eq!(texts, expected, "{stream}");
        }
    }

    #[test]
    fn what_is_no_stream_is_an_error_that_says_so() {
        for (syntax, stream, named) in [
            (Syntax::Lines, "text", "JSON object"),
            (Syntax::Lines, "{\"text\":1}", "`text`"),
            (Syntax::Events, "data: {\"error\":{\"message\":\"overloaded\"}}\n\n", "overloaded"),
            (Syntax::Lines, "{\"error\":\"overloaded\"}", "overloaded"),
        ] {
            let error = chunks(syntax, stream).unwrap_err();
            assert!(error.contains(named), "{stream}: {error}");
        }
        assert!(Chunks::new(Syntax::Lines).push(b"\xff\n").is_err());
        let mut endless = Chunks::new(Syntax::Events);
        let long = vec![b'a'; MAX_LINE_BYTES];
        assert!(endless.push(&long).is_ok() && endless.push(b"a").is_err());
    }
}
