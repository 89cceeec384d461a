//! Texts of the file that stand for something else: durations, sizes, addresses, secrets.

use std::{
    env::VarError,
    fmt,
    fs::File,
    io::{self, Read},
    net::IpAddr,
    time::Duration,
};

use serde::de::{self, Deserializer, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::reader::Env;
use crate::secret::Secret;

pub(super) const DURATION: &str = "a duration such as \"10s\", a whole number and a unit (ms, s, m, h, d)";
pub(super) const DURATION_OR_OFF: &str =
    "a duration such as \"10s\", a whole number and a unit (ms, s, m, h, d), or \"off\"";
pub(super) const SIZE: &str = "a size such as \"1MiB\", a whole number and a unit (B, KiB, MiB, GiB)";
pub(super) const SECRET: &str = "a string, { env = \"NAME\" } or { file = \"path\" }";
pub(super) const WEBSOCKET_URL: &str = "a URL such as \"wss://ws.example.com\", without user, query and fragment";
pub(super) const HTTP_URL: &str = "a URL such as \"https://api.example.com\", without user, query and fragment";

/// Longest secret file that is read; the mistake is a wrong path, the danger is an endless device.
const SECRET_FILE_LIMIT: u64 = 64 * 1024;

const DURATION_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

pub(super) fn duration(text: &str) -> Option<Duration> {
    with_unit(text, &DURATION_UNITS).map(Duration::from_millis)
}

pub(super) fn size(text: &str) -> Option<u64> {
    with_unit(text, &SIZE_UNITS)
}

/// The duration as it would be written in the file.
pub(super) fn duration_text(duration: Duration) -> String {
    in_units(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &DURATION_UNITS)
}

/// The size as it would be written in the file.
pub(super) fn size_text(size: u64) -> String {
    in_units(size, &SIZE_UNITS)
}

/// A number that was checked against a range far below the limits of `usize`.
pub(super) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The same for `u32`.
pub(super) fn to_u32(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn in_units(number: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().rev().find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor));
    let (unit, factor) = whole.unwrap_or(&units[0]);
    format!("{}{unit}", number / factor)
}

/// An address, or all addresses with its first bits: `10.0.0.0/8`, `::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange {
    address: IpAddr,
    bits: u8,
}

impl IpRange {
    /// Reads `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`; bits beyond the prefix do not matter. IPv4 mapped into IPv6 is the same as
    /// IPv4.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => bits.parse().ok().filter(|n| *n <= most)?,
            Some(_) => return None,
        };
        Some(match address.to_canonical() {
            // All of the mapped addresses begin with the same 96 bits.
            canonical if canonical.is_ipv4() && address.is_ipv6() && bits >= 96 => {
                Self { address: canonical, bits: bits - 96 }
            }
            _ => Self { address, bits },
        })
    }

    /// The first and the last address, with IPv4 mapped into IPv6.
    pub(crate) fn bounds(&self) -> (u128, u128) {
        let (address, bits) = match self.address {
            IpAddr::V4(address) => (address.to_ipv6_mapped(), self.bits + 96),
            IpAddr::V6(address) => (address, self.bits),
        };
        let rest = u128::MAX.checked_shr(bits.into()).unwrap_or(0);
        (address.to_bits() & !rest, address.to_bits() | rest)
    }

    /// Whether `ip` is in the range; an IPv4 address mapped into IPv6 counts as the IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (own.to_bits() ^ ip.to_bits()) & mask == 0
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (own.to_bits() ^ ip.to_bits()) & mask == 0
            }
            _ => false,
        }
    }

    /// Whether every address of its kind is in the range.
    pub(super) fn is_everything(&self) -> bool {
        self.bits == 0
    }
}

/// An absolute http or https URL, without the slash at its end.
pub(super) fn http_url(text: &str) -> Option<String> {
    url(text, ["https://", "http://"])
}

/// An absolute wss or ws URL, without the slash at its end.
pub(super) fn websocket_url(text: &str) -> Option<String> {
    url(text, ["wss://", "ws://"])
}

/// Whether an address without its scheme is of this machine.
pub(super) fn is_local(address: &str) -> bool {
    ["127.", "localhost", "[::1]"].iter().any(|own| address.starts_with(own))
}

