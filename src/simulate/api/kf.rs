//! WeCom customer service: what customers write is pulled page by page, and answered within the platform's limits.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rand::RngExt as _;
use serde_json::{Value, json};

use super::{Answer, FakeApi, Faults, Refused, Shared, messages::check_content};

/// How long a customer's message may be answered, and how often.
const WINDOW: Duration = Duration::from_secs(48 * 3600);
const MESSAGES: u32 = 5;

/// How long the token of a callback and a welcome code are good.
const CALLBACK_TOKEN: Duration = Duration::from_secs(600);
const WELCOME_CODE: Duration = Duration::from_secs(20);

/// The code of a `msgid` that was used before. What the platform says is not documented.
const USED_BEFORE: i64 = 40058;

/// A customer-service account.
#[derive(Default)]
pub(super) struct Desk {
    entries: Vec<Value>,
    tokens: HashMap<String, Instant>,
    ids: HashSet<String>,
    /// When each customer wrote last, and how often that was answered.
    customers: HashMap<String, (Instant, u32)>,
    /// Customers whose session a servicer has, or who wait for one: the state.
    handed_over: HashMap<String, u64>,
}

pub(super) struct Code {
    open_kfid: String,
    customer: String,
    until: Instant,
    is_used: bool,
}

impl FakeApi {
    /// Adds an entry to a customer-service account; `entry` lacks `msgid`, `open_kfid` and `send_time`. Gives its id.
    pub fn add_entry(&self, open_kfid: &str, entry: Value) -> String {
        self.lock().add_entry(open_kfid, entry)
    }

    /// A customer writes a text. Gives the message's id.
    pub fn customer_writes(&self, open_kfid: &str, customer: &str, text: &str) -> String {
        let text = json!({ "content": text });
        self.add_entry(open_kfid, json!({ "external_userid": customer, "origin": 3, "msgtype": "text", "text": text }))
    }

    /// A customer's text of so long ago.
    pub fn add_old_entry(&self, open_kfid: &str, ago: Duration, customer: &str) {
        let mut shared = self.lock();
        let text = json!({ "content": "old" });
        let entry = json!({ "external_userid": customer, "origin": 3, "msgtype": "text", "text": text });
        shared.add_entry(open_kfid, entry);
        if let Some(entry) = shared.desks.get_mut(open_kfid).and_then(|desk| desk.entries.last_mut()) {
            let sent = entry["send_time"].as_u64().unwrap_or_default();
            entry["send_time"] = sent.saturating_sub(ago.as_secs()).into();
        }
    }

    /// A customer enters the session, with a code to be greeted. Gives the code.
    pub fn customer_enters(&self, open_kfid: &str, customer: &str) -> String {
        let mut shared = self.lock();
        let code = format!("WELCOME_{}", shared.codes.len() + 1);
        let event = json!({
            "event_type": "enter_session",
            "open_kfid": open_kfid,
            "external_userid": customer,
            "scene": "demo",
            "welcome_code": code,
        });
        shared.add_entry(open_kfid, json!({ "origin": 4, "msgtype": "event", "event": event }));
        code
    }

    /// The token that a callback of a customer-service account carries now.
    pub fn callback_token(&self, open_kfid: &str) -> String {
        let mut shared = self.lock();
        shared.made += 1;
        let token = format!("CALLBACK_{}", shared.made);
        let desk = shared.desks.entry(open_kfid.to_owned()).or_default();
        desk.tokens.insert(token.clone(), Instant::now() + CALLBACK_TOKEN);
        token
    }

    /// How many entries a customer-service account has.
    pub fn entries(&self, open_kfid: &str) -> usize {
        self.lock().desks.get(open_kfid).map_or(0, |desk| desk.entries.len())
    }
}

impl Shared {
    pub(super) fn add_entry(&mut self, open_kfid: &str, mut entry: Value) -> String {
        self.made += 1;
        let id = format!("kf_msg_{}", self.made);
        self.add_code(open_kfid, &entry["event"]);
        let desk = self.desks.entry(open_kfid.to_owned()).or_default();
        let sent = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        entry["msgid"] = id.as_str().into();
        entry["send_time"] = sent.into();
        if entry["msgtype"] != "event" {
            entry["open_kfid"] = open_kfid.into();
        }
        if entry["origin"] == 3
            && let Some(customer) = entry["external_userid"].as_str()
        {
            desk.customers.insert(customer.to_owned(), (Instant::now(), 0));
        }
        desk.entries.push(entry);
        id
    }

    /// A code of an event may be answered once, before long.
    fn add_code(&mut self, open_kfid: &str, event: &Value) {
        let code = event["welcome_code"].as_str().or_else(|| event["msg_code"].as_str());
        if let Some(code) = code.filter(|code| !code.is_empty()) {
            let known = Code {
                open_kfid: open_kfid.to_owned(),
                customer: event["external_userid"].as_str().unwrap_or_default().to_owned(),
                until: Instant::now() + WELCOME_CODE,
                is_used: false,
            };
            self.codes.insert(code.to_owned(), known);
        }
    }

