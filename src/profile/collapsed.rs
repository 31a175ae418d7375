//! Brendan Gregg's folded format: a line for each stack, with its frames from the outermost one, and its number of
//! samples. Each stack begins with its worker, and with its route if there are routes.

use std::fmt::Write as _;

use super::names::{label, route_label};
use super::report::{Profile, Stack};

/// The whole text.
pub fn draw(profile: &Profile) -> String {
    let mut text = String::new();
    for stack in &profile.stacks {
        let frames: Vec<_> = roots(stack).chain(profile.frames_of(stack).map(label)).collect();
        let frames: Vec<_> = frames.iter().map(|frame| cleaned(frame)).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {}", frames.join(";"), stack.count);
    }
    text
}

/// The frames that say whose stack it is.
fn roots(stack: &Stack) -> impl Iterator<Item = String> {
    let route = stack.route.as_deref().map(route_label);
    [Some(format!("worker {}", stack.slot)), route].into_iter().flatten()
}

/// A name without what has a meaning in this format.
fn cleaned(name: &str) -> String {
    name.chars().map(|c| if c == ';' || c.is_control() { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::report::stage::profile;
    use super::*;

    #[test]
    fn each_stack_is_a_line() {
        let mut profile = profile();
        profile.stacks[2].route = Some("/x;y".to_owned());
        profile.frames[2].function = "odd\nname".to_owned();
        let expected = "worker 0;main (shop/views.py:5);slow (shop/views.py:42) 80\n\
                        worker 0;main (shop/views.py:5);odd_name (shop/views.py:50) 10\n\
                        worker 1;route /x_y;main (shop/views.py:5);slow (shop/views.py:42) 10\n";
        assert_eq!(draw(&profile), expected);
        assert_eq!(draw(&Profile::default()), "");
    }
}
