//! The nearest known word to a misspelt one.

/// The word of `known` that `written` most likely stands for, or none if all are too far off.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let folded = fold(written);
    let allowed = match folded.len() {
        0 => return None,
        1..=3 => 1,
        4..=7 => 2,
        _ => 3,
    };
    known
        .into_iter()
        .filter_map(|word| {
            let known = fold(word);
            let distance = distance(&folded, &known);
            (distance <= allowed || abbreviates(&folded, &known)).then_some((distance, word))
        })
        .min_by_key(|(distance, word)| (*distance, word.len()))
        .map(|(_, word)| word)
}

/// Case and the choice of `-`, `_` or nothing between words are the most common slips.
fn fold(word: &str) -> Vec<char> {
    word.chars().take(64).filter(|c| *c != '_' && *c != '-').flat_map(char::to_lowercase).collect()
}

/// Whether one word is the beginning of the other: `warning` and `warn`.
fn abbreviates(left: &[char], right: &[char]) -> bool {
    left.len().min(right.len()) >= 3 && (left.starts_with(right) || right.starts_with(left))
}

/// Edits (insert, delete, replace, swap of neighbours) that turn one word into the other.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let replaced = last.get(j).copied().unwrap_or(0) + usize::from(a != b);
            let deleted = last.get(j + 1).copied().unwrap_or(0) + 1;
            let inserted = row.get(j).copied().unwrap_or(0) + 1;
            let mut best = replaced.min(deleted).min(inserted);
            let swapped =
                i > 0 && j > 0 && Some(a) == right.get(j - 1) && left.get(i - 1) == Some(b);
            if swapped {
                best = best.min(before.get(j - 1).copied().unwrap_or(0) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_word_meant() {
        let known = ["max_runners", "min_idle", "labels", "url", "docker"];
        let table = [
            ("max_runner", Some("max_runners")),
            ("maxRunners", Some("max_runners")),
            ("max-runners", Some("max_runners")),
            ("lables", Some("labels")),
            ("URL", Some("url")),
            ("dokcer", Some("docker")),
            ("label", Some("labels")),
            ("dockerfile", Some("docker")),
            ("kubernetes", None),
            ("", None),
        ];
        for (written, expected) in table {
            assert_eq!(nearest(written, known), expected, "{written}");
        }
    }
}
