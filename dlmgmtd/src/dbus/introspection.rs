//! Introspection data, written from the table.

use std::fmt::Write;

use super::table::{Arg, Emits, Interface, Method, OURS, Property, Signal};

const HEAD: &str = "<!DOCTYPE node PUBLIC \
                    \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
                    \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n";

/// The introspection data of an interface of the daemon's own, as it is installed for tools and
/// programmers; `None` for others.
pub fn introspect(interface: &str) -> Option<String> {
    let found = OURS.iter().find(|ours| ours.name == interface)?;
    Some(of_object(&[found], []))
}

/// Of an object with these interfaces and children.
pub fn of_object(interfaces: &[&Interface], children: impl IntoIterator<Item = String>) -> String {
    let mut xml = format!("{HEAD}<node>\n");
    for interface in interfaces {
        xml += &of_interface(interface);
    }
    for child in children {
        line(&mut xml, 1, format_args!("<node name=\"{child}\"/>"));
    }
    xml + "</node>\n"
}

fn of_interface(interface: &Interface) -> String {
    let mut xml = String::new();
    line(&mut xml, 1, format_args!("<interface name=\"{}\">", interface.name));
    doc(&mut xml, 2, interface.doc);
    for method in interface.methods {
        add_method(&mut xml, method);
    }
    for property in interface.properties {
        add_property(&mut xml, property);
    }
    for signal in interface.signals {
        add_signal(&mut xml, signal);
    }
    line(&mut xml, 1, format_args!("</interface>"));
    xml
}

fn add_method(xml: &mut String, method: &Method) {
    line(xml, 2, format_args!("<method name=\"{}\">", method.name));
    doc(xml, 3, method.doc);
    add_args(xml, method.takes, " direction=\"in\"");
    add_args(xml, method.gives, " direction=\"out\"");
    line(xml, 2, format_args!("</method>"));
}

fn add_signal(xml: &mut String, signal: &Signal) {
    line(xml, 2, format_args!("<signal name=\"{}\">", signal.name));
    doc(xml, 3, signal.doc);
    add_args(xml, signal.args, "");
    line(xml, 2, format_args!("</signal>"));
}

fn add_args(xml: &mut String, args: &[Arg], direction: &str) {
    for Arg { name, signature } in args {
        line(xml, 3, format_args!("<arg name=\"{name}\" type=\"{signature}\"{direction}/>"));
    }
}

fn add_property(xml: &mut String, property: &Property) {
    let Property { name, signature, emits, is_writable, doc: text } = property;
    let access = if *is_writable { "readwrite" } else { "read" };
    line(
        xml,
        2,
        format_args!("<property name=\"{name}\" type=\"{signature}\" access=\"{access}\">"),
    );
    doc(xml, 3, text);
    let emits = match emits {
        Emits::Value => "true",
        Emits::Const => "const",
        Emits::Nothing => "false",
    };
    annotation(xml, "org.freedesktop.DBus.Property.EmitsChangedSignal", emits);
    line(xml, 2, format_args!("</property>"));
}

fn doc(xml: &mut String, level: usize, text: &str) {
    if !text.is_empty() {
        line(xml, level, format_args!("<!-- {} -->", escaped(text)));
    }
}

fn annotation(xml: &mut String, name: &str, value: &str) {
    line(xml, 3, format_args!("<annotation name=\"{name}\" value=\"{value}\"/>"));
}

/// A comment may not hold two hyphens in a row.
fn escaped(text: &str) -> String {
    text.replace("--", "- -").replace('&', "&amp;").replace('<', "&lt;")
}

fn line(xml: &mut String, level: usize, text: std::fmt::Arguments<'_>) {
    // Writing to a string never fails.
    let _ = writeln!(xml, "{:indent$}{text}", "", indent = 1 + level);
}
