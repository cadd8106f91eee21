//! Usage and manual page, from the table of flags.

use std::fmt::Write;

use crate::flags::{FLAGS, Flag, Group, Kind};

/// Columns of a line of text.
const WIDTH: usize = 78;

/// What `-help` prints.
pub(crate) fn usage() -> String {
    let mut out = String::new();
    for (form, lead) in synopsis(|text| text.to_owned()).iter().zip(["usage: ", "       "]) {
        for (number, line) in wrap(form, WIDTH - 12).iter().enumerate() {
            let lead = if number == 0 { format!("{lead}epmd ") } else { " ".repeat(12) };
            let _ = writeln!(out, "{lead}{line}");
        }
    }
    for group in Group::ALL {
        let _ = writeln!(out, "\n{}", group.title());
        for flag in of(group) {
            let _ = writeln!(out, "    {}", heading(flag));
            for line in wrap(flag.text, WIDTH - 8) {
                let _ = writeln!(out, "        {line}");
            }
        }
    }
    out
}

/// The two forms of the command line, less the name of the program. Names of flags
/// are set by `name`.
fn synopsis(name: impl Fn(&str) -> String) -> [String; 2] {
    let set = |flag: &Flag| {
        let names: Vec<_> = flag.names.iter().map(|one| name(one)).collect();
        let value = flag.value.map(|value| format!(" {value}")).unwrap_or_default();
        names.join("|") + &value
    };
    let optional = |flag: &Flag| format!("[{}]", set(flag));
    let start: Vec<_> = of(Group::Regular).map(optional).collect();
    let with = FLAGS.iter().filter(|flag| matches!(flag.kind, Kind::Port | Kind::Json));
    let with: Vec<_> = with.map(optional).collect();
    let verbs = of(Group::Interactive).filter(|flag| flag.kind != Kind::Json);
    let verbs: Vec<_> = verbs.map(set).collect();
    [
        format!("{} [DbgExtra...]", start.join(" ")),
        format!("{} {}", with.join(" "), verbs.join(" | ")),
    ]
}

fn of(group: Group) -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().filter(move |flag| flag.group == group)
}

fn heading(flag: &Flag) -> String {
    let names = flag.names.join(", ");
    match flag.value {
        Some(value) => format!("{names} {value}"),
        None => names,
    }
}

/// Breaks a text into lines at its spaces.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The manual page, in the language of `man`.
#[cfg(test)]
fn page() -> String {
    let mut out = String::from(include_str!("manual_head.1"));
    for form in synopsis(bold) {
        let _ = writeln!(out, ".TP\n.B epmd\n{form}");
    }
    out.push_str(include_str!("manual_description.1"));
    for group in Group::ALL {
        let _ = writeln!(out, ".SS {}", group.title());
        for flag in of(group) {
            let names: Vec<_> = flag.names.iter().map(|name| bold(name)).collect();
            let _ = write!(out, ".TP\n{}", names.join(", "));
            let _ = match flag.value {
                Some(value) => writeln!(out, " \\fI{value}\\fR"),
                None => writeln!(out),
            };
            let _ = writeln!(out, "{}", escape(flag.text));
        }
    }
    out + include_str!("manual_tail.1")
}

#[cfg(test)]
fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escape(text))
}

#[cfg(test)]
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('-', "\\-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_MANUAL=1 cargo test -p epmd_cli` writes it anew.
    #[test]
    fn the_manual_page_is_that_of_the_flags() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/epmd.1");
        if std::env::var_os("UPDATE_MANUAL").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page());
    }

    #[test]
    fn every_flag_is_in_the_usage_whose_lines_are_short() {
        let usage = usage();
        for flag in FLAGS {
            assert!(usage.contains(&format!("    {}\n", heading(flag))), "{}", flag.name());
        }
        assert!(usage.lines().all(|line| line.len() <= 80), "{usage}");
    }

    #[test]
    fn no_flag_has_the_name_of_another() {
        let mut names: Vec<_> = FLAGS.iter().flat_map(|flag| flag.names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
