//! What is shown, and in which form.

use crate::cli::Form;
use crate::colour::Palette;
use crate::failure::Failure;
use crate::fields::{Field, Selection, select};
use crate::output;

/// The fields of a `T` to be shown, and how.
#[derive(Debug)]
pub enum Shape<T: 'static> {
    /// A table for people.
    Table(Selection<T>),
    /// Lines for programs.
    Parsable(Selection<T>),
    /// A JSON array.
    Json(Selection<T>),
}

impl<T> Shape<T> {
    /// The shape that `form` asks for; where it names no fields, JSON has all and people see those
    /// of `default`.
    pub fn new(form: &Form, table: &'static [Field<T>], default: &str) -> Result<Self, Failure> {
        let all = || table.iter().collect();
        let asked_for = form.fields.as_deref();
        let is_all = asked_for.is_some_and(|list| list.eq_ignore_ascii_case("all"));
        let chosen = asked_for.map(|list| if is_all { Ok(all()) } else { select(table, list) });
        let chosen = chosen.transpose()?;
        if form.parsable {
            let usable = chosen.filter(|_| !is_all);
            let why = "-p needs -o with the names of fields";
            return usable.map(Self::Parsable).ok_or_else(|| Failure::Usage(why.to_owned()));
        }
        if form.json {
            return Ok(Self::Json(chosen.unwrap_or_else(all)));
        }
        chosen.map_or_else(|| select(table, default), Ok).map(Self::Table)
    }

    /// Whether a field is among those that are shown.
    pub fn has(&self, name: &str) -> bool {
        let (Self::Table(fields) | Self::Parsable(fields) | Self::Json(fields)) = self;
        fields.iter().any(|field| field.name == name)
    }

    /// Shows `rows`.
    pub fn print(&self, rows: &[T]) -> Result<(), Failure> {
        self.print_more(rows, &mut output::Table::default())
    }

    /// Shows `rows`, which go on in a table that was begun.
    pub fn print_more(&self, rows: &[T], table: &mut output::Table) -> Result<(), Failure> {
        let text = match self {
            Self::Table(fields) => table.more(fields, rows, Palette::of_output()),
            Self::Parsable(fields) => output::parsable(fields, rows),
            Self::Json(fields) => output::json(fields, rows)?,
        };
        output::print(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::LINK_FIELDS;
    use dlmgmt_proto::LinkInfo;

    fn shape(parsable: bool, fields: Option<&str>, json: bool) -> Result<Shape<LinkInfo>, Failure> {
        let form = Form { parsable, fields: fields.map(str::to_owned), json };
        Shape::new(&form, LINK_FIELDS, "link,mtu")
    }

    fn names(fields: &Selection<LinkInfo>) -> String {
        fields.iter().map(|field| field.name).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn parsable_output_needs_named_fields() {
        assert!(matches!(shape(true, None, false), Err(Failure::Usage(_))));
        assert!(matches!(shape(true, Some("all"), false), Err(Failure::Usage(_))));
        let Ok(Shape::Parsable(fields)) = shape(true, Some("mtu"), false) else { panic!() };
        assert_eq!(names(&fields), "mtu");
    }

    #[test]
    fn people_see_the_default_fields_and_json_has_all() {
        let Ok(Shape::Table(fields)) = shape(false, None, false) else { panic!() };
        assert_eq!(names(&fields), "link,mtu");
        let Ok(Shape::Table(fields)) = shape(false, Some("ALL"), false) else { panic!() };
        assert_eq!(fields.len(), LINK_FIELDS.len());
        let Ok(Shape::Json(fields)) = shape(false, None, true) else { panic!() };
        assert_eq!(fields.len(), LINK_FIELDS.len());
        let Ok(Shape::Json(fields)) = shape(false, Some("linkid"), true) else { panic!() };
        assert_eq!(names(&fields), "linkid");
    }
}
