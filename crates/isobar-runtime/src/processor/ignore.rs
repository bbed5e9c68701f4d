//! `.airflowignore`, in both of Airflow's syntaxes. A glob pattern means what git's ignore files mean.

use regex::Regex;

/// How `.airflowignore` files are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IgnoreSyntax {
    /// As `.gitignore`; Airflow 3's default.
    #[default]
    Glob,
    /// Regular expressions, found anywhere in the path below the bundle.
    Regexp,
}

/// One pattern of one ignore file.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pattern: Regex,
    /// False for glob patterns that begin with `!`.
    ignores: bool,
    folders_only: bool,
    against: Against,
}

/// Which text a rule is matched against.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Against {
    /// The last part of the path.
    Name,
    /// The path below this folder (itself below the bundle, empty for the bundle's own).
    Below(String),
    /// The path below the bundle, without a slash at the end of folders: for regular expressions.
    Path,
}

/// Reads an ignore file that lies in `folder` (below the bundle, empty for the bundle's own). Bad patterns are given
/// back, to be warned of, and otherwise skipped.
pub(super) fn read(text: &str, folder: &str, syntax: IgnoreSyntax) -> (Vec<Rule>, Vec<String>) {
    let mut rules = Vec::new();
    let mut bad = Vec::new();
    for line in text.lines() {
        let line = without_comment(line);
        if line.is_empty() {
            continue;
        }
        let rule = match syntax {
            IgnoreSyntax::Glob => glob(line, folder),
            IgnoreSyntax::Regexp => regexp(line),
        };
        match rule {
            Ok(Some(rule)) => rules.push(rule),
            Ok(None) => {}
            Err(()) => bad.push(line.to_owned()),
        }
    }
    (rules, bad)
}

/// Whether `path` (below the bundle) is ignored. The last rule that matches decides, except that a regular
/// expression cannot be taken back.
pub(super) fn is_ignored(rules: &[Rule], path: &str, is_folder: bool) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut ignored = false;
    for rule in rules {
        if rule.folders_only && !is_folder {
            continue;
        }
        let text = match &rule.against {
            Against::Name => name,
            Against::Below(folder) => path
                .strip_prefix(folder.as_str())
                .unwrap_or(path)
                .trim_start_matches('/'),
            Against::Path => path,
        };
        let found = if is_folder && rule.against != Against::Path {
            rule.pattern.is_match(&format!("{text}/"))
        } else {
            rule.pattern.is_match(text)
        };
        if found {
            ignored = rule.ignores;
        }
    }
    ignored
}

/// Airflow cuts a line at `#`, with the blanks before it, whatever stands before that.
fn without_comment(line: &str) -> &str {
    line.find('#').map_or(line, |at| line[..at].trim_end())
}

fn regexp(line: &str) -> Result<Option<Rule>, ()> {
    Ok(Some(Rule {
        pattern: Regex::new(line).map_err(drop)?,
        ignores: true,
        folders_only: false,
        against: Against::Path,
    }))
}

fn glob(line: &str, folder: &str) -> Result<Option<Rule>, ()> {
    let bare = line.trim_start_matches('!');
    let folders_only = bare.trim_end().ends_with('/');
    let anchored = line.starts_with('/') || line.trim_end_matches('/').contains('/');
    let Some((pattern, ignores)) = translate(line) else {
        return Ok(None);
    };
    Ok(Some(Rule {
        pattern: Regex::new(&pattern).map_err(drop)?,
        ignores,
        folders_only,
        against: if anchored {
            Against::Below(folder.to_owned())
        } else {
            Against::Name
        },
    }))
}

