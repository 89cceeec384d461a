//! Bodies: a sample of the catalogue with parts of it blown up.
//!
//! A part is a field's text, a value that becomes a list, an object that gets members, or a field that is repeated. With
//! what it is blown up, and how much of the body it gets, is what the search varies.

use std::fmt::Write as _;

use echostr::payload::{Form, Number, Object, Value};

/// A sample that bodies are made of.
pub(crate) struct Base {
    pub(crate) event: String,
    pub(crate) form: Form,
    /// IM's `CallbackCommand`.
    pub(crate) command: Option<String>,
    pub(crate) tree: Value<'static>,
    /// What each node is, in the order in which they are written.
    pub(crate) nodes: Vec<Node>,
}

/// A node of a sample.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) is_object: bool,
}

impl Base {
    pub(crate) fn new(event: &str, form: Form, command: Option<String>, tree: Value<'static>) -> Self {
        let mut nodes = Vec::new();
        collect("", &tree, &mut nodes);
        Self { event: event.to_owned(), form, command, tree, nodes }
    }
}

fn collect(name: &str, value: &Value<'_>, nodes: &mut Vec<Node>) {
    nodes.push(Node { name: name.to_owned(), is_object: matches!(value, Value::Object(_)) });
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| collect(name, value, nodes)),
        Value::List(items) => items.iter().for_each(|item| collect("", item, nodes)),
        _ => {}
    }
}

/// A body to be tried.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) base: usize,
    pub(crate) parts: Vec<Part>,
}

