//! The pages of one platform.

use std::{collections::BTreeMap, fmt::Write as _};

use echostr_catalog::{Catalog, Entry, Kind, Platform};

use super::{
    HEADER, documentation, forms, listed,
    markdown::{anchor, code, code_list, note, sample, table},
};
use crate::{replies, sources::text};

/// One platform, which is one page or a folder of them.
pub(super) struct Book<'c> {
    catalog: &'c Catalog,
    /// Whether it is a page of a fork's events, which stands beside the others.
    is_of_fork: bool,
}

impl<'c> Book<'c> {
    pub(super) fn new(catalog: &'c Catalog) -> Self {
        Self { catalog, is_of_fork: false }
    }

    /// The events of a fork.
    pub(super) fn of_fork(catalog: &'c Catalog) -> Self {
        Self { catalog, is_of_fork: true }
    }

    /// The page of a fork's events.
    pub(super) fn fork(&self) -> Result<String, String> {
        let mut page = format!("# {}: events of this fork\n\n{HEADER}\n", self.platform().title);
        self.catalog.event.iter().for_each(|entry| listed(&mut page, "", "", entry));
        self.catalog.event.iter().try_for_each(|entry| self.entry(&mut page, entry))?;
        Ok(page)
    }

    fn platform(&self) -> &'c Platform {
        &self.catalog.platform
    }

    /// From the index.
    pub(super) fn home(&self) -> String {
        if self.platform().page_per_family {
            format!("{}/README.md", self.platform().name)
        } else {
            format!("{}.md", self.platform().name)
        }
    }

    /// In the order in which the catalogue begins them.
    pub(super) fn families(&self) -> Vec<(&str, Vec<&Entry>)> {
        let mut families: Vec<(&str, Vec<&Entry>)> = Vec::new();
        for entry in &self.catalog.event {
            match families.iter_mut().find(|(family, _)| *family == entry.family) {
                Some((_, entries)) => entries.push(entry),
                None => families.push((&entry.family, vec![entry])),
            }
        }
        families
    }

    pub(super) fn pages(&self) -> Result<BTreeMap<String, String>, String> {
        let mut pages = BTreeMap::new();
        let mut main = self.front();
        for (family, entries) in self.families() {
            if !self.platform().page_per_family {
                let _ = write!(main, "\n## {family}\n");
                entries.iter().try_for_each(|entry| self.entry(&mut main, entry))?;
                continue;
            }
            let mut page = format!(
                "# {}: {family}\n\n{HEADER}\n[All families](README.md), [fields of every push](README.md#fields-of-every-push).\n\n",
                self.platform().title
            );
            entries.iter().for_each(|entry| listed(&mut page, "", "", entry));
            entries.iter().try_for_each(|entry| self.entry(&mut page, entry))?;
            pages.insert(format!("docs/events/{}/{family}.md", self.platform().name), page);
        }
        self.back(&mut main);
        pages.insert(format!("docs/events/{}", self.home()), main);
        Ok(pages)
    }

    /// What stands before the entries: contents, and what every push has.
    fn front(&self) -> String {
        let up = if self.platform().page_per_family { "../" } else { "" };
        let mut page = format!(
            "# {}: messages and events\n\n{HEADER}\n{} entries. [How to read them]({up}README.md#how-to-read-an-entry).\n\n",
            self.platform().title,
            self.catalog.event.len(),
        );
        page.push_str("## Contents\n\n");
        for (family, entries) in self.families() {
            let file = if self.platform().page_per_family { format!("{family}.md") } else { String::new() };
            let link = if self.platform().page_per_family { file.clone() } else { format!("#{}", anchor(family)) };
            let _ = writeln!(page, "- [{family}]({link}) ({})", entries.len());
            entries.iter().for_each(|entry| listed(&mut page, "  ", &file, entry));
        }
        for (there, name) in [
            (!self.catalog.element.is_empty(), "Elements of a message body"),
            (!self.catalog.reply.is_empty(), "Answers in the response"),
        ] {
            if there {
                let _ = writeln!(page, "- [{name}](#{})", anchor(name));
            }
        }
        let envelope = &self.catalog.envelope;
        page.push_str("\n## Fields of every push\n\n");
        if !envelope.query.is_empty() {
            page.push_str("In the query of the URL:\n\n");
            table(&mut page, &envelope.query, "name");
            page.push_str("\nIn the body:\n\n");
        }
        if envelope.variants.is_empty() {
            table(&mut page, &envelope.fields, "path");
        } else {
            page.push_str("They depend on the entry, which names its table.\n");
        }
        if let Some(variant) = &envelope.event {
            page.push_str("\n### Form event\n\nEntries of the kind `event` have these instead:\n\n");
            table(&mut page, &variant.fields, "path");
        }
        for (name, variant) in &envelope.variants {
            let doc = variant.doc.as_deref().unwrap_or_default();
            let _ = write!(page, "\n### Form {name}\n\n{}\n\n", text(doc));
            table(&mut page, &variant.fields, "path");
        }
        page
    }

    /// What stands behind the entries: what several of them share.
    fn back(&self, page: &mut String) {
        if !self.catalog.element.is_empty() {
            page.push_str(
                "\n## Elements of a message body\n\nThe items of `MsgBody`, told apart by `MsgType`; paths begin in `MsgContent`.\n",
            );
        }
        for element in &self.catalog.element {
            let _ = write!(page, "\n### {}\n\n{}\n\n", element.tag(), text(&element.summary));
            table(page, &element.fields, "path");
            note(page, element.quirks.as_deref());
            sample(page, "json", element.sample_json.as_deref());
        }
        if self.catalog.reply.is_empty() {
            return;
        }
        page.push_str("\n## Answers in the response\n");
        for reply in &self.catalog.reply {
            let _ = write!(page, "\n### `{}`\n\nAnswers {}.\n\n", reply.id, code_list(&reply.allowed_for));
            table(page, &reply.fields, "path");
            note(page, reply.quirks.as_deref());
            sample(page, "json", reply.sample_json.as_deref());
            reply.samples_more.iter().for_each(|more| sample(page, "json", Some(more)));
        }
    }

    fn entry(&self, page: &mut String, entry: &Entry) -> Result<(), String> {
        let _ = write!(page, "\n### `{}`\n\n{}\n\n", entry.id, text(&entry.summary));
        let _ = writeln!(page, "- Selected by {}", self.selectors(entry));
        if let Some(trigger) = &entry.trigger {
            let _ = writeln!(page, "- Sent on: {}", text(trigger));
        }
        if let Some(list) = &entry.fan_out {
            let _ = writeln!(page, "- One push carries several, as the items of `{list}`; each is an event of its own");
        }
        if entry.command_path.as_deref() == Some("") {
            page.push_str("- The body does not repeat the command: only the query names it\n");
        }
        if let Some(since) = &entry.since {
            let _ = writeln!(page, "- Since {}", text(since));
        }
        if let Some(deprecated) = &entry.deprecated {
            let _ = writeln!(page, "- No longer offered to new accounts: {}", text(deprecated));
        }
        let _ = writeln!(page, "- Rust type: `{}::{}`", self.platform().name, entry.type_name);
        let _ = writeln!(page, "- Form: {}", forms([entry]));
        let _ = writeln!(page, "- Answer: {}", self.answer(entry)?);
        let _ = writeln!(page, "- Documentation: {}", documentation(&entry.sources));

        let shared = self.shared(entry);
        if entry.fields.is_empty() {
            let _ = write!(page, "\nNo fields but {shared}.\n");
        } else {
            let _ = write!(page, "\nFields, besides {shared}:\n\n");
            table(page, &entry.fields, "path");
        }
        note(page, entry.quirks.as_deref());
        sample(page, "xml", entry.sample_xml.as_deref());
        sample(page, "json", entry.sample_json.as_deref());
        for more in &entry.samples_more {
            sample(page, if more.trim_start().starts_with('<') { "xml" } else { "json" }, Some(more));
        }
        self.response(page, entry);
        Ok(())
    }

    /// A link to the fields that the entry shares with others.
    fn shared(&self, entry: &Entry) -> String {
        let form = match (&entry.envelope_variant, &self.catalog.envelope.event) {
            (Some(variant), _) => Some(format!("form-{}", anchor(variant))),
            (None, Some(_)) if entry.kind == Kind::Event => Some("form-event".to_owned()),
            _ => None,
        };
        let page = match (self.is_of_fork, self.platform().page_per_family) {
            (true, _) => format!("../{}", self.home()),
            (false, true) => "README.md".to_owned(),
            (false, false) => String::new(),
        };
        match form {
            Some(form) => format!("[those of its form]({page}#{form})"),
            None => format!("[those of every push]({page}#fields-of-every-push)"),
        }
    }

    fn selectors(&self, entry: &Entry) -> String {
        let keys: Vec<&String> = self.platform().keys.iter().flatten().collect();
        let order = |key: &String| keys.iter().position(|other| *other == key);
        let select = |select: &BTreeMap<String, String>| {
            let mut pairs: Vec<_> = select.iter().collect();
            pairs.sort_by_key(|(key, _)| order(key));
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{} = {}", code(key), code(value))).collect();
            pairs.join(", ")
        };
        let all: Vec<_> = entry.selectors().map(select).collect();
        all.join("; or ")
    }

    fn answer(&self, entry: &Entry) -> Result<String, String> {
        let body = |name: &String| {
            let id = format!("{}.reply.{name}", self.platform().name);
            format!("[{name}](#{})", anchor(&id))
        };
        let bodies: Vec<_> = entry.replies.iter().map(body).collect();
        let is_below = self.is_of_fork || self.platform().page_per_family;
        let replies = if is_below { "../replies.md" } else { "replies.md" };
        let answer = replies::answer(self.platform(), entry)?;
        Ok(answer
            .words
            .replace("{success}", &self.platform().success)
            .replace("{replies}", replies)
            .replace("{bodies}", &bodies.join(", "))
            .replace("{code}", entry.reply_code.as_deref().unwrap_or_default()))
    }

    /// The body that the platform reads.
    fn response(&self, page: &mut String, entry: &Entry) {
        let Some(response) = &entry.response else { return };
        let acknowledged = entry.reply == "Ack";
        let mut facts = Vec::new();
        if let Some([first, last]) = response.custom_codes {
            let item = response.fields.iter().any(|field| field.name == "ResultCode");
            let of_item = if item { ", or a `ResultCode`," } else { "" };
            facts.push(format!(
                "An `ErrorCode`{of_item} from {first} to {last} (`custom_codes`) refuses, and reaches the client with its text."
            ));
        }
        if let Some(code) = response.refused_as {
            facts.push(format!("The plain refusal reaches the client as {code}."));
        }
        if let Some(doc) = &response.doc {
            facts.push(text(doc));
        }
        let deadline =
            response.deadline.clone().or(response.deadline_ms.map(|ms| format!("{} s", f64::from(ms) / 1000.0)));
        if let Some(deadline) = &deadline {
            facts.push(format!("Deadline: {}.", text(deadline)));
        }
        if let Some(late) = &response.on_timeout {
            facts.push(format!("Without an answer in time: {}.", text(late).trim_end_matches('.')));
        }
        if facts.is_empty() && (response.fields.is_empty() || acknowledged) {
            return;
        }
        let _ = write!(page, "\n**Answer.** {}\n", facts.join(" "));
        // Every acknowledgement is the same.
        if response.fields.is_empty() || acknowledged {
            return;
        }
        page.push('\n');
        table(page, &response.fields, "path");
        sample(page, "xml", response.sample_xml.as_deref());
        sample(page, "json", response.sample_json.as_deref());
    }
}
