//! The page of what only one source knows.

use std::fmt::Write as _;

use echostr_catalog::{Catalog, Confidence, Entry};

use super::{HEADER, markdown::anchor};
use crate::{sources::text, vectors};

/// The page.
///
/// # Errors
/// When the catalogue or the vectors cannot be read.
pub(super) fn page(catalogs: &[(Catalog, Catalog)]) -> Result<String, String> {
    let vectors = vectors::all()?;
    let mut rows = String::new();
    let mut lists = String::new();
    let mut totals = [0; 5];
    for (catalog, _) in catalogs {
        let platform = catalog.platform.name.as_str();
        let known = &vectors[platform];
        let count = |confidence| catalog.event.iter().filter(|entry| entry.confidence == confidence).count();
        let is_held = |entry: &&Entry| known.iter().any(|known| known.vector.id == entry.id);
        let unconfirmed = vectors::unconfirmed(&catalog.event, known);
        let counts = [
            count(Confidence::High),
            count(Confidence::Medium),
            count(Confidence::Low),
            catalog.event.iter().filter(is_held).count(),
            unconfirmed.len(),
        ];
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        let [high, medium, low, held, open] = counts;
        let _ = writeln!(rows, "| `{platform}` | {high} | {medium} | {low} | {held} | {open} |");
        if unconfirmed.is_empty() {
            continue;
        }
        let _ = write!(lists, "\n## {platform}\n\n");
        for entry in unconfirmed {
            let home = if catalog.platform.page_per_family {
                format!("{platform}/{}.md", entry.family)
            } else {
                format!("{platform}.md")
            };
            let _ = writeln!(lists, "- [`{id}`]({home}#{}) {}", anchor(&entry.id), text(&entry.summary), id = entry.id);
        }
    }
    let [high, medium, low, held, open] = totals;
    let _ = writeln!(rows, "| **all** | {high} | {medium} | {low} | {held} | **{open}** |");
    Ok(format!(
        "# How sure the reference is\n\n{HEADER}\n\
         An entry is sure when the platform itself or two independent projects describe it. The others are held against \
         payloads and field lists of sources other than the one they were written from (`tests/vectors`, each with its source). \
         What no such source confirms is listed below: the name of the event is right, names of its fields may not be. Whatever \
         a type does not read stays in the payload, which every handler gets.\n\n\
         | platform | sure | one source | doubtful | held against another source | unconfirmed |\n\
         |---|--:|--:|--:|--:|--:|\n{rows}\n\
         {NOT_SEEN}{lists}",
    ))
}

/// What is known by its heading alone.
const NOT_SEEN: &str = "## Not seen\n\n\
    These pushes exist, but no page or project at hand has what is missing. A push whose name is missing arrives as an unknown \
    event with its payload; one whose body is missing has a type with the envelope alone, and its payload beside it.\n\n\
    | push | missing |\n|---|---|\n\
    | WeCom, archive of drives: a file changed (page 101678) | name, body |\n\
    | Mini Program, insurance of returned goods: result of a claim (理赔结果推送), with OrderNo, Status, FinishTime, PayFailReason | name |\n\
    | Weixin store, `channels_ec_phonenumberpool_update` | body |\n\
    | Official Account, `guide_invite_result_event`, `add_guide_buyer_relation_event` | body |\n\
    | Mini Program, `xpay_subscribe_signing_result_notify`, `xpay_subscribe_pay_fail_notify` | body |\n\
    | WeCom customer service, `meeting`, `schedule`, `note` | body |\n";
