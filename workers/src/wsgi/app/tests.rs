use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use super::*;
use crate::settings::Hooks;
use crate::worker_init::WorkerExit;

/// The current directory, `sys.path` and the environment belong to the process.
static PROCESS: Mutex<()> = Mutex::new(());

/// A directory of modules, and the state of the process to restore.
struct Site {
    directory: TempDir,
    before: PathBuf,
    _process: MutexGuard<'static, ()>,
}

impl Site {
    fn new(files: &[(&str, &str)]) -> Self {
        Python::initialize();
        let process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        for (name, source) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, source).unwrap();
        }
        Self { directory, before: std::env::current_dir().unwrap(), _process: process }
    }

    fn spec(&self, module: &str, attribute: Option<&str>) -> AppSpec {
        AppSpec {
            module: module.to_owned(),
            attribute: attribute.map(str::to_owned),
            is_factory: false,
            chdir: Some(self.directory.path().to_owned()),
            pythonpath: Vec::new(),
            env: Vec::new(),
            hooks: Hooks::default(),
            import_reports: None,
        }
    }

    /// Returns `repr()` of the application, or the failure.
    fn load(&self, spec: &AppSpec) -> Result<String, BootFailure> {
        Python::attach(|py| {
            let sys = py.import("sys").unwrap();
            let path = sys.getattr("path").unwrap().call_method0("copy").unwrap();
            let loaded = prepare(py, spec).and_then(|()| load_path(py, spec));
            let loaded = loaded.map(|app| app.repr().unwrap().to_string());
            sys.setattr("path", path).unwrap();
            loaded
        })
    }

    fn failure(&self, spec: &AppSpec) -> String {
        let failure = self.load(spec).unwrap_err();
        assert_eq!(failure.exit, WorkerExit::NotImportable);
        failure.report
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        std::env::set_current_dir(&self.before).unwrap();
    }
}

const APP: &str = "def app(environ, start_response): pass\n";

#[test]
fn app_then_application_are_the_defaults() {
    let site = Site::new(&[
        ("both_1.py", "def app(e, s): pass\ndef application(e, s): pass\n"),
        ("one_1.py", "def application(e, s): pass\n"),
    ]);
    assert!(site.load(&site.spec("both_1", None)).unwrap().contains("function app"));
    assert!(site.load(&site.spec("one_1", None)).unwrap().contains("function application"));
}

#[test]
fn an_attribute_may_be_dotted_and_a_module_in_a_package() {
    let site = Site::new(&[
        ("pack_2/__init__.py", ""),
        ("pack_2/wsgi.py", "class site:\n    def serve(e, s): pass\n"),
    ]);
    let loaded = site.load(&site.spec("pack_2.wsgi", Some("site.serve"))).unwrap();
    assert!(loaded.contains("site.serve"));
}

#[test]
fn a_factory_is_called() {
    let site = Site::new(&[("made_3.py", "def make():\n    return lambda e, s: None\n")]);
    let spec = AppSpec { is_factory: true, ..site.spec("made_3", Some("make")) };
    assert!(site.load(&spec).unwrap().contains("make.<locals>.<lambda>"));
}

#[test]
fn the_module_sees_its_name_directory_path_and_environment() {
    let source = "import os, sys
assert __name__ == 'seen_4'
assert os.getcwd() == os.path.dirname(os.path.abspath(__file__))
assert os.environ['ARCTOS_TEST_4'] == 'set'
assert sys.path[:2] == [os.path.abspath('lib'), os.getcwd()], sys.path
import beside_4
def app(e, s): pass
";
    let site = Site::new(&[("seen_4.py", source), ("lib/beside_4.py", "")]);
    let spec = AppSpec {
        pythonpath: vec![PathBuf::from("lib")],
        env: vec![("ARCTOS_TEST_4".to_owned(), "set".to_owned())],
        ..site.spec("seen_4", None)
    };
    site.load(&spec).unwrap();
}

#[test]
fn a_missing_directory_is_not_a_failure_of_the_application() {
    let site = Site::new(&[]);
    let spec = AppSpec { chdir: Some(PathBuf::from("/nowhere/at/all")), ..site.spec("x", None) };
    let failure = site.load(&spec).unwrap_err();
    assert_eq!(failure.exit, WorkerExit::NotBooted);
    assert!(failure.report.contains("Cannot change to the directory /nowhere/at/all"));
}

