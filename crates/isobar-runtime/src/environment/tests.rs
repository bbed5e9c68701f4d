//! Environments without Airflow are made with a tiny local package index in the way that real ones are; the real
//! thing, with Airflow, is `make_a_real_environment`, which needs a package index and is run by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use isobar_config::Requirements;

use super::*;

fn test_venv() -> PathBuf {
    let python = std::env::var("ISOBAR_TEST_PYTHON")
        .expect("set ISOBAR_TEST_PYTHON to the python of an environment with Airflow 3.3.2, such as VENV/bin/python");
    Path::new(&python)
        .parent()
        .and_then(Path::parent)
        .expect("VENV/bin/python")
        .to_owned()
}

fn spec(folder: &Path) -> EnvironmentSpec {
    EnvironmentSpec {
        team: "alpha".to_owned(),
        folder: folder.to_owned(),
        python: Python::default(),
        runs_as: None,
    }
}

#[test]
fn a_given_environment_with_the_right_airflow_is_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    spec.python.venv = Some(test_venv());
    let environment = ready(&spec).unwrap();
    assert_eq!(environment.airflow_version, "3.3.2");
    assert!(!environment.made);
    assert_eq!(environment.python, test_venv().join("bin/python"));
    let covered = |path: &Path| environment.read.iter().any(|folder| path.starts_with(folder));
    assert!(
        covered(&fs::canonicalize(test_venv()).unwrap()),
        "{:?}",
        environment.read
    );
    assert_eq!(ready(&spec).unwrap().fingerprint, environment.fingerprint);
    assert_eq!(
        apply(&spec, &mut |_| panic!("nothing to do")).unwrap().fingerprint,
        environment.fingerprint
    );
}

#[test]
fn a_given_environment_without_airflow_is_refused_with_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("venv/bin");
    fs::create_dir_all(&bin).unwrap();
    std::os::unix::fs::symlink("/usr/bin/python3", bin.join("python")).unwrap();
    let mut spec = spec(folder.path());
    spec.python.venv = Some(folder.path().join("venv"));
    let error = ready(&spec).unwrap_err();
    assert!(matches!(error, EnvironmentError::NoAirflow { .. }), "{error}");
    assert!(
        error.to_string().contains("pip install apache-airflow==3.3.2"),
        "{error}"
    );
}

#[test]
fn a_given_environment_with_another_airflow_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let venv = folder.path().join("venv");
    make_bare_venv(&venv);
    let packages = fs::read_dir(venv.join("lib"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("site-packages");
    for (name, version) in [("apache_airflow_core", "3.2.1"), ("apache_airflow_task_sdk", "1.3.2")] {
        let info = packages.join(format!("{name}-{version}.dist-info"));
        fs::create_dir_all(&info).unwrap();
        let text = format!(
            "Metadata-Version: 2.1\nName: {}\nVersion: {version}\n",
            name.replace('_', "-")
        );
        fs::write(info.join("METADATA"), text).unwrap();
    }
    let mut spec = spec(folder.path());
    spec.python.venv = Some(venv);
    let error = ready(&spec).unwrap_err();
    let EnvironmentError::OtherAirflow { found, needed, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((found.as_str(), *needed), ("3.2.1", "3.3.2"));
}

fn make_bare_venv(folder: &Path) {
    let made = std::process::Command::new("/usr/bin/python3")
        .args(["-I", "-m", "venv", "--without-pip"])
        .arg(folder)
        .current_dir("/")
        .status()
        .unwrap();
    assert!(made.success());
}

#[test]
fn a_missing_interpreter_is_an_error_that_says_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    spec.python.interpreter = Some("3.99".to_owned());
    let error = plan(&spec).unwrap_err();
    assert!(matches!(error, EnvironmentError::NoInterpreter { .. }), "{error}");
    assert!(error.to_string().contains("for \"3.99\""), "{error}");
}

#[test]
fn an_environment_that_is_not_made_asks_for_apply() {
    let folder = tempfile::tempdir().unwrap();
    let error = ready(&spec(folder.path())).unwrap_err();
    assert!(error.to_string().contains("isobar teams apply"), "{error}");
}

/// A whole environment, but for its packages: what [`ready`] and the sweep look at.
fn pretend_made(spec: &EnvironmentSpec) -> PathBuf {
    let interpreter = Interpreter::find(spec).unwrap();
    let fingerprint = fingerprint::of(spec, &interpreter).unwrap();
    let folder = spec.folder.join(&fingerprint);
    fs::create_dir_all(&spec.folder).unwrap();
    make_bare_venv(&folder);
    let probe = probe::probe("alpha", &folder.join("bin/python")).unwrap();
    write_marker(
        &folder,
        &Marker {
            fingerprint,
            interpreter,
            installer: "test".to_owned(),
            probe,
        },
    )
    .unwrap();
    folder
}

#[test]
fn a_changed_requirement_asks_for_a_new_environment_and_an_unused_old_one_goes() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    spec.python.requirements = Requirements::List(vec!["pandas==1".to_owned()]);
    let old = pretend_made(&spec);
    assert_eq!(plan(&spec).unwrap(), Plan::Keep { folder: old.clone() });

    spec.python.requirements = Requirements::List(vec!["pandas==2".to_owned()]);
    let Plan::Make { folder: new, why, .. } = plan(&spec).unwrap() else {
        panic!("a new one is needed")
    };
    assert_ne!(new, old);
    assert_eq!(why, "its requirements or its Python changed");

    pretend_made(&spec);
    apply(&spec, &mut |_| ()).unwrap();
    assert!(!old.exists() && new.exists());
}

