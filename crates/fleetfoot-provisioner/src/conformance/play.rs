//! What a runner of the suite does: prints lines, then waits or exits.

use std::time::Duration;

/// How a played runner ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It runs until somebody stops it.
    Wait,
    /// It exits with this code after this time.
    Exit {
        /// After this time.
        after: Duration,
        /// With this code.
        code: i32,
    },
}

/// A runner's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Play {
    /// Prints these lines at once.
    pub lines: Vec<String>,
    /// Then ends so.
    pub ending: Ending,
}

impl Play {
    /// Waits until it is stopped.
    #[must_use]
    pub fn wait() -> Self {
        Self { lines: vec!["waiting".to_owned()], ending: Ending::Wait }
    }

    /// Exits with `code` soon.
    #[must_use]
    pub fn exit(code: i32) -> Self {
        Self {
            lines: vec!["leaving".to_owned()],
            ending: Ending::Exit { after: Duration::from_millis(300), code },
        }
    }

    /// The same part, printing `count` numbered lines.
    #[must_use]
    pub fn printing(mut self, count: usize) -> Self {
        self.lines = (1..=count).map(|number| format!("line {number}")).collect();
        self
    }

    /// A POSIX shell script that plays it; needs `sleep` that takes fractions, as busybox's does.
    #[must_use]
    pub fn shell(&self) -> String {
        let mut script = String::from("trap 'exit 143' TERM INT\n");
        for line in &self.lines {
            script.push_str(&format!("echo '{line}'\n"));
        }
        match self.ending {
            Ending::Wait => script.push_str("while :; do sleep 0.2; done\n"),
            Ending::Exit { after, code } => {
                script.push_str(&format!("sleep {:.3}\nexit {code}\n", after.as_secs_f64()));
            }
        }
        script
    }

    /// One line of text that [`decode`](Self::decode) takes back.
    #[must_use]
    pub fn encode(&self) -> String {
        let ending = match self.ending {
            Ending::Wait => "wait".to_owned(),
            Ending::Exit { after, code } => format!("{} {code}", after.as_millis()),
        };
        format!("{ending}|{}", self.lines.join("|"))
    }

    /// The part in a text made by [`encode`](Self::encode).
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split('|');
        let ending = parts.next()?;
        let lines = parts.map(str::to_owned).collect();
        let ending = match ending.split_once(' ') {
            None if ending == "wait" => Ending::Wait,
            None => return None,
            Some((after, code)) => Ending::Exit {
                after: Duration::from_millis(after.parse().ok()?),
                code: code.parse().ok()?,
            },
        };
        Some(Self { lines, ending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_parts_come_back() {
        for play in [Play::wait(), Play::exit(3).printing(4)] {
            assert_eq!(Play::decode(&play.encode()), Some(play));
        }
        assert_eq!(Play::decode("nonsense"), None);
    }
}