#[test]
fn a_missing_module_is_reported_with_the_existing_ones() {
    let site = Site::new(&[("shop_5.py", APP), ("other_5.py", APP)]);
    let report = site.failure(&site.spec("shop5", None));
    assert!(report.contains("There is no module \"shop5\""), "{report}");
    assert!(report.contains("Did you mean shop_5?"), "{report}");
    let report = site.failure(&site.spec("zzzzz", None));
    assert!(report.contains("That directory has the modules other_5, shop_5."), "{report}");
    assert!(report.contains("--chdir"), "{report}");
    assert!(!report.contains("Traceback"), "{report}");
}

#[test]
fn a_failed_import_inside_the_module_is_reported_with_traceback() {
    let site = Site::new(&[("inner_6.py", "import not_there_6\n")]);
    let report = site.failure(&site.spec("inner_6", None));
    assert!(report.contains("was found, but importing it failed"), "{report}");
    assert!(report.contains("Traceback") && report.contains("not_there_6"), "{report}");
    assert!(report.contains("inner_6.py\", line 1"), "{report}");
}

#[test]
fn any_exception_of_an_import_is_reported() {
    for (index, source) in ["1 / 0", "raise SystemExit(3)", "def broken(:"].iter().enumerate() {
        let name = format!("raises_7_{index}");
        let site = Site::new(&[(&format!("{name}.py"), source)]);
        let report = site.failure(&site.spec(&name, None));
        assert!(report.contains("importing it failed"), "{report}");
    }
}

#[test]
fn a_path_in_place_of_a_module_is_reported() {
    let site = Site::new(&[("path_8.py", APP), ("sub/deep_8.py", APP)]);
    let report = site.failure(&site.spec("path_8.py", None));
    assert!(report.contains("Name the module \"path_8\""), "{report}");
    let report = site.failure(&site.spec("sub/deep_8.py", None));
    assert!(report.contains("Name the module \"deep_8\", with --chdir sub"), "{report}");
}

#[test]
fn a_missing_attribute_is_reported_with_the_existing_ones() {
    let site =
        Site::new(&[("attrs_9.py", "from os import getcwd, walk\ndef create_app(): pass\n")]);
    let report = site.failure(&site.spec("attrs_9", Some("create_ap")));
    assert!(report.contains("Did you mean create_app?"), "{report}");
    let report = site.failure(&site.spec("attrs_9", None));
    assert!(report.contains("neither `app` nor `application`"), "{report}");
    assert!(
        report.contains("The module defines these callables: create_app. Name one"),
        "{report}"
    );
    let report = site.failure(&site.spec("attrs_9", Some("create_app()")));
    assert!(report.contains("add --factory: attrs_9:create_app"), "{report}");
}

#[test]
fn a_dot_in_place_of_a_colon_is_reported() {
    let site = Site::new(&[("dotted_10.py", APP)]);
    let report = site.failure(&site.spec("dotted_10.app", None));
    assert!(report.contains("did you mean dotted_10:app?"), "{report}");
}

#[test]
fn an_object_that_cannot_be_called_is_reported() {
    let site = Site::new(&[("calls_11.py", "app = {}\ndef make(): pass\n")]);
    let report = site.failure(&site.spec("calls_11", None));
    assert!(report.contains("not callable: its type is dict"), "{report}");
    let report = site.failure(&site.spec("calls_11", Some("make")));
    assert!(report.contains("cannot be called with (environ, start_response)"), "{report}");
    assert!(report.contains("use --factory"), "{report}");
    let spec = AppSpec { is_factory: true, ..site.spec("calls_11", Some("make")) };
    let report = site.failure(&spec);
    assert!(report.contains("What the factory returned is not callable: its type is NoneType"));
}

#[test]
fn a_factory_that_fails_is_reported_with_its_traceback() {
    let site = Site::new(&[("fails_12.py", "def make():\n    raise KeyError('DATABASE_URL')\n")]);
    let spec = AppSpec { is_factory: true, ..site.spec("fails_12", Some("make")) };
    let report = site.failure(&spec);
    assert!(report.contains("The factory fails_12:make failed"), "{report}");
    assert!(report.contains("KeyError: 'DATABASE_URL'"), "{report}");
}

