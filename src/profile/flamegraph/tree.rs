//! The stacks of a profile as a tree of functions.

use std::collections::BTreeMap;

use super::super::names::{label, route_label, short_file};
use super::super::report::{Frame, Profile};

/// All stacks.
pub(super) struct Tree {
    pub(super) root: Node,
}

/// A function as it was called from one stack.
#[derive(Default)]
pub(super) struct Node {
    /// The text in its box.
    pub(super) label: String,
    /// The text that is shown for it.
    pub(super) full: String,
    /// Empty if it is no Python code.
    pub(super) package: String,
    pub(super) count: u64,
    /// By name, so that equal code lies side by side in two pictures.
    pub(super) children: BTreeMap<String, Node>,
}

impl Tree {
    pub(super) fn of(profile: &Profile) -> Self {
        let mut root = Node { label: "all".to_owned(), full: "all".to_owned(), ..Node::default() };
        for stack in &profile.stacks {
            root.count += stack.count;
            let mut node = &mut root;
            let route = stack.route.as_deref().map(route_label);
            let route = route.map(|function| Frame { function, ..Frame::default() });
            for frame in route.iter().chain(profile.frames_of(stack)) {
                node = node.child(frame);
                node.count += stack.count;
            }
        }
        Self { root }
    }

    /// The number of rows.
    pub(super) fn depth(&self) -> usize {
        self.root.depth()
    }
}

impl Node {
    fn child(&mut self, frame: &Frame) -> &mut Self {
        let name = label(frame);
        let new = || {
            let package = short_file(&frame.file).split('/').next().unwrap_or_default();
            Self {
                label: name.clone(),
                full: name.clone(),
                package: package.to_owned(),
                ..Self::default()
            }
        };
        self.children.entry(name.clone()).or_insert_with(new)
    }

    fn depth(&self) -> usize {
        1 + self.children.values().map(Self::depth).max().unwrap_or(0)
    }
}
