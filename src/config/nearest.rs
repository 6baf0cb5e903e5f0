//! The probable meaning of a mistyped word.

/// The known word that is nearest to `word`.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    if word.len() > 40 {
        return None;
    }
    let abbreviated =
        |known: &&&str| word.len() > 2 && (known.starts_with(&word) || word.starts_with(**known));
    let (distance, near) = known
        .iter()
        .map(|known| (distance(&word, known), *known))
        .min()?;
    if distance <= (word.len() / 3).max(1) {
        Some(near)
    } else {
        known.iter().find(abbreviated).copied()
    }
}

/// Levenshtein's distance: how many characters to change, add or take out.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, from) in from.chars().enumerate() {
        let mut diagonal = line;
        row[0] = line + 1;
        for (column, to) in to.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_and_no_far_one() {
        let known = ["certificate", "private_key", "required", "session_reuse"];
        assert_eq!(nearest("certificat", &known), Some("certificate"));
        assert_eq!(nearest("private-key", &known), Some("private_key"));
        assert_eq!(nearest("PrivateKey", &known), Some("private_key"));
        assert_eq!(nearest("cert", &known), Some("certificate"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest(&"x".repeat(100_000), &known), None);
    }

    #[test]
    fn distance_is_levenshteins() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }
}
