//! Tables that fit the terminal, and marks that have a colour only there.

use std::io::{self, IsTerminal as _};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::log::escape;

/// Columns of a terminal where it does not say.
const USUAL_WIDTH: usize = 80;

/// Less is no terminal, and nothing could be seen.
const LEAST_WIDTH: usize = 20;

/// The columns of the terminal, or of what stands for it.
pub(super) fn terminal_width() -> usize {
    let of_terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let named = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = of_terminal.filter(|width| *width > 0).or_else(named).unwrap_or(USUAL_WIDTH);
    width.max(LEAST_WIDTH)
}

/// A column: its title, how wide it is at least, and with room enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    title: &'static str,
    least: usize,
    most: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    /// Of one width or the other, and of none between.
    Short,
    Number,
}

impl Column {
    pub(super) const fn text(title: &'static str, least: usize, most: usize) -> Self {
        Self { title, least, most, kind: Kind::Text }
    }

    /// What has a short form, and a long one where everything has room.
    pub(super) const fn short(title: &'static str, short: usize, long: usize) -> Self {
        Self { title, least: short, most: long, kind: Kind::Short }
    }

    pub(super) const fn number(title: &'static str, width: usize) -> Self {
        Self { title, least: width, most: width, kind: Kind::Number }
    }

    /// The last one, which has what the others leave.
    pub(super) const fn rest(title: &'static str, least: usize) -> Self {
        Self { title, least, most: usize::MAX, kind: Kind::Text }
    }
}

/// Lines of columns, none longer than the terminal. What is cut ends with `…`.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(Column, usize)>,
    width: usize,
}

impl Table {
    pub(super) fn new(columns: &[Column]) -> Self {
        Self::of_width(columns, terminal_width())
    }

    fn of_width(columns: &[Column], width: usize) -> Self {
        /// What the last column has of a table in its long form.
        const REST: usize = 20;
        let gaps = columns.len().saturating_sub(1);
        let long: usize =
            columns.iter().map(|it| if it.most == usize::MAX { it.least.max(REST) } else { it.most }).sum();
        let is_long = width >= long + gaps;
        let first = |it: &Column| if is_long && it.kind == Kind::Short { it.most } else { it.least };
        let mut columns: Vec<_> = columns.iter().map(|column| (*column, first(column))).collect();
        let mut spare = width.saturating_sub(columns.iter().map(|(_, width)| width).sum::<usize>() + gaps);
        // The texts share what is left.
        while spare > 0 {
            let before = spare;
            for (_, width) in columns.iter_mut().filter(|(it, width)| it.kind == Kind::Text && *width < it.most) {
                let more = spare.min(1);
                *width += more;
                spare -= more;
            }
            if spare == before {
                break;
            }
        }
        Self { columns, width }
    }

    /// How wide a column is.
    pub(super) fn width_of(&self, at: usize) -> usize {
        self.columns.get(at).map_or(0, |(_, width)| *width)
    }

    pub(super) fn head(&self) -> String {
        let titles: Vec<&str> = self.columns.iter().map(|(column, _)| column.title).collect();
        self.row(&titles)
    }

    /// A line of these cells, each on one line and without anything that acts.
    pub(super) fn row(&self, cells: &[&str]) -> String {
        let mut line = String::new();
        for ((column, width), cell) in self.columns.iter().zip(cells) {
            let cell = escape(cell);
            let cell = cut(&cell, *width);
            let padding = " ".repeat(width.saturating_sub(cell.width()).min(self.width));
            if !line.is_empty() {
                line.push(' ');
            }
            if column.kind == Kind::Number {
                line.extend([&*padding, &cell]);
            } else {
                line.extend([&*cell, &padding]);
            }
        }
        cut(line.trim_end(), self.width)
    }
}

/// A text that is no wider; one that was cut ends with `…`.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let fits = |character: &char| match room.checked_sub(character.width().unwrap_or(0)) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// A line of a table whose columns are its own: cut on a terminal, where it would wrap.
pub(super) fn fitted(line: &str) -> String {
    if io::stdout().is_terminal() { cut(line, terminal_width()) } else { line.to_owned() }
}

/// Whether standard output shows colours.
pub(super) fn has_colour() -> bool {
    wants_colour() && io::stdout().is_terminal()
}

/// Whether colours are wanted where they can be shown.
pub(super) fn wants_colour() -> bool {
    let is_off = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !is_off && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

/// ✓ or ✗.
pub(super) fn mark(is_good: bool) -> &'static str {
    match (is_good, has_colour()) {
        (true, true) => "\x1b[32m✓\x1b[0m",
        (false, true) => "\x1b[31m✗\x1b[0m",
        (true, false) => "✓",
        (false, false) => "✗",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] =
        [Column::text("name", 6, 12), Column::number("n", 3), Column::text("type", 5, 30), Column::rest("what", 4)];

    #[test]
    fn every_line_fits_whatever_is_in_it() {
        let cells = ["订单号码很长的一个名字", "12345", "a.b.c", "x\ny\u{1b}[31m, 中文和 english, 👩‍👩‍👧‍👦 e\u{301}"];
        let long = "长".repeat(100);
        for width in LEAST_WIDTH..200 {
            let table = Table::of_width(&COLUMNS, width);
            for cells in [cells, [&long, &long, &long, &long], ["", "", "", ""]] {
                let line = table.row(&cells);
                assert!(line.width() <= width && !line.contains(char::is_control), "{width}: {line:?}");
            }
            assert!(table.head().width() <= width);
        }
    }

    #[test]
    fn cells_keep_their_columns() {
        let table = Table::of_width(&COLUMNS, 40);
        assert_eq!(table.head(), "name           n type         what");
        let rows = [table.row(&["中文", "1", "a", "b"]), table.row(&["ab", "22", "a", "b"])];
        let column = |row: &str| row[..row.find(" a").unwrap_or_default()].width();
        assert_eq!(column(&rows[0]), column(&rows[1]));
    }

    #[test]
    fn what_is_cut_ends_with_an_ellipsis_at_a_whole_character() {
        for (text, width, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("中文字", 6, "中文字"),
            ("中文字", 5, "中文…"),
            ("中文字", 4, "中…"),
            ("中文字", 1, "…"),
            ("中文字", 0, ""),
        ] {
            assert_eq!(cut(text, width), expected, "{text} {width}");
        }
    }
}
