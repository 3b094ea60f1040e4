//! `application.properties.example`, written from the table of keys.

use std::fmt::Write as _;

use super::keys::{GROUPS, Key, ROUTE_KEYS};

const HEAD: &str = "\
# The configuration of seg: every key with its default and one line of meaning.
#
# Copy this file to application.properties, change what you need, and see what the gateway thinks
# of it with `seg check`. A saved change takes effect at once; a file with a mistake changes
# nothing. Keys marked `restart` take effect at the next start. Relative paths are relative to this
# file. The environment overrides it: server.listen is SEG_SERVER_LISTEN there.
";

/// The example file: every key, its default, one line of meaning, grouped. It is a configuration
/// that equals the built-in defaults.
pub fn example() -> String {
    let mut text = HEAD.to_owned();
    for group in GROUPS {
        heading(&mut text, group.title);
        for key in group.keys {
            entry(&mut text, key, "");
        }
    }
    heading(
        &mut text,
        "Pass-through routes: one set of these keys for each route's name, such as route.owa.path",
    );
    for key in ROUTE_KEYS {
        entry(&mut text, key, "#");
    }
    text
}

fn heading(text: &mut String, title: &str) {
    let rule = "-".repeat(title.chars().count());
    // Writing to a String can't fail.
    let _ = write!(text, "\n# {title}\n# {rule}\n");
}

fn entry(text: &mut String, key: &Key, prefix: &str) {
    let mut marks = key.kind.describe();
    if key.restart {
        marks.push_str("; restart");
    }
    if let Some(alias) = key.aliases.first() {
        let _ = write!(marks, "; also called {alias}");
    }
    let default = key.default.replace('\\', "\\\\");
    let _ = write!(
        text,
        "\n# {} ({marks})\n{prefix}{}={default}\n",
        key.meaning, key.name
    );
}
