//! A flame graph as one SVG file: nothing is loaded, and its script only zooms and searches.
//!
//! The crate `inferno` draws such pictures, too, but brings a dozen crates for it, does not follow the dark mode of the
//! reader, and knows nothing of workers. A width is a share of the samples, a row a depth, and the outermost function is
//! at the bottom. Workers are drawn as one, because they run the same code; routes are apart, below their functions.

mod page;
mod tree;

use std::fmt::Write as _;

use super::report::Profile;
use super::top;
use page::{FOOT, HEAD, SCRIPT};
use tree::{Node, Tree};

/// The width of the picture, and of a row, in its own units.
const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 10.0;
const ROW: usize = 18;
/// The room above and below the rows.
const TOP: usize = 70;
const BOTTOM: usize = 34;
/// The width of a character of 12 units in a monospaced font.
const CHARACTER: f64 = 7.25;
/// Narrower boxes are left out.
const NARROWEST: f64 = 0.1;

/// The whole file.
pub fn draw(profile: &Profile) -> String {
    let tree = Tree::of(profile);
    let rows = tree.depth();
    let height = TOP + rows * ROW + BOTTOM;
    let mut svg = HEAD.replace("HEIGHT", &height.to_string());
    let mut line = |y: usize, class: &str, text: &str| {
        // Writing to a string cannot fail.
        let _ =
            writeln!(svg, "<text class=\"{class}\" x=\"10\" y=\"{y}\">{}</text>", escaped(text));
    };
    line(22, "title", "Flame graph of the Python code");
    line(40, "note", &described(profile));
    line(height - 12, "note details", "");
    svg += "<text class=\"button\" id=\"reset\" x=\"1190\" y=\"22\" text-anchor=\"end\">Reset zoom</text>\n";
    svg += "<text class=\"button\" id=\"search\" x=\"1190\" y=\"40\" text-anchor=\"end\">Search</text>\n";
    svg += "<g id=\"frames\">\n";
    if tree.root.count > 0 {
        let scale = (WIDTH - 2.0 * MARGIN) / tree.root.count as f64;
        let picture = Picture { scale, total: tree.root.count, height };
        picture.draw(&mut svg, &tree.root, 0, 0);
    }
    svg += "</g>\n";
    svg += SCRIPT;
    svg += FOOT;
    svg
}

/// What the picture shows, in one line.
fn described(profile: &Profile) -> String {
    let mut parts = top::summary(profile);
    parts.truncate(parts.trim_end().len());
    let text = parts.replace('\n', " · ");
    let longest = 155;
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

struct Picture {
    /// Units for each sample.
    scale: f64,
    total: u64,
    height: usize,
}

impl Picture {
    /// Draws a box, and the boxes above it, from this number of samples on.
    fn draw(&self, svg: &mut String, node: &Node, depth: usize, start: u64) {
        let width = node.count as f64 * self.scale;
        if width < NARROWEST {
            return;
        }
        let x = MARGIN + start as f64 * self.scale;
        let y = self.height - BOTTOM - (depth + 1) * ROW;
        let percent = 100.0 * node.count as f64 / self.total as f64;
        let unit = if node.count == 1 { "sample" } else { "samples" };
        let full = escaped(&format!("{}: {} {unit}, {percent:.1}%", node.full, node.count));
        let short = escaped(&fitted(&node.label, width));
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<g><title>{full}</title><rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"17\" \
             rx=\"2\" fill=\"{}\"/><text x=\"{:.2}\" y=\"{}\" data-name=\"{}\">{short}</text></g>",
            color(node),
            x + 3.0,
            y + 13,
            escaped(&node.label),
        );
        let mut next = start;
        for child in node.children.values() {
            self.draw(svg, child, depth + 1, next);
            next += child.count;
        }
    }
}

/// As much of a name as fits into a box.
fn fitted(name: &str, width: f64) -> String {
    let room = ((width - 6.0) / CHARACTER).max(0.0) as usize;
    if name.chars().count() <= room {
        return name.to_owned();
    }
    match room {
        0..3 => String::new(),
        _ => name.chars().take(room - 1).chain(['…']).collect(),
    }
}

/// A color that belongs to the package, so that its functions look alike. All of them are light enough for dark text.
fn color(node: &Node) -> String {
    if node.package.is_empty() {
        return "hsl(210,8%,74%)".to_owned();
    }
    let hash =
        |text: &str| text.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31) ^ u32::from(byte));
    let (hue, light) = (hash(&node.package) % 60, 62 + hash(&node.label) % 12);
    format!("hsl({hue},85%,{light}%)")
}

/// A text for XML.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            // XML has no way to write these.
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            _ if character.is_control() => safe.push('\u{fffd}'),
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::report::stage::profile;
    use super::*;

    #[test]
    fn each_function_has_a_box_as_wide_as_its_share() {
        let svg = draw(&profile());
        assert!(svg.contains("<title>slow (shop/views.py:42): 90 samples, 90.0%</title>"), "{svg}");
        assert!(svg.contains("width=\"1062.00\""), "90 % of 1180: {svg}");
        assert!(svg.contains("fast&lt;T&gt; (shop/views.py:50)"), "{svg}");
        assert!(svg.contains("<title>all: 100 samples, 100.0%</title>"), "{svg}");
    }

    #[test]
    fn each_route_has_a_box_below_its_functions() {
        let mut profile = profile();
        profile.stacks[0].route = Some("/orders/<int:id>".to_owned());
        profile.stacks[2].route = Some("[no route]".to_owned());
        let svg = draw(&profile);
        let boxes =
            ["route /orders/&lt;int:id&gt;: 80 samples, 80.0%", "[no route]: 10 samples, 10.0%"];
        assert!(boxes.iter().all(|it| svg.contains(&format!("<title>{it}</title>"))), "{svg}");
        assert!(svg.contains("<title>slow (shop/views.py:42): 80 samples"), "{svg}");
    }

    #[test]
    fn the_file_loads_nothing_and_closes_what_it_opens() {
        let svg = draw(&profile());
        let links = svg.matches("http").count();
        assert_eq!(links, 1, "only the namespace");
        for tag in ["g", "text", "title", "svg", "style", "script"] {
            let opened =
                svg.matches(&format!("<{tag}>")).count() + svg.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn a_profile_without_samples_is_an_empty_picture() {
        let svg = draw(&Profile::default());
        assert!(svg.contains("<g id=\"frames\">\n</g>"), "{svg}");
    }

    #[test]
    fn names_are_cut_to_their_boxes() {
        assert_eq!(fitted("abcdefgh", 100.0), "abcdefgh");
        assert_eq!(fitted("abcdefgh", 50.0), "abcde…");
        assert_eq!(fitted("abcdefgh", 15.0), "");
        assert_eq!(fitted("ab", 0.5), "");
    }

    #[test]
    fn no_name_can_break_out_of_its_attribute() {
        let mut profile = profile();
        profile.frames[1].function = "\"/><script>alert(1)</script>\u{0}".to_owned();
        let svg = draw(&profile);
        assert_eq!(svg.matches("<script").count(), 1);
        assert!(!svg.contains('\u{0}'));
    }

    #[test]
    fn narrow_boxes_are_left_out() {
        let mut profile = profile();
        profile.stacks[0].count = 10_000_000;
        assert!(!draw(&profile).contains("fast"));
    }
}