    /// A cursor is the number of entries before it, and how many empty pages there were at it.
    pub(super) fn sync(&mut self, body: &Value) -> Answer {
        let open_kfid = body["open_kfid"].as_str().ok_or(Refused(40058, "missing open_kfid"))?.to_owned();
        let limit = body["limit"].as_u64().unwrap_or(1000);
        if !(1..=1000).contains(&limit) {
            return Err(Refused(40058, "limit out of range"));
        }
        let (empty, doubled, shuffled) = {
            let Faults { empty_page, duplicates, shuffled, .. } = self.faults;
            (self.chance(empty_page), self.chance(duplicates), self.chance(shuffled))
        };
        let page = self.page.min(usize::try_from(limit).unwrap_or(usize::MAX));
        let desk = self.desks.get(&open_kfid).ok_or(Refused(95000, "invalid open_kfid"))?;
        if let Some(token) = body["token"].as_str()
            && desk.tokens.get(token).is_none_or(|until| *until <= Instant::now())
        {
            return Err(Refused(95007, "invalid msg token"));
        }
        let at = match body["cursor"].as_str() {
            None => 0,
            Some(cursor) => {
                let number = cursor.strip_prefix("CURSOR_").and_then(|rest| rest.split('_').next()?.parse().ok());
                number.filter(|at| *at <= desk.entries.len()).ok_or(Refused(40058, "invalid cursor"))?
            }
        };
        if empty && at < desk.entries.len() {
            let cursor = format!("CURSOR_{at}_{:04x}", self.rng.random::<u16>());
            return Ok(json!({ "next_cursor": cursor, "has_more": 1, "msg_list": [] }));
        }
        let end = (at + page).min(desk.entries.len());
        let begin = if doubled { at.saturating_sub(3) } else { at };
        let mut entries: VecDeque<_> = desk.entries[begin..end].iter().cloned().collect();
        if shuffled && entries.len() > 1 {
            let turn = self.rng.random_range(1..entries.len());
            entries.rotate_left(turn);
        }
        let has_more = u8::from(end < desk.entries.len());
        Ok(json!({ "next_cursor": format!("CURSOR_{end}_0"), "has_more": has_more, "msg_list": entries }))
    }

    pub(super) fn kf_send(&mut self, body: &Value) -> Answer {
        let open_kfid = body["open_kfid"].as_str().unwrap_or_default().to_owned();
        let customer = body["touser"].as_str().ok_or(Refused(40003, "missing touser"))?.to_owned();
        check_content(body)?;
        let desk = self.desks.get_mut(&open_kfid).ok_or(Refused(95000, "invalid open_kfid"))?;
        let id = own_id(body)?;
        if desk.ids.contains(id) {
            self.counts.repeats += 1;
            return Err(Refused(USED_BEFORE, "msgid was used before"));
        }
        if desk.handed_over.contains_key(&customer) {
            return Err(Refused(95018, "session status is not allowed to send"));
        }
        match desk.customers.get_mut(&customer) {
            Some((wrote, _)) if wrote.elapsed() > WINDOW => return Err(Refused(95002, "48 hours are over")),
            None => return Err(Refused(95002, "the customer wrote nothing")),
            Some((_, answers)) if *answers >= MESSAGES => return Err(Refused(95001, "5 messages were sent")),
            Some((_, answers)) => *answers += 1,
        }
        desk.ids.insert(id.to_owned());
        self.note("/cgi-bin/kf/send_msg", customer, body)
    }

    /// Hands a session over. From the servicers it comes back when it ends.
    pub(super) fn kf_transfer(&mut self, path: &str, body: &Value) -> Answer {
        let open_kfid = body["open_kfid"].as_str().unwrap_or_default();
        let customer = body["external_userid"].as_str().ok_or(Refused(40003, "missing external_userid"))?.to_owned();
        let desk = self.desks.get_mut(open_kfid).ok_or(Refused(95000, "invalid open_kfid"))?;
        let before = desk.handed_over.get(&customer).copied();
        match body["service_state"].as_u64() {
            Some(3) if !body["servicer_userid"].is_string() => return Err(Refused(40058, "missing servicer_userid")),
            Some(state @ 2..=3) if before.is_none_or(|before| before < state) => {
                desk.handed_over.insert(customer.clone(), state);
            }
            Some(4) => drop(desk.handed_over.remove(&customer)),
            Some(0..=3) => return Err(Refused(95016, "not allowed to change to that state")),
            _ => return Err(Refused(40058, "invalid service_state")),
        }
        self.note(path, customer, body)
    }

    pub(super) fn kf_send_on_event(&mut self, body: &Value) -> Answer {
        let code = body["code"].as_str().ok_or(Refused(40058, "missing code"))?;
        check_content(body)?;
        if !["text", "msgmenu"].contains(&body["msgtype"].as_str().unwrap_or_default()) {
            return Err(Refused(40008, "invalid message type"));
        }
        let id = own_id(body)?;
        let code = self.codes.get_mut(code).ok_or(Refused(95023, "invalid code"))?;
        let desk = self.desks.entry(code.open_kfid.clone()).or_default();
        if !desk.ids.insert(id.to_owned()) {
            self.counts.repeats += 1;
            return Err(Refused(USED_BEFORE, "msgid was used before"));
        }
        if code.is_used || code.until <= Instant::now() {
            return Err(Refused(95023, "the code is used or over"));
        }
        code.is_used = true;
        let customer = code.customer.clone();
        self.note("/cgi-bin/kf/send_msg_on_event", customer, body)
    }
}

fn own_id(body: &Value) -> Result<&str, Refused> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let id = body["msgid"].as_str().unwrap_or_default();
    let is_good = (1..=32).contains(&id.len()) && id.bytes().all(allowed);
    is_good.then_some(id).ok_or(Refused(40058, "invalid msgid"))
}