#[test]
fn callables_of_every_kind_are_applications() {
    let source = "import functools
class App:
    def __call__(self, e, s): pass
    def method(self, e, s): pass
instance = App()
method = instance.method
def three(x, e, s): pass
partial = functools.partial(three, 1)
def anything(*args): pass
def keyword(e, s, more=None): pass
";
    let site = Site::new(&[("kinds_13.py", source)]);
    for name in ["instance", "method", "App", "partial", "anything", "keyword"] {
        assert!(site.load(&site.spec("kinds_13", Some(name))).is_ok(), "{name}");
    }
}

#[test]
fn asgi_applications_and_coroutine_functions_are_refused_with_a_hint() {
    let source = "import functools
async def coroutine(environ, start_response): pass
async def asks(scope, receive, send): pass
async def generates(environ, start_response): yield b''
def returns_one(scope, receive, send, more=None): return asks(scope, receive, send)
class Starlette:
    async def __call__(self, scope, receive, send): pass
    async def method(self, scope, receive, send): pass
    def plain(self, scope, receive, send): pass
class Sentry:
    __slots__ = ('app', '__call__')
    def __init__(self): self.__call__ = self._run
    async def _run(self, scope, receive, send): pass
instance = Starlette()
method = instance.method
plain = instance.plain
slots = Sentry()
nested = functools.partial(functools.partial(lambda a, b, scope, receive, send: None, 1), 2)
partial = functools.partial(coroutine)
def make(): return instance
";
    let site = Site::new(&[("asgi_14.py", source)]);
    let asgi = ["asks", "returns_one", "instance", "method", "plain", "slots", "nested"];
    for name in asgi {
        let report = site.failure(&site.spec("asgi_14", Some(name)));
        let start = format!("asgi_14:{name} is not a WSGI application. It is an ASGI application");
        assert!(report.starts_with(&start) && report.contains("a2wsgi"), "{name}: {report}");
    }
    for name in ["coroutine", "generates", "partial"] {
        let report = site.failure(&site.spec("asgi_14", Some(name)));
        assert!(report.contains("It is a coroutine function"), "{name}: {report}");
        assert!(report.contains("a2wsgi"), "{name}: {report}");
    }
    let spec = AppSpec { is_factory: true, ..site.spec("asgi_14", Some("make")) };
    let report = site.failure(&spec);
    assert!(report.contains("What the factory returned is an ASGI application"), "{report}");
}

#[test]
fn wsgi_applications_with_unusual_signatures_are_accepted() {
    let source = "import asyncio, functools, types
async def other(scope, receive, send): pass
@functools.wraps(other)
def wrapped(environ, start_response): pass
def claims(environ, start_response): pass
claims.__signature__ = __import__('inspect').signature(other)
def keywords(environ, start_response, *, scope=None, receive=None, send=None): pass
def scoped(scope, start_response): pass
class App:
    def __call__(self, environ, start_response, send=None): return asyncio.run(other(0, 0, 0))
    async def startup(self): pass
    def __getattr__(self, name): raise RuntimeError(name)
class PerRequest:
    def __init__(self, scope, receive, send=None): pass
    async def __aiter__(self): pass
class Meta(type):
    def __call__(cls, *args): pass
class Made(metaclass=Meta): pass
class Native:
    __call__ = print
instance, native, bound = App(), Native(), App().__call__
generator = types.coroutine(lambda environ, start_response: (yield b''))
builtin = print
loop = type('Loop', (), {})
loop.__call__ = loop()
loop = loop()
";
    let site = Site::new(&[("wsgi_15.py", source)]);
    for name in [
        "wrapped",
        "claims",
        "keywords",
        "scoped",
        "instance",
        "PerRequest",
        "Made",
        "native",
        "bound",
        "generator",
        "builtin",
        "loop",
    ] {
        let loaded = site.load(&site.spec("wsgi_15", Some(name)));
        assert!(loaded.is_ok(), "{name}: {loaded:?}");
    }
}