fn url(text: &str, schemes: [&str; 2]) -> Option<String> {
    let rest = schemes.into_iter().find_map(|scheme| text.strip_prefix(scheme))?;
    let allowed = |byte: u8| byte.is_ascii_graphic() && !b"@?#\\\"<>{}|^`".contains(&byte);
    if !rest.bytes().all(allowed) {
        return None;
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            port.parse::<u16>().ok().filter(|_| digits).map(|_| host)?
        }
        _ => authority,
    };
    let named = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let literal = bracketed.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    (named || literal).then(|| text.trim_end_matches('/').to_owned())
}

/// Where a secret is.
pub(super) enum Source<'a> {
    Text(&'a str),
    Env(&'a str),
    File(&'a str),
}

impl Source<'_> {
    /// Reads it. Line ends at the end of a variable or a file are left off: editors and `echo` put them there.
    ///
    /// The error goes on after the name of the key, and names a variable or a path only where it cannot be the secret
    /// itself, written by mistake.
    pub(super) fn read(&self, env: Env<'_>) -> Result<Secret, String> {
        let (found, place) = match self {
            Self::Text(text) => (Secret::new(*text), "is empty"),
            Self::Env(name) => {
                let shown = variable(name);
                let text = env(name).map(Zeroizing::new).map_err(|error| match error {
                    VarError::NotPresent => format!("cannot be read: environment variable{shown} is not set"),
                    VarError::NotUnicode(_) => format!("cannot be read: environment variable{shown} is not UTF-8"),
                })?;
                (Secret::new(text.trim_end_matches(['\r', '\n'])), "is empty: so is the environment variable")
            }
            Self::File(path) => {
                let text = read_secret_file(path)
                    .map_err(|error| format!("cannot be read: file{}: {}", shown_path(path), reason(&error)))?;
                (Secret::new(text.trim_end_matches(['\r', '\n'])), "is empty: so is the file")
            }
        };
        if found.expose().is_empty() { Err(place.to_owned()) } else { Ok(found) }
    }
}

fn read_secret_file(path: &str) -> io::Result<Zeroizing<String>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // Room for all of it at once: a string that grows leaves copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_FILE_LIMIT as usize + 1));
    file.take(SECRET_FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SECRET_FILE_LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// Why a file cannot be read, without "(os error 2)".
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::InvalidData => "not UTF-8 text".to_owned(),
        kind => kind.to_string(),
    }
}

fn variable(name: &str) -> String {
    let usual = name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    if usual && name.starts_with(|first: char| !first.is_ascii_digit()) && name.len() <= 64 && name.contains('_') {
        format!(" `{name}`")
    } else {
        String::new()
    }
}

fn shown_path(path: &str) -> String {
    let path_like = ["/", "./", "../"].iter().any(|start| path.starts_with(start));
    if path_like { format!(" `{}`", path.escape_debug()) } else { String::new() }
}

/// Reads a [`Secret`] of a `[handlers.NAME]` table: a string, `{ env = "NAME" }` or `{ file = "path" }`.
///
/// ```
/// # use echostr::{config, secret::Secret};
/// #[derive(serde::Deserialize)]
/// struct Settings {
///     #[serde(deserialize_with = "config::secret")]
///     api_key: Secret,
/// }
/// ```
///
/// # Errors
///
/// The value has another shape, the variable is not set, the file cannot be read, or the secret is empty.
pub fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    deserializer.deserialize_any(SecretVisitor)
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SECRET)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        read_now(&Source::Text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        let wrong = || de::Error::custom(format!("must be {SECRET}"));
        let key = map.next_key::<String>()?.ok_or_else(wrong)?;
        let place = map.next_value::<String>().map_err(|_| wrong())?;
        if map.next_key::<String>()?.is_some() {
            return Err(wrong());
        }
        match key.as_str() {
            "env" => read_now(&Source::Env(&place)),
            "file" => read_now(&Source::File(&place)),
            _ => Err(wrong()),
        }
    }
}

fn read_now<E: de::Error>(source: &Source<'_>) -> Result<Secret, E> {
    source.read(&|name| std::env::var(name)).map_err(|wrong| E::custom(format!("the secret {wrong}")))
}
