//! Who may log in: patterns and a group, over canonical user names.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// Whether upper and lower case make two people.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Case {
    /// No: the canonical name is in lower case.
    #[default]
    Fold,
    /// Yes, before the `@`.
    Keep,
}

/// What a realm's file says of who may log in.
#[derive(Debug, Default)]
pub struct Gate {
    /// One of them must match; without any, everybody's name does.
    pub allow: Vec<Pattern>,
    /// None of them may match, in whatever case: the network may not tell cases apart.
    pub deny: Vec<Pattern>,
    /// Those who may log in; `None` when the file names no group.
    pub group: Option<Group>,
}

/// The users of a group's file.
#[derive(Debug)]
pub struct Group {
    /// The file, as the realm's file names it.
    pub file: String,
    /// Their canonical names.
    pub members: HashSet<String>,
}

impl Gate {
    /// Whether a user, by the canonical name, may log in.
    pub fn admits(&self, user: &str) -> bool {
        let lower = user.to_lowercase();
        let denied = self.deny.iter().any(|pattern| pattern.matches(&lower));
        let allowed =
            self.allow.is_empty() || self.allow.iter().any(|pattern| pattern.matches(user));
        let group = self.group.as_ref();
        let member = group.is_none_or(|group| group.members.contains(user));
        !denied && allowed && member
    }
}

/// A pattern of whole user names: `*` stands for any text, `?` for one character.
#[derive(Debug)]
pub struct Pattern(Vec<char>);

impl Pattern {
    /// A pattern of this text.
    pub fn new(text: &str) -> Pattern {
        Pattern(text.chars().collect())
    }

    /// Its text.
    pub fn text(&self) -> String {
        self.0.iter().collect()
    }

    /// Whether the whole text fits.
    ///
    /// After a mismatch only the last `*` takes one more character, so the work is at most the
    /// product of both lengths.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (&self.0, text.chars().collect::<Vec<_>>());
        let (mut at, mut position) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while position < text.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, position));
                    at += 1;
                }
                Some(c) if *c == '?' || *c == text[position] => {
                    at += 1;
                    position += 1;
                }
                _ => match &mut star {
                    Some((star, taken)) => {
                        *taken += 1;
                        (at, position) = (*star + 1, *taken);
                    }
                    None => return false,
                },
            }
        }
        pattern[at..].iter().all(|c| *c == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By the definition, in exponential time.
    fn fits(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => (0..=text.len()).any(|taken| fits(rest, &text[taken..])),
            [c, rest @ ..] => {
                matches!(text, [first, after @ ..] if (*c == '?' || c == first) && fits(rest, after))
            }
        }
    }

    proptest! {
        #[test]
        fn pattern_matches_as_it_is_defined(pattern in "[ab*?é]{0,8}", text in "[abé]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(
                Pattern::new(&pattern).matches(&text),
                fits(&chars(&pattern), &chars(&text))
            );
        }
    }

    #[test]
    fn pattern_of_many_stars_comes_to_an_end() {
        let pattern = Pattern::new(&"*a".repeat(100));
        assert!(!pattern.matches(&"b".repeat(253)) && pattern.matches(&"a".repeat(253)));
    }

    #[test]
    fn gate_denies_first_then_wants_a_pattern_and_the_group() {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect();
        let gate = |allow: &[&str], deny: &[&str], group: Option<&str>| Gate {
            allow: patterns(allow),
            deny: patterns(deny),
            group: group.map(|name| Group {
                file: "group".into(),
                members: HashSet::from([name.to_owned()]),
            }),
        };
        assert!(Gate::default().admits("a@x"));
        assert!(gate(&["a*@x", "b@x"], &[], None).admits("b@x"));
        assert!(!gate(&["a*@x"], &[], None).admits("b@x"));
        assert!(!gate(&["*@x"], &["b@x"], None).admits("b@x"));
        assert!(!gate(&[], &["b@x"], None).admits("B@x"));
        assert!(!gate(&["b@x"], &[], None).admits("B@x"));
        assert!(gate(&["*@x"], &[], Some("b@x")).admits("b@x"));
        assert!(!gate(&["*@x"], &[], Some("b@x")).admits("a@x"));
        assert!(!gate(&["a@x"], &[], Some("b@x")).admits("b@x"));
    }
}
