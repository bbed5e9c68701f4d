//! The effective configuration as a person reads it: every value, where it came from, and no secret.

use crate::problem::Origin;

/// What has been read so far, in the order of a TOML file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    sections: Vec<Section>,
}

#[derive(Clone, Debug)]
struct Section {
    header: String,
    lines: Vec<(String, String, Origin)>,
}

impl Shown {
    /// Begins a section and gives its number.
    pub(crate) fn open(&mut self, header: &str) -> usize {
        self.sections.push(Section {
            header: header.to_owned(),
            lines: Vec::new(),
        });
        self.sections.len() - 1
    }

    /// Adds a value, or replaces the one that was noted for the key.
    pub(crate) fn line(&mut self, section: usize, key: &str, rendered: &str, origin: &Origin) {
        let Some(section) = self.sections.get_mut(section) else {
            return;
        };
        let line = (key.to_owned(), rendered.to_owned(), origin.clone());
        match section.lines.iter_mut().find(|(known, ..)| known == key) {
            Some(present) => *present = line,
            None => section.lines.push(line),
        }
    }

    /// The whole as TOML; every line ends with the origin of its value.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            if section.lines.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            if !section.header.is_empty() {
                text.push_str(&section.header);
                text.push('\n');
            }
            for (key, rendered, origin) in &section.lines {
                text.push_str(&format!("{key} = {rendered}  # {}\n", comment(origin)));
            }
        }
        text
    }
}

/// An origin inside a comment, which ends with its line.
fn comment(origin: &Origin) -> String {
    origin.to_string().replace(|c: char| c.is_control(), " ")
}
