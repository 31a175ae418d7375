//! A profile in the format that was asked for, on standard output or in a file.

use std::fs;
use std::path::PathBuf;

use super::CtlError;
use super::units::printable;
use crate::profile::{Profile, collapsed, flamegraph, speedscope, top};

/// The format of a profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the formats say it")]
pub enum ProfileFormat {
    #[default]
    Flamegraph,
    Collapsed,
    Speedscope,
    Top,
}

impl ProfileFormat {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Flamegraph, Self::Collapsed, Self::Speedscope, Self::Top];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flamegraph => "flamegraph",
            Self::Collapsed => "collapsed",
            Self::Speedscope => "speedscope",
            Self::Top => "top",
        }
    }

    fn draw(self, profile: &Profile) -> String {
        match self {
            Self::Flamegraph => flamegraph::draw(profile),
            Self::Collapsed => collapsed::draw(profile),
            Self::Speedscope => speedscope::draw(profile),
            // A function may have any name.
            Self::Top => top::draw(profile).lines().map(|line| printable(line) + "\n").collect(),
        }
    }
}

/// How a profile is shown, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileOutput {
    /// The format.
    pub format: ProfileFormat,
    /// The file to write; `None` for standard output.
    pub file: Option<PathBuf>,
}

impl ProfileOutput {
    /// Writes the file, if there is one. Returns the text to print.
    pub(super) fn show(&self, profile: &Profile) -> Result<String, CtlError> {
        let text = self.format.draw(profile);
        let Some(path) = &self.file else { return Ok(text) };
        fs::write(path, text)
            .map_err(|source| CtlError::Unwritten { path: path.clone(), source })?;
        Ok(top::summary(profile))
    }
}
