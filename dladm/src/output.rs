//! The three forms in which things are shown, and the way out of the program.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anstyle::Style;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::colour::Palette;
use crate::failure::{Failure, Report};
use crate::fields::{Field, Value};

/// A table for people: a header, aligned columns, `--` for what is absent.
#[derive(Debug, Default)]
pub struct Table {
    /// Of each column, in characters; none before the header is written.
    widths: Vec<usize>,
}

impl Table {
    /// More rows, and before the first ones the header. Columns grow where they must.
    pub fn more<T>(&mut self, fields: &[&Field<T>], rows: &[T], palette: Palette) -> String {
        let columns = fields.len();
        let mut cells = Cells::default();
        let header = if self.widths.is_empty() { columns } else { 0 };
        for field in &fields[..header] {
            cells.push(|text| text.push_str(&field.name.to_ascii_uppercase()));
        }
        for row in rows {
            for field in fields {
                cells.push(|text| (field.value)(row).write_to(text));
            }
        }
        self.widths.resize(columns, 0);
        cells.align(&mut self.widths, |i, cell| {
            let is_header = i < header;
            if is_header { palette.header() } else { palette.cell(fields[i % columns].name, cell) }
        })
    }
}

/// The cells of a table in one text: links may come by the ten thousand, and a text per cell is slow.
#[derive(Default)]
struct Cells {
    text: String,
    ends: Vec<usize>,
}

impl Cells {
    fn push(&mut self, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        if self.text.len() == start {
            self.text.push_str("--");
        }
        self.ends.push(self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| &self.text[*start..*end])
    }

    /// The cells in columns of these widths at least, each cell in the style that `style` has for
    /// its number and its text.
    fn align(&self, widths: &mut [usize], style: impl Fn(usize, &str) -> Style) -> String {
        let columns = widths.len();
        for (i, cell) in self.iter().enumerate() {
            let width = &mut widths[i % columns];
            *width = cell.chars().count().max(*width);
        }
        let line = widths.iter().sum::<usize>() + 2 * columns;
        let mut out = String::with_capacity(line * self.ends.len() / columns);
        for (i, cell) in self.iter().enumerate() {
            push_styled(&mut out, cell, style(i, cell));
            let column = i % columns;
            if column + 1 == columns {
                out.push('\n');
            } else {
                let gap = widths[column] - cell.chars().count() + 2;
                out.extend(std::iter::repeat_n(' ', gap));
            }
        }
        out
    }
}

fn push_styled(out: &mut String, cell: &str, style: Style) {
    if style.is_plain() {
        out.push_str(cell);
    } else {
        // Writing to a string cannot fail.
        let _ = write!(out, "{style}{cell}{style:#}");
    }
}

/// Lines for programs: fields separated by `:`. Of several fields, `:` and `\` in a value are
/// escaped with `\`; a single one is told as it is.
pub fn parsable<T>(fields: &[&Field<T>], rows: &[T]) -> String {
    let mut out = String::new();
    let mut cell = String::new();
    for row in rows {
        for (i, field) in fields.iter().enumerate() {
            cell.clear();
            (field.value)(row).write_to(&mut cell);
            if i > 0 {
                out.push(':');
            }
            if fields.len() > 1 {
                push_escaped(&mut out, &cell);
            } else {
                out.push_str(&cell);
            }
        }
        out.push('\n');
    }
    out
}

fn push_escaped(out: &mut String, value: &str) {
    for c in value.chars() {
        if matches!(c, ':' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
}

/// One JSON array with an object per thing, each on a line of its own.
pub fn json<T>(fields: &[&Field<T>], rows: &[T]) -> Result<String, Failure> {
    let mut out = String::from("[");
    for (i, row) in rows.iter().enumerate() {
        out.push_str(if i == 0 { "\n" } else { ",\n" });
        out.push_str(&json_object(&values(fields, row))?);
    }
    out.push_str(if rows.is_empty() { "]\n" } else { "\n]\n" });
    Ok(out)
}

/// The values of one thing with the names of their fields.
pub fn values<'a, T>(fields: &[&Field<T>], row: &'a T) -> Vec<(&'static str, Value<'a>)> {
    fields.iter().map(|field| (field.name, (field.value)(row))).collect()
}

/// One JSON object on one line.
pub fn json_object(pairs: &[(&'static str, Value<'_>)]) -> Result<String, Failure> {
    serde_json::to_string(&Object(pairs))
        .map_err(io::Error::from)
        .map_err(Failure::system("cannot write JSON"))
}

struct Object<'a>(&'a [(&'static str, Value<'a>)]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_none(),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(texts) => texts.serialize(serializer),
        }
    }
}