#[test]
fn an_environment_in_use_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    let old = pretend_made(&spec);
    let in_use = ready(&spec).unwrap();
    spec.python.requirements = Requirements::List(vec!["pandas==2".to_owned()]);
    pretend_made(&spec);
    apply(&spec, &mut |_| ()).unwrap();
    assert!(old.exists());
    drop(in_use);
    apply(&spec, &mut |_| ()).unwrap();
    assert!(!old.exists());
}

#[test]
fn a_half_made_environment_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path());
    let made = pretend_made(&spec);
    fs::remove_file(made.join(MARKER)).unwrap();
    assert!(matches!(ready(&spec), Err(EnvironmentError::NotMade { .. })));
    let Plan::Make { why, .. } = plan(&spec).unwrap() else {
        panic!("it must be made again")
    };
    assert_eq!(why, "an earlier attempt was cut short");
}

#[test]
fn a_change_in_an_included_requirements_file_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    fs::write(folder.path().join("r.txt"), "# ours\n-r base.txt\n").unwrap();
    fs::write(folder.path().join("base.txt"), "pandas==1\n").unwrap();
    spec.python.requirements = Requirements::File(folder.path().join("r.txt"));
    let print = |spec: &EnvironmentSpec| fingerprint::of(spec, &Interpreter::find(spec).unwrap()).unwrap();
    let before = print(&spec);
    fs::write(folder.path().join("base.txt"), "\n# a comment\npandas==1\n").unwrap();
    assert_eq!(print(&spec), before);
    fs::write(folder.path().join("base.txt"), "pandas==2\n").unwrap();
    assert_ne!(print(&spec), before);
}

#[test]
fn an_interpreter_behind_a_closed_folder_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut spec = spec(folder.path());
    spec.runs_as = Some(crate::sandbox::OsUser {
        uid: 60_001,
        gid: 60_001,
    });
    let found = Interpreter::find(&spec).unwrap();
    assert!(found.path.starts_with("/usr"), "{found:?}");
}

#[test]
#[ignore = "installs Airflow from a package index; takes minutes without a cache"]
fn make_a_real_environment() {
    let folder = tempfile::tempdir().unwrap();
    let mut spec = spec(folder.path());
    spec.python.requirements = Requirements::List(vec!["tabulate".to_owned()]);
    let mut lines = Vec::new();
    let environment = apply(&spec, &mut |line| {
        println!("{line}");
        lines.push(line.to_owned());
    })
    .unwrap();
    assert!(environment.made);
    let again = apply(&spec, &mut |line| panic!("{line}")).unwrap();
    assert_eq!(again.fingerprint, environment.fingerprint);
    spec.python.requirements = Requirements::List(vec!["apache-airflow==3.2.0".to_owned()]);
    let error = apply(&spec, &mut |line| println!("{line}")).unwrap_err();
    assert!(error.to_string().contains("must fit beside"), "{error}");
}
