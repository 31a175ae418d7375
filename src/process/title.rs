//! Process names for ps(1).

use std::ffi::CString;

use arctos_worker::shared::identity::SlotId;

/// The name of a worker in ps(1), `NAME: w0`: 15 bytes (prctl(2)), of which the slot keeps its own.
pub fn title(name: &str, slot: SlotId) -> CString {
    titled(name, &format!(": w{slot}"))
}

/// The name of a zygote in ps(1), `NAME: zygote`.
pub fn zygote_title(name: &str) -> CString {
    titled(name, ": zygote")
}

/// The name of the process in ps(1) that opens a generation, `NAME: start`.
pub fn opening_title(name: &str) -> CString {
    titled(name, ": start")
}

fn titled(name: &str, suffix: &str) -> CString {
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
        assert_eq!(title("arctos", SlotId(0)).as_bytes(), b"arctos: w0");
        assert_eq!(title("a-very-long-name", SlotId(12)).as_bytes(), b"a-very-lon: w12");
        assert_eq!(title("a-very-long-name", SlotId(u16::MAX)).as_bytes(), b"a-very-: w65535");
        assert_eq!(zygote_title("a-very-long-name").as_bytes(), b"a-very-: zygote");
    }
}
