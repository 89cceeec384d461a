//! The addresses that the platform calls from.

use serde_json::Value;

use super::{Api, ApiError, Repeat, Sent};

impl Api {
    /// What the platform says of the addresses that its callbacks come from: the member `ip_list`, null where it says
    /// nothing.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn callback_ips(&self) -> Result<Value, ApiError> {
        let rules = self.0.platform.protocol().api();
        let Some(path) = rules.and_then(|rules| rules.callback_ips) else { return Ok(Value::Null) };
        let mut answer = self.value(path, &Sent::GetWithAnyToken, Repeat::Safe).await?;
        Ok(answer.get_mut("ip_list").map(Value::take).unwrap_or_default())
    }
}
