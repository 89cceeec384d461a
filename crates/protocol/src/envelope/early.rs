//! What the query alone decides, for requests whose body is still to come.

use super::{
    Keys, Query, Refusal,
    keys::{Expected, says_encrypted, signed_parts},
};

impl Keys {
    /// Refuses a POST that [`Keys::open`] would refuse whatever its body is, so that the body need not be read.
    ///
    /// The reason is the one that `open` gives, except where that one looks at the body first: of two faults, this finds
    /// the one of the query. An encrypted body is covered by `msg_signature` alone. The `signature` beside it is not looked
    /// at, for whoever wants to pass leaves it out.
    ///
    /// # Errors
    /// [`Refusal`] of the first check that fails.
    pub fn check_query(&self, query: &Query<'_>, now: i64) -> Result<(), Refusal> {
        match self.expected(query)? {
            Expected::SignedTime => self.check_signed_time(query, now),
            Expected::Clear | Expected::Either => self.check_plain_signature(query, now).map(drop),
            Expected::Encrypted => {
                // The console is in plain mode, which has a reason code of its own.
                let is_clear = self.has_modes() && !says_encrypted(query);
                if is_clear && self.check_plain_signature(query, now).is_ok() {
                    return Err(Refusal::Plaintext);
                }
                query.require("msg_signature")?;
                let (time, _) = signed_parts(query)?;
                self.check_age("timestamp", time, now)
            }
        }
    }

    /// All that protects a request whose signature covers the token and a time.
    pub(super) fn check_signed_time(&self, query: &Query<'_>, now: i64) -> Result<(), Refusal> {
        if !self.tokens.is_empty() {
            let given = query.require("Sign")?;
            let time = query.require("RequestTime")?;
            self.im_signed_by(given, time).ok_or(Refusal::WrongSignature("Sign"))?;
            self.check_age("RequestTime", time, now)?;
        }
        self.check_sdk_app_id(query)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        crypto::EncodingKey,
        envelope::{Mode, ReceiveIds, Sender},
        event::Platform,
        payload::Form,
        secret::Secret,
    };

    const NOW: i64 = 1_735_689_600;

    fn every_kind() -> Vec<Keys> {
        let keys = |platform, mode| Keys {
            platform,
            tokens: vec![Secret::new("token")],
            aes_keys: EncodingKey::parse(&"K".repeat(43)).into_iter().filter(|_| mode != Mode::Plain).collect(),
            receive_ids: ReceiveIds::Any,
            mode,
            max_age: Some(Duration::from_secs(600)),
            sdk_app_id: Some(1_400_000_000),
        };
        let mut all: Vec<_> = Platform::ALL.map(|platform| keys(platform, Mode::Safe)).into();
        for platform in [Platform::Mp, Platform::MiniProgram] {
            all.extend([keys(platform, Mode::Plain), keys(platform, Mode::Compat)]);
        }
        all.push(Keys { tokens: Vec::new(), ..keys(Platform::Im, Mode::Safe) });
        all
    }

    /// Every query of the platform, with each set of parameters left out, made old, or changed.
    #[test]
    fn nothing_is_refused_early_that_the_whole_check_takes() {
        let (mut taken, mut refused) = (0, 0);
        for keys in every_kind() {
            let sender_keys = [Mode::Safe, Mode::Plain]
                .map(|mode| Keys { mode: if keys.aes_keys.is_empty() { Mode::Plain } else { mode }, ..keys.clone() });
            for (sender_keys, now) in sender_keys.iter().flat_map(|keys| [(keys, NOW), (keys, NOW - 601)]) {
                let request =
                    Sender::new(sender_keys).deliver("{\"a\":1}", Form::Json, Some("A"), now, "1", [7; 16]).unwrap();
                let pairs: Vec<&str> = request.query.split('&').collect();
                for choice in 0..3_usize.pow(u32::try_from(pairs.len()).unwrap()) {
                    let changed = pairs.iter().enumerate().filter_map(|(at, pair)| {
                        match choice / 3_usize.pow(u32::try_from(at).unwrap()) % 3 {
                            0 => Some((*pair).to_owned()),
                            1 => Some(format!("{pair}0")),
                            _ => None,
                        }
                    });
                    let changed = changed.collect::<Vec<_>>().join("&");
                    let query = Query::parse(&changed).unwrap();
                    match (keys.check_query(&query, NOW), keys.open(&query, request.body.as_bytes(), NOW)) {
                        (Err(early), Ok(_)) => panic!("{:?}: {changed}: {early}", keys.platform),
                        (Ok(()), Ok(_)) => taken += 1,
                        (Err(_), Err(_)) => refused += 1,
                        (Ok(()), Err(_)) => {}
                    }
                }
            }
        }
        assert!(taken > 20 && refused > 1_000, "{taken} taken, {refused} refused");
    }
}