/// Appends ` NAME=VALUE`, unless the value is absent.
pub fn push_pair(line: &mut String, name: &str, value: &Value<'_>) {
    let start = line.len();
    // Writing to a string cannot fail.
    let _ = write!(line, " {name}=");
    let empty = line.len();
    value.write_to(line);
    if line.len() == empty {
        line.truncate(start);
    }
}

/// Writes all of `bytes` to the standard output, at once: what failed half-way prints nothing.
pub fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|source| match source.kind() {
        io::ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::system("cannot write the output")(source),
    })
}

/// Tells the user what failed.
pub fn complain(report: &Report) {
    if report.is_worth_telling() {
        // Where even the standard error is closed, the exit status alone tells.
        let _ = writeln!(io::stderr(), "{report}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::{bare, full};
    use crate::fields::{LINK_FIELDS, Selection, select};
    use dlmgmt_proto::LinkInfo;

    fn table(fields: &Selection<LinkInfo>, rows: &[LinkInfo], palette: Palette) -> String {
        Table::default().more(fields, rows, palette)
    }

    fn fields(list: &str) -> Selection<LinkInfo> {
        select(LINK_FIELDS, list).unwrap()
    }

    #[test]
    fn people_see_aligned_columns_dashes_for_the_absent_and_no_trailing_space() {
        let links = [full(b"a"), bare(b"a-long-name0")];
        let shown = table(&fields("link,class,mtu,state,over"), &links, Palette::Plain);
        assert_eq!(
            shown,
            "LINK          CLASS  MTU   STATE    OVER\n\
             a             vlan   1500  up       net0\n\
             a-long-name0  vlan   --    unknown  --\n"
        );
    }

    #[test]
    fn a_table_that_goes_on_has_one_header_and_columns_that_only_grow() {
        let (mut table, shown) = (Table::default(), fields("link,mtu"));
        table.more(&shown, &[full(b"a-long-name0")], Palette::Plain);
        let more = table.more(&shown, &[full(b"a")], Palette::Plain);
        assert_eq!(more, "a             1500\n");
    }

    #[test]
    fn columns_align_by_characters_not_bytes() {
        let links = [full("näme".as_bytes()), full(b"name")];
        let shown = table(&fields("link,mtu"), &links, Palette::Plain);
        assert_eq!(shown, "LINK  MTU\nnäme  1500\nname  1500\n");
    }

    #[test]
    fn colours_are_for_headers_and_states_and_columns_align_without_them() {
        let links = [full(b"up"), bare(b"unknown")];
        let shown = table(&fields("state,link"), &links, Palette::Bright);
        assert_eq!(
            shown,
            "\x1b[1mSTATE\x1b[0m    \x1b[1mLINK\x1b[0m\n\
             \x1b[32mup\x1b[0m       up\n\
             unknown  unknown\n"
        );
    }

    #[test]
    fn of_several_parsable_fields_colons_and_backslashes_are_escaped() {
        let links = [full(b"a\\:b"), bare(b"c")];
        let shown = parsable(&fields("link,mac,mtu"), &links);
        assert_eq!(shown, "a\\\\\\:b:02\\:00\\:00\\:00\\:00\\:01:1500\nc::\n");
    }

    #[test]
    fn a_single_parsable_field_is_told_as_it_is() {
        assert_eq!(parsable(&fields("link"), &[full(b"a\\:b")]), "a\\:b\n");
        assert_eq!(parsable(&fields("mac"), &[full(b"a"), bare(b"b")]), "02:00:00:00:00:01\n\n");
    }

    #[test]
    fn json_has_numbers_as_numbers_null_for_the_absent_and_keeps_the_order_of_fields() {
        let shown = json(&fields("mtu,link,over,kind"), &[full(b"a\"b"), bare(b"c")]).unwrap();
        assert_eq!(
            shown,
            "[\n{\"mtu\":1500,\"link\":\"a\\\"b\",\"over\":[\"net0\"],\"kind\":\"vlan\"},\n\
             {\"mtu\":null,\"link\":\"c\",\"over\":[],\"kind\":null}\n]\n"
        );
        assert_eq!(json(&fields("link"), &[]).unwrap(), "[]\n");
    }

    #[test]
    fn an_absent_pair_leaves_no_trace() {
        let mut line = "x".to_owned();
        push_pair(&mut line, "mtu", &Value::Number(9));
        push_pair(&mut line, "over", &Value::List(Vec::new()));
        assert_eq!(line, "x mtu=9");
    }
}
