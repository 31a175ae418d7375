use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::super::parse as parse_all;
use super::*;

fn project(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn found(files: &[(&str, &str)]) -> Option<(String, String)> {
    let directory = project(files);
    let found = project::application(directory.path())?;
    Some((found.application, found.file))
}

const MANAGE: (&str, &str) = (
    "manage.py",
    "def main():\n    os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n",
);
const WSGI: (&str, &str) = ("shop/wsgi.py", "import os\n\napplication = get_wsgi_application()\n");

#[test]
fn the_application_of_a_project_is_found_by_its_files() {
    let some = |application: &str, file: &str| Some((application.to_owned(), file.to_owned()));
    let flask = "from flask import Flask\n\nserver = Flask(__name__)\n";
    let factory = "def create_app(config=None):\n    app = Flask(__name__)\n    return app\n";
    let pyproject = ("pyproject.toml", "[project]\nname = \"my-shop\"\n");
    for (files, expected) in [
        (&[MANAGE, WSGI][..], some("shop.wsgi:application", "shop/wsgi.py")),
        (&[MANAGE], None),
        (&[("app.py", flask)], some("app:server", "app.py")),
        (&[("app.py", factory)], some("app:create_app()", "app.py")),
        (&[("app.py", "def create_app(config):\n    pass\n")], None),
        (&[("wsgi.py", "app = make()\n"), ("app.py", flask)], some("wsgi:app", "wsgi.py")),
        (
            &[("wsgi.py", "def application(environ, start_response):\n")],
            some("wsgi:application", "wsgi.py"),
        ),
        (&[("shop/__init__.py", factory)], some("shop:create_app()", "shop/__init__.py")),
        (&[("shop/wsgi.py", "app = 1\n")], some("shop.wsgi:app", "shop/wsgi.py")),
        (&[("a/__init__.py", factory), ("b/__init__.py", factory)], None),
        (
            &[pyproject, ("a/__init__.py", factory), ("my_shop/__init__.py", factory)],
            some("my_shop:create_app()", "my_shop/__init__.py"),
        ),
        (&[("app.py", "if app == 3:\n    app = 4\n")], None),
        (&[], None),
    ] {
        assert_eq!(found(files), expected, "{files:?}");
    }
    let split = [
        ("manage.py", "X = 'DJANGO_SETTINGS_MODULE', \"shop.settings.production\""),
        ("shop/settings/production.py", ""),
        WSGI,
    ];
    assert_eq!(found(&split), some("shop.wsgi:application", "shop/wsgi.py"));
}

fn init(path: &Path) -> Result<String, InitError> {
    let words = ["arctos".into(), "init".into(), path.as_os_str().to_owned()];
    match parse_all(words, std::iter::empty::<(&str, &str)>().collect()) {
        Ok(Invocation::Init(command)) => command.run(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_file_is_written_once() {
    let directory = project(&[MANAGE, WSGI, ("pyproject.toml", "[tool.arctos]\nworkers = 3\n")]);
    let path = directory.path().join("arctos.toml");
    let said = init(&path).unwrap();
    assert!(said.contains("with app = \"shop.wsgi:application\", found in shop/wsgi.py"), "{said}");
    assert!(said.contains("[tool.arctos] of pyproject.toml are now ignored"), "{said}");
    assert!(said.ends_with("arctos --check\n"), "{said}");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\napp = \"shop.wsgi:application\""));
    fs::write(&path, "edited").unwrap();
    let error = init(&path).unwrap_err().to_string();
    assert!(error.contains("arctos.toml exists, and arctos init overwrites nothing"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "edited");
    let link = directory.path().join("link.toml");
    symlink(directory.path().join("nowhere"), &link).unwrap();
    assert!(matches!(init(&link), Err(InitError::Exists(_))));
    let other = directory.path().join("other.toml");
    assert!(init(&other).unwrap().ends_with("other.toml\n"));
    assert!(matches!(init(Path::new("/no/such/x")), Err(InitError::Unwritable { .. })));
}

#[test]
fn a_dash_prints_the_text_and_a_second_path_is_refused() {
    let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
    let parsed = |line| parse_all(words(line), std::iter::empty::<(&str, &str)>().collect());
    let Ok(Invocation::Init(command)) = parsed("arctos init -") else { panic!() };
    assert!(command.run().unwrap().starts_with("# Configuration of arctos"));
    let Ok(Invocation::Init(command)) = parsed("arctos init") else { panic!() };
    assert_eq!(command.path, Path::new("arctos.toml"));
    assert_eq!(parsed("arctos init a b").unwrap_err().exit_code(), 2);
    assert!(matches!(parsed("arctos init --help"), Ok(Invocation::Show { exit_code: 0, .. })));
    assert!(matches!(parsed("arctos init:app"), Ok(Invocation::Serve(_))));
}
