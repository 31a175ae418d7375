use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pyo3::types::{PyCFunction, PyDict};

use super::*;
use crate::process::signals;
use crate::process::stack_sampler::{self, stage};
use crate::shared::samples::message::{self, Message, SampledFrame};

/// Names of functions, the innermost first, with the byte offset of the running instruction.
type Stack = Vec<(String, u32)>;

/// Runs a program with a function `sample`, and returns the samples that were taken, with all code objects.
fn samples_of(program: &CStr) -> (Vec<Stack>, Vec<message::Code>) {
    let _alone = stage::ALONE.lock();
    Python::initialize();
    let area = SampleArea::detached();
    let entry = WorkerEntry::detached();
    signals::inherit();
    Python::attach(|py| {
        let globals = PyDict::new(py);
        let raise = PyCFunction::new_closure(py, None, None, |_, _| {
            stage::ask_this_thread();
        });
        globals.set_item("sample", raise.unwrap()).unwrap();
        stack_sampler::install(interpreter(py).unwrap(), area, entry).unwrap();
        area.begin(next_session());
        py.run(program, Some(&globals), None).unwrap();
    });
    let (mut samples, mut codes) = (Vec::new(), Vec::<message::Code>::new());
    area.drain(|words| match message::read(words).unwrap() {
        Message::Code { pid, code } => {
            assert_eq!(pid, std::process::id());
            codes.push(code);
        }
        Message::Sample { frames, .. } => samples.push(frames),
        Message::Route { .. } => panic!("no call has ended"),
    });
    assert_eq!(area.lost(), 0);
    let name = |frame: &SampledFrame| {
        let code = codes.iter().find(|code| code.number == frame.code).unwrap();
        (code.name.clone(), frame.offset)
    };
    (samples.iter().map(|frames| frames.iter().map(name).collect()).collect(), codes)
}

fn next_session() -> u32 {
    static SESSION: AtomicU32 = AtomicU32::new(1);
    SESSION.fetch_add(1, Ordering::Relaxed)
}

fn last_names(stack: &Stack) -> Vec<String> {
    let last = |(name, _): &(String, u32)| name.rsplit('.').next().unwrap_or_default().to_owned();
    stack.iter().map(last).collect()
}

#[test]
fn a_sample_has_the_functions_of_the_stack_and_their_files() {
    let (samples, codes) = samples_of(
        c"
class Shop:
    def slow(self):
        sample()

def outer():
    Shop().slow()

outer()
outer()
",
    );
    assert_eq!(samples.len(), 2);
    for stack in &samples {
        assert_eq!(last_names(stack), ["slow", "outer", "<module>"]);
    }
    assert_eq!(codes.len(), 3, "each is described once: {codes:?}");
    let slow = codes.iter().find(|code| code.name.ends_with("slow")).unwrap();
    assert_eq!((slow.file.as_str(), slow.first_line), ("<string>", 3));
    assert!(!slow.lines.is_empty());
}

#[test]
fn generators_comprehensions_and_c_functions_in_between_are_walked() {
    let (samples, _) = samples_of(
        c"
def items():
    for i in range(2):
        sample()
        yield i

def by_c():
    return sorted([2, 1], key=lambda it: (sample(), it)[1])

async def waits():
    sample()

sum(items())
by_c()
try:
    waits().send(None)
except StopIteration:
    pass
",
    );
    let names: Vec<_> = samples.iter().map(last_names).collect();
    assert_eq!(names[0], ["items", "<module>"]);
    assert_eq!(names[2], ["<lambda>", "by_c", "<module>"]);
    assert_eq!(names.last().unwrap(), &["waits", "<module>"]);
}

#[test]
fn a_deep_stack_keeps_its_innermost_frames() {
    let (samples, _) = samples_of(
        c"
def deep(n):
    if n:
        deep(n - 1)
    else:
        sample()

deep(500)
",
    );
    assert_eq!(samples[0].len(), message::MAX_FRAMES);
    assert!(last_names(&samples[0]).iter().all(|name| name == "deep"));
}

#[test]
fn names_of_every_alphabet_arrive() {
    let (samples, _) = samples_of(
        c"
def gr\xc3\xb6\xc3\x9fe(): sample()
def \xd0\xbc\xd0\xb5\xd0\xb4\xd0\xbb\xd0\xb5\xd0\xbd\xd0\xbd\xd0\xbe(): gr\xc3\xb6\xc3\x9fe()
\xd0\xbc\xd0\xb5\xd0\xb4\xd0\xbb\xd0\xb5\xd0\xbd\xd0\xbd\xd0\xbe()
",
    );
    assert_eq!(last_names(&samples[0]), ["größe", "медленно", "<module>"]);
}

/// Signals arrive at any instruction, in code that enters and leaves frames all the time.
#[test]
fn samples_at_any_point_of_the_interpreter_are_safe_and_nearly_all_complete() {
    let _alone = stage::ALONE.lock();
    Python::initialize();
    signals::inherit();
    let area = SampleArea::detached();
    let (mut whole_count, mut partial_count) = (0, 0);
    Python::attach(|py| {
        let interpreter = interpreter(py).unwrap();
        stack_sampler::install(interpreter, area, WorkerEntry::detached()).unwrap();
        area.begin(next_session());
        let (thread, stop) = (stage::this_thread(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    stage::ask_thread(thread);
                    std::thread::sleep(Duration::from_micros(50));
                }
            });
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(700) {
                py.run(SPINNING, Some(&PyDict::new(py)), None).unwrap();
                area.drain(|words| match message::read(words).unwrap() {
                    Message::Code { code, .. } => {
                        let name = code.name.rsplit('.').next().unwrap();
                        assert!(NAMES.contains(&name), "{name}");
                    }
                    Message::Sample { frames, .. } => {
                        let is_whole =
                            frames.iter().all(|frame| frame.code != message::UNKNOWN_CODE);
                        *(if is_whole { &mut whole_count } else { &mut partial_count }) += 1;
                    }
                    Message::Route { .. } => panic!("no call has ended"),
                });
            }
            stop.store(true, Ordering::Relaxed);
        });
        area.end();
    });
    assert!(
        whole_count > 100 && partial_count * 100 <= whole_count,
        "{whole_count} whole, {partial_count} partial"
    );
}

const NAMES: [&str; 5] = ["fib", "spin", "<module>", "<genexpr>", "<listcomp>"];
const SPINNING: &CStr = c"
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

def spin():
    for i in range(300):
        fib(6)
        list(x for x in range(9))
        {str(i): [j for j in range(5)]}

spin()
";
