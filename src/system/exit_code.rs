//! The exit codes of `arctos`, both of a server and of the commands that control one.

/// The exit codes. They are the same for any number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ExitCode {
    /// It was asked to stop.
    Asked = 0,
    /// Configuration, bind or permissions.
    Configuration = 1,
    /// A command line that cannot be understood; no server was started.
    Usage = 2,
    /// A worker failed to boot at first start.
    NotBooted = 3,
    /// The application could not be imported at first start.
    NotImportable = 4,
    /// No worker was ready for too long.
    CrashLoop = 5,
    /// A defect of arctos, or a kernel that refuses what every server needs.
    Internal = 70,
}

impl ExitCode {
    /// All exit codes.
    pub const ALL: [Self; 7] = [
        Self::Asked,
        Self::Configuration,
        Self::Usage,
        Self::NotBooted,
        Self::NotImportable,
        Self::CrashLoop,
        Self::Internal,
    ];

    /// What the exit code tells an operator.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Asked => "The server was asked to stop.",
            Self::Configuration => {
                "The configuration, an address or a permission is wrong; the message names which."
            }
            Self::Usage => "The command line has a wrong option or value.",
            Self::NotBooted => {
                "At the first start, a worker could not boot: it crashed, was killed, a hook failed, or it \
                 was not ready within `--boot-timeout`. Or a worker died before an \
                 [upgrade](reload.md#upgrade) was over."
            }
            Self::NotImportable => {
                "At the first start, the application could not be imported, or called `sys.exit()`; the \
                 reason is printed once, with a hint."
            }
            Self::CrashLoop => {
                "No worker has been ready for 60 s, or for `--boot-timeout` if that is longer."
            }
            Self::Internal => "arctos has a defect.",
        }
    }

    /// Whether the same command may succeed a little later without any change: the import may have needed a database
    /// that was unavailable. For other exit codes, a service manager should not restart the server.
    pub fn may_heal(self) -> bool {
        match self {
            Self::NotBooted | Self::NotImportable | Self::CrashLoop | Self::Internal => true,
            Self::Asked | Self::Configuration | Self::Usage => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- exit-codes:begin -->\n";
    const END: &str = "<!-- exit-codes:end -->";

    fn markdown() -> String {
        let mut text = "| code | meaning | start it again? |\n|---|---|---|".to_owned();
        for code in ExitCode::ALL {
            let again = if code.may_heal() { "yes" } else { "no" };
            text.push_str(&format!("\n| {} | {} | {again} |", code as i32, code.meaning()));
        }
        text
    }

    /// `ARCTOS_BLESS=1 cargo test -p arctos --lib --no-default-features exit_codes` rewrites the table.
    #[test]
    fn the_guide_holds_the_table_of_exit_codes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/signals.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (table, after) = rest.split_once(END).unwrap();
        if std::env::var_os("ARCTOS_BLESS").is_some() {
            let text = format!("{before}{BEGIN}\n{}\n\n{END}{after}", markdown());
            std::fs::write(path, text).unwrap();
            return;
        }
        assert_eq!(table, format!("\n{}\n\n", markdown()), "run this test with ARCTOS_BLESS=1");
    }
}
