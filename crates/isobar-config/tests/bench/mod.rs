//! A throw-away folder with a configuration in it.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared by several test binaries"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use isobar_config::{Loaded, Problems, load};

pub struct Bench {
    folder: tempfile::TempDir,
    environment: RefCell<BTreeMap<String, String>>,
}

impl Bench {
    pub fn new(toml: &str) -> Self {
        let bench = Self {
            folder: tempfile::tempdir().unwrap(),
            environment: RefCell::default(),
        };
        bench.file("isobar.toml", toml);
        bench
    }

    /// A configuration with teams of these names and a folder each.
    pub fn teams(names: &[&str]) -> Self {
        let mut toml = "[core]\nmulti_team = true\n".to_owned();
        for (position, name) in names.iter().enumerate() {
            toml.push_str(&format!(
                "[[team]]\nname = \"{name}\"\nfolders = \"d{position}\"\nexecutors = \"local\"\n"
            ));
        }
        let bench = Self::new(&toml);
        for position in 0..names.len() {
            bench.file(&format!("d{position}/dag.py"), "");
        }
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    pub fn file(&self, name: &str, text: &str) -> &Self {
        self.bytes(name, text.as_bytes())
    }

    pub fn bytes(&self, name: &str, bytes: &[u8]) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        self
    }

    pub fn link(&self, name: &str, target: &str) -> &Self {
        std::os::unix::fs::symlink(self.path(target), self.path(name)).unwrap();
        self
    }

    pub fn env(&self, name: &str, value: &str) -> &Self {
        self.environment.borrow_mut().insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn try_load(&self) -> Result<Loaded, Problems> {
        load(Some(&self.path("isobar.toml")), &self.environment.borrow())
    }

    pub fn load(&self) -> Loaded {
        self.try_load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// All faults, with the folder's name taken out.
    pub fn faults(&self) -> String {
        self.plain(&self.try_load().map(|_| ()).unwrap_err().to_string())
    }

    /// A text with the folder's name taken out.
    pub fn plain(&self, text: &str) -> String {
        text.replace(
            &format!("{}/", self.path("").display().to_string().trim_end_matches('/')),
            "",
        )
    }
}
