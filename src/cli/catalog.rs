//! `echostr catalog`: lists the events, or identifies payload files.

use std::{
    error::Error,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

use super::{
    Done, names,
    table::{Column, Table},
};
use crate::{
    catalog,
    event::{EventSpec, Platform, table},
    log::{escape, escape_json},
    payload::{self, Form, Value},
    platform, webhook,
};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Only this platform
    #[arg(conflicts_with = "json_schema")]
    platform: Option<Platform>,
    /// Prints a JSON Schema per line: of the events and answers of this type, or of all
    #[arg(long, value_name = "TYPE", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["files", "json"])]
    json_schema: Option<String>,
    /// Names the event type of each payload file
    #[arg(long = "match", value_name = "FILE", num_args = 1.., conflicts_with = "platform")]
    files: Vec<PathBuf>,
    /// With --match: read the payloads as events of this platform
    #[arg(long = "platform", value_name = "PLATFORM", id = "of")]
    of: Option<Platform>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if let Some(name) = &arguments.json_schema {
        print_schemas(&mut out, arguments.of, name)?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.files.is_empty() {
        list(&mut out, arguments)?;
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed = false;
    for path in &arguments.files {
        let matched = match_file(path, arguments.of);
        failed |= matched.error.is_some() || matched.rust_type.is_none();
        if arguments.json {
            writeln!(out, "{}", escape_json(&serde_json::to_string(&matched)?))?;
        } else {
            matched.write(&mut out)?;
        }
    }
    out.flush()?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The schemas of an event type and of its answers; of all types for an empty name.
fn print_schemas(out: &mut impl Write, of: Option<Platform>, name: &str) -> Result<(), Box<dyn Error>> {
    let mut schemas = Vec::new();
    for platform in Platform::ALL.into_iter().filter(|platform| of.is_none_or(|of| of == *platform)) {
        schemas.extend(catalog::schema::schemas(platform)?);
    }
    if of.is_none() {
        schemas.extend(catalog::schema::passive_schemas()?);
    }
    schemas.retain(|schema| name.is_empty() || schema.name == name);
    if schemas.is_empty() {
        let known: Vec<&str> = Platform::ALL.into_iter().flat_map(webhook::event_types).collect();
        let hint =
            names::nearest_type(name, &known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(format!("no schema of `{name}`{hint}; `echostr catalog` lists the event types").into());
    }
    schemas.iter().try_for_each(|schema| writeln!(out, "{}", schema.schema))?;
    Ok(())
}

fn list(out: &mut impl Write, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    #[derive(Serialize)]
    struct Line<'e> {
        r#type: &'e str,
        rust_type: String,
        platform: Platform,
        family: &'e str,
        summary: &'e str,
        select: &'e std::collections::BTreeMap<String, String>,
        reply: &'e str,
        sample_xml: Option<&'e str>,
        sample_json: Option<&'e str>,
    }
    let table =
        Table::new(&[Column::text("type", 32, 56), Column::text("rust type", 20, 40), Column::rest("summary", 20)]);
    let wanted = arguments.platform.or(arguments.of);
    for platform in Platform::ALL.into_iter().filter(|platform| wanted.is_none_or(|wanted| wanted == *platform)) {
        for entry in catalog::entries(platform)? {
            if !arguments.json {
                writeln!(out, "{}", table.row(&[&entry.id, &entry.type_name, &entry.summary]))?;
                continue;
            }
            let line = Line {
                r#type: &entry.id,
                rust_type: format!("{platform}::{}", entry.type_name),
                platform,
                family: &entry.family,
                summary: &entry.summary,
                select: &entry.select,
                reply: &entry.reply,
                sample_xml: entry.sample_xml.as_deref(),
                sample_json: entry.sample_json.as_deref(),
            };
            serde_json::to_writer(&mut *out, &line)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// What a payload file is.
#[derive(Debug, Serialize)]
struct Match {
    file: String,
    /// The event type; `….unknown` when it is not in the catalogue.
    r#type: Option<&'static str>,
    rust_type: Option<String>,
    /// The typed event, with the platform's own names.
    value: Option<Value<'static>>,
    /// Paths that the type does not carry.
    unknown_fields: Vec<String>,
    /// Fields that could not be read as their type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable_fields: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Match {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(error) = &self.error {
            return writeln!(out, "{}", escape(&format!("{}: {error}", self.file)));
        }
        let (event_type, rust_type) = (self.r#type.unwrap_or("-"), self.rust_type.as_deref().unwrap_or("-"));
        let value = self.value.as_ref().map_or("-".to_owned(), payload::to_json);
        let value = escape_json(&value);
        let line = format!(
            "{}: type={event_type} rust_type={rust_type} value={value} unknown_fields={:?}",
            self.file, self.unknown_fields
        );
        writeln!(out, "{}", escape(&line))
    }
}

fn match_file(path: &Path, of: Option<Platform>) -> Match {
    let file = path.display().to_string();
    let failed = |error: String| Match {
        file: path.display().to_string(),
        r#type: None,
        rust_type: None,
        value: None,
        unknown_fields: Vec::new(),
        unreadable_fields: Vec::new(),
        error: Some(error),
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return failed(error.to_string()),
    };
    let text = text.trim_start_matches('\u{FEFF}').trim();
    let form = if text.starts_with('<') { Form::Xml } else { Form::Json };
    if let Err(error) = payload::parse(form, text) {
        return failed(error.to_string());
    }
    let platforms = of.map_or(Platform::ALL.to_vec(), |platform| vec![platform]);
    let matches = platforms.into_iter().filter_map(|platform| match_as(&file, platform, form, text));
    // Several platforms share names like `text`: the type that carries most of the payload is meant.
    let best = matches.min_by_key(|matched| {
        (matched.rust_type.is_none(), matched.unknown_fields.len() + matched.unreadable_fields.len())
    });
    best.unwrap_or_else(|| failed("no such event in the catalogue".to_owned()))
}

/// The payload as an event of one platform; `None` when it does not look like that platform at all.
fn match_as(file: &str, of: Platform, form: Form, text: &str) -> Option<Match> {
    let tree = payload::parse(form, text).ok()?;
    let identity = platform::identify(of, &tree, None);
    if identity.key.is_empty() && table(of).events.is_empty() {
        return None;
    }
    let typed = identity.spec.and_then(|spec| read(spec, &tree, form).ok());
    let Some((spec, values, unreadable_fields)) = typed else {
        return Some(Match {
            file: file.to_owned(),
            r#type: Some(platform::unknown_type(of, &identity.key)),
            rust_type: None,
            value: None,
            unknown_fields: Vec::new(),
            unreadable_fields: Vec::new(),
            error: None,
        });
    };
    let mut values = values;
    let value = if values.len() == 1 { values.remove(0) } else { Value::List(values) };
    Some(Match {
        file: file.to_owned(),
        r#type: Some(spec.id),
        rust_type: Some(format!("{}::{}", spec.platform, spec.rust_type)),
        value: Some(value),
        unknown_fields: unread(&tree, spec),
        unreadable_fields,
        error: None,
    })
}

type Read = (&'static EventSpec, Vec<Value<'static>>, Vec<String>);

fn read(spec: &'static EventSpec, tree: &Value<'_>, form: Form) -> Result<Read, crate::wire::Unreadable> {
    let mut values = Vec::new();
    let mut unreadable = Vec::new();
    for event in platform::events_of(tree, Some(spec)) {
        let decoded = spec.decode(event, form)?;
        unreadable.extend(decoded.unreadable.iter().map(ToString::to_string));
        values.push(decoded.present(event));
    }
    Ok((spec, values, unreadable))
}

/// What the type does not carry; the list that several events arrive in is carried by what is in it.
fn unread(tree: &Value<'_>, spec: &EventSpec) -> Vec<String> {
    let Some(list) = spec.fan_out else { return tree.unread() };
    let others = tree.unread().into_iter().filter(|path| path != list);
    let events = platform::events_of(tree, Some(spec)).iter().flat_map(Value::unread);
    others.chain(events.map(|path| format!("{list}[].{path}"))).collect()
}