/// A part that is blown up.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) node: usize,
    pub(crate) what: What,
    /// Its share of the body.
    pub(crate) share: f64,
    /// How often its unit is written at most.
    pub(crate) count: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The text of the field: one run after the other.
    Text(Vec<Run>),
    /// A list of such values in the place of the value.
    Values(&'static str),
    /// More members of the object: their names, and the value of each.
    Members(Names, &'static str),
    /// The field again and again: each time with other texts, if they are to be unique, and with its first member only, if
    /// it is to be small.
    Repeat { unique: bool, small: bool },
}

/// A unit of text, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) unit: &'static str,
    pub(crate) share: f64,
    /// In one CDATA section.
    pub(crate) in_cdata: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Names {
    /// Each its own, so long, with a beginning that names of the wire have.
    Unique(&'static str, usize),
    Same(String),
}

/// What texts are made of, as it stands in the document.
pub(crate) const XML_TEXTS: &[&str] = &[
    " ",
    "\n",
    "\u{3000}",
    "a",
    "a ",
    "a,",
    ",",
    "0",
    "9",
    "]",
    ">",
    "'",
    "好",
    "&amp;",
    "&#65;",
    "&#x1F600;",
    "a&lt;",
    "<![CDATA[]]>",
    "<![CDATA[ ]]>",
    "<![CDATA[a]]>",
    "<!---->",
    "<!--->-->",
    "<?a?>",
    "0.",
    "1e",
    "<a/>",
];
pub(crate) const CDATA_TEXTS: &[&str] = &[" ", "\n", "]", "]]", ">", "a", "a,", "<", "&", "好", "\u{3000}", "0"];
pub(crate) const JSON_TEXTS: &[&str] = &[
    " ",
    "\u{3000}",
    "a",
    "a ",
    "a,",
    ",",
    "0",
    "9",
    "]",
    "<",
    "&",
    "好",
    "\\n",
    "\\u0041",
    "\\u4f60",
    "\\ud83d\\ude00",
    "\\\"",
    "\\u0001",
    "\\ufffe",
    "]]>",
    "{",
    "0.",
    "1e",
];
pub(crate) const JSON_VALUES: &[&str] = &[
    "0",
    "-1",
    "1e308",
    "-1.7976931348623157e308",
    "5e-324",
    "2.4703282292062327208e-324",
    "0.1",
    "1e-7",
    "2.2250738585072011360574097967091319759348195463516456480234261097248222220210769455e-308",
    "9007199254740993.0000000000000000000000000000000000000001",
    "18446744073709551615",
    "99999999999999999999",
    "\"\"",
    "\"a\"",
    "\"1e308\"",
    "\"2.2250738585072011e-308\"",
    "\" \"",
    "{}",
    "[]",
    "null",
    "true",
    "[[]]",
    "{\"a\":0}",
    "{\"a\":{}}",
    "[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]",
    "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}",
];
pub(crate) const XML_VALUES: &[&str] = &[
    "",
    "0",
    "a",
    "a,b",
    " ",
    "<a/>",
    "<a></a>",
    "<a>0</a>",
    "<a><a><a><a></a></a></a></a>",
    "<![CDATA[a]]>",
    "&lt;",
    "2.2250738585072011e-308",
    "1e308",
    "\u{3000}",
];

/// Writes a body of about `room` bytes.
pub(crate) fn write(base: &Base, shape: &Shape, room: usize) -> String {
    // What the sample takes by itself is known once it is written with nothing in it.
    let empty = Writer { parts: &shape.parts, room: 0, next: 0, out: String::new() }.whole(base);
    let room = room.saturating_sub(empty.len() + 64);
    Writer { parts: &shape.parts, room, next: 0, out: String::with_capacity(room + 4096) }.whole(base)
}

struct Writer<'p> {
    parts: &'p [Part],
    /// Bytes that the parts share.
    room: usize,
    /// The number of the next node.
    next: usize,
    out: String,
}

impl Writer<'_> {
    fn whole(mut self, base: &Base) -> String {
        match base.form {
            Form::Xml => self.xml("xml", &base.tree),
            Form::Json => self.json(&base.tree),
        }
        self.out
    }

    fn part(&self, node: usize) -> Option<Part> {
        self.parts.iter().find(|part| part.node == node).cloned()
    }

    fn room_of(&self, part: &Part) -> usize {
        (self.room as f64 * part.share) as usize
    }

    /// Writes units until the room of the part is used up.
    fn fill(&mut self, part: &Part, mut unit: impl FnMut(&mut String, usize)) {
        let end = self.out.len() + self.room_of(part);
        for at in 0..part.count {
            let before = self.out.len();
            unit(&mut self.out, at);
            // A unit that is too much is taken back; the first one of a list stays, so that there is one.
            if self.out.len() > end {
                self.out.truncate(before);
                break;
            }
        }
    }

    fn runs(&mut self, runs: &[Run], part: &Part) {
        let room = self.room_of(part);
        for run in runs {
            let count = ((room as f64 * run.share) as usize / run.unit.len()).min(part.count);
            if run.in_cdata {
                self.out.push_str("<![CDATA[");
            }
            (0..count).for_each(|_| self.out.push_str(run.unit));
            if run.in_cdata {
                self.out.push_str("]]>");
            }
        }
    }

    fn xml(&mut self, name: &str, value: &Value<'_>) {
        let start = self.next;
        let part = self.part(start);
        let from = self.out.len();
        self.next += 1;
        let _ = write!(self.out, "<{name}>");
        match (&part, value) {
            (Some(part @ Part { what: What::Text(runs), .. }), _) => {
                self.skip(value);
                self.runs(runs, part);
            }
            (Some(part @ Part { what: What::Values(unit), .. }), _) => {
                self.skip(value);
                self.out.push_str(unit);
                let (name, unit) = (name.to_owned(), *unit);
                self.fill(part, |out, _| {
                    let _ = write!(out, "</{name}><{name}>{unit}");
                });
            }
            (_, Value::Object(object)) => {
                for (at, (name, value)) in object.iter().enumerate() {
                    if at > 0 && is_small(part.as_ref()) {
                        self.skip_whole(value);
                    } else {
                        self.xml(name, value);
                    }
                }
                if let Some(part @ Part { what: What::Members(names, unit), .. }) = &part {
                    self.fill(part, |out, at| {
                        let name = names.name(at);
                        let _ = write!(out, "<{name}>{unit}</{name}>");
                    });
                }
            }
            (_, Value::Text(text)) => {
                let _ = write!(self.out, "<![CDATA[{text}]]>");
            }
            (_, other) => self.out.push_str(&scalar(other)),
        }
        let _ = write!(self.out, "</{name}>");
        if let Some(part @ Part { what: What::Repeat { unique, .. }, .. }) = &part {
            let element = self.out[from..].to_owned();
            self.fill(part, |out, at| again(out, &element, unique.then_some(at), "]]>"));
        }
    }

    fn json(&mut self, value: &Value<'_>) {
        let part = self.part(self.next);
        let from = self.out.len();
        self.next += 1;
        match (&part, value) {
            (Some(part @ Part { what: What::Text(runs), .. }), _) => {
                self.skip(value);
                self.out.push('"');
                self.runs(runs, part);
                self.out.push('"');
            }
            (Some(part @ Part { what: What::Values(unit), .. }), _) => {
                self.skip(value);
                let _ = write!(self.out, "[{unit}");
                self.fill(part, |out, _| {
                    let _ = write!(out, ",{unit}");
                });
                self.out.push(']');
            }
            (_, Value::Object(object)) => {
                self.out.push('{');
                for (at, (name, value)) in object.iter().enumerate() {
                    if at > 0 && is_small(part.as_ref()) {
                        self.skip_whole(value);
                        continue;
                    }
                    let _ = write!(self.out, "{}\"{name}\":", if at == 0 { "" } else { "," });
                    self.json(value);
                }
                if let Some(part @ Part { what: What::Members(names, unit), .. }) = &part {
                    let is_empty = object.is_empty();
                    self.fill(part, |out, at| {
                        let comma = if is_empty && at == 0 { "" } else { "," };
                        let _ = write!(out, "{comma}\"{}\":{unit}", names.name(at));
                    });
                }
                self.out.push('}');
            }
            (_, Value::List(items)) => {
                self.out.push('[');
                for (at, item) in items.iter().enumerate() {
                    self.out.push_str(if at == 0 { "" } else { "," });
                    self.json(item);
                }
                self.out.push(']');
            }
            (_, Value::Text(text)) => {
                let _ =
                    write!(self.out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
            }
            (_, other) => self.out.push_str(&scalar(other)),
        }
        if let Some(part @ Part { what: What::Repeat { unique, .. }, .. }) = &part {
            let element = self.out.split_off(from);
            let _ = write!(self.out, "[{element}");
            self.fill(part, |out, at| {
                out.push(',');
                again(out, &element, unique.then_some(at), "\"");
            });
            self.out.push(']');
        }
    }

    /// Counts the nodes of a value that is not written.
    fn skip_whole(&mut self, value: &Value<'_>) {
        self.next += 1;
        self.skip(value);
    }

    /// Counts the nodes below one that is not written.
    fn skip(&mut self, value: &Value<'_>) {
        let mut below = Vec::new();
        collect("", value, &mut below);
        self.next += below.len() - 1;
    }
}

impl Names {
    fn name(&self, at: usize) -> String {
        match self {
            Self::Same(name) => name.clone(),
            Self::Unique(start, length) => {
                let number = format!("{at:x}");
                let padding = length.saturating_sub(start.len() + number.len());
                format!("{start}{}{number}", "_".repeat(padding))
            }
        }
    }
}

const fn is_small(part: Option<&Part>) -> bool {
    matches!(part, Some(Part { what: What::Repeat { small: true, .. }, .. }))
}

/// An element once more; with a number in its last text, if it is to be unlike the others.
fn again(out: &mut String, element: &str, number: Option<usize>, end_of_text: &str) {
    match (number, element.find(end_of_text)) {
        (Some(number), Some(_)) => {
            // Every text gets it, names of JSON members do not: they are followed by a colon.
            let mut rest = element;
            while let Some(at) = rest.find(end_of_text) {
                let (before, after) = rest.split_at(at + end_of_text.len());
                out.push_str(&before[..at]);
                if !after.starts_with(':') && (end_of_text != "\"" || after.starts_with([',', '}', ']'])) {
                    let _ = write!(out, "{number:x}");
                }
                out.push_str(end_of_text);
                rest = after;
            }
            out.push_str(rest);
        }
        _ => out.push_str(element),
    }
}

fn scalar(value: &Value<'_>) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::Number(Number::Float(number)) => format!("{number:?}"),
        Value::Number(number) => number.to_string(),
        _ => "null".to_owned(),
    }
}

