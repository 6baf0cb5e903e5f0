//! Inheritance of a site's values: from its own element or from `siteDefaults`, and from sections of the server and of `location`
//! elements.

use std::collections::HashMap;

use super::document::Element;
use crate::base::text::escape;

/// The beginning of an encrypted value. Only the server itself can read it.
const ENCRYPTED: &str = "[enc:";

/// For which part of the server a section holds.
#[derive(Debug, Clone, Copy)]
pub enum Where<'a> {
    /// The whole server.
    Server,
    /// A site by its name.
    Site(&'a str),
}

/// The sections of the file: those that stand for themselves, and those of `location` elements.
#[derive(Debug)]
pub struct Sections<'a> {
    root: &'a Element,
    /// By the first name of their path, in lower case.
    locations: HashMap<String, Vec<Location<'a>>>,
}

/// A `location` element.
#[derive(Debug)]
struct Location<'a> {
    element: &'a Element,
    /// The part of the server that it is for.
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Folder,
}

impl<'a> Sections<'a> {
    /// The sections in `configuration`.
    pub fn new(root: &'a Element) -> Self {
        let mut locations: HashMap<String, Vec<Location<'_>>> = HashMap::new();
        for element in root.all("location") {
            let path = element.attribute("path").unwrap_or_default();
            let (site, part) = match path.split_once('/') {
                Some((site, _)) => (site, Part::Folder),
                None => (path, Part::Whole),
            };
            let location = Location { element, part };
            let place = site.to_ascii_lowercase();
            locations.entry(place).or_default().push(location);
        }
        Self { root, locations }
    }

    /// All sections of that name for the server, or for a site, the most general one first.
    pub fn all(&self, path: &[&str], place: Where<'_>) -> impl Iterator<Item = &'a Element> {
        let (own, paths) = match place {
            Where::Server => (self.root.at(path), vec!["", "."]),
            Where::Site(name) => (None, vec![name]),
        };
        let located = paths
            .into_iter()
            .flat_map(|place| self.located(place, Part::Whole));
        let located = located.filter_map(|location| location.at(path));
        own.into_iter().chain(located)
    }

    /// The one that counts of those.
    pub fn one(&self, path: &[&str], place: Where<'_>) -> Option<&'a Element> {
        self.all(path, place).last()
    }

    /// Whether a folder of the site has a section of its own.
    pub fn is_below(&self, path: &[&str], site: &str) -> bool {
        let mut folders = self.located(site, Part::Folder);
        folders.any(|location| location.at(path).is_some())
    }

    fn located(&self, place: &str, part: Part) -> impl Iterator<Item = &'a Element> {
        let there = self.locations.get(&place.to_ascii_lowercase());
        let there = there.into_iter().flatten();
        let there = there.filter(move |location| location.part == part);
        there.map(|location| location.element)
    }
}

/// The attributes of a site's `ftpServer`, and in their absence those that it inherits.
#[derive(Debug)]
pub struct Attributes<'a> {
    own: Option<&'a Element>,
    inherited: Option<&'a Element>,
    /// The values that couldn't be read.
    pub unread: Vec<String>,
}

impl<'a> Attributes<'a> {
    /// The attributes of a site, of which `own` count before `inherited`.
    pub fn new(own: Option<&'a Element>, inherited: Option<&'a Element>) -> Self {
        Self {
            own,
            inherited,
            unread: Vec::new(),
        }
    }

    /// The elements at `path`, the more specific one first.
    pub fn elements(&self, path: &[&str]) -> impl Iterator<Item = &'a Element> {
        let levels = [self.own, self.inherited].into_iter().flatten();
        levels.filter_map(|level| level.at(path))
    }

    /// An attribute with a usable value: not empty, and not encrypted.
    pub fn text(&mut self, path: &[&str], name: &str) -> Option<&'a str> {
        let value = self
            .elements(path)
            .find_map(|element| element.attribute(name))?;
        if value.starts_with(ENCRYPTED) {
            self.unread.push(format!("`{name}` is encrypted"));
            return None;
        }
        (!value.is_empty()).then_some(value)
    }

    /// The value as one of these words, in any case.
    pub fn word<T: Copy + Default>(&mut self, path: &[&str], name: &str, words: &[(&str, T)]) -> T {
        let Some(text) = self.text(path, name) else {
            return T::default();
        };
        let known = words
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(text));
        match known {
            Some((_, meaning)) => *meaning,
            None => {
                let text = escape(text.as_bytes());
                self.unread
                    .push(format!("`{name}` is \"{text}\", which isn't known"));
                T::default()
            }
        }
    }
}

/// A Boolean attribute.
pub fn is_true(element: Option<&Element>, name: &str, default: bool) -> bool {
    let value = element.and_then(|element| element.attribute(name));
    match value {
        Some(text) if text.eq_ignore_ascii_case("true") => true,
        Some(text) if text.eq_ignore_ascii_case("false") => false,
        _ => default,
    }
}

/// Notes a section whose content is in another file.
pub fn note_other_file(section: &Element, unread: &mut Vec<String>) {
    if let Some(file) = section.attribute("configSource") {
        unread.push(format!(
            "the section <{}> is in the file \"{}\" (configSource)",
            escape(section.name.as_bytes()),
            escape(file.as_bytes())
        ));
    }
}
