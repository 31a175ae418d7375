//! Process names for ps(1).

use std::ffi::CString;

use arctos_worker::shared::identity::SlotId;

/// The name of a worker, `NAME: w0`. It has at most 15 bytes (prctl(2)); a long name is cut, the slot never is.
pub fn worker_title(name: &str, slot: SlotId) -> CString {
    with_suffix(name, &format!(": w{slot}"))
}

/// The name of a zygote, `NAME: zygote`.
pub fn zygote_title(name: &str) -> CString {
    with_suffix(name, ": zygote")
}

/// The name of the process that runs `--on-start`, `NAME: start`.
pub fn on_start_title(name: &str) -> CString {
    with_suffix(name, ": start")
}

fn with_suffix(name: &str, suffix: &str) -> CString {
    const TITLE_BYTES: usize = 15;
    let mut title = name.as_bytes().to_vec();
    title.retain(|&byte| byte != 0);
    title.truncate(TITLE_BYTES - suffix.len());
    title.extend(suffix.bytes());
    CString::new(title).expect("there is no NUL left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_leaves_room_for_the_slot() {
        assert_eq!(worker_title("arctos", SlotId(0)).as_bytes(), b"arctos: w0");
        assert_eq!(worker_title("a-very-long-name", SlotId(12)).as_bytes(), b"a-very-lon: w12");
        assert_eq!(
            worker_title("a-very-long-name", SlotId(u16::MAX)).as_bytes(),
            b"a-very-: w65535"
        );
        assert_eq!(zygote_title("a-very-long-name").as_bytes(), b"a-very-: zygote");
    }
}
