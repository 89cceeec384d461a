//! Reads what strace writes with `-f -y`.

use std::{
    collections::HashMap,
    io::{self, BufRead},
};

use crash::Failure;

/// A system call. Places are line numbers, in the order in which strace saw calls begin and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// What its first argument is a descriptor of.
    pub(crate) file: String,
    /// All texts in its arguments, one behind the other.
    pub(crate) data: Vec<u8>,
    /// The last argument, if it is a number: an offset, a length.
    pub(crate) last: u64,
    pub(crate) result: i64,
    pub(crate) began: usize,
    pub(crate) ended: usize,
}

/// A call begins, or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    Began(usize),
    Ended(usize),
}

/// All calls, and their beginnings and ends in order.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) calls: Vec<Call>,
    pub(crate) moments: Vec<Moment>,
}

impl Trace {
    pub(crate) fn read(source: impl BufRead) -> Result<Self, Failure> {
        let mut trace = Self::default();
        let mut begun: HashMap<String, (String, usize)> = HashMap::new();
        for (place, line) in source.lines().enumerate() {
            let line = line?;
            let wrong = || -> Failure { io::Error::other(format!("line {}: `{line:.200}`", place + 1)).into() };
            let (process, rest) = line.split_once(' ').ok_or_else(wrong)?;
            let rest = rest.trim_start();
            // A time, if there is one.
            let timed = rest.starts_with(|first: char| first.is_ascii_digit());
            let rest = if timed { rest.split_once(' ').ok_or_else(wrong)?.1 } else { rest };
            if rest.starts_with("+++") || rest.starts_with("---") {
                continue;
            }
            if let Some(start) = rest.strip_suffix("<unfinished ...>") {
                begun.insert(process.to_owned(), (start.to_owned(), place));
                continue;
            }
            let (text, began) = match rest.strip_prefix("<... ") {
                None => (rest.to_owned(), place),
                Some(end) => {
                    let (_, end) = end.split_once(" resumed>").ok_or_else(wrong)?;
                    let (start, began) = begun.remove(process).ok_or_else(wrong)?;
                    (start + end, began)
                }
            };
            // A process that ends never returns.
            if text.ends_with("= ?") {
                continue;
            }
            trace.calls.push(call(&text, began, place).ok_or_else(wrong)?);
        }
        let both = trace.calls.iter().enumerate().flat_map(|(number, call)| {
            [(call.began, 0, Moment::Began(number)), (call.ended, 1, Moment::Ended(number))]
        });
        let mut moments: Vec<_> = both.collect();
        moments.sort_unstable();
        trace.moments = moments.into_iter().map(|(_, _, moment)| moment).collect();
        Ok(trace)
    }
}

fn call(text: &str, began: usize, ended: usize) -> Option<Call> {
    let (name, rest) = text.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let result = result.split(' ').next()?;
    let arguments = arguments.trim_end().strip_suffix(')')?.trim_end();
    let first = arguments.split(", ").next().unwrap_or_default();
    let file = first.split_once('<').map_or("", |(_, file)| file.strip_suffix('>').unwrap_or(file));
    let last = arguments.rsplit(", ").next().and_then(|last| last.parse().ok()).unwrap_or_default();
    Some(Call {
        name: name.to_owned(),
        file: file.to_owned(),
        data: texts(arguments)?,
        last,
        result: result.split('<').next()?.parse().ok()?,
        began,
        ended,
    })
}

/// All texts in quotes. `None` for one that strace has cut off.
fn texts(arguments: &str) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    let mut rest = arguments;
    while let Some((_, start)) = rest.split_once('"') {
        let bytes = start.as_bytes();
        let mut at = 0;
        while *bytes.get(at)? != b'"' {
            at = if bytes[at] == b'\\' {
                unescape(bytes, at + 1, &mut data)?
            } else {
                data.push(bytes[at]);
                at + 1
            };
        }
        rest = start.get(at + 1..)?;
        if rest.starts_with("...") {
            return None;
        }
    }
    Some(data)
}

/// Reads an escape of C; returns where it ends.
fn unescape(bytes: &[u8], at: usize, data: &mut Vec<u8>) -> Option<usize> {
    let (radix, start, longest) = match bytes.get(at)? {
        b'0'..=b'7' => (8, at, 3),
        b'x' => (16, at + 1, 2),
        other => {
            data.push(match other {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'v' => 0x0B,
                b'f' => 0x0C,
                other => *other,
            });
            return Some(at + 1);
        }
    };
    let digits = bytes.get(start..)?.iter().take(longest);
    let digits = digits.take_while(|digit| (**digit as char).is_digit(radix)).count();
    let text = std::str::from_utf8(bytes.get(start..start + digits)?).ok()?;
    data.push(u8::try_from(u32::from_str_radix(text, radix).ok()?).ok()?);
    Some(start + digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_whole_or_in_two_parts() {
        let text = r#"10 1700.1 pwrite64(9</j/a.db-wal>, "\0\1a\"\\\n\3772", 8, 32) = 8
11 1700.2 fdatasync(9</j/a.db-wal> <unfinished ...>
10 1700.3 recvfrom(12<socket:[5]>,  <unfinished ...>
11 1700.4 <... fdatasync resumed>) = 0
10 1700.5 <... recvfrom resumed>"POST", 8192, 0, NULL, NULL) = 4
10 1700.6 openat(AT_FDCWD</>, "/x", O_RDONLY) = -1 ENOENT (No such file or directory)
10 1700.7 openat(AT_FDCWD</>, "/y", O_RDONLY) = 7</y>
10 1700.8 exit_group(0) = ?
10 1700.9 +++ exited with 0 +++
"#;
        let trace = Trace::read(text.as_bytes()).unwrap_or_else(|failure| panic!("{failure}"));
        let call = |name: &str, file: &str, data: &[u8], last, result, (began, ended)| Call {
            name: name.to_owned(),
            file: file.to_owned(),
            data: data.to_owned(),
            last,
            result,
            began,
            ended,
        };
        let expected = [
            call("pwrite64", "/j/a.db-wal", b"\0\x01a\"\\\n\xFF2", 32, 8, (0, 0)),
            call("fdatasync", "/j/a.db-wal", b"", 0, 0, (1, 3)),
            call("recvfrom", "socket:[5]", b"POST", 0, 4, (2, 4)),
            call("openat", "/", b"/x", 0, -1, (5, 5)),
            call("openat", "/", b"/y", 0, 7, (6, 6)),
        ];
        assert_eq!(trace.calls, expected);
        assert!(Trace::read(&br#"10 write(9</f>, "abc"..., 8) = 8"#[..]).is_err(), "a text that was cut off");
    }
}