/// The same tree without a borrow of its text.
pub(crate) fn owned(value: &Value<'_>) -> Value<'static> {
    match value {
        Value::Null => Value::Null,
        Value::Bool(flag) => Value::Bool(*flag),
        Value::Number(number) => Value::Number(*number),
        Value::Text(text) => Value::Text(text.clone().into_owned().into()),
        Value::List(items) => Value::List(items.iter().map(owned).collect()),
        Value::Object(object) => {
            let mut copy = Object::with_capacity(8);
            object.iter().for_each(|(name, value)| copy.push(name.to_owned(), owned(value)));
            Value::Object(copy)
        }
    }
}

/// What a reader needs to make the shape again.
pub(crate) fn describe(base: &Base, shape: &Shape) -> String {
    let mut text = format!("{} {}", base.event, if base.form == Form::Xml { "XML" } else { "JSON" });
    for part in &shape.parts {
        let name = base.nodes.get(part.node).map_or("", |node| node.name.as_str());
        let name = if name.is_empty() { "(root or item)" } else { name };
        let limit = if part.count == usize::MAX { String::new() } else { format!(" up to {} times", part.count) };
        let _ = write!(text, "; {name}, {:.0} %{limit}: ", part.share * 100.0);
        let _ = match &part.what {
            What::Text(runs) => {
                let run = |run: &Run| {
                    format!("{:?}{} {:.0} %", run.unit, if run.in_cdata { " in CDATA" } else { "" }, run.share * 100.0)
                };
                write!(text, "text of {}", runs.iter().map(run).collect::<Vec<_>>().join(", then "))
            }
            What::Values(unit) => write!(text, "list of {unit:?}"),
            What::Members(Names::Unique(start, length), unit) => {
                write!(text, "members with names of {length} bytes ({start}…) and {unit:?}")
            }
            What::Members(Names::Same(name), unit) => write!(text, "members called {name} with {unit:?}"),
            What::Repeat { unique, small } => {
                let first = if *small { ", its first member only" } else { "" };
                write!(text, "repeated{first}{}", if *unique { ", with other texts" } else { "" })
            }
        };
    }
    text
}
