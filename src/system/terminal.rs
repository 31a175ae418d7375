//! Whether what is written to standard error is colored.

use super::environment::Environment;

/// Whether a program uses colors that writes to a terminal, or not: `NO_COLOR` turns them off, `FORCE_COLOR` on, and
/// `TERM=dumb` says that the terminal has none. An empty variable counts as not set.
pub fn has_colors(is_terminal: bool, environment: &Environment) -> bool {
    let is_set = |name: &str| environment.value(name).is_some_and(|value| !value.is_empty());
    if is_set("NO_COLOR") {
        return false;
    }
    let is_forced =
        is_set("FORCE_COLOR") && environment.value("FORCE_COLOR").is_none_or(|it| it != "0");
    is_forced || (is_terminal && environment.value("TERM").is_none_or(|term| term != "dumb"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_for_terminals_unless_a_variable_says_otherwise() {
        let colors = |is_terminal, variables: &[(&str, &str)]| {
            has_colors(is_terminal, &variables.iter().copied().collect())
        };
        assert!(colors(true, &[]) && colors(true, &[("TERM", "xterm"), ("NO_COLOR", "")]));
        assert!(!colors(false, &[]) && !colors(false, &[("FORCE_COLOR", "0")]));
        assert!(!colors(true, &[("TERM", "dumb")]) && !colors(true, &[("NO_COLOR", "1")]));
        assert!(colors(false, &[("FORCE_COLOR", "1"), ("TERM", "dumb")]));
        assert!(!colors(true, &[("FORCE_COLOR", "1"), ("NO_COLOR", "1")]));
    }
}
