use super::*;
use crate::wsgi::tests::harness::run;

/// Returns the exit status of a child that raises this.
fn status_of(raised: &str) -> i32 {
    Python::initialize();
    Python::attach(|py| {
        let source =
            format!("try:\n    {raised}\nexcept BaseException as error:\n    it = error\n");
        let names = run(py, &source);
        let error = names.bind(py).get_item("it").unwrap().unwrap();
        exit_status(py, &PyErr::from_value(error))
    })
}

#[test]
fn system_exit_has_the_status_of_a_standalone_program() {
    for (code, status) in
        [("", 0), ("None", 0), ("0", 0), ("7", 7), ("True", 1), ("-1", -1), ("2**80", -1)]
    {
        assert_eq!(status_of(&format!("raise SystemExit({code})")), status, "{code}");
    }
}

#[test]
fn a_system_exit_with_a_message_prints_it_and_exits_with_1() {
    let source = "import io, sys
sys.stderr, before = io.StringIO(), sys.stderr
try:
    raise SystemExit('no such job')
except SystemExit as error:
    it = error
";
    Python::initialize();
    Python::attach(|py| {
        let names = run(py, source);
        let names = names.bind(py);
        let error = names.get_item("it").unwrap().unwrap();
        let status = exit_status(py, &PyErr::from_value(error));
        let sys = py.import("sys").unwrap();
        let printed = sys.getattr("stderr").unwrap().call_method0("getvalue").unwrap();
        sys.setattr("stderr", names.get_item("before").unwrap()).unwrap();
        assert_eq!((status, printed.to_string().as_str()), (1, "no such job\n"));
    });
}

#[test]
fn any_other_exception_exits_with_1() {
    assert_eq!(status_of("1 / 0"), 1);
    assert_eq!(status_of("raise KeyboardInterrupt"), 1);
}
