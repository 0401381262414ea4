//! What completion scripts of the original ask on each TAB: `outrunner __complete <words…>`.
//!
//! The answer is a list, a line each, and after it `:` and a number that tells the shell what to make of it. Scripts
//! that were installed with the original go on to work; without this they would start a daemon.

/// The words that ask, with and without descriptions.
const WORDS: [(&str, bool); 2] = [("__complete", true), ("__completeNoDesc", false)];

/// Nothing but files, or whatever else the shell thinks of.
const AS_THE_SHELL_LIKES: (u32, &str) = (0, "ShellCompDirectiveDefault");
/// No files.
const NO_FILES: (u32, &str) = (4, "ShellCompDirectiveNoFileComp");

/// Flags: name, shorthand, description, and whether a value follows.
const FLAGS: [(&str, Option<char>, &str, bool); 6] = [
    ("config", None, "path of the configuration file", true),
    ("help", Some('h'), "help for outrunner", false),
    ("max-runners", None, "limit for runners that set none", true),
    ("token", None, "personal access token", true),
    ("url", None, "repository or organization URL", true),
    ("version", Some('v'), "version for outrunner", false),
];

const SHELLS: [&str; 4] = ["bash", "fish", "powershell", "zsh"];

/// What to print on standard output and on standard error; none if nobody asks.
///
/// # Errors
/// The text behind `Error: ` of a question without a word.
#[must_use]
pub fn answer(words: &[String]) -> Option<Result<(String, String), String>> {
    let (first, rest) = words.split_first()?;
    let (_, described) = WORDS.iter().find(|(word, _)| word == first)?;
    let Some((begun, before)) = rest.split_last() else {
        return Some(Err("requires at least 1 arg(s), only received 0".to_owned()));
    };
    let (list, (number, name)) = completions(begun, before);
    let mut out = String::new();
    for (word, description) in list {
        out.push_str(&word);
        if *described && !description.is_empty() {
            out.push('\t');
            out.push_str(description);
        }
        out.push('\n');
    }
    out.push_str(&format!(":{number}\n"));
    Some(Ok((out, format!("Completion ended with directive: {name}\n"))))
}

type List = Vec<(String, &'static str)>;

fn completions(begun: &str, before: &[String]) -> (List, (u32, &'static str)) {
    let last = before.last().map_or("", String::as_str);
    let takes_value = FLAGS.iter().any(|(name, _, _, value)| *value && last == format!("--{name}"));
    if takes_value || begun.contains('=') {
        return (Vec::new(), AS_THE_SHELL_LIKES);
    }
    if begun.starts_with('-') {
        let mut list = List::new();
        for (name, short, description, _) in FLAGS {
            let short = short.map(|letter| format!("-{letter}"));
            let spellings = std::iter::once(format!("--{name}")).chain(short);
            let fitting = spellings.filter(|it| it.starts_with(begun));
            list.extend(fitting.map(|it| (it, description)));
        }
        return (list, NO_FILES);
    }
    if before.first().is_some_and(|word| word == "completion") {
        let none_yet = before.len() == 1;
        let shells = SHELLS.iter().filter(|it| none_yet && it.starts_with(begun));
        return (shells.map(|it| ((*it).to_owned(), "")).collect(), NO_FILES);
    }
    (Vec::new(), AS_THE_SHELL_LIKES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> (String, String) {
        let words: Vec<String> = line.split(' ').map(|it| it.replace("''", "")).collect();
        answer(&words).unwrap().unwrap()
    }

    #[test]
    fn scripts_of_the_original_are_answered() {
        let (out, err) = asked("__complete --c");
        assert_eq!(out, "--config\tpath of the configuration file\n:4\n");
        assert_eq!(err, "Completion ended with directive: ShellCompDirectiveNoFileComp\n");
        assert_eq!(asked("__completeNoDesc --url x -v").0, "-v\n:4\n");
        assert_eq!(asked("__complete ''").0, ":0\n");
        assert_eq!(asked("__complete --config /et").0, ":0\n");
        assert_eq!(asked("__complete --config=/et").0, ":0\n");
        assert_eq!(asked("__complete completion z").0, "zsh\n:4\n");
        assert_eq!(asked("__complete completion zsh ''").0, ":4\n");
        assert!(answer(&["--config".to_owned()]).is_none());
        assert!(answer(&["__complete".to_owned()]).unwrap().is_err());
    }
}