/// A gitignore pattern as a regular expression, and whether it ignores (or, with `!`, takes back).
fn translate(line: &str) -> Option<(String, bool)> {
    let mut text = if line.ends_with("\\ ") { line } else { line.trim_end() };
    let mut ignores = true;
    if let Some(rest) = text.strip_prefix('!') {
        ignores = false;
        text = rest;
    }
    if text.is_empty() || text == "/" {
        return None;
    }
    let mut parts: Vec<&str> = text.split('/').collect();
    if parts[0].is_empty() {
        parts.remove(0);
    } else if (parts.len() == 1 || (parts.len() == 2 && parts[1].is_empty())) && parts[0] != "**" {
        parts.insert(0, "**");
    }
    if parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
        parts.push("**");
    }
    parts.dedup_by(|part, before| *part == "**" && *before == "**");
    let last = parts.len().checked_sub(1)?;
    let mut pattern = String::from("^(?s:");
    let mut slash = false;
    for (at, part) in parts.iter().enumerate() {
        match *part {
            "**" if at == 0 && at == last => pattern.push_str("[^/]+(?:/.*)?"),
            "**" if at == 0 => pattern.push_str("(?:.+/)?"),
            "**" if at == last => pattern.push_str("/.*"),
            "**" => {
                pattern.push_str("(?:/.+)?");
                slash = true;
            }
            part => {
                if slash {
                    pattern.push('/');
                }
                if part == "*" {
                    pattern.push_str("[^/]+");
                } else {
                    translate_part(part, &mut pattern);
                }
                if at == last {
                    pattern.push_str("(?:/.*)?");
                }
                slash = true;
            }
        }
    }
    pattern.push_str(")$");
    Some((pattern, ignores))
}

fn translate_part(part: &str, pattern: &mut String) {
    let mut rest = part.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                if let Some(escaped) = rest.next() {
                    pattern.push_str(&regex::escape(&escaped.to_string()));
                }
            }
            '*' => pattern.push_str("[^/]*"),
            '?' => pattern.push_str("[^/]"),
            '[' => match class(&rest.clone().collect::<String>()) {
                Some((length, class)) => {
                    pattern.push_str(&class);
                    rest.nth(length - 1);
                }
                None => pattern.push_str("\\["),
            },
            c => pattern.push_str(&regex::escape(&c.to_string())),
        }
    }
}

/// A character class after its `[`: how many characters it takes, and the expression.
fn class(text: &str) -> Option<(usize, String)> {
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    let negated = matches!(chars.first(), Some('!' | '^'));
    at += usize::from(negated);
    // A bracket that stands first belongs to the class.
    let begin = at;
    at += usize::from(chars.get(at) == Some(&']'));
    while *chars.get(at)? != ']' {
        at += 1;
    }
    let mut class = String::from(if negated { "[^/" } else { "[" });
    for c in &chars[begin..at] {
        if matches!(c, '[' | ']' | '&' | '~' | '\\' | '^') {
            class.push('\\');
        }
        class.push(*c);
    }
    class.push(']');
    Some((at + 1, class))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(text: &str, syntax: IgnoreSyntax, path: &str) -> bool {
        let (rules, bad) = read(text, "", syntax);
        assert_eq!(bad, [""; 0]);
        let (path, is_folder) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
        is_ignored(&rules, path, is_folder)
    }

    #[test]
    fn globs_mean_what_they_mean_to_airflow() {
        for (text, path, expected) in [
            ("a.py", "a.py", true),
            ("a.py", "x/a.py", true),
            ("/a.py", "x/a.py", false),
            ("/a.py", "a.py", true),
            ("*.py", "x/y.py", true),
            ("x/*.py", "x/y.py", true),
            ("x/*.py", "z/x/y.py", false),
            ("**/y.py", "z/x/y.py", true),
            ("x/**", "x/y/z.py", true),
            ("x/", "x/", true),
            ("x/", "x", false),
            ("x", "x/", true),
            ("a?.py", "ab.py", true),
            ("[ab].py", "b.py", true),
            ("[!ab].py", "b.py", false),
            ("*.py\n!keep.py", "keep.py", false),
            ("*.py\n!keep.py", "other.py", true),
            ("# all\n*.py # really", "a.py", true),
            ("a.txt", "a.py", false),
            ("/", "a.py", false),
        ] {
            assert_eq!(
                ignored(text, IgnoreSyntax::Glob, path),
                expected,
                "{text:?} on {path:?}"
            );
        }
    }

    #[test]
    fn regular_expressions_are_searched_for_in_the_path_below_the_bundle() {
        for (text, path, expected) in [
            ("project_a", "x/project_a/dag.py", true),
            ("^project_a", "x/project_a/dag.py", false),
            ("tenant_[\\d]", "tenant_1.py", true),
            ("dag$", "some_dag/", true),
        ] {
            assert_eq!(
                ignored(text, IgnoreSyntax::Regexp, path),
                expected,
                "{text:?} on {path:?}"
            );
        }
    }

    #[test]
    fn a_bad_expression_is_reported_and_the_rest_holds() {
        let (rules, bad) = read("(\nx", "", IgnoreSyntax::Regexp);
        assert_eq!((rules.len(), bad), (1, vec!["(".to_owned()]));
    }
}
